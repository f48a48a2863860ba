"""Settings that are right one by one and make no sense together, or name what nobody knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from pydicom.uid import UID

from cxr_dicom.config import Settings
from cxr_dicom.config.service import (
    DicomAccess,
    DicomDestination,
    FolderDestination,
    HttpAccess,
    PollerSettings,
    QueryRetrieveArchive,
    Rules,
)
from cxr_dicom.encode import encoder_names
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer import AUTO, model_infos, resolve
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.ingest.conditions import folded
from cxr_dicom.plugins import MODELS
from cxr_dicom.records.words import kind_of
from cxr_dicom.service.checks.answer import Check, warning, wrong
from cxr_dicom.service.checks.files import accesses
from cxr_dicom.service.checks.peers import KINDS
from cxr_dicom.web.visitors import SENDER

_STATEMENTS = {"cardiothoracic_ratio_above_limit": "heart"}  # and the structure that it is measured on
_RADIOGRAPHY = ("CR", "DX")
_PROCESSED = ("X-Ray Image Storage - For Presentation", "Computed Radiography", "Secondary Capture")
_RESOURCES = ("studies", "series", "instances")
_PLACE = {"kind", "address", "port", "ae_title", "url", "path"}  # fields that say where
_SHORT = 60.0  # seconds
_LEAST_PIXELS = 1_000_000  # fewer than a radiograph has


def check(settings: Settings) -> Iterator[Check]:
    """Compare settings with each other, and names with what is known."""
    yield from _way_in(settings)
    yield from _addresses(settings)
    yield from _archives(settings)
    yield from _access(settings)
    yield from _destinations(settings)
    yield from _names(settings)
    yield from _numbers(settings)


def _way_in(settings: Settings) -> Iterator[Check]:
    listener, archives = settings.listener, settings.poller.archives
    if not listener.enabled and not archives:
        yield wrong("listener.enabled", "false, and no [[poller.archives]]: nothing can come in")
    for archive in archives:
        if isinstance(archive, QueryRetrieveArchive) and archive.retrieve == "move" and not listener.enabled:
            key = f"poller.archives.{archive.name}.retrieve"
            yield wrong(key, "move: the archive sends to our listener, which is not enabled")
    for uid in listener.sop_classes:
        name = UID(uid).name
        if UID(uid).type != "SOP Class" or "Storage" not in name:
            yield wrong("listener.sop_classes", f"{uid!r}: expected the UID of a storage SOP class")
        elif not any(words in name for words in _PROCESSED):
            yield warning("listener.sop_classes", f"{name}: is received, and never processed")


def _addresses(settings: Settings) -> Iterator[Check]:
    listener = settings.listener
    if not listener.enabled:
        return
    if not listener.calling_ae_titles:
        yield warning("listener.calling_ae_titles", "empty: any name may send")
    if not listener.calling_addresses:
        yield warning("listener.calling_addresses", "empty: only this machine may send")
    networks = [ipaddress.ip_network(address, strict=False) for address in listener.calling_addresses]
    if any(network.prefixlen == 0 for network in networks):
        yield warning("listener.calling_addresses", "all addresses of the world may send")
    if networks and not any(network.is_loopback for network in networks) and _is_loopback(listener.address):
        why = "only this machine can reach it, and calling_addresses has others only"
        yield wrong("listener.address", f"{listener.address}: {why}")
    archives = [archive for archive in settings.poller.archives if isinstance(archive, QueryRetrieveArchive)]
    moving = [archive.address for archive in archives if archive.retrieve == "move"]
    if _is_loopback(listener.address) and not all(map(_is_loopback, moving)):
        yield wrong("listener.address", f"{listener.address}: an archive of another machine cannot move anything to it")


def _archives(settings: Settings) -> Iterator[Check]:
    names = [archive.name for archive in settings.poller.archives]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield wrong(f"poller.archives.{name}", "two archives have this name, and would share what was seen")
    if not names:
        return
    if not set(settings.poller.modalities) & set(_RADIOGRAPHY):
        yield wrong("poller.modalities", f"{', '.join(settings.poller.modalities) or 'none'}: neither CR nor DX")
    for modality in settings.poller.modalities:
        if modality not in (*_RADIOGRAPHY, "OT") and folded(modality) in map(folded, _RADIOGRAPHY):
            yield wrong("poller.modalities", f"{modality}: expected capitals, or no image is one")
        elif modality not in (*_RADIOGRAPHY, "OT"):
            yield warning("poller.modalities", f"{modality}: is fetched, and never processed")


def _access(settings: Settings) -> Iterator[Check]:
    """What an address and the means to get in say of each other."""
    for key, access in accesses(settings):
        host = access.address if isinstance(access, DicomAccess) else urlsplit(access.url).hostname or ""
        if _is_everywhere(host):
            yield wrong(key, f"{host}: expected the address of one machine")
        if isinstance(access, DicomAccess):
            yield from _unused_certificates(key, access, "" if access.tls else "tls is false")
        else:
            yield from _unused_certificates(key, access, "url is http" if access.url.startswith("http:") else "")
            yield from _means(key, access)
            yield from _url(f"{key}.url", access.url)


def _unused_certificates(key: str, access: DicomAccess | HttpAccess, why: str) -> Iterator[Check]:
    for name in ("ca", "client_certificate"):
        if why and getattr(access, name):
            yield wrong(f"{key}.{name}", f"is not used: {why}")


def _means(key: str, access: HttpAccess) -> Iterator[Check]:
    means = [name for name in ("token_file", "token_command", "username") if getattr(access, name)]
    if len(means) > 1:
        yield wrong(key, f"expected one of {', '.join(means)}, found several")
    if bool(access.username) != bool(access.password_file):
        yield wrong(key, "expected username and password_file together, found one of them")
    if means and access.url.startswith("http:"):
        yield warning(f"{key}.url", "http: token or password go over the network in the clear")


def _url(key: str, url: str) -> Iterator[Check]:
    """What stands behind the base URL of a server is added by each request."""
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        yield wrong(key, "expected the base of the server's DICOMweb, found a query behind it")
    if (last := parts.path.rstrip("/").rpartition("/")[2]) in _RESOURCES:
        yield wrong(key, f"ends with /{last}: leave that away, for each request adds it")


def _twice(settings: Settings) -> Iterator[Check]:
    """Destinations that are one place under two names."""
    seen: dict[object, str] = {}
    for destination in settings.destinations:
        place = destination.model_dump(include=_PLACE)
        if (known := seen.setdefault(frozenset(place.items()), destination.name)) != destination.name:
            why = "what the rules of both let through goes there twice"
            yield warning(f"destinations.{destination.name}", f"is the same place as {known}: {why}")


def _destinations(settings: Settings) -> Iterator[Check]:
    yield from _twice(settings)
    listener, spool = settings.listener, settings.spool.folder.absolute()
    by_route = settings.by_route
    for destination in settings.destinations:
        key = f"destinations.{destination.name}"
        if isinstance(destination, DicomDestination):
            if listener.enabled and destination.port == listener.port and _is_loopback(destination.address):
                yield wrong(key, "is our own listener, which refuses our own objects")
            if destination.verify == "commitment" and not listener.enabled:
                yield warning(f"{key}.verify", "commitment: a report that comes later needs the listener")
        if isinstance(destination, FolderDestination) and destination.path.absolute().is_relative_to(spool):
            yield wrong(f"{key}.path", f"{destination.path} is in the spool, where only the service writes")
        ways = [each for each in by_route.values() if destination in each.destinations]
        yield from _rules(settings, f"{key}.rules", destination.rules, ways)


def _rules(settings: Settings, key: str, rules: Rules, ways: Sequence[Settings]) -> Iterator[Check]:
    """Rules that let nothing through, for they name what never comes on any of the ways to a destination."""
    encoders = {name for way in ways for name in way.decided(service=True).encode.written}
    written = {kind for name in encoders for kind in KINDS.get(name, (kind_of(name),))}
    for kind in rules.kinds:
        if ways and kind not in written:
            yield wrong(f"{key}.kinds", f"{kind}: encode.objects writes none ({', '.join(sorted(written))})")
    yield from _modalities(f"{key}.modalities", rules.modalities)
    yield from _senders(settings, f"{key}.senders", rules.senders)
    called = _called(ways)
    for finding in rules.findings:
        if called is not None and finding not in called:
            known = any(finding in info.predicts for info in model_infos(settings).values())
            why = "no model of models.names calls it" if known or finding in _STATEMENTS else "no model knows it"
            yield wrong(f"{key}.findings", f"{finding}: {why}; they call {', '.join(sorted(called)) or 'nothing'}")


def _modalities(key: str, modalities: Iterable[str]) -> Iterator[Check]:
    for modality in modalities:
        if folded(modality) not in map(folded, (*_RADIOGRAPHY, "OT")):
            yield wrong(key, f"{modality}: no such image is processed, only CR and DX")


def _senders(settings: Settings, key: str, senders: Iterable[str]) -> Iterator[Check]:
    """Find senders that cannot send."""
    archives = [archive.name for archive in settings.poller.archives]
    known = {folded(name) for name in (*settings.listener.calling_ae_titles, *archives)}
    for sender in senders:
        is_web = sender.partition(":")[0] == SENDER
        if settings.listener.calling_ae_titles and folded(sender) not in known and not is_web:
            yield wrong(key, f"{sender}: neither in listener.calling_ae_titles nor an archive")


def _called(ways: Sequence[Settings]) -> set[str] | None:
    """Return what the models of these settings may call present; None when they are not known."""
    try:
        infos = [model_infos(way)[name] for way in ways for name in resolve(way)]
    except (CxrDicomError, KeyError):
        return None
    predicted = {name for info in infos for name in info.predicts}
    theirs = {name for info in infos if info.name not in MODELS.ours for name in info.predicts}  # perhaps findings
    statements = {name for name, structure in _STATEMENTS.items() if structure in predicted}
    return predicted & {kind.name for kind in FINDINGS.values()} | theirs | statements


def _names(settings: Settings) -> Iterator[Check]:
    known = model_infos(settings)
    for key, names in (
        ("models.names", settings.models.names),
        ("models.sha256", settings.models.sha256),
        ("models.accept_licence", settings.models.accept_licence),
    ):
        for name in names:
            if name not in known and name != AUTO:
                yield wrong(key, f"{name!r} is not one of {', '.join(sorted(known))}")
    for name in settings.encode.written:
        if name not in encoder_names():
            yield wrong("encode.objects", f"{name!r} is not one of {', '.join(sorted(encoder_names()))}")
    if not settings.encode.written:
        yield wrong("encode.objects", "empty: nothing is written")
    if settings.models.folder and not settings.models.folder.is_dir():
        yield warning("models.folder", f"{settings.models.folder}: there is no such folder")


def _numbers(settings: Settings) -> Iterator[Check]:
    assembly, retention = settings.assembly, settings.retention
    if assembly.quiet_seconds > assembly.at_most_seconds:
        why = f"more than at_most_seconds = {assembly.at_most_seconds:g}, which closes each study"
        yield wrong("assembly.quiet_seconds", f"{assembly.quiet_seconds:g}: {why}")
    for key, asked in (
        ("assembly.urgent", assembly.urgent),
        *((f"routes.{route.name}", route) for route in settings.routes),
    ):
        yield from _senders(settings, f"{key}.senders", asked.senders)
        yield from _modalities(f"{key}.modalities", asked.modalities)
    urgent = {folded(title) for title in assembly.urgent.called_ae_titles}
    if urgent.issuperset(map(folded, settings.listener.ae_titles)):
        why = "is listener.ae_title too, so all that comes goes first, and nothing does"
        yield wrong("assembly.urgent.called_ae_titles", f"{', '.join(settings.listener.ae_titles)}: {why}")
    if settings.service.study_seconds < _SHORT:
        why = "a study that takes longer is ended, and HELD at last"
        yield warning("service.study_seconds", f"{settings.service.study_seconds:g}: {why}")
    if settings.poller != PollerSettings() and not settings.poller.archives:
        yield warning("poller", "nothing is polled: there are no [[poller.archives]]")
    for name in ("sources_days", "objects_days"):
        if getattr(retention, name) == 0:
            yield warning(f"retention.{name}", "0: deleted within the hour after a study is finished")
    if settings.select.max_pixels < _LEAST_PIXELS:
        yield warning("select.max_pixels", f"{settings.select.max_pixels}: fewer than a radiograph has")


def _is_everywhere(address: str) -> bool:
    """Whether it is an address to listen on, and none to call."""
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"

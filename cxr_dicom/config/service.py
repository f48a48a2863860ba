"""Settings of the service: where images come from, where objects go, what is kept.

None of them can change a result; those that can are in ``config/__init__.py``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_settings import NoDecode
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

from cxr_dicom.config.routes import UrgentSettings
from cxr_dicom.config.table import AeTitle, Name, Sender, Table
from cxr_dicom.errors import SettingsError
from cxr_dicom.plugins import ARCHIVES, DESTINATIONS, ENCODERS, Seam
from cxr_dicom.records import ObjectKind
from cxr_dicom.records.words import kind_of, object_kind

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


Network = Annotated[str, AfterValidator(_network)]


# --- tables of other packages ------------------------------------------------------------------------


def _table_of(seam: Seam, base: type[Table]) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """Return the validator of a table whose ``kind`` is a choice: ours as declared, others by their ``SETTINGS``."""

    def validated(value: Any, ours: ValidatorFunctionWrapHandler) -> Any:
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if isinstance(value, base):
            return value
        if not isinstance(kind, str) or kind in seam.ours:
            return ours(value)
        try:
            choice = seam.choose("kind", kind)
            settings = getattr(choice.module, "SETTINGS", None)
            if not isinstance(settings, type) or not issubclass(settings, base):
                raise SettingsError(
                    f"kind: {kind!r} of {choice.package}: expected SETTINGS, a subclass of {base.__name__}"
                )
            return settings.model_validate(value)
        except (SettingsError, TypeError, AttributeError, LookupError) as error:  # their validators may raise anything
            raise ValueError(str(error)) from error

    return validated


def _kind(text: str) -> str:
    """Refuse a kind of objects that no encoder writes: it would never be delivered."""
    theirs = (
        () if text in set(ObjectKind) else [kind_of(n) for n, choice in ENCODERS.choices.items() if not choice.is_ours]
    )
    if text not in (*ObjectKind, *theirs):
        raise ValueError(f"expected one of {', '.join((*ObjectKind, *theirs))}")
    return object_kind(text)


Kind = Annotated[str, AfterValidator(_kind)]


# --- this machine --------------------------------------------------------------------------------


class SpoolSettings(Table):
    """``[spool]``: the folder of received files, objects, ledger and audit trail."""

    folder: Path = Path("cxr-dicom-spool")
    """One service at a time uses it; never a network file system."""
    min_free_mb: int = Field(default=1024, ge=0)
    """Images are refused (0xA700) while less is free on its disk."""


class ServiceSettings(Table):
    """``[service]``: the process that `serve` starts."""

    workers: int = Field(default=1, ge=1, le=64)
    """Processes that run the models; each loads them once."""
    max_interruptions: int = Field(default=3, ge=1)
    """A study that was at work this often when its worker died, or was ended, is HELD."""
    study_seconds: Seconds = 600
    """A worker whose study is at one stage (reading, a model, writing) for longer is ended; in cohorts too."""
    worker_memory_mb: int | None = Field(default=None, ge=1024)
    """Bound of a worker's address space, in cohorts too; what needs more fails, and alone. Not for GPUs."""
    stop_seconds: Seconds = 60
    """How long a stop waits for studies at work; then they are released and run at the next start."""
    metrics_port: Port | None = None
    """Prometheus metrics and health, on 127.0.0.1 only."""


class RetrySettings(Table):
    """``[retry]``: how long a delivery is tried again."""

    give_up_hours: Annotated[float, Field(gt=0, le=8760)] = 24
    """Hours of refusals after which an object is DEAD; while its destination is unreachable this clock stands still."""


class FilesSettings(Table):
    """``[files]``: who may read what `run` writes."""

    shared: bool = False
    """Folders and files of `OUT` are for others too, as the umask says; otherwise 0700 and 0600."""


class AssemblySettings(Table):
    """``[assembly]``: when a study is complete, and which one is processed first."""

    quiet_seconds: Seconds = 30
    """No image of the study for so long, and no association open that sent one."""
    at_most_seconds: Seconds = 900
    """After so long it is complete in any case."""
    whole_studies_from: tuple[Sender, ...] = ()
    """Calling AE titles that send a study in one association, and `WEB:` with names of tokens or users that send one
    in a store request: at its end, its studies are complete."""
    urgent: UrgentSettings = UrgentSettings()


class RetentionSettings(Table):
    """``[retention]``: how long things are kept after a study is finished, in days.

    Nothing is deleted that is not yet delivered (and committed, where asked) to all destinations that it goes to; what
    goes to none is finished when it is made.
    """

    sources_days: float = Field(default=7, ge=0)
    """Received images."""
    objects_days: float = Field(default=30, ge=0)
    """Objects that were made, also those that go to no destination."""
    rows_days: float = Field(default=365, ge=0)
    """The ledger's memory of a study; the poller fetches again what is forgotten and still in its window. Studies of
    the reference period of ``[monitor]`` are remembered."""

    @model_validator(mode="after")
    def _rows_last(self) -> RetentionSettings:
        if self.rows_days < max(self.sources_days, self.objects_days):
            raise ValueError("rows_days must not be less than sources_days and objects_days")
        return self


class MonitorSettings(Table):
    """``[monitor]``: the period in which all was well, which each day and week is compared with."""

    reference: date | None = None
    """Its first day (UTC); None: that of the first image. Its studies stay in the ledger, so it does not move."""
    reference_days: int = Field(default=56, ge=14, multiple_of=7)
    """Its length in whole weeks, so that each day of the week counts alike."""

    def period(self, first: float | None) -> tuple[date, date] | None:
        """Return its first day and the day after its last; None before there is an image.

        Parameters
        ----------
        first
            When the oldest image was observed, in seconds since 1970.
        """
        begin = self.reference
        if begin is None and first is not None:
            begin = datetime.fromtimestamp(first, UTC).date()
        return None if begin is None else (begin, begin + timedelta(days=self.reference_days))


# --- the way in ----------------------------------------------------------------------------------


class ListenerTls(Table):
    """``[listener.tls]``: TLS for the listener (PS3.15 B.12)."""

    certificate: Path
    """PEM, with the chain."""
    key: Path
    """PEM, readable by the service only."""
    ca: Path | None = None
    """When given, every peer must show a certificate that this authority signed."""


_AE_TITLE = TypeAdapter(AeTitle)


def _ae_titles(titles: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Refuse what is no AE title, and names that differ in capitals only, which conditions take for one."""
    named = (titles,) if isinstance(titles, str) else titles
    for title in named:
        _AE_TITLE.validate_python(title)
    if not named or len({title.casefold() for title in named}) < len(named):
        raise ValueError("expected one AE title, or several that differ")
    return titles


def _listed(value: object) -> object:
    """Read a list from the environment; any other text is one AE title, also ``104``, which JSON takes for a number."""
    if isinstance(value, str) and value.startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


AeTitles = Annotated[str | tuple[str, ...], BeforeValidator(_listed), AfterValidator(_ae_titles), NoDecode]


class ListenerSettings(Table):
    """``[listener]``: the C-STORE provider."""

    enabled: bool = True
    address: str = "127.0.0.1"
    """Address to listen on; all interfaces: 0.0.0.0."""
    port: Port = 11112
    ae_title: AeTitles = "CXRDICOM"
    """Peers must call it by this name, or by one of these; an archive that moves calls the first."""
    calling_ae_titles: tuple[AeTitle, ...] = ()
    """Who may send; empty: any name."""
    calling_addresses: tuple[Network, ...] = ()
    """IP addresses or networks that may connect; empty: this machine only."""
    sop_classes: tuple[str, ...] = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation)
    """SOP Class UIDs that are accepted."""
    max_associations: int = Field(default=10, ge=1, le=200)
    max_associations_per_address: int | None = Field(default=None, ge=1)
    """Share of one IP address; default: three quarters, or all where only one address may connect."""
    max_pdu_bytes: int = Field(default=131072, ge=4096, le=16_777_216)
    max_instance_mb: int = Field(default=512, ge=1)
    """A longer instance ends the association."""
    idle_seconds: Seconds = 60
    """An association on which nothing comes for so long is aborted."""
    min_bytes_per_second: int = Field(default=1024, ge=1)
    """A message that comes more slowly, after its first `idle_seconds`, ends the association."""
    negotiation_seconds: Seconds = 15
    """A connection that has not asked for an association within this time, TLS included, is closed."""
    tls: ListenerTls | None = None

    @property
    def ae_titles(self) -> tuple[str, ...]:
        """The names that it answers to; one at least."""
        return (self.ae_title,) if isinstance(self.ae_title, str) else self.ae_title


class HttpAccess(Table):
    """What a DICOMweb server needs to let us in."""

    url: str = Field(pattern=r"^https?://[^/@]+(/|$)")
    """Base of the services, e.g. https://pacs.example/dicom-web; without user and password, for it is shown."""
    timeout_seconds: Seconds = 60
    token_file: Path | None = None
    """File with a bearer token; read again for every session."""
    token_command: tuple[str, ...] = ()
    """Command that prints a bearer token."""
    username: str | None = None
    password_file: Path | None = None
    client_certificate: Path | None = None
    """PEM with certificate and key."""
    ca: Path | None = None
    """Authority that signed the server's certificate; default: those of the system."""
    proxy: str | None = None
    """Proxy URL; default: HTTPS_PROXY and NO_PROXY of the environment."""


class DicomAccess(Table):
    """What a DICOM application entity needs to let us in."""

    address: str
    port: Port
    ae_title: AeTitle
    """Its AE title."""
    calling_ae_title: AeTitle = "CXRDICOM"
    """The AE title that we call ourselves."""
    timeout_seconds: Seconds = 30
    """For connecting, negotiating, and for each answer."""
    tls: bool = False
    ca: Path | None = None
    """Authority that signed the peer's certificate; default: those of the system."""
    client_certificate: Path | None = None
    """PEM with certificate and key, for mutual TLS."""


class ArchiveTable(Table):
    """A table of ``[[poller.archives]]``; that of another package is its ``SETTINGS``, with a ``kind`` of its name."""

    kind: str
    name: Name


class DicomwebArchive(ArchiveTable, HttpAccess):
    """``[[poller.archives]]`` with ``kind = "dicomweb"``: QIDO-RS and WADO-RS."""

    kind: Literal["dicomweb"]


class QueryRetrieveArchive(ArchiveTable, DicomAccess):
    """``[[poller.archives]]`` with ``kind = "query-retrieve"``: C-FIND, and C-GET or C-MOVE."""

    kind: Literal["query-retrieve"]
    retrieve: Literal["get", "move"] = "get"
    """`move` sends to our own listener, whose AE title the archive must know."""


OurArchive = Annotated[DicomwebArchive | QueryRetrieveArchive, Field(discriminator="kind")]
Archive = Annotated[SerializeAsAny[OurArchive], WrapValidator(_table_of(ARCHIVES, ArchiveTable))]


class PollerSettings(Table):
    """``[poller]``: archives that are asked for new studies."""

    interval_seconds: Seconds = 300
    modalities: tuple[str, ...] = ("CR", "DX")
    start_days: int = Field(default=1, ge=0)
    """How far back the first round looks, in days of Study Date."""
    lookback_days: int = Field(default=7, ge=0)
    """How far behind the newest study later rounds look, for late and growing studies."""
    archives: tuple[Archive, ...] = ()


# --- the way out ---------------------------------------------------------------------------------


class Rules(Table):
    """What goes to a destination; an empty rule lets all pass."""

    modalities: tuple[str, ...] = ()
    """A processed image has one of these modalities."""
    senders: tuple[str, ...] = ()
    """A processed image came from one of these AE titles, archives, or users of the pages (`WEB:` and the name)."""
    findings: tuple[str, ...] = ()
    """One of these findings or statements was called present."""
    kinds: tuple[Kind, ...] = ()
    """Only objects of these kinds, for a destination that does not take all of them."""


class DestinationTable(Table):
    """A table of ``[[destinations]]``; that of another package is its ``SETTINGS``, with a ``kind`` of its name."""

    kind: str
    name: Name
    """Your name for it; receipts are kept under it."""
    rules: Rules = Rules()
    verify: str = "none"
    """Anything else: delivered is not enough, it is asked back whether an object is kept."""


class DicomDestination(DestinationTable, DicomAccess):
    """``[[destinations]]`` with ``kind = "dicom"``: C-STORE."""

    kind: Literal["dicom"]
    verify: Literal["none", "commitment", "query"] = "none"
    """`commitment`: Storage Commitment (PS3.4 J); `query`: ask back by C-FIND."""
    deflated: bool = True
    """Deflated objects are offered as they are too; `false`: only inflated."""


class DicomwebDestination(DestinationTable, HttpAccess):
    """``[[destinations]]`` with ``kind = "dicomweb"``: STOW-RS."""

    kind: Literal["dicomweb"]
    verify: Literal["none", "query"] = "none"
    """`query`: ask back by QIDO-RS."""
    deflated: bool = False
    """Deflated objects are sent as they are, and inflated only where the server does not take them."""


class FolderDestination(DestinationTable):
    """``[[destinations]]`` with ``kind = "folder"``."""

    kind: Literal["folder"]
    path: Path
    shared: bool = False
    """Its folders and files are for others too, as the umask says; otherwise 0700 and 0600."""
    verify: Literal["none"] = "none"


OurDestination = Annotated[DicomDestination | DicomwebDestination | FolderDestination, Field(discriminator="kind")]
Destination = Annotated[SerializeAsAny[OurDestination], WrapValidator(_table_of(DESTINATIONS, DestinationTable))]

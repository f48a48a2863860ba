"""Routes that no image can take, or that name what does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cxr_dicom.config import Settings
from cxr_dicom.config.routes import Conditions, RouteSettings
from cxr_dicom.encode import encoder_names
from cxr_dicom.infer import AUTO, model_infos
from cxr_dicom.ingest.conditions import Asked, folded
from cxr_dicom.records.words import kind_of
from cxr_dicom.service.checks.answer import Check, warning, wrong
from cxr_dicom.service.checks.peers import KINDS

_WILD = frozenset("*?^$[]{}|\\")  # of other programs' patterns


def check(settings: Settings) -> Iterator[Check]:
    """Compare routes with each other, and with what is known."""
    by_route = settings.by_route
    models = {*model_infos(settings), AUTO}
    objects = {*encoder_names(), AUTO}
    for route in settings.routes:
        key = f"routes.{route.name}"
        for place, names, known in (("models", route.models, models), ("objects", route.objects, objects)):
            for name in sorted(set(names or ()) - known):
                yield wrong(f"{key}.{place}", f"{name!r} is not one of {', '.join(sorted(known))}")
        yield from _way_in(settings, key, route)
        yield from _way_out(by_route.get(route.name), key, route)
    yield from _conditions("assembly.urgent", settings.assembly.urgent)
    yield from _unreachable(settings)
    yield from _left_out(settings, by_route)


def _conditions(key: str, asked: Conditions) -> Iterator[Check]:
    """Find conditions that are written as patterns."""
    for name in ("modalities", "views", "stations", "words"):
        for text in getattr(asked, name):
            if _WILD & set(text):
                yield warning(f"{key}.{name}", f"{text}: there are no wildcards, this stands for itself")


def _way_in(settings: Settings, key: str, route: RouteSettings) -> Iterator[Check]:
    yield from _conditions(key, route)
    listener, archives = settings.listener, {archive.name for archive in settings.poller.archives}
    answered = {folded(title) for title in (*listener.ae_titles, *settings.assembly.urgent.called_ae_titles)}
    for title in route.called_ae_titles:
        if folded(title) not in answered:
            yield wrong(f"{key}.called_ae_titles", f"{title}: the listener does not answer to it (listener.ae_title)")
    if route.called_ae_titles and route.senders and {*map(folded, route.senders)} <= {*map(folded, archives)}:
        yield wrong(f"{key}.called_ae_titles", "what is fetched from an archive calls no AE title")


def _way_out(on_route: Settings | None, key: str, route: RouteSettings) -> Iterator[Check]:
    if route.models == ():
        for name in ("objects", "destinations"):
            if getattr(route, name):
                yield wrong(f"{key}.{name}", "models is empty: nothing is made")
        return
    if on_route is None:  # no image can take it, which is told
        return
    encode = on_route.decided(service=True).encode
    written = {kind for name in encode.written for kind in KINDS.get(name, (kind_of(name),))}
    for destination in on_route.destinations if route.destinations else ():
        if destination.rules.kinds and written.isdisjoint(destination.rules.kinds):
            kinds = ", ".join(destination.rules.kinds)
            yield wrong(f"{key}.destinations", f"{destination.name} takes {kinds} only, and nothing of it is written")


def _unreachable(settings: Settings) -> Iterator[Check]:
    before: dict[str, Asked] = {}
    for route in settings.routes:
        asked = Asked(route)
        wider = next((name for name, other in before.items() if asked.implies(other)), None)
        if wider:
            yield wrong(f"routes.{route.name}", f"no image can take it: whatever would, takes {wider} before it")
        else:  # what is behind this one is behind the wider one, too
            before[route.name] = asked


def _left_out(settings: Settings, by_route: Mapping[str, Settings]) -> Iterator[Check]:
    """Find destinations that no route leads to."""
    led_to = {destination.name for each in by_route.values() for destination in each.destinations}
    for destination in settings.destinations:
        if destination.name not in led_to:
            yield wrong(f"destinations.{destination.name}", "no route leads there, and every image takes one")

"""Which route each image of a study takes, and which destinations its objects go to.

An image takes the first route in the settings of which all conditions hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.config.routes import DEFAULT, RouteSettings
from cxr_dicom.config.service import DestinationTable, Rules
from cxr_dicom.dicom.files import Header, read_header
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.conditions import Asked, Described, folded
from cxr_dicom.records import InstanceResult, Outcome, Presence, StoredInstance, Study, StudyResult
from cxr_dicom.records.words import kind_of
from cxr_dicom.store.ledger import Dispatch


class Router:
    """Knows the way of each image."""

    def __init__(self, routes: Sequence[RouteSettings]) -> None:
        self._asked = {route.name: Asked(route) for route in routes}
        self._attributes = tuple(dict.fromkeys(key for asked in self._asked.values() for key in asked.attributes))

    def route(self, instance: StoredInstance) -> str:
        """Return the first route of which all conditions hold, `DEFAULT` when none is."""
        image = Described.of(self._header(instance), instance.sender, instance.called_ae_title)
        return next((name for name, asked in self._asked.items() if all(asked.answers(image))), DEFAULT)

    def parts(self, study: Study) -> dict[str, Study]:
        """Part a study by route; each part knows the images beside it."""
        taken = {instance: self.route(instance) for instance in study.instances}
        return {
            route: replace(
                study,
                instances=tuple(instance for instance in study.instances if taken[instance] == route),
                beside=tuple(instance for instance in study.instances if taken[instance] != route),
            )
            for route in dict.fromkeys(taken.values())
        }

    def _header(self, instance: StoredInstance) -> Header:
        """Read what is asked for; of a file that cannot be read its way is known, and the pipeline says the rest."""
        try:
            if self._attributes:
                return read_header(instance.path, self._attributes)
        except ImageError:
            pass
        return Header(dataset=Dataset(), pixel_keyword="", pixel_length=None)


def dispatches(result: StudyResult, by_route: Mapping[str, Settings]) -> Iterator[Dispatch]:
    """Yield where the objects of a study go, those of each route to its destinations.

    Parameters
    ----------
    by_route
        As `Settings.by_route`.
    """
    for route in dict.fromkeys(instance.route or DEFAULT for instance in result.instances):
        instances = [instance for instance in result.instances if (instance.route or DEFAULT) == route]
        processed = [instance for instance in instances if instance.outcome is Outcome.PROCESSED]
        kinds = {made.sop_instance_uid: made.kind for instance in instances for made in instance.objects}
        for destination in by_route[route].destinations:
            rules = destination.rules
            if applies(rules, processed):
                yield Dispatch(
                    destination=destination.name,
                    verify=destination.verify != "none",
                    objects=frozenset(uid for uid, kind in kinds.items() if not rules.kinds or kind in rules.kinds),
                )


def unasked(destination: DestinationTable, by_route: Mapping[str, Settings]) -> frozenset[str]:
    """Return the kinds of objects that may go to a destination although nobody named them; it may do without."""
    ways = [each.encode for each in by_route.values() if destination in each.destinations]
    named = {*destination.rules.kinds, *(kind_of(name) for encode in ways for name in encode.objects)}
    return frozenset(kind for encode in ways for kind in encode.unasked) - named


def applies(rules: Rules, processed: Sequence[InstanceResult]) -> bool:
    """Whether a study of these processed images passes every rule."""
    modalities = {
        folded(str(instance.analysis.image.header.get("Modality", ""))) for instance in processed if instance.analysis
    }
    senders = {folded(instance.instance.sender or "") for instance in processed if instance.instance}
    called = {name for instance in processed for name in _called_present(instance)}
    wanted = (
        (set(map(folded, rules.modalities)), modalities),
        (set(map(folded, rules.senders)), senders),
        (set(rules.findings), called),
    )
    return all(not names or bool(names & found) for names, found in wanted)


def _called_present(result: InstanceResult) -> Iterator[str]:
    for prediction in result.analysis.predictions if result.analysis else ():
        calls = {finding.name: finding.call for finding in prediction.findings}
        calls |= {statement.name: statement.call for statement in prediction.statements}
        yield from (name for name, call in calls.items() if call is Presence.PRESENT)

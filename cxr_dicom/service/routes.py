"""Which destinations a finished study goes to, by the rules of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxr_dicom.config import Settings
from cxr_dicom.config.service import Rules
from cxr_dicom.records import InstanceResult, Outcome, Presence, StudyResult
from cxr_dicom.store.ledger import Route


def routes(result: StudyResult, settings: Settings) -> Iterator[Route]:
    """Yield where the objects of a study go."""
    processed = [each for each in result.instances if each.outcome is Outcome.PROCESSED]
    for destination in settings.destinations:
        if applies(destination.rules, processed):
            yield Route(
                destination=destination.name,
                verify=destination.verify != "none",
                kinds=frozenset(destination.rules.kinds),
            )


def applies(rules: Rules, processed: Sequence[InstanceResult]) -> bool:
    """Whether a study of these processed images passes every rule."""
    modalities = {str(each.analysis.image.header.get("Modality", "")) for each in processed if each.analysis}
    senders = {each.instance.sender for each in processed if each.instance}
    called = {name for each in processed for name in _called_present(each)}
    wanted = ((rules.modalities, modalities), (rules.senders, senders), (rules.findings, called))
    return all(not names or bool(set(names) & found) for names, found in wanted)


def _called_present(result: InstanceResult) -> Iterator[str]:
    for prediction in result.analysis.predictions if result.analysis else ():
        calls = {each.name: each.call for each in prediction.findings}
        calls |= {each.name: each.call for each in prediction.statements}
        yield from (name for name, call in calls.items() if call is Presence.PRESENT)

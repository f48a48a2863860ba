"""Which destinations a finished study goes to, by the rules of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxr_dicom.config import Settings
from cxr_dicom.config.service import Rules
from cxr_dicom.records import InstanceResult, Outcome, Presence, StudyResult
from cxr_dicom.store.ledger import Route


def routes(result: StudyResult, settings: Settings) -> Iterator[Route]:
    """Yield where the objects of a study go."""
    processed = [instance for instance in result.instances if instance.outcome is Outcome.PROCESSED]
    for destination in settings.destinations:
        if applies(destination.rules, processed):
            yield Route(
                destination=destination.name,
                verify=destination.verify != "none",
                kinds=frozenset(destination.rules.kinds),
            )


def applies(rules: Rules, processed: Sequence[InstanceResult]) -> bool:
    """Whether a study of these processed images passes every rule."""
    modalities = {
        str(instance.analysis.image.header.get("Modality", "")) for instance in processed if instance.analysis
    }
    senders = {instance.instance.sender for instance in processed if instance.instance}
    called = {name for instance in processed for name in _called_present(instance)}
    wanted = ((rules.modalities, modalities), (rules.senders, senders), (rules.findings, called))
    return all(not names or bool(set(names) & found) for names, found in wanted)


def _called_present(result: InstanceResult) -> Iterator[str]:
    for prediction in result.analysis.predictions if result.analysis else ():
        calls = {finding.name: finding.call for finding in prediction.findings}
        calls |= {statement.name: statement.call for statement in prediction.statements}
        yield from (name for name, call in calls.items() if call is Presence.PRESENT)

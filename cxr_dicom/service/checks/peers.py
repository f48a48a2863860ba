"""Other machines: whether they answer, and which of the SOP classes that will be sent each of them takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom.uid import (
    UID,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from cxr_dicom.config import Settings
from cxr_dicom.config.service import DicomAccess, DicomDestination, DicomwebDestination
from cxr_dicom.deliver import build_destination
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.ingest.archive import build_archive
from cxr_dicom.records import ObjectKind
from cxr_dicom.service.checks.answer import Check, Level, ok, tried, warning, wrong
from cxr_dicom.service.routes import unasked
from cxr_dicom.system.network import ContextsRejectedError, association

KINDS = {  # what each of our encoders writes
    "seg": (ObjectKind.SEGMENTATION,),
    "sr": (
        ObjectKind.MEASUREMENT_REPORT,
        ObjectKind.STRUCTURE_REPORT,
        ObjectKind.DETECTION_REPORT,
        ObjectKind.FINDINGS_REPORT,
    ),
    "parametric-map": (ObjectKind.PARAMETRIC_MAP,),
    "secondary-capture": (ObjectKind.SECONDARY_CAPTURE,),
    "presentation-state": (ObjectKind.PRESENTATION_STATE,),
    "key-objects": (ObjectKind.KEY_OBJECT_SELECTION,),
}
_SEGMENTATIONS = {
    "binary": (SegmentationStorage,),
    "labelmap": (LABEL_MAP_STORAGE,),
    "auto": (SegmentationStorage, LABEL_MAP_STORAGE),
    "both": (SegmentationStorage, LABEL_MAP_STORAGE),
}
_CLASSES = {
    ObjectKind.MEASUREMENT_REPORT: EnhancedSRStorage,
    ObjectKind.STRUCTURE_REPORT: EnhancedSRStorage,
    ObjectKind.DETECTION_REPORT: EnhancedSRStorage,
    ObjectKind.FINDINGS_REPORT: EnhancedSRStorage,
    ObjectKind.PARAMETRIC_MAP: ParametricMapStorage,
    ObjectKind.SECONDARY_CAPTURE: SecondaryCaptureImageStorage,
    ObjectKind.PRESENTATION_STATE: GrayscaleSoftcopyPresentationStateStorage,
    ObjectKind.KEY_OBJECT_SELECTION: KeyObjectSelectionDocumentStorage,
}
_LABEL_MAP = "Label Map Segmentation Storage"
_VERIFIES = {"commitment": StorageCommitmentPushModel, "query": StudyRootQueryRetrieveInformationModelFind}


def check(settings: Settings, by_route: Mapping[str, Settings]) -> Iterator[Check]:
    """Ask each destination and archive.

    Parameters
    ----------
    by_route
        As `Settings.by_route`, before anything was decided.
    """
    if not settings.destinations:
        yield warning("destinations", "none: objects are deleted after retention.objects_days")
    for destination in settings.destinations:
        key = f"destinations.{destination.name}"
        answer = tried(key, build_destination(destination, lambda uid: None).check)
        yield answer
        if isinstance(destination, DicomwebDestination) and answer.level is Level.OK:
            yield ok(f"{key}: what is sent", "not tried: a server says by STOW-RS only when it stores")
        if isinstance(destination, DicomDestination) and answer.level is Level.OK:
            ways = [each.decided(service=True) for each in by_route.values() if destination in each.destinations]
            classes: dict[UID, set[str]] = {}
            for way in ways:
                for sop_class, kinds in sop_classes(way, destination.rules.kinds).items():
                    classes.setdefault(sop_class, set()).update(kinds)
            can_do_without = unasked(destination, by_route)
            yield from _storage(key, destination, classes, can_do_without, settings.encode.segmentation != "both")
            if destination.verify != "none" and not _accepted(destination, [_VERIFIES[destination.verify]]):
                yield wrong(f"{key}.verify", f"{destination.verify}: refused by {destination.ae_title}")
    for archive in settings.poller.archives:
        yield tried(f"poller.archives.{archive.name}", build_archive(archive, settings.listener).check)


def sop_classes(settings: Settings, kinds: Sequence[str] = ()) -> dict[UID, set[str]]:
    """Return the SOP classes that our encoders write by these settings, of ``kinds`` only, with their kinds."""
    found: dict[UID, set[str]] = {}
    for kind in (kind for name in settings.encode.written for kind in KINDS.get(name, ())):
        if kinds and kind not in kinds:
            continue
        of_kind = _SEGMENTATIONS[settings.encode.segmentation] if kind is ObjectKind.SEGMENTATION else (_CLASSES[kind],)
        for sop_class in of_kind:
            found.setdefault(sop_class, set()).add(str(kind))
    return found


def _storage(
    key: str, peer: DicomAccess, classes: dict[UID, set[str]], can_do_without: frozenset[str], can_replace: bool
) -> Iterator[Check]:
    """Propose what will be sent, and say what is not taken and what becomes of it."""
    try:
        taken = _accepted(peer, [*classes, SegmentationStorage])
    except CxrDicomError as error:
        yield wrong(f"{key}: what is sent", str(error))
        return
    if good := [_name(sop_class) for sop_class in classes if sop_class in taken]:
        yield ok(f"{key}: what is sent", f"{peer.ae_title} takes {', '.join(good)}")
    for sop_class, kinds in classes.items():
        if sop_class in taken:
            continue
        if sop_class == LABEL_MAP_STORAGE and SegmentationStorage in taken:
            instead = "BINARY twins are" if can_replace else "the BINARY segmentation is"
            yield warning(f"{key}: what is sent", f"{peer.ae_title} refuses {_LABEL_MAP}: {instead} sent instead")
        elif kinds <= can_do_without:
            yield warning(f"{key}: what is sent", f"{peer.ae_title} refuses {_name(sop_class)}: it is left out there")
        else:
            yield wrong(
                f"{key}: what is sent",
                f"{peer.ae_title} refuses {_name(sop_class)}, and each study with one will be DEAD: teach it the class,"
                f" or let rules.kinds of this destination name all but {', '.join(sorted(kinds))}",
            )


def _accepted(peer: DicomAccess, classes: Sequence[UID]) -> set[str]:
    contexts = [build_context(sop_class, ExplicitVRLittleEndian) for sop_class in dict.fromkeys(classes)]
    try:
        with association(peer, contexts) as opened:
            return {str(context.abstract_syntax) for context in opened.accepted_contexts}
    except ContextsRejectedError:
        return set()


def _name(sop_class: UID) -> str:
    return _LABEL_MAP if sop_class == LABEL_MAP_STORAGE else sop_class.name

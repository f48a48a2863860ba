"""The key object document: title, a sentence, and the images."""

from __future__ import annotations

from highdicom.ko import KeyObjectSelection
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage

from cxr_dicom.config import Settings
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.codes import ascii_text
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head
from cxr_dicom.encode.identity import Reference, study_identity
from cxr_dicom.encode.source import about_study
from cxr_dicom.encode.sr_document import evidence, new_document
from cxr_dicom.records import ImageAnalysis, ObjectKind, Presence, StudyAnalysis

SERIES_NUMBER = 9004


def key_object_selection(study: StudyAnalysis, settings: Settings) -> Encoded | None:
    """Return the selection of the images with a finding called present; None without such an image."""
    flagged = [analysis for analysis in study.images if _present(analysis)]
    if not flagged:
        return None
    images = [analysis.image for analysis in flagged]
    models = list({p.model.name: p.model for analysis in flagged for p in analysis.predictions if p.findings}.values())
    names = dict.fromkeys(name for analysis in flagged for name in _present(analysis))
    root = KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=[image.header for image in images],
        observer_device_context=tree.observer(tuple(models)),
        description=ascii_text(f"{NOT_FOR_CLINICAL_USE}. Called present: {', '.join(names)}.", 1024),
    )[0]
    identity = study_identity(ObjectKind.KEY_OBJECT_SELECTION, flagged, settings)
    head = Head(
        reference=Reference(KeyObjectSelectionDocumentStorage, identity),
        image=about_study(images),
        models=models,
        settings=settings,
        modality="KO",
        series_number=SERIES_NUMBER,
        series_description="Key images; not for clinical use",
    )
    dataset = new_document(head, root, evidence([image.instance for image in images]))
    sources = tuple(image.instance.sop_instance_uid for image in images)
    return Encoded(ObjectKind.KEY_OBJECT_SELECTION, dataset, sources, None)


def _present(analysis: ImageAnalysis) -> list[str]:
    """Name the findings of an image that are called present."""
    return [f.name for p in analysis.predictions for f in p.findings if f.call is Presence.PRESENT]

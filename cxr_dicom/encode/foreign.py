"""An encoder of another package, held to what `encode.base.Encoder` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.shared import sharing
from cxr_dicom.errors import CxrDicomError, EncodingError
from cxr_dicom.plugins import Choice
from cxr_dicom.records import MANUFACTURER, StudyAnalysis
from cxr_dicom.records.guard import guarded_study
from cxr_dicom.records.words import kind_of
from cxr_dicom.system import telemetry


class ForeignEncoder:
    """It gets a copy of the study, and shares no part of an object with ours; what it gives is checked."""

    def __init__(self, encoder: Encoder, choice: Choice) -> None:
        self._encoder = encoder
        self._kind = kind_of(choice.name)
        self._name = f"{choice.name} of {choice.package}"

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the objects of a study.

        Raises
        ------
        EncodingError
            If the encoder fails in any way, or breaks its contract.
        """
        objects = self._tried(lambda: iter(self._encoder.encode(guarded_study(study))))
        uids = {instance.sop_instance_uid for instance in _instances(study)}
        while (encoded := self._tried(lambda: next(objects, None))) is not None:
            if wrong := self._tried(partial(problem, encoded, self._kind, study, uids)):
                raise EncodingError(f"{self._name}: {wrong}")
            uids.add(str(encoded.dataset.SOPInstanceUID))
            yield encoded

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            with sharing(False):
                return act()
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:  # not ours: `sys.exit` in it must not end a worker
            raise EncodingError(f"{self._name}: {telemetry.safe_description(error)}") from error


def problem(encoded: object, kind: str, study: StudyAnalysis, taken: set[str]) -> str:
    """Say the first thing that is wrong with an object; empty when nothing is.

    Parameters
    ----------
    encoded
        What the encoder yielded, whatever that is.
    kind
        What its kind has to be.
    study
        What it was made of.
    taken
        SOP Instance UIDs that it may not have.
    """
    if not isinstance(encoded, Encoded) or not isinstance(encoded.dataset, Dataset):
        return f"expected an Encoded with a Dataset, got {type(encoded).__name__}"
    sources = {analysis.image.instance.sop_instance_uid for analysis in study.images}
    cited = encoded.source_sop_instance_uids
    if encoded.kind != kind:
        return f"expected the kind {kind}, got {encoded.kind!r:.80}"
    if not isinstance(cited, tuple) or not cited or not set(cited) <= sources:
        return f"source_sop_instance_uids: expected UIDs of images of the study, got {cited!r:.200}"
    if encoded.model is not None and not isinstance(encoded.model, str):
        return f"model: expected a name or None, got {type(encoded.model).__name__}"
    return next(_wrong_head(encoded.dataset, study.study_instance_uid, taken), "")


def _wrong_head(dataset: Dataset, study_uid: str, taken: set[str]) -> Iterator[str]:
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        value = dataset.get(keyword)
        if not isinstance(value, str) or not value or not UID(value).is_valid:
            yield f"{keyword}: expected a UID, got {type(value).__name__}"
            return
    if dataset.StudyInstanceUID != study_uid:
        yield f"StudyInstanceUID: expected {study_uid}, got {dataset.StudyInstanceUID}"
    if dataset.SOPInstanceUID in taken:
        yield f"SOPInstanceUID: expected a new one for each object, got {dataset.SOPInstanceUID} again"
    if dataset.get("Manufacturer") != MANUFACTURER:
        yield f"Manufacturer: expected {MANUFACTURER}, by which its own objects are known and not processed again"
    meta = getattr(dataset, "file_meta", {})
    syntax = meta.get("TransferSyntaxUID", UID(""))
    if not syntax or not syntax.is_transfer_syntax or syntax.is_implicit_VR:
        yield "file_meta: expected a transfer syntax with explicit VR in little endian"
    elif not syntax.is_little_endian:
        yield "file_meta: expected a transfer syntax in little endian"
    pairs = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
    for in_meta, keyword in pairs:
        if meta.get(in_meta) != dataset[keyword].value:
            yield f"file_meta: {in_meta}: expected that of the data set"


def _instances(study: StudyAnalysis) -> Iterator[Any]:
    yield from (analysis.image.instance for analysis in study.images)
    yield from (skipped.instance for skipped in study.skipped if skipped.instance)

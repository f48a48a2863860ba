"""Checks for authors of encoders and destinations; `contract` has that for models.

They raise an ``AssertionError`` with what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset, dcmread

from cxr_dicom import synthetic
from cxr_dicom.records import (
    Code,
    DeliveryStatus,
    EncodedObject,
    Finding,
    Heatmap,
    ImageAnalysis,
    Mask,
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Structure,
    StudyAnalysis,
)
from cxr_dicom.records.guard import guarded_study
from cxr_dicom.records.plane import Grid, Region
from cxr_dicom.synthetic.contract import ORIENTATIONS, expect, read

if TYPE_CHECKING:
    from cxr_dicom.deliver.base import Destination
    from cxr_dicom.encode.base import Encoder

_CODE = Code(value="TEST", scheme="99TEST", meaning="Test")
_PART = Structure(name="part", title="Part", category=_CODE, type=_CODE, laterality=None, colour=(1, 2, 3))
_MODEL = ModelInfo(
    name="test",
    version="1",
    title="Test",
    predicts=("part",),
    input_size=None,
    manufacturer="Test",
    licence="none",
    citation="none",
)


def check_encoder(encoder: Encoder, name: str) -> None:
    """Check that an encoder does what `encode.base.Encoder` says.

    Parameters
    ----------
    encoder
        As ``build`` gives it, with ``content_time`` not ``now``.
    name
        Its name in the settings.

    Raises
    ------
    AssertionError
        With expected and actual.
    """
    with TemporaryDirectory() as folder:
        for study in _studies(Path(folder)):
            first = _written(encoder, name, study, Path(folder) / "first")
            again = _written(encoder, name, study, Path(folder) / "again")
            changed = sorted(path for path in first.keys() | again.keys() if first.get(path) != again.get(path))
            expect(not changed, f"expected the same files with the same bytes each time, got others: {changed}")


def check_destination(destination: Destination) -> None:
    """Check that a destination does what `deliver.base.Destination` says. It gets two objects, each twice.

    Raises
    ------
    AssertionError
        With expected and actual.
    """
    stated = destination.check()
    expect(isinstance(stated, str) and bool(stated), f"check: expected a few words, got {stated!r:.80}")
    with TemporaryDirectory() as folder:
        objects = list(_objects(Path(folder)))
        before = [encoded.path.read_bytes() for encoded in objects]
        for when in ("sent", "sent again"):
            _expect_receipts(list(destination.send(objects)), objects, when)
            now = [encoded.path.read_bytes() if encoded.path.is_file() else b"" for encoded in objects]
            expect(now == before, f"{when}: expected the files as they were, they were changed")


def _studies(folder: Path) -> Iterator[StudyAnalysis]:
    upright = synthetic.radiograph(96, 80)
    for orientation in ORIENTATIONS:
        yield _study(synthetic.turned(upright, orientation), folder)
    yield _study(synthetic.radiograph(97, 81, modality="CR", PixelSpacing=None, ImagerPixelSpacing=None), folder)


def _study(dataset: Dataset, folder: Path) -> StudyAnalysis:
    radiograph = read(dataset, folder)
    rows, columns = shape = radiograph.image.shape
    inside = np.zeros(shape, bool)
    inside[10:30, 20:50] = True
    grid = Grid(shape=(4, 5), step=(rows / 4, columns / 5))
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    raw = {"raw": 0.7, "probability": 0.7, "operating_point": 0.5, "call": Presence.PRESENT}
    points = ((1.0, 2.0), (30.0, 2.0))
    prediction = Prediction(
        model=_MODEL,
        findings=(Finding(name="part", code=_CODE, site=None, **raw),),  # type: ignore[arg-type]
        masks=(Mask(structure=_PART, region=Region.from_matrix(inside)),),
        heatmaps=(Heatmap(name="part", title="Part", quantity=_CODE, definition="Test", values=values, grid=grid),),
        measurements=(Measurement(name="part", code=_CODE, value=29.0, unit=_CODE, points=points),),
    )
    analysis = ImageAnalysis(image=radiograph.image, pixel_sha256=radiograph.sha256, predictions=(prediction,))
    uid = radiograph.image.instance.study_instance_uid
    return StudyAnalysis(study_instance_uid=uid, images=(analysis,), skipped=())


def _written(encoder: Encoder, name: str, study: StudyAnalysis, folder: Path) -> dict[str, bytes]:
    """Encode and write as a run does, and read back what was written."""
    from cxr_dicom.encode.common import write
    from cxr_dicom.encode.foreign import problem
    from cxr_dicom.records.words import kind_of

    given = guarded_study(study)
    header, taken, files = given.images[0].image.header.to_json(), set[str](), {}
    taken.add(given.images[0].image.instance.sop_instance_uid)
    for encoded in encoder.encode(given):
        wrong = problem(encoded, kind_of(name), study, taken)
        expect(not wrong, wrong)
        taken.add(str(encoded.dataset.SOPInstanceUID))
        path = write(encoded, folder).path
        tags = set(dcmread(path).keys()) ^ set(encoded.dataset.keys())
        expect(not tags, f"{path.name}: expected to read the attributes that were written, {tags} differ")
        files[path.name] = path.read_bytes()
    expect(given.images[0].image.header.to_json() == header, "expected the header as it was, it was changed")
    return files


def _objects(folder: Path) -> Iterator[EncodedObject]:
    for number in (1, 2):
        dataset = synthetic.radiograph(16, 16, seed=number)
        path = folder / f"{dataset.SOPInstanceUID}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        yield EncodedObject(
            path=path,
            kind="secondary_capture",
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            source_sop_instance_uids=(str(dataset.SOPInstanceUID),),
            model=None,
        )


def _expect_receipts(receipts: Sequence[object], objects: Sequence[EncodedObject], when: str) -> None:
    uids = sorted(str(getattr(receipt, "sop_instance_uid", receipt)) for receipt in receipts)
    expected = sorted(encoded.sop_instance_uid for encoded in objects)
    expect(uids == expected, f"{when}: expected one receipt for each of {expected}, got {uids}")
    taken = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING)
    stated = [getattr(receipt, "delivery_status", None) for receipt in receipts]
    expect(all(status in taken for status in stated), f"{when}: expected them to be accepted, got {stated}")

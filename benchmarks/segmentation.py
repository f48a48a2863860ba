"""A segmentation of many structures on a large radiograph, against highdicom called plainly.

Both write the same masks to a file, each in a process of its own. Memory is the peak of what Python
and NumPy allocate.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid

from benchmarks._harness import Plan, Row, in_turn, ratios, seconds
from cxr_dicom import synthetic
from cxr_dicom.config import SelectSettings, Settings
from cxr_dicom.dicom import codes
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import ChestImage, ImageAnalysis, Mask, ModelInfo, Prediction, Structure, StudyAnalysis
from cxr_dicom.records.plane import Region
from cxr_dicom.select import select

ROWS, COLUMNS = 2500, 2048
COUNTS = (14, 159)
MODEL = ModelInfo(
    name="painted",
    version="1",
    title="ellipses",
    predicts=(),
    input_size=None,
    manufacturer="benchmark",
    licence="none",
    citation="none",
)


def measure(plan: Plan) -> Iterator[Row]:
    """Yield rows of time and memory for each number of structures."""
    size = (250, 208) if plan.is_quick else (ROWS, COLUMNS)
    for count in COUNTS[:1] if plan.is_quick else COUNTS:
        by = {way: partial(plan.apart, once, way, count, *size, threads=1) for way in WAYS}
        pairs = in_turn(by["cxr_dicom"], by["highdicom"], plan.repeats)
        for what in ("time", "peak memory"):
            figures = [(theirs[what], ours[what]) for ours, theirs in pairs]
            yield ratios(f"SEG: {what} of highdicom, against ours, {count} structures", figures, at_least=5)


def ellipse(number: int, rows: int, columns: int) -> Region:
    """One of many overlapping ellipses, the same for every run."""
    random = np.random.default_rng(number)
    half = random.integers(columns // 50, columns // 5, 2)
    top, left = random.integers(0, (rows - 2 * half[0], columns - 2 * half[1]))
    y, x = np.ogrid[-1 : 1 : 2j * half[0], -1 : 1 : 2j * half[1]]
    return Region.from_matrix(y**2 + x**2 <= 1, (int(top), int(left)), (rows, columns))


def radiograph(folder: Path, rows: int, columns: int) -> ChestImage:
    """A synthetic radiograph."""
    synthetic.radiograph(rows, columns).save_as(folder / "source.dcm", enforce_file_format=True)
    (study,), _ = scan([folder / "source.dcm"])
    return select(study, SelectSettings()).images[0]


def by_cxr_dicom(image: ChestImage, regions: list[Region], folder: Path) -> None:
    """Write the masks as this package does."""
    from cxr_dicom.encode.common import write
    from cxr_dicom.encode.objects import seg

    masks = tuple(Mask(structure=structure(number), region=region) for number, region in enumerate(regions))
    prediction = Prediction(model=MODEL, masks=masks)
    analysis = ImageAnalysis(image=image, pixel_sha256="", predictions=(prediction,))
    study = StudyAnalysis(study_instance_uid=image.instance.study_instance_uid, images=(analysis,), skipped=())
    settings = Settings.model_validate({"encode": {"segmentation": "binary"}})
    for encoded in seg.build(settings).encode(study):
        write(encoded, folder)


def structure(number: int) -> Structure:
    """A structure for the mask of this number."""
    return Structure(
        name=f"s{number}", title=f"S{number}", category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(9, 9, 9)
    )


def by_highdicom(image: ChestImage, regions: list[Region], folder: Path) -> None:
    """Write the masks as the manual of highdicom begins: one full-size plane per structure."""
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes as sr

    source = dcmread(image.instance.path)
    source.FrameOfReferenceUID, source.PositionReferenceIndicator = generate_uid(), ""
    source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    source.SliceThickness, source.PixelSpacing = 1.0, [0.2, 0.2]
    algorithm = hd.AlgorithmIdentificationSequence(name="painted", family=sr.DCM.ArtificialIntelligence, version="1")
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"S{number}",
            segmented_property_category=sr.SCT.AnatomicalStructure,
            segmented_property_type=sr.SCT.Lung,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number in range(1, len(regions) + 1)
    ]
    planes = np.stack([region.matrix() for region in regions], axis=-1)[None]
    hd.seg.Segmentation(
        [source],
        planes,
        "BINARY",
        described,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    ).save_as(folder / "highdicom.dcm")


WAYS = {"cxr_dicom": by_cxr_dicom, "highdicom": by_highdicom}


def once(way: str, count: int, rows: int, columns: int) -> dict[str, float]:
    """Measure one way."""
    import highdicom  # noqa: F401  importing it is not what is measured

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = radiograph(folder, rows, columns)
        regions = [ellipse(number, rows, columns) for number in range(count)]
        written = folder / "out"
        written.mkdir()
        spent, _ = seconds(partial(WAYS[way], image, regions, written))
        tracemalloc.start()  # in a second go, because it costs time
        WAYS[way](image, regions, written)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {"time": spent, "peak memory": peak}

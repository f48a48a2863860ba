"""A segmentation of many structures on a large radiograph, against highdicom called plainly.

Both write the same masks to a file, each in a process of its own: seconds, peak of the memory that
Python and NumPy allocate, and size on disk. Run it with ``scripts/bench segmentation``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from pydicom.uid import generate_uid

from cxr_dicom import codes, testing
from cxr_dicom.config import SelectSettings, Settings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.plane import Region
from cxr_dicom.records import ChestImage, ImageAnalysis, Mask, ModelInfo, Prediction, Structure, StudyAnalysis
from cxr_dicom.selection import select

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


def ellipse(number: int) -> Region:
    """One of many overlapping ellipses, the same for every run."""
    random = np.random.default_rng(number)
    half = random.integers(40, 400, 2)
    top, left = random.integers(0, (ROWS - 2 * half[0], COLUMNS - 2 * half[1]))
    y, x = np.ogrid[-1 : 1 : 2j * half[0], -1 : 1 : 2j * half[1]]
    return Region.from_matrix(y**2 + x**2 <= 1, (int(top), int(left)), (ROWS, COLUMNS))


def radiograph(folder: Path) -> ChestImage:
    """A synthetic radiograph of the benchmark's size."""
    testing.radiograph(ROWS, COLUMNS).save_as(folder / "source.dcm", enforce_file_format=True)
    (study,), _ = scan([folder / "source.dcm"])
    return select(study, SelectSettings()).images[0]


def by_cxr_dicom(image: ChestImage, regions: list[Region], folder: Path) -> None:
    """Write the masks as this package does."""
    from cxr_dicom.encode import seg
    from cxr_dicom.encode._common import write

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


def once(way: str, count: int) -> dict[str, float]:
    """Measure one way in this process."""
    import highdicom  # noqa: F401  importing it is not what is measured

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = radiograph(folder)
        regions = [ellipse(number) for number in range(count)]
        written = folder / "out"
        written.mkdir()
        start = perf_counter()
        WAYS[way](image, regions, written)
        seconds = perf_counter() - start
        on_disk = sum(file.stat().st_size for file in written.iterdir())
        tracemalloc.start()  # in a second go, because it costs time
        WAYS[way](image, regions, written)
        peak = tracemalloc.get_traced_memory()[1]
        return {"seconds": seconds, "megabytes": peak / 1e6, "megabytes_on_disk": on_disk / 1e6}


def main() -> None:
    """Print, for each number of structures, both ways and their ratios, pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--once", nargs=2, metavar=("WAY", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once[0], int(given.once[1]))))
        return
    print(f"{'structures':>10} {'':>10} {'seconds':>8} {'MB peak':>8} {'MB disk':>8}")
    for count in given.counts:
        pairs = [{way: measured(way, count) for way in WAYS} for _ in range(given.repeats)]
        for way in WAYS:
            figures = [median(pair[way][key] for pair in pairs) for key in pairs[0][way]]
            print(f"{count:>10} {way:>10} " + " ".join(f"{figure:8.2f}" for figure in figures))
        for key in ("seconds", "megabytes"):
            ratios = [pair["highdicom"][key] / pair["cxr_dicom"][key] for pair in pairs]
            spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
            print(f"{count:>10} highdicom / cxr_dicom, {key}: {median(ratios):.1f} ({spread})")


def measured(way: str, count: int) -> dict[str, float]:
    """Measure one way in a process of its own."""
    command = [sys.executable, __file__, "--once", way, str(count)]
    figures: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures


if __name__ == "__main__":
    main()

"""The outlines as experts would send them: ``python -m training.experts --data DIR --out FOLDER``.

Writes ``FOLDER/images``, the outlined radiographs as DICOM, ``FOLDER/outlines``, a segmentation of each by highdicom,
and ``FOLDER/ratios.csv``, so that `cxr-dicom run` and `cxr-dicom evaluate` give the figures of the model card.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from cxr_dicom.ingest.wrap import wrap

from .evaluate import OUTLINES
from .measures import cardiothoracic_ratio
from .shape import ORGANS, polygon

_SIDES = {"right_lung": ("24028007", "Right"), "left_lung": ("7771000", "Left")}


def segmentation(source: Dataset, masks: np.ndarray) -> Dataset:
    """Write masks (3, rows, columns) of right lung, left lung and heart as a binary segmentation."""
    return hd.seg.Segmentation(
        source_images=[source],
        pixel_array=np.moveaxis(masks, 0, -1)[None],
        segmentation_type="BINARY",
        segment_descriptions=[_described(number, organ) for number, organ in enumerate(ORGANS, start=1)],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="outlined by hand",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )


def _described(number: int, organ: str) -> hd.seg.SegmentDescription:
    made = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.replace("_", " ").capitalize(),
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Lung if organ in _SIDES else codes.SCT.Heart,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    if organ in _SIDES:
        value, meaning = _SIDES[organ]
        kind = made.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept(value, "SCT", meaning)]
    return made


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description="Write the outlines of the model card as DICOM.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the radiographs")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    images, outlines = arguments.out / "images", arguments.out / "outlines"
    images.mkdir(parents=True)
    outlines.mkdir()
    with (arguments.out / "ratios.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sop_instance_uid", "cardiothoracic_ratio"))
        for name, contours in json.loads(OUTLINES.read_text()).items():
            source = wrap(arguments.data / "nih-chestxray14-512" / name)
            source.save_as(images / f"{Path(name).stem}.dcm", enforce_file_format=True)
            masks = np.stack([polygon(np.array(contours[organ]), source.Rows) for organ in ORGANS])
            segmentation(source, masks).save_as(outlines / f"{Path(name).stem}.dcm")
            writer.writerow((source.SOPInstanceUID, cardiothoracic_ratio(masks)))


if __name__ == "__main__":
    main()

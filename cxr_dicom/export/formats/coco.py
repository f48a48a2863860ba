"""``coco``: one ``annotations.json`` for all radiographs, masks as compressed run lengths.

::

    annotations.json          what pycocotools, torchvision, detectron2, ... load
    <SOP Instance UID>.png    the radiograph; with ``png`` among the formats, its picture serves instead
    <SOP Instance UID>.jsonl  what annotations.json is made from: a line for the image, one per mask

File names in ``annotations.json`` are relative to the folder of all formats, ``also``. A category is a
structure; one that an earlier model of the run predicts too bears its model, as in ``results.jsonl``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.export.base import Exporter, analyses, expect_installed, found, json_text
from cxr_dicom.export.formats import png
from cxr_dicom.export.pictures import write_radiograph
from cxr_dicom.records import Detection, ImageAnalysis, Mask, Prediction, StudyResult
from cxr_dicom.records.plane import Region
from cxr_dicom.system import atomic

Item = dict[str, Any]

_INFO = {"description": "Outlined by networks, not by people", "contributor": "cxr-dicom", "version": __version__}


def build(settings: Settings, names: Collection[str]) -> Exporter:
    """Make the exporter; ``names`` are all formats of the run.

    Raises
    ------
    SettingsError
        If pycocotools is not installed.
    """
    expect_installed("pycocotools", "coco")
    return CocoExporter(settings, has_pictures="png" in names)


class CocoExporter:
    """A part per radiograph, joined at the end.

    Parameters
    ----------
    has_pictures
        Whether the radiographs are exported as ``png`` too.
    """

    name = "coco"

    def __init__(self, settings: Settings, *, has_pictures: bool) -> None:
        self._settings = settings
        self._has_pictures = has_pictures

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the parts, and the radiographs where nobody else does."""
        return [path for analysis in analyses(result) for path in self._export(analysis, folder)]

    def collect(self, folder: Path) -> None:
        """Join the parts to ``annotations.json``, one line in memory at a time."""
        parts = sorted(folder.glob("*.jsonl"))
        ids = _category_ids(parts)
        with atomic.open_bytes(folder / "annotations.json") as file:
            for line in _lines(parts, ids):
                file.write(line.encode())

    def _export(self, analysis: ImageAnalysis, folder: Path) -> Iterator[Path]:
        uid = analysis.image.instance.sop_instance_uid
        picture = folder / f"{uid}.png"
        if self._has_pictures:
            picture = folder.parent / png.PngExporter.name / png.radiograph_path(uid)
        else:
            yield write_radiograph(picture, analysis, self._settings.pixels)
        part = folder / f"{uid}.jsonl"
        with atomic.open_bytes(part) as file:
            for item in _part(analysis, picture.relative_to(folder.parent).as_posix()):
                file.write((json_text(item) + "\n").encode())
        yield part


# --- parts ---------------------------------------------------------------------------------------


def _part(analysis: ImageAnalysis, file_name: str) -> Iterator[Item]:
    """Yield the image with its categories, then its annotations; identifiers are given at the end."""
    instance, (rows, columns) = analysis.image.instance, analysis.image.shape
    yield {
        "image": {
            "file_name": file_name,
            "width": columns,
            "height": rows,
            "sop_instance_uid": instance.sop_instance_uid,
            "study_instance_uid": instance.study_instance_uid,
        },
        "categories": list(_categories(analysis.predictions)),
    }
    for number, prediction in enumerate(analysis.predictions):
        for mask in found(prediction):
            category = _category(mask.structure.name, prediction, analysis.predictions[:number])
            yield {"category": category, **_annotation(mask)}
        for detection in prediction.detections:
            category = _category(detection.name, prediction, analysis.predictions[:number])
            yield {"category": category, **_box(detection)}


def _categories(predictions: Sequence[Prediction]) -> Iterator[Item]:
    """Yield all that the models outline or frame, found or not: identifiers must not depend on what was found."""
    for number, prediction in enumerate(predictions):
        outlined = [mask.structure.name for mask in prediction.masks]
        outlined += [detection.name for detection in prediction.detections]
        for name in dict.fromkeys((*prediction.model.predicts, *outlined) if outlined else ()):
            category = _category(name, prediction, predictions[:number])
            yield {"name": category, "supercategory": prediction.model.name}


def _category(name: str, prediction: Prediction, earlier: Iterable[Prediction]) -> str:
    taken = any(name in other.model.predicts or other.mask(name) for other in earlier)
    return f"{name}__{prediction.model.name.replace('-', '_')}" if taken else name


def _annotation(mask: Mask) -> Item:
    box = mask.region.box
    rows, columns = box.shape
    return {
        "segmentation": _run_lengths(mask.region),
        "area": mask.region.area,
        "bbox": [box.left, box.top, columns, rows],
        "iscrowd": 0,
    }


def _box(detection: Detection) -> Item:
    """A box with its score; as an outline too, for those who draw outlines."""
    left, top, right, bottom = detection.box
    width, height = round(right - left, 2), round(bottom - top, 2)
    return {
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "area": width * height,
        "bbox": [left, top, width, height],
        "iscrowd": 0,
        "score": detection.score,
    }


def _run_lengths(region: Region) -> Item:
    """Encode a region as COCO does: run lengths column by column, compressed to text."""
    from pycocotools import mask

    whole = np.zeros(region.shape, np.uint8, order="F")
    whole[region.box.slices] = region.pixels
    encoded = mask.encode(whole)
    return {"size": list(region.shape), "counts": encoded["counts"].decode("ascii")}


# --- all of them ---------------------------------------------------------------------------------


def _category_ids(parts: Iterable[Path]) -> dict[tuple[str, str], int]:
    """Number the categories from 1, in the order of their models and names."""
    categories = {
        (category["supercategory"], category["name"])
        for part in parts
        for head in _items(part, 0, 1)
        for category in head["categories"]
    }
    return {category: number for number, category in enumerate(sorted(categories), start=1)}


def _lines(parts: Sequence[Path], categories: dict[tuple[str, str], int]) -> Iterator[str]:
    ids = {name: number for (_, name), number in categories.items()}
    yield f'{{"info": {json_text(_INFO)}, "licenses": [], "images": [\n'
    yield from _joined(_images(parts))
    yield '], "annotations": [\n'
    yield from _joined(_annotations(parts, ids))
    yield '], "categories": [\n'
    yield from _joined({"id": i, "name": name, "supercategory": model} for (model, name), i in categories.items())
    yield "]}\n"


def _images(parts: Iterable[Path]) -> Iterator[Item]:
    for number, part in enumerate(parts, start=1):
        for head in _items(part, 0, 1):
            yield {"id": number, **head["image"]}


def _annotations(parts: Iterable[Path], ids: dict[str, int]) -> Iterator[Item]:
    numbers = count(1)
    for image, part in enumerate(parts, start=1):
        for item in _items(part, 1, None):
            yield {"id": next(numbers), "image_id": image, "category_id": ids[item.pop("category")], **item}


def _items(part: Path, start: int, stop: int | None) -> Iterator[Item]:
    with part.open(encoding="utf-8") as file:
        yield from map(json.loads, islice(file, start, stop))


def _joined(items: Iterable[Item]) -> Iterator[str]:
    """Yield the members of a JSON array, one per line."""
    separator = ""
    for item in items:
        yield separator + json_text(item)
        separator = ",\n"
    yield "\n"

"""``annotations.json``, loaded by the library that everyone loads it with."""

import contextlib
import io
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from cxr_dicom import synthetic
from cxr_dicom.export import build_exporters
from tests import painted
from tests.export.results_to_export import (
    SETTINGS,
    chest_image,
    expect_same_masks,
    image_of,
    painted_result,
    two_models,
    uid,
)


def load(also):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(also / "coco" / "annotations.json")


def test_masks_boxes_and_areas(result, exported):
    coco, found = load(exported([result], "coco")), {}
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation).astype(bool)
        category = coco.cats[annotation["category_id"]]
        structure = category["name"].partition("__")[0]
        found[category["supercategory"], structure] = mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, width, height = annotation["bbox"]
        assert (top, top + height, left, left + width) == (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        assert annotation["area"] == mask.sum()
        assert annotation["iscrowd"] == 0
    expect_same_masks(found, result)


def test_names_lead_to_pictures_of_the_same_size(all_results, exported):
    for names, folder in ((("coco",), "alone"), (("coco", "png"), "both")):
        also = exported(all_results, *names, folder=folder)
        images = load(also).imgs.values()
        assert {image["sop_instance_uid"] for image in images} == {uid(result) for result in all_results}
        for image in images:
            with Image.open(also / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
        assert any((also / "coco").glob("*.png")) is (folder == "alone")


def test_identifiers_are_those_of_their_image(all_results, exported):
    coco = load(exported(all_results, "coco"))
    assert sorted(coco.imgs) == [1, 2, 3, 4]
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for image in coco.imgs.values():
        (result,) = (each for each in all_results if uid(each) == image["sop_instance_uid"])
        masks = sum(len([m for m in p.masks if m.region.area]) for p in result.instances[0].analysis.predictions)
        assert len(coco.getAnnIds(imgIds=[image["id"]])) == masks
        assert (image["height"], image["width"]) == image_of(result).shape


def test_a_name_that_two_models_use_has_two_categories(tmp_path, exported):
    result = painted_result(two_models(chest_image(synthetic.radiograph(97, 81), tmp_path)), tmp_path)
    names = {category["name"]: category["supercategory"] for category in load(exported([result], "coco")).cats.values()}
    assert names["heart"] == "painted-anatomy"
    assert names["heart__other_anatomy"] == "other-anatomy"


def test_categories_do_not_depend_on_what_was_found(pipeline, exported, tmp_path):
    """The offline model finds no heart here, and keeps its three categories."""
    image = chest_image(synthetic.radiograph(97, 81), tmp_path)
    lung = painted.anatomy(image).masks[0]
    prediction = replace(painted.anatomy(image, masks=(lung,)), model=pipeline.models[0].info)
    coco = load(exported([painted_result(painted.analysis(image, (prediction,)), tmp_path)], "coco"))
    assert [category["name"] for category in coco.cats.values()] == ["heart", "left_lung", "right_lung"]
    assert len(coco.anns) == 1


def test_parts_are_joined_line_by_line(all_results, exported):
    """Ten times as many images take no more memory."""
    folder = exported(all_results, "coco") / "coco"
    (exporter,) = build_exporters(("coco",), SETTINGS)
    part = max(folder.glob("*.jsonl"), key=lambda path: path.stat().st_size)
    peaks = []
    for copies in (20, 200):
        for number in range(copies):
            (folder / f"2.25.{number}.jsonl").write_bytes(part.read_bytes())
        tracemalloc.start()
        exporter.collect(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    joined = json.loads((folder / "annotations.json").read_text())
    assert len(joined["images"]) == 200 + len(all_results)
    assert peaks[1] < peaks[0] + 200_000 < (folder / "annotations.json").stat().st_size


def test_boxes_of_a_detector_are_annotations_with_a_score(tmp_path, exported):
    image = chest_image(synthetic.radiograph(96, 80), tmp_path)
    result = painted_result(painted.analysis(image, (painted.boxes(image),)), tmp_path)
    coco = load(exported([result], "coco"))
    for annotation, detection in zip(coco.anns.values(), painted.boxes(image).detections, strict=True):
        left, top, right, bottom = detection.box
        assert annotation["bbox"] == [left, top, pytest.approx(right - left), pytest.approx(bottom - top)]
        assert annotation["score"] == detection.score
        assert coco.cats[annotation["category_id"]]["name"] == detection.name
        assert coco.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.1)

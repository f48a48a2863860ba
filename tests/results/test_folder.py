"""An output folder read back: table, masks, objects, and what is wrong with it."""

import json
import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest

import cxr_dicom
from cxr_dicom.errors import CxrDicomError
from tests.api_inputs import CHEST, EXTREMITY, SETTINGS, TWIN, run


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"), CHEST, TWIN, EXTREMITY)


@pytest.fixture
def copy(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


def uid(path):
    return pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID


def first_row(out, **changes):
    """Write the first row anew, with other values."""
    path = out / "results.jsonl"
    lines = path.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    number = next(n for n, row in enumerate(rows) if row["sop_instance_uid"] == uid(CHEST))
    rows[number] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows[number]


def test_the_frame_is_the_table(out):
    results = cxr_dicom.read_results(out)
    pd.testing.assert_frame_equal(results.frame, pd.read_parquet(out / "results.parquet"))
    assert results.frame is results.frame


def test_masks_and_objects_are_those_of_the_image(out):
    results = cxr_dicom.read_results(str(out))
    assert set(results.masks) == set(results.objects) == {uid(CHEST), uid(TWIN)}
    with cxr_dicom.Pipeline(settings=SETTINGS) as pipeline:
        analysis, _ = pipeline.analyse_all([CHEST, TWIN])
    found = results.masks[analysis.sop_instance_uid]
    assert list(found) == list(analysis.masks)
    for name, mask in analysis.masks.items():
        np.testing.assert_array_equal(found[name], mask)
    made = {each.SOPInstanceUID: each for each in analysis.to_dicom()}
    read = {each.SOPInstanceUID: each for each in results.objects[analysis.sop_instance_uid]}
    assert made == read
    assert all(out in __import__("pathlib").Path(each.filename).parents for each in read.values())
    assert repr(results) == "<Results: 2 images>"


def test_an_image_without_results_is_a_key_error(out):
    with pytest.raises(KeyError):
        cxr_dicom.read_results(out).masks[uid(EXTREMITY)]


def test_what_is_no_output_is_refused(tmp_path):
    with pytest.raises(CxrDicomError, match=r"no results\.jsonl"):
        cxr_dicom.read_results(tmp_path)
    (tmp_path / "results.jsonl").write_text("nonsense\n")
    with pytest.raises(CxrDicomError, match="one row of results on each line"):
        cxr_dicom.read_results(tmp_path)


def test_a_path_that_leads_out_of_the_folder_is_not_followed(copy, tmp_path):
    shutil.copy(CHEST, tmp_path / "secret.dcm")
    (segmentation, *_) = [each for each in first_row(copy)["objects"] if each["kind"] == "segmentation"]
    for path in ("../secret.dcm", str(tmp_path / "secret.dcm")):
        first_row(copy, objects=[segmentation | {"path": path}])
        results = cxr_dicom.read_results(copy)
        for group in (results.objects, results.masks):
            with pytest.raises(CxrDicomError, match="expected an object that cxr-dicom writes"):
                group[uid(CHEST)]


@pytest.mark.parametrize("damage", [lambda content: b"nonsense" * 100, lambda content: content[:600] + b"\xff" * 99])
def test_files_that_are_gone_damaged_or_of_others_are_told(copy, damage):
    for path in copy.rglob("segmentation-*.dcm"):
        path.write_bytes(damage(path.read_bytes()))
    results = cxr_dicom.read_results(copy)
    with pytest.raises(CxrDicomError, match="expected an object that cxr-dicom writes"):
        results.masks[uid(CHEST)]
    for path in copy.rglob("segmentation-*.dcm"):
        path.unlink()
    with pytest.raises(CxrDicomError, match="expected the files of the run"):
        results.masks[uid(CHEST)]
    (copy / "results.parquet").write_bytes(b"nonsense")
    with pytest.raises(CxrDicomError, match="expected a Parquet table"):
        results.frame  # noqa: B018

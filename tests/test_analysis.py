"""What one analysis gives: arrays on the stored matrix, names, tables, a picture without the patient."""

import base64
import io
import pickle
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

import cxr_dicom
from cxr_dicom import synthetic
from cxr_dicom.analysis import Analysis
from cxr_dicom.errors import CxrDicomError, EncodingError
from cxr_dicom.records import ObjectKind
from cxr_dicom.records.plane import Orientation
from tests import painted
from tests.api_inputs import CHEST, SETTINGS, offline, run


@pytest.fixture(scope="module")
def pipeline():
    with cxr_dicom.Pipeline(settings=SETTINGS) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def analysis(pipeline):
    return pipeline.analyse(CHEST)


@pytest.fixture(scope="module")
def by_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"), CHEST)


@pytest.fixture(scope="module")
def turned(pipeline, tmp_path_factory):
    """The same image, stored lying on its side."""
    path = tmp_path_factory.mktemp("turned") / "turned.dcm"
    turn = Orientation(transpose=True, flip_rows=True)
    synthetic.turned(pydicom.dcmread(CHEST), turn).save_as(path, enforce_file_format=True)
    return turn, pipeline.analyse(path)


def objects(out, kind):
    return [pydicom.dcmread(path) for path in sorted(out.rglob(f"{kind}-*.dcm"))]


def test_masks_are_those_of_the_segmentation_as_pydicom_decodes_it(analysis, by_run):
    (segmentation,) = objects(by_run, ObjectKind.SEGMENTATION)
    frames = segmentation.pixel_array
    for item in segmentation.SegmentSequence:
        mask = analysis.masks[item.TrackingID]
        expected = frames == item.SegmentNumber if frames.ndim == 2 else frames[item.SegmentNumber - 1] == 1
        assert mask.dtype == bool
        assert mask.shape == (segmentation.Rows, segmentation.Columns)
        np.testing.assert_array_equal(mask, expected)
    assert set(analysis.masks) == {item.TrackingID for item in segmentation.SegmentSequence}


def test_heatmaps_are_those_of_the_parametric_map(analysis, by_run):
    (stored,) = objects(by_run, ObjectKind.PARAMETRIC_MAP)
    found = analysis.heatmaps["relative_opacity"]
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert 0.5 < found.max() <= 1
    expected = np.frombuffer(stored.FloatPixelData, "<f4").reshape(stored.Rows, stored.Columns)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.00501)  # which states hundredths


def test_arrays_lie_on_the_matrix_as_stored(analysis, turned):
    turn, other = turned
    for name, mask in analysis.masks.items():
        np.testing.assert_array_equal(turn.to_source(mask), other.masks[name])
    np.testing.assert_allclose(
        turn.to_source(analysis.heatmaps["relative_opacity"]), other.heatmaps["relative_opacity"], atol=0.05
    )


def test_what_is_given_is_the_callers_own(analysis):
    analysis.masks["heart"][:] = False
    analysis.heatmaps["relative_opacity"][:] = 0
    analysis.measurements.clear()
    assert analysis.masks["heart"].any()
    assert analysis.heatmaps["relative_opacity"].any()
    assert "cardiothoracic_ratio" in analysis.measurements


def test_numbers_are_those_of_the_table(analysis, by_run):
    (row,) = pd.read_parquet(by_run / "results.parquet").to_dict("records")
    ratio = analysis.measurements["cardiothoracic_ratio"]
    assert (ratio.value, ratio.unit.value) == (row["cardiothoracic_ratio"], row["cardiothoracic_ratio_unit"])
    series = analysis.to_series()
    assert series.name == row["sop_instance_uid"]
    assert list(series.index) == list(row)
    same = [name for name in row if not name.startswith("seconds") and name != "objects"]
    for name in same:
        expected = list(row[name]) if isinstance(row[name], np.ndarray) else row[name]
        assert series[name] == expected or (series[name] is None and pd.isna(expected)), name


def test_an_image_from_memory_has_no_path(pipeline):
    series = pipeline.analyse(CHEST.read_bytes()).to_series()
    assert series["path"] is None
    assert series["outcome"] == "processed"


def test_a_name_that_is_not_there_says_which_are(analysis):
    with pytest.raises(KeyError, match=r"'hart' is not one of .*heart"):
        analysis.masks["hart"]
    assert "hart" not in analysis.masks
    assert repr(analysis.masks) == f"<{len(analysis.masks)}: {', '.join(analysis.masks)}>"


def test_where_two_models_give_one_name_the_first_keeps_it_as_in_the_tables(selected):
    image = selected(synthetic.radiograph())
    first = painted.anatomy(image)
    other = replace(painted.anatomy(image, masks=first.masks[2:3]), model=painted.model("another-one"))
    done = painted.analysis(image, (first, other, painted.scores(image)))
    analysis = Analysis(done, painted.study(done), offline())
    assert list(analysis.masks) == ["right_lung", "left_lung", "heart", "heart__another_one"]  # no empty spine
    assert analysis.measurements["cardiothoracic_ratio"] is first.measurements[2]
    assert analysis.measurements["cardiothoracic_ratio__another_one"].value is None
    assert set(analysis.scores) == {"pleural_effusion", "pneumothorax", "mass"}
    series = analysis.to_series()
    assert {"heart__another_one_box_left", "cardiothoracic_ratio__another_one"} <= set(series.index)
    assert analysis.scores["pleural_effusion"].probability == series["pleural_effusion_probability"]
    assert "low dynamic range" in analysis.warnings


def test_repr_is_one_line(analysis):
    assert repr(analysis) == str(analysis)
    assert "\n" not in repr(analysis)
    assert analysis.sop_instance_uid in repr(analysis)
    assert len(repr(analysis)) < 200


def test_a_notebook_shows_the_picture_with_its_outlines_and_nothing_of_the_patient(pipeline):
    words = ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "StationName", "PatientComments")
    known = {word: f"Zq{number}" for number, word in enumerate(words)} | {"StudyDate": "19990911"}
    page = pipeline.analyse(synthetic.radiograph(**known))._repr_html_()
    (encoded,) = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", page)
    text = page.replace(encoded, "")
    assert "Zq" not in text
    assert "19990911" not in text
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)
    coloured = (picture.max(axis=2) - picture.min(axis=2) > 60).sum()
    assert coloured > 100, "no outlines"
    assert max(picture.shape) == 320
    assert all(f"&nbsp;{title}" in text for title in ("Right lung", "Left lung", "Heart"))


def test_what_a_model_calls_its_structures_is_no_markup(selected):
    image = selected(synthetic.radiograph())
    named = painted.anatomy(image)
    hostile = painted.structure("<script>alert(1)</script>")
    mask = type(named.masks[0])(structure=hostile, region=named.masks[0].region)
    done = painted.analysis(image, (painted.anatomy(image, masks=(mask,)),))
    assert "<script>" not in Analysis(done, painted.study(done), offline())._repr_html_().lower()


def test_an_analysis_crosses_processes_and_does_not_keep_the_pixels(pipeline):
    analysis = pipeline.analyse(synthetic.radiograph(1600, 1280))
    content = pickle.dumps(analysis)
    assert len(content) < analysis.masks["heart"].size * 2, "less than the matrix, of which a float has four bytes"
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.masks["heart"], analysis.masks["heart"])
    assert again.to_dicom() == analysis.to_dicom()
    assert again._repr_html_() == analysis._repr_html_()


def test_without_pandas_one_line_says_so(analysis, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(CxrDicomError, match="pip install pandas") as caught:
        analysis.to_series()
    assert "\n" not in str(caught.value)


def test_an_object_that_cannot_be_made_is_an_error_without_the_patient(analysis, monkeypatch, tmp_path):
    def refuse(*given):
        raise RuntimeError("CompressedSamples^RG1")

    monkeypatch.setattr("cxr_dicom.encode.objects.seg.plan_segmentations", refuse)
    with pytest.raises(EncodingError) as caught:
        analysis.save(tmp_path)
    assert "Synthetic^Chest" not in str(caught.value)

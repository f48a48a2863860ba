"""``cxr-dicom demo``: three radiographs are processed, the extremity is refused."""

import json
from pathlib import Path

import pytest
from pydicom.data import data_manager

from cxr_dicom.cli.demo import _with_ohif
from cxr_dicom.web.ohif.install import VERSION


@pytest.fixture
def without_pydicom_data(monkeypatch):
    monkeypatch.setattr(data_manager, "external_data_sources", dict)


@pytest.fixture(scope="module")
def demo(invoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_DICOM_MODELS__FOLDER", str(folder / "no weights"))
        patch.setenv("COLUMNS", "120")
        result = invoke("demo", folder / "out")
    assert result.exit_code == 0, result.output
    lines = (folder / "out" / "results.jsonl").read_text().splitlines()
    assert (folder / "out" / "radiographs" / "RG1_UNCR-spaced.dcm").is_file()
    return result.output, {Path(row["path"]).name: row for row in map(json.loads, lines)}


def test_the_radiographs_are_processed_and_the_extremity_is_refused(demo):
    _, rows = demo
    assert {name: (row["outcome"], row["reason"]) for name, row in rows.items()} == {
        "RG1_J2KR.dcm": ("processed", None),
        "RG1_UNCR.dcm": ("processed", None),
        "RG1_UNCR-spaced.dcm": ("processed", None),
        "RG3_UNCR.dcm": ("skipped", "NOT_CHEST"),
    }


def test_the_table_says_what_was_made_and_why_not_and_where_to_look(demo):
    output, _ = demo
    for text in ("RG1_UNCR.dcm", "segmentation", "NOT_CHEST", "offline-anatomy", "models pull", "report.html"):
        assert text in output


def test_it_ends_with_the_command_that_shows_it_in_the_browser(demo, tmp_path, monkeypatch):
    output, _ = demo
    assert "In the browser (with OHIF after `cxr-dicom viewer install`): cxr-dicom view" in output.splitlines()[-1]
    monkeypatch.setenv("CXR_DICOM_MODELS__FOLDER", str(tmp_path / "weights"))
    (tmp_path / f"ohif-{VERSION}").mkdir()
    assert _with_ohif() == " and OHIF"


def test_lossless_twins_measure_the_same(demo):
    _, rows = demo
    measured = rows["RG1_UNCR.dcm"]["measurements"]
    assert measured == rows["RG1_J2KR.dcm"]["measurements"]
    assert measured["cardiothoracic_ratio"]["value"] == pytest.approx(0.5, abs=0.05)


def test_one_of_them_has_a_spacing_so_that_every_viewer_can_place_what_lies_on_it(demo):
    output, rows = demo
    row = rows["RG1_UNCR-spaced.dcm"]
    assert row["measurements"]["heart_area"]["unit"] == "mm2"
    assert rows["RG1_UNCR.dcm"]["measurements"]["heart_area"]["unit"] != "mm2"
    assert str(row["study_instance_uid"]) in output.replace("\n", "")


def test_without_the_sample_images_it_says_what_to_install(invoke, tmp_path, without_pydicom_data):
    result = invoke("demo", tmp_path / "out")
    assert result.exit_code == 2
    assert "pip install '.[demo]'" in result.output

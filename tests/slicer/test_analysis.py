"""Finding cxr-dicom, running it apart from Slicer's own Python, and reading what it wrote."""

import json

import numpy as np
import pytest
from CXRLib import analysis
from pydicom import dcmread

from cxr_dicom import read_results, synthetic
from cxr_dicom.synthetic import write_study
from tests.web.test_store import TOKEN, sources, storing


def test_it_runs_in_an_environment_of_its_own_and_says_why_there_is_no_result(results):
    chest, extremity = sorted(results, key=lambda result: result.row["outcome"])
    assert (chest.row["outcome"], chest.spacing_mm) == ("processed", None)
    assert (extremity.row["reason"], extremity.picture) == ("NOT_CHEST", None)


def test_structures_are_those_of_the_dicom_segmentation(results):
    (chest,) = [result for result in results if result.picture]
    masks = read_results(chest.out).masks[chest.row["sop_instance_uid"]]
    (structures,) = chest.structures().values()
    assert {each.title for each in structures} == {"Right lung", "Left lung", "Heart"}
    for each in structures:
        assert np.array_equal(each.mask, masks[each.title.lower().replace(" ", "_")])


def test_the_program_is_found_where_the_settings_say_it_is(program, tmp_path):
    environment = program.parent.parent
    assert analysis.find_program(str(program)) == program
    assert analysis.find_program(f" {environment} ") == program
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".venv").symlink_to(environment)
    assert analysis.find_program(str(clone)).samefile(program)
    assert analysis.find_program("", {"PATH": str(program.parent)}) == program


def test_where_it_is_missing_the_places_are_named(tmp_path):
    with pytest.raises(analysis.AnalysisError, match="not found") as raised:
        analysis.find_program(str(tmp_path))
    assert str(tmp_path / "bin" / "cxr-dicom") in str(raised.value)


def test_of_slicers_environment_only_what_a_stranger_needs_is_passed_on():
    slicer = {"PYTHONHOME": "a", "PYTHONPATH": "b", "LD_LIBRARY_PATH": "c", "QT_PLUGIN_PATH": "d"}
    mine = {"PATH": "p", "HOME": "h", "CXR_DICOM_MODELS__FOLDER": "f"}
    passed = analysis.own_environment({**slicer, **mine})
    assert mine.items() <= passed.items()
    assert not slicer.keys() & passed.keys()


def test_an_end_without_results_is_told_with_what_was_said_last(program, tmp_path):
    with pytest.raises(analysis.AnalysisError, match="code 2") as raised:
        analysis.analyse(program, [tmp_path / "missing"], tmp_path / "out")
    assert "missing" in str(raised.value)


def test_a_folder_without_results_is_told(tmp_path):
    with pytest.raises(analysis.AnalysisError, match="not an output folder"):
        analysis.read(tmp_path)


class TestSend:
    """A server's word counts when it names the instance."""

    @pytest.fixture
    def answer(self, monkeypatch):
        def say(dataset_or_error):
            def store_instances(_, datasets):
                if isinstance(dataset_or_error, Exception):
                    raise dataset_or_error
                return dataset_or_error

            monkeypatch.setattr("dicomweb_client.api.DICOMwebClient.store_instances", store_instances)

        return say

    def test_what_was_named_counts(self, answer, real):
        from pydicom import Dataset

        item, stored = Dataset(), Dataset()
        item.ReferencedSOPInstanceUID = dcmread(real("RG1_UNCR.dcm")).SOPInstanceUID
        stored.ReferencedSOPSequence = [item]
        answer(stored)
        assert analysis.send("http://pacs", [real("RG1_UNCR.dcm")]) == 1

    def test_what_was_not_named_is_an_error(self, answer, real):
        from pydicom import Dataset

        answer(Dataset())
        with pytest.raises(analysis.AnalysisError, match="did not name as stored"):
            analysis.send("http://pacs", [real("RG1_UNCR.dcm")])

    def test_a_server_that_is_not_there_is_an_error(self, real):
        with pytest.raises(analysis.AnalysisError, match="ConnectionError"):
            analysis.send("http://127.0.0.1:9", [real("RG1_UNCR.dcm")])


def test_the_door_of_serve_takes_what_is_dicom_and_asks_for_a_token(tmp_path, real):
    (tmp_path / "notes.txt").write_text("no image")
    files = [tmp_path / "notes.txt", *write_study(tmp_path / "in", [synthetic.radiograph(16, 16)])]
    with storing(tmp_path / "served") as client:
        url = f"http://127.0.0.1:{client.port}/dicom-web"
        assert analysis.send(url, files, token=TOKEN) == 1
        assert len(sources(client)) == 1
        with pytest.raises(analysis.AnalysisError, match="HTTP 421, it asks for a token"):
            analysis.send(url, files)
        with pytest.raises(analysis.AnalysisError, match="expected DICOM files"):
            analysis.send(url, files[:1], token=TOKEN)


def test_a_line_of_results_is_a_result(tmp_path):
    (tmp_path / "results.jsonl").write_text(json.dumps({"exports": [], "spacing_mm": [0.2, 0.1]}) + "\n\n")
    (result,) = analysis.read(tmp_path)
    assert (result.picture, result.spacing_mm) == (None, (0.2, 0.1))

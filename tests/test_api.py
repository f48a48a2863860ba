"""A pipeline in a notebook: every kind of input, what is refused, many images, threads, and the end of it."""

import io
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pandas as pd
import pydicom
import pytest

import cxr_dicom
from cxr_dicom import synthetic
from cxr_dicom.dicom.files import inflated, transfer_syntax
from cxr_dicom.errors import CxrDicomError, ImageError, ModelError, SettingsError
from cxr_dicom.records import Outcome, Reason
from tests.api_inputs import CHEST, EXTREMITY, SETTINGS, TWIN, files, offline, run


@pytest.fixture(scope="module")
def pipeline():
    with cxr_dicom.Pipeline(settings=SETTINGS) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def by_run(tmp_path_factory):
    """The output of the command line for one image."""
    return run(tmp_path_factory.mktemp("one"), CHEST)


@pytest.fixture(scope="module")
def twin_by_run(tmp_path_factory):
    return run(tmp_path_factory.mktemp("twin"), TWIN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two frontal images of one study, an extremity, and a file that is no image."""
    folder = tmp_path_factory.mktemp("many") / "in"
    folder.mkdir()
    for number, path in enumerate((CHEST, TWIN, EXTREMITY)):
        shutil.copy(path, folder / f"{number}.dcm")
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def folder_by_run(folder):
    return run(folder.parent, folder)


def without_meta():
    dataset = pydicom.dcmread(CHEST)
    del dataset.file_meta
    return dataset


INPUTS = {
    "text": lambda: str(CHEST),
    "path": lambda: CHEST,
    "bytes": CHEST.read_bytes,
    "bytearray": lambda: bytearray(CHEST.read_bytes()),
    "memoryview": lambda: memoryview(CHEST.read_bytes()),
    "stream": lambda: io.BytesIO(CHEST.read_bytes()),
    "file": lambda: CHEST.open("rb"),
    "data set": lambda: pydicom.dcmread(CHEST),
    "data set without file meta": without_meta,
    "compressed data set": lambda: pydicom.dcmread(TWIN),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input_gives_the_objects_of_run_to_the_byte(pipeline, by_run, twin_by_run, tmp_path, kind):
    image = INPUTS[kind]()
    written = pipeline.analyse(image).save(tmp_path)
    if isinstance(image, io.IOBase):
        image.close()
    expected = files(by_run) if kind != "compressed data set" else files(twin_by_run)
    assert files(tmp_path) == expected
    assert sorted(written) == sorted(tmp_path.rglob("*.dcm"))
    assert len(written) >= 6


def test_unwritten_data_sets_are_those_of_run_once_they_are_saved(pipeline, by_run, tmp_path):
    """pydicom deflates otherwise, so deflated ones are compared as they are inflated."""
    expected = {path.stem.rpartition("-")[2]: content_of(path) for path in by_run.rglob("*-*.dcm")}
    saved = {}
    for dataset in pipeline.analyse(CHEST).to_dicom():
        path = tmp_path / dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)
        saved[dataset.SOPInstanceUID] = content_of(path)
    assert saved == expected


def content_of(path):
    return b"".join(inflated(path)) if transfer_syntax(path).is_deflated else path.read_bytes()


def test_what_a_caller_does_to_a_data_set_does_not_reach_the_next(pipeline, by_run, tmp_path):
    analysis = pipeline.analyse(CHEST)
    for dataset in analysis.to_dicom():
        dataset.walk(lambda within, element: within.__delitem__(element.tag) if element.VR != "SQ" else None)
    analysis.save(tmp_path)
    assert files(tmp_path) == files(by_run)


def test_a_data_set_that_was_given_stays_as_it_was(pipeline):
    for given in (pydicom.dcmread(CHEST), without_meta()):
        before = deepcopy(given)
        pipeline.analyse(given)
        assert given == before
        assert getattr(given, "file_meta", None) == getattr(before, "file_meta", None)


def test_nothing_in_memory_stays_on_the_disk(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipeline.analyse(CHEST.read_bytes())
    with pytest.raises(ImageError):
        pipeline.analyse(EXTREMITY.read_bytes())
    assert not list(tmp_path.iterdir())


# --- refused -------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A stream that never ends, and says how much of it was read."""

    taken = 0

    def read(self, size=-1):
        assert size > 0, "asked for all of it"
        self.taken += size
        return bytes(size)


def test_an_image_that_is_not_eligible_raises_with_its_reason(pipeline):
    with pytest.raises(cxr_dicom.ImageError, match="NOT_CHEST: ") as caught:
        pipeline.analyse(EXTREMITY)
    assert caught.value.reason is cxr_dicom.Reason.NOT_CHEST


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", Reason.NOT_DICOM),
        (b"\x89PNG nonsense", Reason.NOT_DICOM),
        (CHEST.read_bytes()[:2000], Reason.UNREADABLE),
        (CHEST.parent, Reason.UNREADABLE),
        (CHEST.parent / "nowhere", Reason.UNREADABLE),
        (pydicom.Dataset(), Reason.UNREADABLE),
        (synthetic.radiograph(StudyInstanceUID="../../etc"), Reason.INVALID_ATTRIBUTES),
        (synthetic.radiograph(PixelData=None), Reason.INVALID_ATTRIBUTES),
        (synthetic.radiograph(ViewPosition="LL", ViewCodeSequence=None), Reason.NOT_FRONTAL),
    ],
)
def test_what_is_no_chest_radiograph_is_refused_with_a_reason(pipeline, image, reason):
    with pytest.raises(ImageError) as caught:
        pipeline.analyse(image)
    assert caught.value.reason is reason


def test_compressed_pixels_of_which_nobody_says_how_are_refused(pipeline):
    dataset = pydicom.dcmread(TWIN)
    del dataset.file_meta
    with pytest.raises(ImageError) as caught:
        pipeline.analyse(dataset)
    assert caught.value.reason is Reason.UNDECODABLE_TRANSFER_SYNTAX


def test_two_gigabytes_are_refused_unread(pipeline):
    with pytest.raises(ImageError, match="at most 512 MB") as caught:
        pipeline.analyse(bytes(2 << 30))
    assert caught.value.reason is Reason.UNREADABLE
    stream = Endless()
    with pytest.raises(ImageError, match="at most 512 MB"):
        pipeline.analyse(stream)
    assert stream.taken < 600 << 20


@pytest.mark.parametrize("image", [None, 7, ["chest.dcm"], io.StringIO("text"), np.zeros((8, 8))])
def test_what_is_no_image_at_all_is_a_type_error(pipeline, image):
    with pytest.raises(TypeError, match="image: expected"):
        pipeline.analyse(image)


def test_a_model_that_fails_says_so(monkeypatch):
    def fail(self, radiograph, earlier):
        raise ModelError("lung-opacity: out of memory")

    with cxr_dicom.Pipeline(settings=SETTINGS) as pipeline:
        monkeypatch.setattr("cxr_dicom.infer.models.lung_opacity.LungOpacity.predict", fail)
        with pytest.raises(ModelError, match="out of memory"):
            pipeline.analyse(CHEST)


# --- models and settings -------------------------------------------------------------------------


def test_an_unknown_model_is_told_with_those_that_exist():
    with pytest.raises(SettingsError, match=r"'nonsense' is not one of .*offline-anatomy"):
        cxr_dicom.Pipeline(models=["offline-anatomy", "nonsense"])


def test_models_and_settings_are_taken_in_every_form(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_DICOM_ENCODE__GEOMETRY", "strict")
    (tmp_path / "own.toml").write_text('[models]\nnames = ["lung-opacity"]\n[encode]\nsegmentation = "both"\n')

    def settings(**given):
        with cxr_dicom.Pipeline(**given) as pipeline:
            found = pipeline.settings
        return found.models.names, found.encode.geometry, found.encode.segmentation

    assert settings(models="lung-opacity") == (("lung-opacity",), "strict", "auto")
    assert settings(settings=tmp_path / "own.toml") == (("lung-opacity",), "strict", "both")
    own = str(tmp_path / "own.toml")
    assert settings(settings=own, models=["offline-anatomy"]) == (("offline-anatomy",), "strict", "both")
    mapping = {"encode": {"geometry": "viewer"}}
    assert settings(settings=mapping, models=["lung-opacity"]) == (("lung-opacity",), "viewer", "auto")
    given = cxr_dicom.Settings.model_validate({"models": {"names": ["lung-opacity"]}})
    assert settings(settings=given) == (("lung-opacity",), "viewer", "auto")
    assert settings(settings=given, models=["offline-anatomy"]) == (("offline-anatomy",), "viewer", "auto")


@pytest.mark.parametrize(
    "given",
    [
        {"models": []},
        {"models": [7]},
        {"settings": {"encode": {"geometry": "round"}}},
        {"settings": {"nonsense": {"geometry": "viewer"}}},
        {"settings": "nowhere.toml"},
        {"settings": offline(), "models": []},
        {"settings": {"models": 7}, "models": ["lung-opacity"]},
    ],
)
def test_wrong_settings_are_told(given):
    with pytest.raises(SettingsError):
        cxr_dicom.Pipeline(**given)


@pytest.mark.parametrize("given", [{"models": 7}, {"settings": 7}, {"settings": ["encode"]}])
def test_what_is_neither_models_nor_settings_is_a_type_error(given):
    with pytest.raises(TypeError, match="expected"):
        cxr_dicom.Pipeline(**given)


# --- many ----------------------------------------------------------------------------------------


def test_the_table_is_that_of_run(pipeline, folder, folder_by_run):
    expected = pd.read_parquet(folder_by_run / "results.parquet")
    table = pipeline.analyse_all(folder).to_frame()
    assert list(table.columns) == list(expected.columns)
    assert list(table.dtypes) == list(expected.dtypes)
    differ = ["objects", *(name for name in expected.columns if name.startswith("seconds"))]
    pd.testing.assert_frame_equal(table.drop(columns=differ), expected.drop(columns=differ))
    assert list(table.reason.astype(object).where(table.reason.notna(), None)) == [None, None, "NOT_CHEST", "NOT_DICOM"]
    assert not table.objects.any()


def test_several_frontal_images_each_have_their_analysis_and_share_the_report_of_their_study(
    pipeline, folder, folder_by_run, tmp_path
):
    analyses = pipeline.analyse_all([folder / "0.dcm", str(folder / "1.dcm"), folder / "2.dcm"])
    first, second = analyses
    assert first.study_instance_uid == second.study_instance_uid
    assert first.sop_instance_uid != second.sop_instance_uid
    (skipped,) = analyses.skipped
    assert (skipped.outcome, skipped.reason) == (Outcome.SKIPPED, Reason.NOT_CHEST)
    about = [{each.SOPInstanceUID for each in analysis.to_dicom()} for analysis in (first, second)]
    assert len(about[0] & about[1]) == 1
    first.save(tmp_path)
    second.save(tmp_path)
    assert files(tmp_path) == files(folder_by_run)


def test_many_are_gone_through_once_and_a_frame_holds_those_before(pipeline, folder):
    analyses = pipeline.analyse_all(folder)
    assert "4" not in repr(analyses).partition("left")[0][-3:]
    next(analyses)
    assert len(analyses.to_frame()) == 4
    assert [analysis.sop_instance_uid for analysis in analyses] == [pydicom.dcmread(TWIN).SOPInstanceUID]
    assert not list(analyses)
    assert len(analyses.to_frame()) == 4


def test_an_interrupted_study_is_begun_again(pipeline, folder, monkeypatch):
    analyses = pipeline.analyse_all(folder)
    process, calls = analyses._process, []

    def interrupted(study):
        calls.append(study)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return process(study)

    monkeypatch.setattr(analyses, "_process", interrupted)
    with pytest.raises(KeyboardInterrupt):
        analyses.to_frame()
    assert (analyses.to_frame().outcome == "processed").sum() == 2


def test_a_study_that_breaks_does_not_stop_the_others(pipeline, folder, monkeypatch):
    select = cxr_dicom.api.spine.select
    broken = pydicom.dcmread(CHEST).StudyInstanceUID

    def breaking(study, settings):
        if study.study_instance_uid == broken:
            raise RuntimeError("CompressedSamples^RG1")
        return select(study, settings)

    monkeypatch.setattr("cxr_dicom.pipeline.select", breaking)
    table = pipeline.analyse_all(folder).to_frame()
    assert list(table.reason) == ["INTERNAL_ERROR", "INTERNAL_ERROR", "NOT_CHEST", "NOT_DICOM"]
    assert "Synthetic^Chest" not in table.to_string()


def test_two_patients_under_one_study_are_refused_together_and_each_alone_is_itself(pipeline, tmp_path):
    both = [synthetic.radiograph(seed=seed, PatientID=f"P{seed}") for seed in (1, 2)]
    analyses = pipeline.analyse_all(synthetic.write_study(tmp_path, both))
    assert not list(analyses)
    assert {each.reason for each in analyses.skipped} == {Reason.CONTRADICTORY_IDENTITY}
    for image in both:
        assert {each.PatientID for each in pipeline.analyse(image).to_dicom()} == {image.PatientID}


def test_nothing_gives_an_empty_table(pipeline, tmp_path):
    assert pipeline.analyse_all([]).to_frame().empty
    assert list(pipeline.analyse_all(tmp_path).to_frame().columns)


# --- threads, and the end ------------------------------------------------------------------------


def test_threads_share_a_pipeline(pipeline, by_run, tmp_path):
    def save(number):
        pipeline.analyse(CHEST).save(tmp_path / str(number))
        return files(tmp_path / str(number))

    with ThreadPoolExecutor(4) as pool:
        assert all(found == files(by_run) for found in pool.map(save, range(4)))


def test_a_closed_pipeline_says_so_and_what_it_analysed_stays(by_run, tmp_path, folder):
    with cxr_dicom.Pipeline(settings=SETTINGS) as pipeline:
        analysis = pipeline.analyse(CHEST)
        analyses = pipeline.analyse_all(folder)
    pipeline.close()
    assert "closed" in repr(pipeline)
    with pytest.raises(CxrDicomError, match="closed"):
        pipeline.analyse(CHEST)
    with pytest.raises(CxrDicomError, match="closed"):
        next(analyses)
    analysis.save(tmp_path)
    assert files(tmp_path) == files(by_run)


def test_closing_waits_for_what_other_threads_began(monkeypatch):
    began, go_on, found = threading.Event(), threading.Event(), []
    pipeline = cxr_dicom.Pipeline(settings=SETTINGS)
    predict = cxr_dicom.infer.models.lung_opacity.LungOpacity.predict

    def slow(self, radiograph, earlier):
        began.set()
        assert go_on.wait(60)
        return predict(self, radiograph, earlier)

    monkeypatch.setattr("cxr_dicom.infer.models.lung_opacity.LungOpacity.predict", slow)
    worker = threading.Thread(target=lambda: found.append(pipeline.analyse(CHEST)))
    worker.start()
    assert began.wait(60)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    go_on.set()
    closing.join(60)
    worker.join(60)
    assert "relative_opacity" in found[0].heatmaps

"""The main job from end to end, on the real radiograph RG1, with the offline models."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.errors import ModelError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline, encode
from cxr_dicom.records import ObjectKind, Outcome, Reason
from cxr_dicom.records.plane import Orientation

OFFLINE = Settings.model_validate({"models": {"names": ("offline-anatomy", "lung-opacity"), "device": "cpu"}})
RG1 = ("RG1_UNCR.dcm", "RG1_J2KR.dcm", "RG1_UNCI.dcm", "RG1_J2KI.dcm")


def real(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


@pytest.fixture(scope="module")
def pipeline():
    pipeline = Pipeline(OFFLINE)
    yield pipeline
    pipeline.close()


def process(pipeline, path, folder):
    (study,), skipped = scan([path])
    assert not skipped
    return pipeline.process(study, folder)


def only(result):
    (instance,) = result.instances
    assert instance.outcome is Outcome.PROCESSED, (instance.reason, instance.detail)
    return instance


def masks(instance):
    return {m.structure.name: m.region.matrix() for p in instance.analysis.predictions for m in p.masks}


def numbers(instance):
    return {m.name: m.value for p in instance.analysis.predictions for m in p.measurements}


def files(result):
    return {written.path.name: written.path.read_bytes() for written in only(result).objects}


def same(first, second):
    assert masks(first).keys() == masks(second).keys() == {"right_lung", "left_lung", "heart"}
    for name, matrix in masks(first).items():
        np.testing.assert_array_equal(matrix, masks(second)[name], err_msg=name)
    assert numbers(first) == numbers(second)


@pytest.fixture(scope="module")
def reference(pipeline, tmp_path_factory):
    return process(pipeline, real("RG1_UNCR.dcm"), tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def by_syntax(pipeline, reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("syntaxes")
    return {"RG1_UNCR.dcm": only(reference)} | {
        name: only(process(pipeline, real(name), folder / name)) for name in RG1[1:]
    }


def test_lossless_twins_give_identical_results(by_syntax):
    same(by_syntax["RG1_UNCR.dcm"], by_syntax["RG1_J2KR.dcm"])
    same(by_syntax["RG1_UNCI.dcm"], by_syntax["RG1_J2KI.dcm"])


def test_the_lossy_copy_is_close_but_not_the_same(by_syntax):
    original, lossy = masks(by_syntax["RG1_UNCR.dcm"]), masks(by_syntax["RG1_J2KI.dcm"])
    for name, matrix in original.items():
        dice = 2 * (matrix & lossy[name]).sum() / (matrix.sum() + lossy[name].sum())
        assert dice > 0.99, name
    assert by_syntax["RG1_UNCR.dcm"].analysis.pixel_sha256 != by_syntax["RG1_J2KI.dcm"].analysis.pixel_sha256


def test_monochrome1_and_a_monochrome2_copy_give_identical_results(pipeline, reference, tmp_path):
    copy = synthetic.monochrome2(pydicom.dcmread(real("RG1_UNCR.dcm")))
    copy.save_as(tmp_path / "copy", enforce_file_format=True)
    same(only(reference), only(process(pipeline, tmp_path / "copy", tmp_path / "out")))


@pytest.mark.parametrize(
    "turn", [Orientation(flip_columns=True), Orientation(transpose=True, flip_rows=True)], ids=["mirrored", "rotated"]
)
def test_a_turned_copy_that_says_so_gives_the_same_labels_with_turned_masks(pipeline, reference, tmp_path, turn):
    copy = synthetic.turned(pydicom.dcmread(real("RG1_UNCR.dcm")), turn)
    copy.save_as(tmp_path / "copy", enforce_file_format=True)
    turned = masks(only(process(pipeline, tmp_path / "copy", tmp_path / "out")))
    for name, matrix in masks(only(reference)).items():
        np.testing.assert_array_equal(turn.to_source(matrix), turned[name], err_msg=name)


def test_objects_of_every_kind_are_written_and_speak_of_their_source(reference):
    instance = only(reference)
    kinds = {o.kind for o in instance.objects}
    assert kinds == {
        ObjectKind.SEGMENTATION,
        ObjectKind.MEASUREMENT_REPORT,
        ObjectKind.STRUCTURE_REPORT,
        ObjectKind.FINDINGS_REPORT,
        ObjectKind.PARAMETRIC_MAP,
    }
    source = pydicom.dcmread(instance.path, stop_before_pixels=True)
    for written in instance.objects:
        dataset = pydicom.dcmread(written.path)
        assert dataset.SOPInstanceUID == written.sop_instance_uid
        assert dataset.file_meta.MediaStorageSOPInstanceUID == written.sop_instance_uid
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.PatientName == source.PatientName
        assert instance.instance.sop_instance_uid in str(dataset)
        assert "not for clinical use" in str(dataset).lower()


def test_running_twice_gives_the_same_bytes_and_the_same_job_key(reference, tmp_path):
    again = Pipeline(OFFLINE)
    second = process(again, real("RG1_UNCR.dcm"), tmp_path)
    assert second.job_key == reference.job_key
    assert files(reference) == files(second)
    assert len(files(second)) >= 4


def test_the_job_key_follows_source_and_settings(reference, pipeline):
    (study,), _ = scan([real("RG1_J2KR.dcm")])
    assert pipeline.job_key(study) != reference.job_key
    strict = Pipeline(OFFLINE.model_copy(update={"encode": OFFLINE.encode.model_copy(update={"geometry": "strict"})}))
    (study,), _ = scan([real("RG1_UNCR.dcm")])
    assert strict.job_key(study) != reference.job_key


def test_a_digest_that_came_with_the_file_spares_reading_it(reference, pipeline, tmp_path):
    (study,), _ = scan([real("RG1_UNCR.dcm")])
    (instance,) = study.instances
    digest = hashlib.sha256(instance.path.read_bytes()).hexdigest()
    gone = replace(instance, path=tmp_path / "gone", sha256=digest)
    assert pipeline.job_key(replace(study, instances=(gone,))) == reference.job_key
    assert pipeline.job_key(replace(study, instances=(replace(gone, sha256="0" * 64),))) != reference.job_key


def test_a_study_is_analysed_without_writing_and_encoded_when_asked(pipeline, reference):
    (study,), _ = scan([real("RG1_UNCR.dcm")])
    analysis = pipeline.analyse(study)
    assert analysis.seconds.keys() == {"select"}
    encoded = {each.dataset.SOPInstanceUID: each for each in encode(analysis, pipeline.encoders)}
    assert encoded.keys() == {written.sop_instance_uid for written in only(reference).objects}
    assert not list(encode(replace(analysis, images=()), pipeline.encoders))


def test_two_images_of_a_study_each_get_their_own_objects(pipeline, tmp_path):
    (study,), _ = scan([real("RG1_UNCR.dcm"), real("RG1_J2KR.dcm")])
    result = pipeline.process(study, tmp_path)
    assert len(result.instances) == 2

    def series(kind):
        return [{o.series_instance_uid for o in each.objects if o.kind is kind} for each in result.instances]

    first, second = series(ObjectKind.SEGMENTATION)
    assert first.isdisjoint(second)
    first, second = series(ObjectKind.FINDINGS_REPORT)
    assert first == second, "one findings report speaks of the whole study"


def test_an_extremity_is_skipped_with_its_reason_and_nothing_is_written(pipeline, tmp_path):
    (instance,) = process(pipeline, real("RG3_UNCR.dcm"), tmp_path / "out").instances
    assert (instance.outcome, instance.reason) == (Outcome.SKIPPED, Reason.NOT_CHEST)
    assert not list(tmp_path.rglob("*.dcm"))


def test_an_extremity_that_claims_to_be_a_chest_is_found_out_by_its_content(pipeline, tmp_path):
    liar = pydicom.dcmread(real("RG3_UNCR.dcm"))
    liar.BodyPartExamined = "CHEST"
    del liar.StudyDescription
    liar.save_as(tmp_path / "liar")
    (instance,) = process(pipeline, tmp_path / "liar", tmp_path / "out").instances
    assert (instance.outcome, instance.reason) == (Outcome.SKIPPED, Reason.NOT_A_CHEST_CONTENT)
    assert not list(tmp_path.rglob("*.dcm"))


class Breaking:
    """A model that fails on every image, as a real one may."""

    def __init__(self, info, error):
        self.info, self.error = info, error

    def predict(self, radiograph, earlier):
        raise self.error

    def close(self):
        pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ModelError("out of memory"), Reason.MODEL_FAILED), (ValueError("CompressedSamples^RG1"), Reason.INTERNAL_ERROR)],
)
def test_a_model_that_breaks_fails_the_image_and_its_text_stays_inside(tmp_path, caplog, error, reason):
    pipeline = Pipeline(OFFLINE)
    pipeline.models[1] = Breaking(replace(pipeline.models[1].info), error)
    (instance,) = process(pipeline, real("RG1_UNCR.dcm"), tmp_path / "out").instances
    assert (instance.outcome, instance.reason) == (Outcome.FAILED, reason)
    assert "CompressedSamples" not in instance.detail + caplog.text
    assert not list(tmp_path.rglob("*.dcm"))


def test_an_object_that_cannot_be_written_fails_the_study_and_leaves_no_part_of_it(tmp_path):
    pipeline = Pipeline(OFFLINE)

    class Refusing:
        def encode(self, study):
            raise RuntimeError("CompressedSamples^RG1")
            yield

    pipeline.encoders.append(Refusing())
    (instance,) = process(pipeline, real("RG1_UNCR.dcm"), tmp_path / "out").instances
    assert (instance.outcome, instance.reason) == (Outcome.FAILED, Reason.ENCODING_FAILED)
    assert "CompressedSamples" not in instance.detail
    assert not list(tmp_path.rglob("*.dcm"))


@pytest.mark.parametrize("other", [{"PatientID": "OTHER"}, {"PatientName": "Somebody^Else"}], ids=str)
def test_a_study_of_two_patients_gives_nothing(pipeline, tmp_path, other):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(seed=1), synthetic.radiograph(seed=2, **other)])
    result = process(pipeline, tmp_path / "in", tmp_path / "out")
    assert [each.reason for each in result.instances] == [Reason.CONTRADICTORY_IDENTITY] * 2
    assert not list(tmp_path.glob("out/**/*.dcm"))


def test_a_report_on_a_study_leaves_out_what_its_images_contradict(pipeline, tmp_path):
    images = [synthetic.radiograph(seed=n, AccessionNumber=f"N{n}") for n in (1, 2)]
    synthetic.write_study(tmp_path / "in", images)
    result = process(pipeline, tmp_path / "in", tmp_path / "out")
    written = {each.path: each for instance in result.instances for each in instance.objects}
    stated = {path: str(pydicom.dcmread(path, stop_before_pixels=True).AccessionNumber) for path in written}
    for path, each in written.items():
        about = {str(image.SOPInstanceUID): image.AccessionNumber for image in images}
        cited = [about[uid] for uid in each.source_sop_instance_uids]
        assert stated[path] == (cited[0] if len(cited) == 1 else "")
    assert set(stated.values()) == {"N1", "N2", ""}
    assert all("AccessionNumber" in " ".join(each.analysis.warnings) for each in result.instances)

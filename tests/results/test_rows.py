"""Rows, states and result files, on records made by hand."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from cxr_dicom.config import Settings
from cxr_dicom.dicom import codes
from cxr_dicom.records import (
    ChestImage,
    EncodedObject,
    Finding,
    ImageAnalysis,
    InstanceResult,
    Mask,
    Measurement,
    ModelInfo,
    ObjectKind,
    Outcome,
    Prediction,
    Presence,
    Reason,
    Skipped,
    Spacing,
    SpacingSource,
    Statement,
    StoredInstance,
    Structure,
    StudyResult,
)
from cxr_dicom.records.plane import Orientation, Region
from cxr_dicom.results import rows as result_rows
from cxr_dicom.results import tables
from tests import painted

SETTINGS = Settings()


def model(name):
    return ModelInfo(
        name=name,
        version="2",
        title="",
        predicts=(),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
        weights_sha256="0" * 64,
    )


def instance(number, path="in/0.dcm"):
    return StoredInstance(
        path=Path(path),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )


def ratio(value, reason=""):
    return Measurement(
        name="cardiothoracic_ratio",
        code=codes.AREA,
        value=value,
        unit=codes.RATIO,
        points=((1.5, 2.0), (3.5, 2.0)),
        reason=reason,
    )


def finding(name, probability, operating_point):
    call = Presence.INDETERMINATE if operating_point is None else Presence.PRESENT
    return Finding(
        name=name,
        code=codes.LUNG,
        site=None,
        raw=probability / 2,
        probability=probability,
        operating_point=operating_point,
        call=call,
    )


def mask(name, *pixels):
    matrix = np.zeros((40, 30), bool)
    for row, column in pixels:
        matrix[row, column] = True
    structure = Structure(
        name=name, title=name, category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(0, 0, 0)
    )
    return Mask(structure=structure, region=Region.from_matrix(matrix))


def chest(**attributes):
    header = Dataset()
    header.Rows, header.Columns = 40, 30
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return ChestImage(
        instance=instance(1),
        header=header,
        view="",
        orientation=Orientation(),
        spacing=Spacing(rows_mm=0.2, columns_mm=0.1, source=SpacingSource.PIXEL_SPACING),
    )


@pytest.fixture
def analysis():
    first = Prediction(
        model=model("first-model"),
        findings=(finding("effusion", 0.9, 0.1), finding("oedema", 0.2, None)),
        measurements=(ratio(0.45),),
        masks=(mask("heart", (3, 4), (20, 9)), mask("aorta")),
        statements=(
            Statement(
                name="ratio_raised",
                concept=codes.HEART,
                call=Presence.ABSENT,
                rule="> 0.5",
                measurement="cardiothoracic_ratio",
            ),
        ),
        warnings=("of the model", "twice"),
    )
    second = Prediction(
        model=model("second-model"),
        measurements=(ratio(None, "no heart outlined"),),
        masks=(mask("heart", (0, 0)),),
        warnings=("twice",),
    )
    return ImageAnalysis(
        image=chest(Modality="CR", BodyPartExamined="CHEST"),
        pixel_sha256="",
        predictions=(first, second),
        preview=lambda: np.zeros((4, 4), np.uint8),
        warnings=("of the image",),
        seconds={"read": 0.12345},
    )


@pytest.fixture
def row(analysis, tmp_path):
    written = EncodedObject(
        path=tmp_path / "1.2" / "seg.dcm",
        kind=ObjectKind.SEGMENTATION,
        sop_class_uid="1.4",
        sop_instance_uid="1.5",
        series_instance_uid="1.6",
        source_sop_instance_uids=("1.2.3.1",),
        model="first-model",
    )
    processed = InstanceResult(
        path=Path("in/0.dcm"),
        outcome=Outcome.PROCESSED,
        instance=instance(1),
        image=analysis.image,
        analysis=analysis,
        objects=(written,),
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=(processed,), seconds={"encode": 2.0})
    (row,) = result_rows.study_rows(study, SETTINGS, tmp_path)
    return row


def test_a_score_says_all_that_is_needed_to_read_it(row):
    assert row["scores"]["effusion"] == {
        "probability": 0.9,
        "raw": 0.45,
        "operating_point": 0.1,
        "call": "present",
        "model": "first-model",
    }
    assert row["scores"]["oedema"]["operating_point"] is None


def test_a_name_that_two_models_give_keeps_both_values(row):
    assert row["measurements"]["cardiothoracic_ratio"]["value"] == 0.45
    later = row["measurements"]["cardiothoracic_ratio__second_model"]
    assert (later["value"], later["reason"]) == (None, "no heart outlined")


def test_boxes_are_left_top_right_bottom_of_what_was_found(row):
    assert row["boxes"] == {
        "heart": {"box": [4, 3, 10, 21], "model": "first-model"},
        "heart__second_model": {"box": [0, 0, 1, 1], "model": "second-model"},
    }


def test_what_a_detector_found_is_in_rows_and_tables():
    boxes = painted.boxes(chest())
    other = replace(boxes, model=model("other-model"), detections=boxes.detections[:1])
    analysis = ImageAnalysis(image=chest(), pixel_sha256="0", predictions=(boxes, other))
    result = InstanceResult(path=Path("a"), outcome=Outcome.PROCESSED, image=analysis.image, analysis=analysis)
    (row,) = result_rows.study_rows(
        StudyResult(study_instance_uid="1", job_key="", instances=(result,)), SETTINGS, Path()
    )
    assert row["detections"] == {
        "nodule": [
            {"box": [3, 8, 15, 16], "score": 0.875, "model": "painted-boxes"},
            {"box": [18, 20, 27, 32], "score": 0.375, "model": "painted-boxes"},
        ],
        "shadow": [{"box": [0, 0, 30, 40], "score": 0.625, "model": "painted-boxes"}],
        "nodule__other_model": [{"box": [3, 8, 15, 16], "score": 0.875, "model": "other-model"}],
    }
    columns = {column.name: column.value(row) for column in tables.columns(lambda: iter([row]))}
    assert columns["nodule_detections"] == ["0.8750 3.00 8.00 15.00 16.00", "0.3750 18.00 20.00 27.00 32.00"]
    assert columns["shadow_detections"] == ["0.6250 0.00 0.00 30.00 40.00"]


def test_the_header_is_told_as_it_is(row):
    assert (row["modality"], row["body_part_examined"], row["view_position"]) == ("CR", "CHEST", None)
    assert (row["rows"], row["columns"], row["spacing_mm"]) == (40, 30, [0.2, 0.1])


def test_a_device_is_told_by_its_maker_and_its_sender():
    row = refused(Manufacturer="Maker A\x07" + 70 * "x", file_meta=source("ROOM1 "))
    assert (row["manufacturer"], row["sender"]) == ("Maker A" + 56 * "x", "ROOM1")
    silent = refused(Manufacturer="")
    assert (silent["manufacturer"], silent["sender"]) == (None, None)


def test_what_was_fetched_says_from_where():
    image = chest(file_meta=source("ROOM1"))
    fetched = replace(image, instance=replace(image.instance, sender="https://pacs.example/dicom-web"))
    made = Skipped(path=Path("x"), reason=Reason.NOT_FRONTAL, detail="", instance=fetched.instance, image=fetched)
    assert result_rows.skipped_row(made, SETTINGS)["sender"] == "https://pacs.example/dicom-web"


def source(title):
    meta = FileMetaDataset()
    meta.SourceApplicationEntityTitle = title
    return meta


def refused(**attributes):
    image = chest(**attributes)
    return result_rows.skipped_row(
        Skipped(path=Path("x"), reason=Reason.NOT_A_CHEST_CONTENT, detail="", instance=image.instance, image=image),
        SETTINGS,
    )


def test_an_eligible_image_without_results_has_its_header():
    row = refused(ViewPosition="AP")
    assert (row["outcome"], row["view_position"], row["rows"]) == ("skipped", "AP", 40)


@pytest.mark.parametrize(
    ("attributes", "years"),
    [
        ({"PatientAge": "045Y"}, 45),
        ({"PatientAge": "018M"}, 1),
        ({"PatientAge": "003W"}, 0),
        ({"PatientAge": "400D"}, 1),
        ({"PatientAge": "089Y"}, 89),
        ({"PatientAge": "090Y"}, 90),
        ({"PatientAge": "104Y"}, 90),
        ({"PatientAge": "999Y"}, None),
        ({"PatientBirthDate": "19600615", "StudyDate": "20200614"}, 59),
        ({"PatientBirthDate": "19600615", "StudyDate": "20200615"}, 60),
        ({"PatientBirthDate": "19600615", "StudyDate": "20200101", "AcquisitionDate": "20200615"}, 60),
        ({"PatientBirthDate": "19200615", "StudyDate": "20200615"}, 90),
        ({"PatientAge": "070Y", "PatientBirthDate": "19600615", "StudyDate": "20200615"}, 70),
        ({"PatientBirthDate": "20210615", "StudyDate": "20200615"}, None),
        ({"PatientBirthDate": "19600615"}, None),
        ({}, None),
    ],
)
def test_ages_are_completed_years_and_the_oldest_are_one(attributes, years):
    assert refused(**attributes)["patient_age_years"] == years


@pytest.mark.parametrize(("sex", "told"), [("F", "F"), ("M", "M"), ("O", "O"), ("", None), ("X", None)])
def test_sex_is_one_of_three(sex, told):
    assert refused(PatientSex=sex)["patient_sex"] == told


def test_no_date_and_no_long_text_is_in_a_row():
    row = refused(PatientBirthDate="19600615", StudyDate="20200615", PatientID="ID7", BodyPartExamined="C" * 16)
    text = json.dumps(row)
    assert not any(word in text for word in ("19600615", "20200615", "ID7"))


def test_objects_are_relative_to_the_output_folder(row):
    assert [each["path"] for each in row["objects"]] == ["1.2/seg.dcm"]


def test_warnings_of_image_and_models_come_once(row):
    assert row["warnings"] == ["of the image", "of the model", "twice"]


def test_seconds_are_those_of_image_and_study(row):
    assert row["seconds"] == {"read": 0.123, "encode": 2.0}


def test_the_row_says_what_made_it(row):
    assert row["models"][0] == {"name": "first-model", "version": "2", "weights_sha256": "0" * 64}
    assert row["settings_digest"] == SETTINGS.digest


def skipped_row(path):
    return result_rows.skipped_row(Skipped(path=path, reason=Reason.NOT_DICOM, detail='a, "quoted"\ntext'), SETTINGS)


def test_every_row_has_the_same_keys(row):
    assert skipped_row(Path("x")).keys() == row.keys()


def test_a_path_that_is_not_utf8_can_be_written(tmp_path):
    row = skipped_row(Path(os.fsdecode(b"a\xff")))
    result_rows.write_jsonl(tmp_path / "results.jsonl", [row])
    assert json.loads((tmp_path / "results.jsonl").read_text(encoding="utf-8"))["path"] == "a\\xff"


def test_rows_are_read_as_they_were_written(row, tmp_path):
    rows = [row, skipped_row(Path("x"))]
    result_rows.write_jsonl(tmp_path / "results.jsonl", rows)
    assert list(result_rows.read_jsonl(tmp_path / "results.jsonl")) == rows


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "results.jsonl"
    result_rows.write_jsonl(path, [{"old": 1}])
    with pytest.raises(ValueError, match="JSON"):
        result_rows.write_jsonl(path, [{"new": 1}, {"new": float("nan")}])
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]

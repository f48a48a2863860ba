"""Rows, states and result files, on records made by hand."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom import codes, results
from cxr_dicom.config import Settings
from cxr_dicom.plane import Turn
from cxr_dicom.records import (
    Call,
    ChestImage,
    EncodedObject,
    Finding,
    ImageAnalysis,
    InstanceResult,
    Measurement,
    ModelInfo,
    ObjectKind,
    Outcome,
    Prediction,
    Reason,
    Skipped,
    Spacing,
    SpacingSource,
    Statement,
    StoredInstance,
    StudyResult,
)

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
    call = Call.INDETERMINATE if operating_point is None else Call.PRESENT
    return Finding(
        name=name,
        code=codes.LUNG,
        site=None,
        raw=probability / 2,
        probability=probability,
        operating_point=operating_point,
        call=call,
    )


@pytest.fixture
def analysis():
    first = Prediction(
        model=model("first-model"),
        findings=(finding("effusion", 0.9, 0.1), finding("oedema", 0.2, None)),
        measurements=(ratio(0.45),),
        statements=(
            Statement(
                name="ratio_raised",
                concept=codes.HEART,
                call=Call.ABSENT,
                rule="> 0.5",
                measurement="cardiothoracic_ratio",
            ),
        ),
        warnings=("of the model", "twice"),
    )
    second = Prediction(
        model=model("second-model"), measurements=(ratio(None, "no heart outlined"),), warnings=("twice",)
    )
    image = ChestImage(
        instance=instance(1),
        header=Dataset(),
        view="",
        turn=Turn(),
        spacing=Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE),
    )
    return ImageAnalysis(
        image=image,
        pixel_sha256="",
        predictions=(first, second),
        preview=np.zeros((4, 4), np.uint8),
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
        path=Path("in/0.dcm"), outcome=Outcome.PROCESSED, instance=instance(1), analysis=analysis, objects=(written,)
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=(processed,), seconds={"encode": 2.0})
    (row,) = results.study_rows(study, SETTINGS, tmp_path)
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
    return results.skipped_row(Skipped(path=path, reason=Reason.NOT_DICOM, detail='a, "quoted"\ntext'), SETTINGS)


def test_every_row_has_the_same_keys(row):
    assert skipped_row(Path("x")).keys() == row.keys()


def test_a_path_that_is_not_utf8_can_be_written(tmp_path):
    row = skipped_row(Path(os.fsdecode(b"a\xff")))
    results.write_jsonl(tmp_path / "results.jsonl", [row])
    assert json.loads((tmp_path / "results.jsonl").read_text(encoding="utf-8"))["path"] == "a\\xff"


def test_the_table_is_flat_and_empty_where_there_is_no_value(row, tmp_path):
    results.write_csv(tmp_path / "results.csv", [skipped_row(Path("x")), row])
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        skipped, processed = csv.DictReader(file)
    assert skipped["detail"] == 'a, "quoted"\ntext'
    assert skipped["effusion_probability"] == skipped["cardiothoracic_ratio"] == ""
    assert processed["effusion_probability"] == "0.9"
    assert processed["effusion_call"] == "present"
    assert processed["oedema_operating_point"] == ""
    assert (processed["cardiothoracic_ratio"], processed["cardiothoracic_ratio_unit"]) == ("0.45", "{ratio}")
    assert processed["cardiothoracic_ratio__second_model"] == ""
    assert processed["ratio_raised_call"] == "absent"
    assert processed["models"] == "first-model 2; second-model 2"
    assert processed["objects"] == "1"


def test_a_table_without_rows_has_its_header(tmp_path):
    results.write_csv(tmp_path / "results.csv", [])
    assert (tmp_path / "results.csv").read_text().startswith("path,study_instance_uid,")


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "results.jsonl"
    results.write_jsonl(path, [{"old": 1}])
    with pytest.raises(ValueError, match="JSON"):
        results.write_jsonl(path, [{"new": 1}, {"new": float("nan")}])
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]

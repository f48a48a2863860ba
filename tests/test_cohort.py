"""Worker processes: every study is answered, also when its worker dies."""

import os
import signal
from pathlib import Path

import pytest

from cxr_dicom import cohort
from cxr_dicom.cohort import StudyDone
from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.records import StoredInstance, Study


def study(uid):
    instance = StoredInstance(
        path=Path("image.dcm"),
        study_instance_uid=uid,
        series_instance_uid=f"{uid}.1",
        sop_instance_uid=f"{uid}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )
    return Study(study_instance_uid=uid, instances=(instance,))


class Worker(cohort._Worker):
    """Kills its process at study 1.13, cannot start at 1.99, and needs no model for the others."""

    def __call__(self, study):
        if study.study_instance_uid == "1.13":
            os.kill(os.getpid(), signal.SIGKILL)
        if study.study_instance_uid == "1.99":
            raise WeightsError("weights are missing")
        return StudyDone(
            study_instance_uid=study.study_instance_uid, rows=[{"outcome": "processed", "pid": os.getpid()}]
        )


def process(uids, jobs):
    worker = Worker(settings=Settings(), out=Path("out"), force=False)
    return {
        done.study_instance_uid: done.rows for done in cohort._in_processes([study(uid) for uid in uids], worker, jobs)
    }


def test_a_worker_that_dies_takes_only_its_own_study_with_it():
    done = process(["1.11", "1.12", "1.13", "1.14", "1.15"], 2)
    failed = done.pop("1.13")
    assert [(row["outcome"], row["reason"]) for row in failed] == [("failed", "INTERNAL_ERROR")]
    assert "worker process died" in failed[0]["detail"]
    assert {uid: [row["outcome"] for row in rows] for uid, rows in done.items()} == {
        uid: ["processed"] for uid in ("1.11", "1.12", "1.14", "1.15")
    }


def test_work_is_done_in_other_processes():
    pids = {row["pid"] for rows in process(["1.1", "1.2", "1.3"], 2).values() for row in rows}
    assert os.getpid() not in pids


def test_an_error_of_the_settings_ends_the_run_and_its_workers():
    with pytest.raises(WeightsError, match="weights are missing"):
        process(["1.99", "1.1", "1.2"], 2)

"""One run has one set of models: ``auto`` is resolved where the run was started, not by each worker."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort.engines.local import Local
from cxr_dicom.cohort.options import Options
from cxr_dicom.cohort.task import EntryTask
from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import model_infos, resolve
from cxr_dicom.ingest import manifest
from tests.kept import keep, kept

SETTINGS = Settings.model_validate({"models": {"device": "cpu"}})
WITH_WEIGHTS = ("chestx-det", "xrv-densenet121-all")
OFFLINE = ("offline-anatomy", "lung-opacity")


@pytest.fixture
def homes(tmp_path):
    """A home folder without weights, and one where those of ``auto`` lie; only their names are looked at."""
    for name in WITH_WEIGHTS:
        path = tmp_path / "with" / ".torchxrayvision" / "models_data" / model_infos()[name].weights_file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    return {"with": tmp_path / "with", "without": tmp_path / "without"}


@pytest.fixture
def entries(tmp_path):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(96, 80, seed=1)])
    return manifest.read(str(tmp_path / "in")).entries


@pytest.fixture
def run(homes, entries, tmp_path, monkeypatch):
    """Start a run in one home folder, and let its worker, a process of its own, find another one."""

    def run(here, worker):
        monkeypatch.setenv("HOME", str(homes[here]))
        assert resolve(SETTINGS) == (WITH_WEIGHTS if here == "with" else OFFLINE)
        task = EntryTask(settings=SETTINGS, out=tmp_path / "out", options=Options())
        monkeypatch.setenv("HOME", str(homes[worker]))
        answers = list(Local(1).process(entries, task))
        keep(tmp_path / "out", *(answer.state for answer in answers))

    return run


def test_a_worker_without_the_weights_ends_the_run_and_writes_no_result(run, entries, tmp_path):
    with pytest.raises(WeightsError, match="chestx-det"):
        run("with", "without")
    assert kept(tmp_path / "out", entries[0].key) is None
    assert not list(tmp_path.glob("out/**/*.dcm"))


def test_a_worker_with_more_weights_does_what_the_others_do(run, entries, tmp_path):
    run("without", "with")
    (row,) = kept(tmp_path / "out", entries[0].key).rows
    assert [model["name"] for model in row["models"]] == list(OFFLINE)
    assert row["settings_digest"] == SETTINGS.digest

"""Models of other packages: in runs on every engine, their versions in what identifies a result, and hostile ones."""

import json

import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.errors import SettingsError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import Outcome, Reason
from cxr_dicom.service.worker import Worker, build_pipeline
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from tests.plugins.tutorial import MODEL, POINTS


def settings(*names):
    return Settings.model_validate({"models": {"names": names, "device": "cpu"}})


def process(folder, *names):
    """Run models over one study."""
    (study,), _ = scan([*synthetic.write_study(folder / "images", [synthetic.radiograph()])])
    pipeline = Pipeline(settings(*names))
    return pipeline.process(study, folder / "objects"), pipeline


def only(result):
    (instance,) = result.instances
    return instance


@pytest.fixture
def invoke():
    from click.testing import CliRunner

    from cxr_dicom.cli import cli

    return lambda *arguments: CliRunner().invoke(cli, [str(each) for each in arguments])


def test_another_version_never_reuses_results(install, tmp_path, invoke):
    synthetic.write_study(tmp_path / "images", [synthetic.radiograph()])
    run = ("run", tmp_path / "images", "-o", tmp_path / "out", "--models", "brightest", "--engine", "here", "-q")

    def ran(version):
        install("my-model", version, POINTS, my_model=MODEL)
        result = invoke(*run)
        assert result.exit_code == 0, result.output
        (row,) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
        return row, {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.dcm")}

    first, written = ran("1.0")
    again, unchanged = ran("1.0")
    assert (again, unchanged) == (first, written)
    second, others = ran("1.1")
    assert [each["models"][0]["version"] for each in (first, second)] == ["1 (my-model 1.0)", "1 (my-model 1.1)"]
    assert not written.keys() & others.keys()
    third, back = ran("1.0")
    assert third | {"seconds": 0} == first | {"seconds": 0}
    assert back.keys() == written.keys()


def test_our_own_identity_is_as_it_was_whatever_is_installed(install, tmp_path):
    _, before = process(tmp_path / "a", "offline-anatomy")
    install("my-model", "1.0", POINTS, my_model=MODEL)
    _, after = process(tmp_path / "a", "offline-anatomy")
    assert before.identity == after.identity
    assert len(before.identity) == 3
    assert before.strangers == ()


def test_the_package_is_part_of_the_job_key(install, tmp_path):
    keys = set()
    for distribution, version in (("my-model", "1"), ("my-model", "2"), ("your-model", "1")):
        install(distribution, version, POINTS, my_model=MODEL)
        result, pipeline = process(tmp_path, "brightest")
        assert ("models", "brightest", distribution, version) in pipeline.strangers
        keys.add(result.job_key)
        install(distribution, version, {})
    assert len(keys) == 3


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_of_an_engine_import_it(install, tmp_path, invoke, engine):
    install("my-model", "1.0", POINTS, my_model=MODEL)
    synthetic.write_study(tmp_path / "images", [synthetic.radiograph()])
    options = ("--models", "brightest", "--engine", engine, "--workers", "1", "-q")
    result = invoke("run", tmp_path / "images", "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert row["models"][0]["version"] == "1 (my-model 1.0)"


def test_models_list_names_the_package(install, invoke):
    install("my-model", "1.0", POINTS, my_model=MODEL)
    lines = invoke("models", "list").output.splitlines()
    assert [line for line in lines if line.endswith("]")] == [next(line for line in lines if "brightest " in line)]
    assert "[my-model 1.0]" in "\n".join(lines)
    assert json.loads(invoke("models", "list", "brightest", "--json").output)["package"] == "my-model 1.0"


# --- models that do what they may not --------------------------------------------------------------

PREDICT = "    def predict(self, radiograph, earlier):\n"
RETURN = "        return Prediction(model=self.info, findings=(finding,), masks=(mask,))\n"
WRONG_ANSWERS = {
    "None": ("return None", "expected a Prediction, got NoneType"),
    "a list of masks": ("return Prediction(model=self.info, masks=[mask])", "masks: expected a tuple of Mask"),
    "another model's info": (
        "from dataclasses import replace; return Prediction(model=replace(self.info, name='offline-anatomy'))",
        "model: expected the model's own info",
    ),
    "the standard view": (
        "return Prediction(model=self.info, masks=(Mask(structure=PART, region=Region.from_matrix(bright[1:])),))",
        "expected the source matrix as stored, 320 x 256, got one of 319 x 256",
    ),
    "masks of numbers": (
        "import dataclasses; r = mask.region; r = dataclasses.replace(r, pixels=r.pixels.astype('f4'));"
        " return Prediction(model=self.info, masks=(Mask(structure=PART, region=r),))",
        "expected an array of bool",
    ),
    "a name twice": ("return Prediction(model=self.info, masks=(mask, mask))", "expected each name once"),
    "a name that it did not say": (
        "import dataclasses; return Prediction(model=self.info, findings=(dataclasses.replace(finding, name='x'),))",
        "'x' is not in the model's `predicts`",
    ),
    "a score of 2": (
        "import dataclasses; return Prediction(model=self.info, findings=(dataclasses.replace(finding, raw=2.0),))",
        "raw: expected a float of 0 to 1, got 2.0",
    ),
    "a score that is no number": (
        "import dataclasses; return Prediction(model=self.info, findings=(dataclasses.replace(finding, raw=np.nan),))",
        "raw: expected a float of 0 to 1, got nan",
    ),
    "numpy's float32": (
        "import dataclasses;"
        " return Prediction(model=self.info, findings=(dataclasses.replace(finding, raw=np.float32(0.5)),))",
        "raw: expected a float",
    ),
    "a call against its threshold": (
        "import dataclasses;"
        " return Prediction(model=self.info, findings=(dataclasses.replace(finding, call=Presence.ABSENT),))",
        "call: expected present",
    ),
    "no code": (
        "import dataclasses; return Prediction(model=self.info, findings=(dataclasses.replace(finding, code=None),))",
        "code: expected a Code, got NoneType",
    ),
    "a code that is too long": (
        "import dataclasses; c = Code(value='x' * 17, scheme='99', meaning='y');"
        " return Prediction(model=self.info, findings=(dataclasses.replace(finding, code=c),))",
        "code value of 1 to 16 characters",
    ),
    "a mask without a structure": (
        "return Prediction(model=self.info, masks=(Mask(structure=None, region=mask.region),))",
        "expected a whole Prediction, got AttributeError",
    ),
    "an error of its own": ("raise RuntimeError('Doe^Jane')", "RuntimeError at my_model.py:"),
    "an exit": ("import sys; sys.exit(0)", "SystemExit at my_model.py:"),
    "writing to the pixels": ("radiograph.pixels[:] = 0", "ValueError at my_model.py:"),
}


def with_body(body):
    return MODEL.replace(RETURN, "".join(f"        {line}\n" for line in body.split("; ")) + RETURN)


@pytest.mark.parametrize("body", [body for body, _ in WRONG_ANSWERS.values()], ids=list(WRONG_ANSWERS))
def test_a_wrong_answer_fails_the_image_and_says_why(install, tmp_path, body):
    expected = next(text for wrong, text in WRONG_ANSWERS.values() if wrong == body)
    install("my-model", "1.0", POINTS, my_model=with_body(body))
    result, _ = process(tmp_path, "brightest")
    instance = only(result)
    assert (instance.outcome, instance.reason) == (Outcome.FAILED, Reason.MODEL_FAILED), instance.detail
    assert instance.detail.startswith("brightest of my-model 1.0: ")
    assert expected in instance.detail
    assert "Doe" not in instance.detail


WRONG_BUILDS = {
    "raises": ("raise OSError('no such file')", "OSError: no such file"),
    "exits": ("raise SystemExit(0)", "SystemExit"),
    "gives nothing": ("return None", "info: expected a ModelInfo, got NoneType"),
    "another name": (
        "import dataclasses; b = Brightest(); b.info = dataclasses.replace(INFO, name='lung-opacity'); return b",
        "info: expected the name brightest, got lung-opacity",
    ),
    "a list": (
        "import dataclasses; b = Brightest(); b.info = dataclasses.replace(INFO, predicts=[]); return b",
        "predicts",
    ),
    "no version": (
        "import dataclasses; b = Brightest(); b.info = dataclasses.replace(INFO, version=''); return b",
        "version",
    ),
}


@pytest.mark.parametrize("body", [body for body, _ in WRONG_BUILDS.values()], ids=list(WRONG_BUILDS))
def test_a_model_that_cannot_be_built_is_refused_with_its_package(install, tmp_path, body):
    expected = next(text for wrong, text in WRONG_BUILDS.values() if wrong == body)
    text = MODEL.replace("    return Brightest()", "".join(f"    {line}\n" for line in body.split("; ")))
    install("my-model", "1.0", POINTS, my_model=text)
    with pytest.raises(SettingsError, match=r"my-model 1\.0: ") as refused:
        Pipeline(settings("brightest"))
    assert expected in str(refused.value)


HOSTILE = """
import contextlib

def spoil(radiograph, earlier):
    header = radiograph.image.header
    header.PatientName = "Doe^Jane"
    header.StudyInstanceUID = "1.2.3"
    header.Rows = 1
    for array in (radiograph.pixels, *(m.region.pixels for p in earlier for m in p.masks),
                  *(h.values for p in earlier for h in p.heatmaps)):
        with contextlib.suppress(ValueError):
            array[...] = 0
"""


def objects(instance):
    return {each.path.name: each.path.read_bytes() for each in instance.objects}


def test_a_hostile_model_changes_nothing_of_the_others(install, tmp_path):
    names = ("offline-anatomy", "brightest", "lung-opacity")
    install("my-model", "1.0", POINTS, my_model=MODEL)
    expected, _ = process(tmp_path / "good", *names)
    spoil = PREDICT + "        given = radiograph.pixels.copy()\n        spoil(radiograph, earlier)\n"
    install("my-model", "1.0", POINTS, my_model=MODEL.replace(PREDICT, spoil) + HOSTILE)
    spoilt, _ = process(tmp_path / "hostile", *names)
    assert only(spoilt).outcome is Outcome.PROCESSED, only(spoilt).detail
    assert objects(only(spoilt)) == objects(only(expected))
    assert {dcmread(each.path).PatientID for each in only(spoilt).objects} == {"SYNTHETIC"}


def test_a_model_that_uses_its_memory_again_does_not_change_what_it_said(install, tmp_path):
    text = MODEL.replace(RETURN, "        self.kept = getattr(self, 'kept', None) or mask\n" + RETURN).replace(
        PREDICT, PREDICT + "        if hasattr(self, 'kept'): self.kept.region.pixels[...] = False\n"
    )
    install("my-model", "1.0", POINTS, my_model=text)
    paths = synthetic.write_study(tmp_path / "images", [synthetic.radiograph(seed=seed) for seed in (1, 2)])
    (study,), _ = scan([*paths])
    result = Pipeline(settings("brightest")).process(study, tmp_path / "objects")
    for instance in result.instances:
        (mask,) = instance.analysis.predictions[0].masks
        assert mask.region.pixels.any()


def test_a_model_may_use_every_part_of_the_radiograph_and_replace_it(install, tmp_path):
    text = MODEL.replace(
        PREDICT, PREDICT + "        from dataclasses import replace; radiograph = replace(radiograph)\n"
    )
    install("my-model", "1.0", POINTS, my_model=text)
    assert only(process(tmp_path, "brightest")[0]).outcome is Outcome.PROCESSED


def test_a_worker_of_the_service_runs_it_and_again_when_its_version_changes(install, tmp_path):
    made = Settings.model_validate(
        {"models": {"names": ("brightest",), "device": "cpu"}, "spool": {"folder": tmp_path / "spool"}}
    )
    (path,) = synthetic.write_study(tmp_path / "spool" / "images", [synthetic.radiograph()])
    (study,), _ = scan([path])
    ledger = Ledger(Spool(made).folder)
    ledger.studies.add(study.instances[0], "0" * 64)
    uid = study.study_instance_uid

    def processed(version):
        """Have a worker take the study once more, and return the jobs that it has by then."""
        install("my-model", version, POINTS, my_model=MODEL)
        with ledger.transaction() as connection:
            connection.execute("UPDATE studies SET state = 'COMPLETE'")
        worker = Worker(made, build_pipeline(made), "test")
        assert worker.step()
        worker.close()
        rows = ledger.rows("SELECT job_key, models FROM jobs WHERE study_instance_uid = ? ORDER BY id", uid)
        return [(row["job_key"], json.loads(row["models"])[0]["version"]) for row in rows]

    before = processed("1.0")
    assert [version for _, version in before] == ["1 (my-model 1.0)"]
    assert processed("1.0") == before
    (first, _), (second, version) = processed("1.1")
    assert version == "1 (my-model 1.1)"
    assert first != second
    ledger.close()

"""``cxr-dicom calibrate`` as a user types it: the file, what is said of it, and the exit codes."""

import json
import re

import numpy as np
import pytest

from cxr_dicom.config import load, operating_points
from tests.cohort_rows import processed, scored

WEIGHTS = {"name": "one", "version": "1", "weights_sha256": "ab" * 32}
PATIENTS = 200


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A run of a model that knows pneumothorax a little, on 200 patients, and their labels."""
    folder, dice = tmp_path_factory.mktemp("site"), np.random.default_rng(1)
    lines, labels = [], ["sop_instance_uid;Pneumothorax;Mass;Who"]
    for number in range(PATIENTS):
        truth = dice.random() < 0.4
        raw = float(1 / (1 + np.exp(-dice.normal() - 1.5 * truth)))
        scores = {name: scored(raw, "present" if raw >= 0.3 else "absent") for name in ("pneumothorax", "mass")}
        row = processed(sop_instance_uid=f"1.2.{number}", study_instance_uid=f"1.2.3.{number}", scores=scores)
        lines.append(json.dumps(row | {"models": [WEIGHTS], "statements": {}, "measurements": {}}))
        labels.append(f"1.2.{number};{int(truth)};{int(number < 5)};K{number}")
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "labels.csv").write_text("\n".join(labels))
    return folder


def test_the_file_is_written_said_and_taken_by_the_settings(invoke, site, tmp_path):
    file = tmp_path / "site.toml"
    options = (
        "--aim",
        "youden",
        "--aim",
        "pneumothorax.sensitivity=0.9",
        "--finding",
        "pneumothorax",
        "--patient",
        "Who",
    )
    made = invoke("calibrate", site, "--truth", site / "labels.csv", "-o", file, *options)
    assert made.exit_code == 0, made.output
    points = operating_points.read(file)
    point = points.models[0].findings["pneumothorax"]
    assert (point.aim, point.upstream, points.patients) == ("sensitivity=0.9", 0.3, PATIENTS)
    assert points.grouped_by == "the column 'Who'"
    said = re.search(r"pneumothorax of one: (\S+) for sensitivity=0.9 \(the model's own: 0.3\)", made.output)
    assert float(said[1]) == pytest.approx(point.operating_point, rel=1e-3)
    assert "K1" not in file.read_text() + made.output
    (tmp_path / "settings.toml").write_text(f'[models]\noperating_points = "{file}"\n')
    assert load(tmp_path / "settings.toml").models.operating_points_sha256 == operating_points.digest(file)


def test_a_finding_of_too_few_patients_is_named_and_the_others_are_written(invoke, site, tmp_path):
    made = invoke("calibrate", site, "--truth", site / "labels.csv", "-o", tmp_path / "site.toml")
    assert made.exit_code == 3
    assert "mass: 5 patients with the finding and 195 without, 30 and 30 are needed for youden" in made.output
    assert set(operating_points.read(tmp_path / "site.toml").models[0].findings) == {"pneumothorax"}


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--finding", "mass"), 4, "nothing was written"),
        (("--aim", "sensitivity"), 2, "expected [FINDING.]sensitivity=VALUE"),
        (("--aim", "ppv=1.5"), 2, "expected [FINDING.]sensitivity=VALUE"),
        (("--patient", "nobody"), 2, "expected a column 'nobody'"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_line_and_leaves_no_file(invoke, site, tmp_path, options, code, said):
    made = invoke("calibrate", site, "--truth", site / "labels.csv", "-o", tmp_path / "site.toml", *options)
    assert (made.exit_code, said in made.output) == (code, True)
    assert not (tmp_path / "site.toml").exists()

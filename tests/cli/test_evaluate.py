"""``cxr-dicom evaluate`` on a real run of the offline models, with outlines and numbers of our own."""

import json

import numpy as np
import pytest
from PIL import Image

from cxr_dicom import synthetic


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """Two radiographs, outlined by ``offline-anatomy``."""
    folder = tmp_path_factory.mktemp("images")
    datasets = [synthetic.radiograph(study=str(seed), seed=seed, AccessionNumber=f"A{seed}") for seed in (1, 2)]
    synthetic.write_study(folder, datasets)
    return run(folder, tmp_path_factory.mktemp("out") / "OUT")


def test_figures_of_the_anatomy_come_from_outlines(invoke, finished, as_experts, tmp_path):
    experts = tmp_path / "experts"
    experts.mkdir()
    as_experts(finished, experts, "segmentation")
    result = invoke("evaluate", finished.out, "--truth", experts, "-o", tmp_path / "EVAL", "--fail-under", "dice=0.99")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "EVAL" / "evaluation.json").read_text())["anatomy"]["structures"]
    perfect = {each["name"]: (each["n"], each["dice"]["value"]) for each in found}
    assert perfect == dict.fromkeys(("heart", "left_lung", "right_lung"), (2, 1.0))
    assert "heart" in result.output


def test_the_most_wrong_are_shown_as_pictures_also_those_of_wrapped_ones(invoke, run, tmp_path):
    pixels = synthetic.radiograph().pixel_array
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(tmp_path / "radiograph.png")
    finished = run(tmp_path / "radiograph.png", tmp_path / "OUT", "--wrap")
    (row,) = finished.rows
    truth = tmp_path / "truth.csv"
    truth.write_text(f"sop_instance_uid,cardiothoracic_ratio\n{row['sop_instance_uid']},0.4\n")
    assert invoke("evaluate", finished.out, "--truth", truth, "-o", tmp_path / "EVAL").exit_code == 0
    page = (tmp_path / "EVAL" / "evaluation.html").read_text()
    assert page.count('<img src="data:image/') == 1
    assert "furthest from the truth" in page
    found = json.loads((tmp_path / "EVAL" / "evaluation.json").read_text())["anatomy"]["measurements"]
    (case,) = next(each for each in found if each["name"] == "cardiothoracic_ratio")["cases"]
    assert (case["truth"], case["line"], case["sop_instance_uid"]) == (0.4, 1, row["sop_instance_uid"])


def test_what_this_program_made_is_no_truth(invoke, finished, as_experts, tmp_path):
    """Its own outlines lie in the same archive as those of experts; against them every Dice would be 1."""
    result = invoke("evaluate", finished.out, "--truth", finished.out)
    assert result.exit_code == 2
    assert "made by this program, not by an expert" in result.output


def test_numbers_belong_to_images_by_accession_number(invoke, finished, tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("AccessionNumber,cardiothoracic_ratio\nA1,0.40\nA2,0.41\nA3,0.5\n")
    result = invoke("evaluate", finished.out, "--truth", path, "--json")
    assert result.exit_code == 0, result.output
    evaluation = json.loads(result.output)
    (ratio,) = [m for m in evaluation["anatomy"]["measurements"] if m["name"] == "cardiothoracic_ratio"]
    values = [row["measurements"]["cardiothoracic_ratio"]["value"] for row in finished.rows]
    assert ratio["bias"]["value"] == pytest.approx(sum(values) / 2 - 0.405)
    assert sum(evaluation["sources"][0]["unmatched"].values()) == 1
    assert "A1" not in result.output  # an accession number identifies


@pytest.mark.parametrize(
    ("content", "options", "code", "said"),
    [
        ("sop_instance_uid,cardiothoracic_ratio\n9.9,0.5\n", [], 4, "no processed image has a truth"),
        ("sop_instance_uid,colour\n9.9,1\n", [], 2, "expected a column with the name of a finding"),
        ("AccessionNumber,cardiothoracic_ratio\nA1,0.4\n", ["--fail-under", "auroc=0.5"], 3, "no auroc to compare"),
        ("a,b\n", ["--fail-under", "beauty=1"], 2, "expected [NAME.]METRIC=VALUE"),
        ("a,b\n", ["--map", "a"], 2, "expected COLUMN=NAME"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_line(invoke, finished, tmp_path, content, options, code, said):
    path = tmp_path / "truth.csv"
    path.write_text(content)
    result = invoke("evaluate", finished.out, "--truth", path, *options)
    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output

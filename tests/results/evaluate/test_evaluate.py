"""A run against a table: which truth belongs to which image, what is counted, what comes out."""

import csv
import json
import math

import numpy as np
import pytest
from sklearn import metrics

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.results.evaluate import Reading, evaluate, failures, page, tables
from tests.cohort_rows import skipped
from tests.results.evaluate.conftest import row

UIDS = ("sop_instance_uid", "mass")


def test_figures_are_those_of_scikit_learn(run, table, noisy):
    truth, scores = noisy(300)
    out = run(row(n, {"mass": score}) for n, score in enumerate(scores))
    path = table(UIDS, [(f" 1.2.3.{n} ", int(each)) for n, each in enumerate(truth)])
    (found,) = evaluate(out, [path]).findings
    called = np.array(scores) >= 0.5
    assert found.auroc.value == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert found.average_precision.value == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-12)
    calls = found.calls
    assert [[calls.true_negative, calls.false_positive], [calls.false_negative, calls.true_positive]] == (
        metrics.confusion_matrix(truth, called).tolist()
    )
    assert calls.sensitivity.value == pytest.approx(metrics.recall_score(truth, called), abs=1e-12)
    assert calls.specificity.value == pytest.approx(metrics.recall_score(~np.array(truth), ~called), abs=1e-12)
    assert calls.ppv.value == pytest.approx(metrics.precision_score(truth, called), abs=1e-12)
    assert calls.npv.value == pytest.approx(metrics.precision_score(~np.array(truth), ~called), abs=1e-12)
    assert found.operating_points == [0.5]
    worst = [case.wrong_by for case in found.cases]
    assert worst == sorted(worst, reverse=True)
    assert all((scores[int(case.sop_instance_uid.split(".")[-1])] >= 0.5) != case.truth for case in found.cases)


def test_a_truth_without_an_image_is_counted_with_the_reason(run, table):
    refused = skipped("NOT_FRONTAL", sop_instance_uid="9", path="a/lateral.dcm")
    out = run([row(1, {"mass": 0.7}), row(2, {"mass": 0.2}), refused, row(3, {"mass": 0.4})])
    found = evaluate(out, [table(UIDS, [("1.2.3.1", 1), ("1.2.3.2", 0), ("9", 1), ("8", 1)])])
    assert found.sources[0].unmatched == {"NOT_FRONTAL": 1, "not in the results": 1}
    assert (found.images, found.images_without_truth) == (2, 1)
    named = evaluate(out, [table(("path", "mass"), [("x/image1.png", 1), ("a/lateral.png", 1), ("nowhere.png", 0)])])
    assert named.sources[0].unmatched == {"NOT_FRONTAL": 1, "not in the results": 1}


def test_a_file_name_that_fits_several_images_is_about_none(run, table):
    rows = [
        row(
            n,
            {"mass": 0.3},
        )
        | {"path": f"in/patient{n}/study1/view1_frontal.dcm"}
        for n in (1, 2)
    ]
    out = run(rows)
    names = [("set/patient1/study1/view1_frontal.jpg", 1), ("set/patient7/study2/view1_frontal.jpg", 0)]
    found = evaluate(out, [table(("Path", "mass"), names)])
    assert found.images == 1
    assert found.sources[0].unmatched == {"its file name fits several images": 1}


def test_two_truths_of_one_image_are_refused(run, table):
    out = run([row(1, {"mass": 0.3})])
    with pytest.raises(CxrDicomError, match="expected one truth for each image"):
        evaluate(out, [table(("path", "mass"), [("image1.png", 1), ("p1/image1.dcm", 0)])])


def test_a_truth_by_study_is_about_its_images_and_counts_once(run, table):
    rows = [row(n, {"mass": 0.1 * (n % 10)}) for n in range(60)]
    for n, each in enumerate(rows):
        each["study_instance_uid"] = f"1.2.{n // 3}"
    out = run(rows)
    path = table(("study_instance_uid", "mass"), [(f"1.2.{n}", n % 2) for n in range(20)])
    found = evaluate(out, [path])
    assert (found.images, found.patients, found.grouped_by) == (60, 20, "study")


def test_images_of_one_patient_are_together_where_the_table_says_so(run, table, noisy):
    truth, scores = noisy(100)
    out = run(row(n, {"mass": scores[n // 4]}) for n in range(400))
    rows = [(f"1.2.3.{n}", int(truth[n // 4]), n // 4) for n in range(400)]
    path = table((*UIDS, "who"), rows)
    alone, together = (evaluate(out, [path], Reading(patient=each)).findings[0].auroc for each in (None, "who"))
    assert alone.value == together.value
    assert (together.high - together.low) == pytest.approx(2 * (alone.high - alone.low), rel=0.1)


def test_what_is_no_number_is_left_out_and_counted(run, table):
    rows = [row(n, {"mass": value}) for n, value in enumerate((0.2, 0.7, 0.6, 0.1))]
    rows[0]["scores"]["mass"]["raw"] = math.nan
    rows[1]["scores"]["mass"]["raw"] = None
    out = run([*rows, rows[2]])  # and a duplicate
    (found,) = evaluate(out, [table(UIDS, [(f"1.2.3.{n}", n % 2) for n in range(4)])]).findings
    assert (found.n, found.unscored) == (2, 2)


def test_one_class_only_has_no_area_and_says_why(run, table, tmp_path):
    out = run(row(n, {"mass": n / 10}) for n in range(9))
    evaluation = evaluate(out, [table(UIDS, [(f"1.2.3.{n}", 0) for n in range(9)])])
    (found,) = evaluation.findings
    assert (found.auroc.value, found.auroc.why) == (None, "all 9 images are negative")
    assert found.calls.sensitivity.value is None
    assert found.calls.specificity.value == pytest.approx(5 / 9)
    assert list(failures(evaluation, [(None, "auroc", 0.5)])) == ["mass: auroc is not defined is below 0.5"]
    tables.write(tmp_path / "EVAL", evaluation)
    page.write(tmp_path / "EVAL", evaluation, lambda study, image, line: None)


def test_groups_have_a_smallest_size_and_a_difference_needs_its_interval(run, table, noisy):
    truth, scores = noisy(1200, shift=3.0)
    rows = []
    for n, score in enumerate(scores):
        sex = "F" if n % 2 else "M"
        worse = score if sex == "F" else 0.4 + 0.3 * (score - 0.4) + 0.001 * (n * 7919 % 300)
        origin = {"manufacturer": sex + " Works", "sender": "ER" if n % 5 else None}
        rows.append(row(n, {"mass": worse}, patient_sex=sex, view="AP" if n < 12 else "PA", **origin))
    out = run(rows)
    path = table((*UIDS, "Maker"), [(f"1.2.3.{n}", int(t), "=cmd()" if n % 3 else "B") for n, t in enumerate(truth)])
    evaluation = evaluate(out, [path], Reading(by=("Maker",)))
    groups = {(g.by, g.value): g for g in evaluation.findings[0].groups}
    assert groups["sex", "M"].differs
    assert groups["sex", "M"].difference.high < 0
    assert groups["manufacturer", "M Works"].auroc == groups["sex", "M"].auroc
    assert not any(by == "sender" for by, _ in groups)  # of one sender only, where it is known
    assert not groups["Maker", "B"].differs
    assert groups["view", "AP"].auroc.value is None
    assert "at least 10 of each are needed" in groups["view", "AP"].auroc.why
    women = np.arange(1200) % 2 == 1
    assert groups["sex", "F"].auroc.value == pytest.approx(
        metrics.roc_auc_score(np.array(truth)[women], np.array(scores)[women]), abs=1e-12
    )
    folder = path.parent / "EVAL"
    tables.write(folder, evaluation)
    page.write(folder, evaluation, lambda study, image, line: "data:image/png;base64,AA")
    with (folder / "groups.csv").open() as file:
        values = {line["group"] for line in csv.DictReader(file)}
    assert "'=cmd()" in values
    assert "=cmd()" not in values
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["findings"][0]["auroc"]["n"] == 1200
    html = (folder / "evaluation.html").read_text()
    assert "<script" not in html
    assert "archive/p" not in html
    assert "at least 10 of each" in html


def test_measurements_have_bias_and_limits_of_agreement(run, table):
    ours = [0.45, 0.5, 0.55, 0.62, 0.48]
    truth = [0.44, 0.52, 0.53, 0.60, 0.47]
    rows = [row(n) for n in range(5)]
    for each, value in zip(rows, ours, strict=True):
        each["measurements"] = {"cardiothoracic_ratio": {"value": value, "unit": "{ratio}", "model": "one"}}
    path = table(("sop_instance_uid", "Cardiothoracic ratio"), [(f"1.2.3.{n}", v) for n, v in enumerate(truth)])
    (found,) = evaluate(run(rows), [path]).anatomy.measurements
    change = np.subtract(ours, truth)
    assert found.bias.value == pytest.approx(change.mean(), abs=1e-12)
    assert found.sd == pytest.approx(change.std(ddof=1), abs=1e-12)
    from scipy import stats

    wanted = stats.ttest_1samp(change, 0).confidence_interval(0.95)
    assert (found.bias.low, found.bias.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize("line", ["{", "[1]", '{"outcome": "processed", "sop_instance_uid": "1", "scores": 3}'])
def test_a_broken_line_of_results_is_named(run, table, line):
    out = run([row(1, {"mass": 0.5})])
    with (out / "results.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CxrDicomError, match="line 2"):
        evaluate(out, [table(UIDS, [("1.2.3.1", 1)])])


def test_limits_are_of_one_finding_or_of_all(run, table, noisy):
    truth, scores = noisy(200)
    out = run(row(n, {"mass": score, "edema": score}) for n, score in enumerate(scores))
    path = table((*UIDS, "edema"), [(f"1.2.3.{n}", int(t), int(t)) for n, t in enumerate(truth)])
    evaluation = evaluate(out, [path])
    assert list(failures(evaluation, [("mass", "auroc", 0.5), (None, "specificity", 0.1)])) == []
    assert len(list(failures(evaluation, [(None, "auroc", 0.999)]))) == 2
    assert list(failures(evaluation, [("hernia", "auroc", 0.1)])) == ["hernia: no auroc to compare with 0.1"]

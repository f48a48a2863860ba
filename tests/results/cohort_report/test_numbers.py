"""The numbers and pictures behind the page of a cohort, against rows made by hand."""

import json
import re
from statistics import mean, stdev
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from cxr_dicom.records import Reason
from cxr_dicom.results.cohort_report import _speed
from cxr_dicom.results.cohort_report._agreement import Agreement, kappa
from cxr_dicom.results.cohort_report._extremes import Extremes
from cxr_dicom.results.cohort_report._flow import GATES, Flow
from cxr_dicom.results.cohort_report._numbers import Bins, Pairs
from cxr_dicom.results.cohort_report._quality import Quality
from cxr_dicom.results.cohort_report._ratio import Ratios
from cxr_dicom.results.cohort_report._scores import Scores
from cxr_dicom.results.svg import round_ticks
from tests import ROOT, cohort_rows
from tests.cohort_rows import RUN, processed, scored, skipped, with_ratio

DOCS = ROOT / "docs"
PIXEL = "data:image/jpeg;base64,AAAA"


def added(part, rows):
    for line, row in enumerate(rows, start=1):
        part.add(row, line)
    return part


def test_the_rows_of_these_tests_are_rows():
    schema = json.loads((DOCS / "results.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for row in cohort_rows.rows(300):
        validator.validate(row)
    validator.validate(cohort_rows.failed())


# --- numbers -------------------------------------------------------------------------------------


def test_bins_take_what_lies_outside_and_give_quantiles():
    bins = Bins(0, 1, 10)
    assert [bins.of(value) for value in (-1, 0, 0.05, 0.95, 1, 2)] == [0, 0, 0, 9, 9, 9]
    counts = np.zeros(10, np.int64)
    counts[2], counts[7] = 3, 1
    assert bins.quantile(counts, 0.5) == pytest.approx(0.2 + 0.1 * 2 / 3)
    assert 0.7 <= bins.quantile(counts, 0.9) <= 0.8


def test_quantiles_are_those_of_the_values():
    values = np.random.default_rng(0).normal(0.45, 0.05, 5000)
    bins = Bins(0.2, 0.9, 350)
    counts = np.bincount([bins.of(value) for value in values], minlength=350)
    for part in (0.05, 0.5, 0.95):
        assert bins.quantile(counts, part) == pytest.approx(np.quantile(values, part), abs=0.002)


def test_pairs_give_correlation_and_limits_of_agreement():
    first, second = [0.4, 0.5, 0.6, 0.45], [0.42, 0.5, 0.65, 0.41]
    pairs = Pairs()
    for one, other in zip(first, second, strict=True):
        pairs.add(one, other)
    differences = [other - one for one, other in zip(first, second, strict=True)]
    assert pairs.mean_difference == pytest.approx(mean(differences))
    assert pairs.spread == pytest.approx(stdev(differences))
    assert pairs.limits[1] == pytest.approx(mean(differences) + 1.96 * stdev(differences))
    assert pairs.correlation == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_kappa_is_that_of_cohen():
    assert kappa(20, 5, 10, 15) == pytest.approx(0.4)  # the example of many textbooks
    assert kappa(0, 0, 0, 9) is None
    assert kappa(0, 0, 0, 0) is None


@pytest.mark.parametrize("high", [0.004, 0.7, 1, 2.4, 9.99, 47, 100_000])
def test_ticks_are_few_and_round(high):
    ticks = round_ticks(high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0
    assert ticks[-1] <= high
    assert all(len(f"{tick:g}".replace(".", "").strip("0")) <= 2 for tick in ticks)


# --- flow ----------------------------------------------------------------------------------------


def test_every_reason_has_its_gate_and_the_words_of_the_document():
    told = {reason: meaning for reasons in GATES.values() for reason, (_, meaning) in reasons.items()}
    text = (DOCS / "reasons.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| \[`(\w+)`\]\([^)]*\) \| \w+ \| ([^|]+?) \|", text, re.MULTILINE))
    assert told == written
    assert set(told) == set(Reason)


def test_the_flow_counts_each_input_once():
    rows = [
        processed(view="PA"),
        processed(view=None),
        skipped("NOT_CHEST"),
        skipped("NOT_CHEST"),
        cohort_rows.failed(),
    ]
    flow = added(Flow(), rows)
    assert (flow.total, flow.processed) == (5, 2)
    assert [(each["reason"], each["outcome"], each["count"]) for each in flow.table()] == [
        ("NOT_CHEST", "skipped", 2),
        ("MODEL_FAILED", "failed", 1),
    ]
    assert flow.views == {"PA": 1, "not stated": 1}


def test_streams_are_as_wide_as_their_numbers():
    rows = [processed(view="PA")] * 60 + [skipped("NOT_CHEST")] * 30 + [cohort_rows.failed()] * 10
    picture = ElementTree.fromstring(added(Flow(), rows).picture())
    widths = {
        each.get("class"): float(each.get("stroke-width")) for each in picture.iter("path") if each.get("stroke-width")
    }
    assert widths["band-of lost"] / widths["band-of failed"] == pytest.approx(3)
    blocks = [float(each.get("height")) for each in picture.iter("rect") if each.get("class") == "block"]
    assert blocks[1] / blocks[0] == pytest.approx(0.6)
    assert {each.get("href") for each in picture.iter("a")} == {"#reason-NOT_CHEST", "#reason-MODEL_FAILED"}


# --- pictures and figures ------------------------------------------------------------------------


def test_extremes_are_those_of_the_cohort_and_each_is_drawn_once():
    rows = [with_ratio(0.3 + number / 100, sop_instance_uid=f"1.{number}") for number in range(20)]
    asked = []

    def thumbnail(row):
        asked.append(row["sop_instance_uid"])
        return PIXEL

    sections = {each["title"]: each["pictures"] for each in added(Extremes(), rows).sections(thumbnail)}
    assert [each["value"] for each in sections["Largest cardiothoracic ratio"]][:2] == ["0.49", "0.48"]
    assert [each["line"] for each in sections["Smallest cardiothoracic ratio"]][:2] == [1, 2]
    assert len(asked) == len(set(asked))
    assert {"Effusion", "Most asymmetric lungs"} <= sections.keys()


def test_lungs_without_millimetres_are_not_compared():
    row = processed()
    row["measurements"]["right_lung_area"]["unit"] = "{pixels}"
    titles = {each["title"] for each in added(Extremes(), [row]).sections(lambda row: None)}
    assert "Largest lungs" not in titles
    assert "Largest cardiothoracic ratio" in titles


def test_scores_count_what_is_called_present():
    rows = [processed(scores={"a": scored(0.9, "present"), "b": scored(0.2, "indeterminate", None)})]
    rows += [processed(scores={"a": scored(0.1, "absent")})] * 3
    scores = added(Scores(), rows)
    (section,) = scores.sections()
    assert [(panel["name"], panel["present"]) for panel in section["panels"]] == [("a", "25%"), ("b", None)]
    assert (scores.pointed("a"), scores.pointed("b")) == (True, False)
    assert section["panels"][0]["picture"].count('class="above"') == 1
    assert section["panels"][1]["picture"].count('class="above"') == 0


def test_ratios_by_view():
    rows = [with_ratio(0.55, view="AP")] * 3 + [with_ratio(0.45, view="PA")] * 4 + [with_ratio(None)]
    views = {each["view"]: each for each in added(Ratios(), rows).views()}
    assert (views["AP"]["count"], views["AP"]["above"]) == (3, "100%")
    assert (views["PA"]["count"], views["PA"]["above"]) == (4, "0%")
    assert views["PA"]["median"] == pytest.approx(0.45, abs=0.003)


def test_no_age_group_of_few_people_is_shown():
    women = [with_ratio(0.45, view="PA", patient_sex="F", patient_age_years=40)] * 9
    men = [with_ratio(0.45, view="PA", patient_sex="M", patient_age_years=40)] * 10
    magnified = [with_ratio(0.6, view="AP", patient_sex="F", patient_age_years=40)] * 50
    assert [each["title"] for each in added(Ratios(), women + men + magnified).people()] == ["Men"]


def test_no_cell_of_few_people_is_drawn():
    many = [with_ratio(0.45, view="PA", patient_sex="F", patient_age_years=40)] * 2000
    few = [with_ratio(0.65, view="PA", patient_sex="F", patient_age_years=80)] * 4
    (group,) = added(Ratios(), many + few).people()
    assert group["picture"].count('class="cell"') == 1


def test_models_are_compared_name_by_name():
    pairs = [("present", "present")] * 20 + [("present", "absent")] * 5 + [("absent", "present")] * 10
    pairs += [("absent", "absent")] * 15
    rows = [
        processed(scores={"a": scored(0.6, one), "a__two": scored(0.5, other, model="two")}) for one, other in pairs
    ]
    (compared,) = added(Agreement(), rows).findings()
    assert (compared["name"], compared["models"], compared["agreement"]) == ("a", ("one", "two"), "70%")
    assert compared["kappa"] == pytest.approx(0.4)
    assert [part["count"] for part in compared["parts"]] == [20, 5, 10, 15]


def test_ratios_of_two_models_are_compared():
    row = with_ratio(0.48)
    row["measurements"]["cardiothoracic_ratio__offline_anatomy"]["value"] = 0.53
    agreement = added(Agreement(), [row])
    (measured,) = agreement.measurements()
    assert measured["difference"] == pytest.approx(0.05)
    assert agreement.ratios()[0]["crossed"] == 1


def test_headers_are_held_against_the_pixels():
    rows = [
        processed(body_part_examined="CHEST", view_position="PA"),
        processed(body_part_examined=None, view_position="PA"),
        processed(body_part_examined="UNKNOWN", view_position=None),
        skipped("NOT_A_CHEST_CONTENT", body_part_examined="CHEST", view_position="AP"),
        skipped("NOT_FRONTAL", body_part_examined="CHEST", view_position="PA", detail="model view sees a lateral one"),
        skipped("NOT_CHEST", rows=None, detail="Body Part Examined is KNEE"),
    ]
    quality = added(Quality(), rows)
    assert {each.text: [example["line"] for example in each.examples] for each in quality.problems()} == {
        "Body Part Examined is empty, lungs in the picture": [2],
        "Body Part Examined is UNKNOWN, lungs in the picture": [3],
        "View Position is empty, read as frontal": [3],
        "Body Part Examined names a chest, no plausible frontal chest in the picture": [4],
        "View Position is PA, model view sees a lateral image": [5],
    }
    assert [(each.text, each.count) for each in quality.stated()] == [("Body Part Examined is KNEE", 1)]


def test_what_headers_said_stands_against_what_pixels_say():
    rows = [
        *[processed(body_part_examined="THORAX", view_position="PA", content="as_declared")] * 5,
        processed(body_part_examined="CHEST", view_position="PA", content="turned_90"),
        processed(body_part_examined="CHEST", view_position="PA", content="mirrored+turned_90"),
        skipped("WRONG_WAY_ROUND", body_part_examined="CHEST", view_position="PA"),
        processed(body_part_examined="CHEST", view_position="PA", content="doubtful"),
        processed(body_part_examined=None, view_position=None, content="as_declared"),
        skipped("NOT_A_CHEST_CONTENT", body_part_examined=None, view_position=None),
        skipped("NOT_FRONTAL", body_part_examined=None, view_position=None),
        processed(body_part_examined="ABDOMEN", view_position="AP", content=None),
        skipped("NOT_CHEST", rows=None, body_part_examined="KNEE"),  # nobody looked, and the header says why
        {**processed(body_part_examined="CHEST", view_position="PA"), "outcome": "failed"},
    ]
    quality = added(Quality(), rows)
    assert [(each["says"], each["counts"]) for each in quality.content()] == [
        ("chest, view stated (PA)", [5, 3, 0, 1, 0]),
        ("no body part, view not stated", [1, 0, 1, 1, 0]),
        ("body part ABDOMEN, view stated (AP)", [0, 0, 0, 0, 1]),
    ]
    assert quality.ways() == [("turned 90", 1), ("mirrored and turned 90", 1)]


def test_warnings_that_differ_in_numbers_are_one():
    rows = [processed(warnings=[f"{number} bytes more"]) for number in range(5)] + [processed(warnings=["other"])]
    seen = added(Quality(), rows).warnings()
    assert [(each.text, each.count, len(each.examples)) for each in seen] == [("0 bytes more", 5, 3), ("other", 1, 1)]


def test_speed_puts_sessions_one_after_the_other():
    pieces, starts = _speed._pieces(RUN["sessions"])
    assert starts == [0, 10]
    assert pieces == [(0, 10, 4), (10, 20, 2), (20, 40, 0.5)]
    assert _speed.per_second(RUN) == pytest.approx(70 / 40)
    assert [each["share"] for each in _speed.stages(RUN)] == ["75%", "25%"]

"""How right the scores and calls of each finding are: over all images, and in groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records import Presence
from cxr_dicom.results.evaluate import statistics
from cxr_dicom.results.evaluate.reliability import Reliability, reliability
from cxr_dicom.results.evaluate.scored import Column, Matched
from cxr_dicom.results.evaluate.statistics import Auroc, Difference, Estimate

MIN_PATIENTS = 10  # with a finding, and without: below, a group's figures say nothing
MAX_CASES = 50  # of a finding that are listed

Flags = NDArray[np.bool_]
Values = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image whose call is wrong."""

    sop_instance_uid: str
    study_instance_uid: str
    line: int  # in results.jsonl
    truth: bool
    score: float
    operating_point: float | None
    wrong_by: float  # 0: at the operating point; 1: as far on the wrong side of it as a score can be


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What was called at the operating point, against the truth."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate  # positive predictive value, at the prevalence of these images
    npv: Estimate


@dataclass(frozen=True, kw_only=True)
class GroupEvaluation:
    """The same in a part of the images."""

    by: str  # "sex"
    value: str  # "F"
    n: int
    positives: int
    patients_with: int
    patients_without: int
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate
    difference: Estimate | None = None  # of the area, less that of all other images whose group is known
    differs: bool = False  # its interval, widened for the number of comparisons, leaves out 0


@dataclass(frozen=True, kw_only=True)
class FindingEvaluation:
    """All figures of one finding."""

    name: str
    models: list[str]
    n: int  # images with truth and score
    positives: int
    patients: int
    unscored: int  # images with a truth, and without a score that is a number
    uncalled: int  # images without a call: indeterminate
    operating_points: list[float]
    prevalence: Estimate
    auroc: Estimate
    average_precision: Estimate
    calls: Calls | None  # None where nothing was called
    reliability: Reliability
    curve: list[tuple[float, float]]  # 1 - specificity, sensitivity
    groups: list[GroupEvaluation] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)  # the most wrong first


@dataclass(kw_only=True, eq=False)
class _Part:
    """The images of one finding."""

    name: str
    column: Column
    at: Indices  # places in the matched images
    truth: Flags
    scores: Values
    present: Flags
    absent: Flags
    unscored: int

    def inside(self, chosen: Flags) -> _Part:
        """The same for some of the matched images."""
        kept = chosen[self.at]
        return _Part(
            name=self.name,
            column=self.column,
            at=self.at[kept],
            truth=self.truth[kept],
            scores=self.scores[kept],
            present=self.present[kept],
            absent=self.absent[kept],
            unscored=0,
        )


def evaluate_findings(images: Matched) -> list[FindingEvaluation]:
    """Evaluate every finding that has both scores and truth."""
    parts = list(_parts(images))
    groups = _groups(parts, images)
    return [_finding(part, images, groups[number]) for number, part in enumerate(parts)]


def _parts(images: Matched) -> Iterator[_Part]:
    for name in sorted(images.results.scores, key=lambda name: ("__" in name, name)):
        labels = images.truth.labels.get(name.partition("__")[0])
        if labels is None:
            continue
        column, truth = images.results.scores[name], labels[images.truths]
        known, scores = np.isfinite(truth), column.at(images.rows)
        at = np.flatnonzero(known & np.isfinite(scores))
        at = at[np.argsort(scores[at], kind="stable")]  # what is in order is sorted again, for each group, in no time
        rows = images.rows[at]
        yield _Part(
            name=name,
            column=column,
            at=at,
            truth=truth[at] == 1,
            scores=scores[at],
            present=column.called(rows, Presence.PRESENT),
            absent=column.called(rows, Presence.ABSENT),
            unscored=int(known.sum()) - at.size,
        )


def _finding(part: _Part, images: Matched, groups: list[GroupEvaluation]) -> FindingEvaluation:
    patients = images.patients[part.at]
    points = part.column.at(images.rows[part.at], "point")
    has_curve = part.truth.any() and not part.truth.all()
    return FindingEvaluation(
        name=part.name,
        models=sorted(part.column.models),
        n=part.at.size,
        positives=int(part.truth.sum()),
        patients=statistics.count(patients),
        unscored=part.unscored,
        uncalled=int((~(part.present | part.absent)).sum()),
        operating_points=np.unique(points[np.isfinite(points)])[:10].tolist(),
        prevalence=statistics.proportion(part.truth, patients),
        auroc=statistics.auroc(part.truth, part.scores, patients),
        average_precision=statistics.precision(part.truth, part.scores, patients),
        calls=_calls(part, patients),
        reliability=reliability(part.truth, part.scores, patients),
        curve=statistics.curve(part.truth, part.scores) if has_curve else [],
        groups=groups,
        cases=_cases(part, images, points),
    )


def _calls(part: _Part, patients: Indices) -> Calls | None:
    called = part.present | part.absent
    if not called.any():
        return None
    truth, present, whose = part.truth[called], part.present[called], patients[called]
    return Calls(
        true_positive=int((truth & present).sum()),
        false_positive=int((~truth & present).sum()),
        false_negative=int((truth & ~present).sum()),
        true_negative=int((~truth & ~present).sum()),
        sensitivity=statistics.proportion(present[truth], whose[truth]),
        specificity=statistics.proportion(~present[~truth], whose[~truth]),
        ppv=statistics.proportion(truth[present], whose[present]),
        npv=statistics.proportion(~truth[~present], whose[~present]),
    )


def _cases(part: _Part, images: Matched, points: Values) -> list[Case]:
    wrong = np.flatnonzero((part.truth & part.absent) | (~part.truth & part.present))
    score, point = part.scores[wrong], points[wrong]
    with np.errstate(invalid="ignore", divide="ignore"):
        by = np.where(part.truth[wrong], (point - score) / point, (score - point) / (1 - point))
    by = np.clip(np.nan_to_num(by, nan=0.5, posinf=1.0, neginf=0.0), 0, 1)
    order = np.argsort(-by, kind="stable")[:MAX_CASES]
    results = images.results
    return [
        Case(
            sop_instance_uid=results.uids[row],
            study_instance_uid=results.studies[row],
            line=results.lines[row],
            truth=bool(part.truth[at]),
            score=float(part.scores[at]),
            operating_point=float(points[at]) if np.isfinite(points[at]) else None,
            wrong_by=float(amount),
        )
        for at, row, amount in zip(wrong[order], images.rows[part.at[wrong[order]]], by[order], strict=True)
    ]


# --- groups --------------------------------------------------------------------------------------


def _groups(parts: Sequence[_Part], images: Matched) -> list[list[GroupEvaluation]]:
    """Evaluate each finding in each group, and compare it with the rest where both are large enough."""
    found: list[list[GroupEvaluation]] = [[] for _ in parts]
    apart: list[tuple[int, int, Difference]] = []  # finding, place of the group
    for by, values in images.groups():
        of = np.array(values, dtype=object)
        known = of != ""
        names = sorted(set(of[known].tolist()))
        for name in names if len(names) > 1 else ():
            chosen = of == name
            for number, part in enumerate(parts):
                group, area = _group(by, name, part.inside(chosen), images)
                found[number].append(group)
                if isinstance(area, Auroc) and (difference := _difference(part, (chosen, area), known, images)):
                    apart.append((number, len(found[number]) - 1, difference))
    level = statistics.adjusted(len(apart))
    for number, place, difference in apart:
        estimate = difference.estimate(level)
        assert estimate.low is not None  # noqa: S101 - both areas are there
        assert estimate.high is not None  # noqa: S101
        differs = not estimate.low <= 0 <= estimate.high
        found[number][place] = replace(found[number][place], difference=estimate, differs=differs)
    return found


def _group(by: str, value: str, part: _Part, images: Matched) -> tuple[GroupEvaluation, Auroc | str]:
    patients = images.patients[part.at]
    sick, well = statistics.count(patients[part.truth]), statistics.count(patients[~part.truth])
    why = f"too few: {sick} patients with the finding and {well} without, at least {MIN_PATIENTS} of each are needed"
    calls = _calls(part, patients)
    none = Estimate(value=None, n=part.at.size, why=why)
    area = why if min(sick, well) < MIN_PATIENTS else statistics.area(part.truth, part.scores, patients)
    group = GroupEvaluation(
        by=by,
        value=value,
        n=part.at.size,
        positives=int(part.truth.sum()),
        patients_with=sick,
        patients_without=well,
        auroc=area.estimate() if isinstance(area, Auroc) else replace(none, why=area),
        sensitivity=calls.sensitivity if calls and sick >= MIN_PATIENTS else none,
        specificity=calls.specificity if calls and well >= MIN_PATIENTS else none,
    )
    return group, area


def _difference(part: _Part, group: tuple[Flags, Auroc], known: Flags, images: Matched) -> Difference | None:
    """Compare a group with the rest of the images whose group is known; None where the rest is too small."""
    others = known & ~group[0]
    rest = part.inside(others)
    whose = images.patients[rest.at]
    if min(statistics.count(whose[rest.truth]), statistics.count(whose[~rest.truth])) < MIN_PATIENTS:
        return None
    area = statistics.area(rest.truth, rest.scores, whose)
    if isinstance(area, str):
        return None
    return statistics.difference((group[0][part.at], group[1]), (others[part.at], area), images.patients[part.at])


def metrics_of(finding: FindingEvaluation) -> Mapping[str, Estimate]:
    """Return the figures that a limit can be set for."""
    calls = finding.calls
    none = Estimate(value=None, why="nothing was called")
    return {
        "auroc": finding.auroc,
        "average_precision": finding.average_precision,
        "sensitivity": calls.sensitivity if calls else none,
        "specificity": calls.specificity if calls else none,
        "ppv": calls.ppv if calls else none,
        "npv": calls.npv if calls else none,
    }

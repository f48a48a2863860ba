"""How right the scores and calls of each finding are: over all images, and in groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records import Presence
from cxr_dicom.results.evaluate import statistics
from cxr_dicom.results.evaluate.scored import Column, Matched
from cxr_dicom.results.evaluate.statistics import Auroc, Estimate, Reliability

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


def evaluate_findings(images: Matched, rounds: int = statistics.ROUNDS) -> list[FindingEvaluation]:
    """Evaluate every finding that has both scores and truth."""
    parts = list(_parts(images))
    precisions = statistics.average_precisions(
        [statistics.Scored(truth=p.truth, scores=p.scores, patients=images.patients[p.at]) for p in parts],
        images.patient_count,
        rounds,
    )
    groups = _groups(parts, images)
    return [
        _finding(part, images, precision, groups[number])
        for number, (part, precision) in enumerate(zip(parts, precisions, strict=True))
    ]


def _parts(images: Matched) -> Iterator[_Part]:
    for name in sorted(images.results.scores, key=lambda name: ("__" in name, name)):
        labels = images.truth.labels.get(name.partition("__")[0])
        if labels is None:
            continue
        column, truth = images.results.scores[name], labels[images.truths]
        known, scores = np.isfinite(truth), column.at(images.rows)
        at = np.flatnonzero(known & np.isfinite(scores))
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


def _finding(part: _Part, images: Matched, precision: Estimate, groups: list[GroupEvaluation]) -> FindingEvaluation:
    patients = images.patients[part.at]
    points = part.column.at(images.rows[part.at], "point")
    has_curve = part.truth.any() and not part.truth.all()
    return FindingEvaluation(
        name=part.name,
        models=sorted(part.column.models),
        n=part.at.size,
        positives=int(part.truth.sum()),
        patients=len(np.unique(patients)),
        unscored=part.unscored,
        uncalled=int((~(part.present | part.absent)).sum()),
        operating_points=np.unique(points[np.isfinite(points)])[:10].tolist(),
        prevalence=statistics.proportion(part.truth, patients),
        auroc=statistics.auroc(part.truth, part.scores, patients),
        average_precision=precision,
        calls=_calls(part, patients),
        reliability=statistics.reliability(part.truth, part.scores, patients),
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


@dataclass(kw_only=True, eq=False)
class _Compared:
    """A group that is large enough, and the rest of the images whose group is known."""

    finding: int
    place: int
    group: tuple[Flags, Auroc]
    rest: tuple[Flags, Auroc]
    patients: Indices


def _groups(parts: Sequence[_Part], images: Matched) -> list[list[GroupEvaluation]]:
    """Evaluate each finding in each group, and compare it with the rest where both are large enough."""
    found: list[list[GroupEvaluation]] = [[] for _ in parts]
    compared: list[_Compared] = []
    for by, values in images.groups():
        of = np.array(values, dtype=object)
        known = of != ""
        names = sorted(set(of[known].tolist()))
        if len(names) < 2:
            continue
        for number, part in enumerate(parts):
            for name in names:
                chosen = of == name
                group = _group(by, name, part.inside(chosen), images)
                found[number].append(group)
                if group.auroc.value is not None:
                    compared += _comparison(number, len(found[number]) - 1, part, chosen, known, images)
    level = statistics.adjusted(len(compared))
    for comparison in compared:
        apart = statistics.difference(comparison.group, comparison.rest, comparison.patients, level)
        assert apart.low is not None  # noqa: S101 - both areas are there
        assert apart.high is not None  # noqa: S101
        found[comparison.finding][comparison.place] = replace(
            found[comparison.finding][comparison.place], difference=apart, differs=not apart.low <= 0 <= apart.high
        )
    return found


def _group(by: str, value: str, part: _Part, images: Matched) -> GroupEvaluation:
    patients = images.patients[part.at]
    sick, well = len(np.unique(patients[part.truth])), len(np.unique(patients[~part.truth]))
    why = f"too few: {sick} patients with the finding and {well} without, at least {MIN_PATIENTS} of each are needed"
    calls = _calls(part, patients)
    none = Estimate(value=None, n=part.at.size, why=why)
    return GroupEvaluation(
        by=by,
        value=value,
        n=part.at.size,
        positives=int(part.truth.sum()),
        patients_with=sick,
        patients_without=well,
        auroc=none if min(sick, well) < MIN_PATIENTS else statistics.auroc(part.truth, part.scores, patients),
        sensitivity=calls.sensitivity if calls and sick >= MIN_PATIENTS else none,
        specificity=calls.specificity if calls and well >= MIN_PATIENTS else none,
    )


def _comparison(
    finding: int, place: int, part: _Part, chosen: Flags, known: Flags, images: Matched
) -> Iterator[_Compared]:
    group, rest = part.inside(chosen), part.inside(known & ~chosen)
    patients = images.patients[part.at]
    whose = images.patients[rest.at]
    if min(len(np.unique(whose[rest.truth])), len(np.unique(whose[~rest.truth]))) < MIN_PATIENTS:
        return
    areas = [statistics.area(side.truth, side.scores, images.patients[side.at]) for side in (group, rest)]
    flags = (chosen[part.at], (known & ~chosen)[part.at])
    if isinstance(areas[0], Auroc) and isinstance(areas[1], Auroc):
        yield _Compared(
            finding=finding,
            place=place,
            group=(flags[0], areas[0]),
            rest=(flags[1], areas[1]),
            patients=patients,
        )


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

"""An evaluation as one self-contained HTML page: pictures before numbers, no network, no script, no patient data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cxr_dicom.results import pages
from cxr_dicom.results.evaluate import Evaluation, FindingEvaluation, MeasurementEvaluation
from cxr_dicom.results.evaluate.anatomy import MeasuredCase, OutlinedCase
from cxr_dicom.results.evaluate.findings import MIN_PATIENTS
from cxr_dicom.results.evaluate.statistics import Estimate
from cxr_dicom.results.svg import Drawn, Plot, drawing, line, path, points, text, title
from cxr_dicom.results.svg import element as mark
from cxr_dicom.system import atomic

PAGE = "evaluation.html"
MAX_PICTURES = 24  # of wrong calls
MAX_SHOWN = 10  # wrong calls of a finding in its table

MAX_APART = 6  # pictures of a measurement or a structure

PictureOf = Callable[[str, str, int], str | None]

_UNIT = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]


def write(folder: Path, evaluation: Evaluation, picture_of: PictureOf) -> None:
    """Write the page.

    Parameters
    ----------
    folder
        Where ``evaluation.html`` goes.
    picture_of
        Returns a small picture of an image as a ``data:`` URI, or None; called for few images, with their Study
        and SOP Instance UIDs and their line in ``results.jsonl``.
    """
    page = pages.template("evaluate/page.html.jinja").stream(
        it=evaluation,
        curve=_curve,
        reliability=_reliability,
        forest=_forest,
        difference=_difference,
        wrong=_wrong(evaluation, picture_of),
        apart=partial(_apart, picture_of=picture_of),
        estimate=estimate,
        fewest=MIN_PATIENTS,
        most=MAX_SHOWN,
    )
    with atomic.open_text(folder / PAGE) as file:
        file.writelines(page)


def estimate(value: Estimate | None, count: int = 2) -> str:
    """Write a figure with its interval: ``0.87 (0.84 to 0.90)``; a dash where there is none."""
    if value is None or value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:.{count}f}"
    return f"{value.value:.{count}f} ({value.low:.{count}f} to {value.high:.{count}f})"


def _curve(finding: FindingEvaluation) -> Drawn | None:
    if not finding.curve:
        return None
    plot = Plot(width=240, height=220, x=(0, 1), y=(0, 1), left=30, bottom=36, top=14)
    parts = plot.axes(_UNIT, _UNIT, "1 − specificity", "sensitivity")
    parts.append(line(plot.at_x(0), plot.at_y(0), plot.at_x(1), plot.at_y(1), "limit"))
    parts.append(path(points((plot.at_x(x), plot.at_y(y)) for x, y in finding.curve), "curve v1"))
    calls = finding.calls
    if calls and calls.sensitivity.value is not None and calls.specificity.value is not None:
        x, y = 1 - calls.specificity.value, calls.sensitivity.value
        hint = title(f"operating point: sensitivity {y:.2f}, specificity {1 - x:.2f}")
        parts.append(mark("circle", hint, cx=plot.at_x(x), cy=plot.at_y(y), r=5, class_="dot"))
    label = f"ROC curve of {pages.words(finding.name)}: area {estimate(finding.auroc)}"
    return drawing(parts, plot.width, plot.height, label)


def _reliability(finding: FindingEvaluation) -> Drawn | None:
    if not finding.reliability.bins:
        return None
    plot = Plot(width=240, height=220, x=(0, 1), y=(0, 1), left=30, bottom=36, top=14)
    parts = plot.axes(_UNIT, _UNIT, "score", "share with the finding")
    parts.append(line(plot.at_x(0), plot.at_y(0), plot.at_x(1), plot.at_y(1), "limit"))
    places = []
    for interval in finding.reliability.bins:
        seen = interval.observed
        x, y = plot.at_x(interval.score), plot.at_y(seen.value or 0.0)
        places.append((x, y))
        if seen.low is not None and seen.high is not None:
            parts.append(line(x, plot.at_y(seen.low), x, plot.at_y(seen.high), "whisker"))
        hint = title(f"{interval.n} images, mean score {interval.score:.2f}: {estimate(seen)}")
        parts.append(mark("circle", hint, cx=x, cy=y, r=3.5, class_="dot"))
    parts.append(path(points(places), "curve v1"))
    return drawing(parts, plot.width, plot.height, f"Reliability diagram of {pages.words(finding.name)}")


def _forest(finding: FindingEvaluation) -> Drawn | None:
    """Area under the curve of each group that is large enough, with its interval."""
    groups = [group for group in finding.groups if group.auroc.low is not None]
    if not groups or finding.auroc.value is None:
        return None
    row, top = 20, 22
    plot = Plot(width=460, height=top + row * len(groups) + 30, x=(0, 1), y=(0, 1), left=170, top=top, bottom=30)
    parts = [line(plot.at_x(finding.auroc.value), top, plot.at_x(finding.auroc.value), plot.height - 30, "limit")]
    parts += [text(plot.at_x(value), plot.height - 12, words, "middle") for value, words in _UNIT]
    for number, group in enumerate(groups):
        y = top + row * number + row / 2
        style = "differs" if group.differs else ""
        parts.append(text(plot.left - 8, y + 4, f"{group.by} {group.value}"[:28], "end"))
        parts.append(
            line(plot.at_x(group.auroc.low or 0), y, plot.at_x(group.auroc.high or 0), y, f"whisker {style}".strip())
        )
        hint = title(f"{group.positives} of {group.n}: {estimate(group.auroc)}")
        at = plot.at_x(group.auroc.value or 0)
        parts.append(mark("circle", hint, cx=at, cy=y, r=4, class_=f"dot {style}".strip()))
    return drawing(parts, plot.width, plot.height, f"Area under the curve of {pages.words(finding.name)} by group")


def _difference(measurement: MeasurementEvaluation) -> Drawn | None:
    """Difference over mean (Bland and Altman 1986)."""
    if not measurement.points or measurement.limits is None or measurement.bias.value is None:
        return None
    xs, ys = zip(*measurement.points, strict=True)
    low, high = min(*ys, measurement.limits[0]), max(*ys, measurement.limits[1])
    margin = (high - low) * 0.08 or 1e-3
    wide = (max(xs) - min(xs)) * 0.05 or 1e-3
    plot = Plot(
        width=460, height=280, x=(min(xs) - wide, max(xs) + wide), y=(low - margin, high + margin), left=58, top=16
    )
    levels = [("bias", measurement.bias.value), *zip(("lower", "upper"), measurement.limits, strict=True)]
    parts = plot.axes(
        [(value, f"{value:.3g}") for value in (min(xs), max(xs))],
        [(value, f"{value:.3g}") for _, value in levels],
        "mean of both",
        "ours less truth",
    )
    parts += [
        line(plot.left, plot.at_y(value), plot.width - plot.right, plot.at_y(value), "limit") for _, value in levels
    ]
    parts += [
        mark("circle", cx=plot.at_x(x), cy=plot.at_y(y), r=2.2, class_="dot faint") for x, y in measurement.points
    ]
    return drawing(parts, plot.width, plot.height, f"Differences of {pages.words(measurement.name)}")


def _wrong(evaluation: Evaluation, picture_of: PictureOf) -> list[dict[str, Any]]:
    """The most wrong calls of all findings that have a picture; each image once."""
    cases = [(case, finding.name) for finding in evaluation.findings for case in finding.cases]
    cases.sort(key=lambda pair: -pair[0].wrong_by)
    shown: dict[str, dict[str, Any]] = {}
    for case, name in cases[: 4 * MAX_PICTURES]:
        if len(shown) == MAX_PICTURES or case.sop_instance_uid in shown:
            continue
        source = picture_of(case.study_instance_uid, case.sop_instance_uid, case.line)
        if source:
            shown[case.sop_instance_uid] = {"case": case, "finding": name, "source": source}
    return list(shown.values())


def _apart(cases: Sequence[OutlinedCase | MeasuredCase], picture_of: PictureOf) -> list[dict[str, Any]]:
    """The images of a measurement or a structure that are furthest from the truth, those with a picture."""
    shown: list[dict[str, Any]] = []
    for case in cases[: 2 * MAX_APART]:
        source = picture_of(case.study_instance_uid, case.sop_instance_uid, case.line)
        if source and len(shown) < MAX_APART:
            shown.append({"case": case, "source": source})
    return shown

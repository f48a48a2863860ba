"""Agreement of two columns of values or calls; every number that is not defined is None, with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cxr_dicom.records import Presence
from cxr_dicom.results.compare._runs import Columns, Labels, Matched, Values

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_LISTED = 20  # moved calls, worst masks
_WITHIN = 1.959964  # standard deviations that hold 95 % of a normal distribution (Bland and Altman 1986)


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Values of B minus those of A."""

    n: int  # images that have a value in both
    mean: float
    sd: float | None  # of a sample; None for one image
    max_abs: float
    quantiles: dict[str, float]
    limits_of_agreement: tuple[float, float] | None  # mean -/+ 1.96 sd
    correlation: float | None  # Pearson's
    why_no_correlation: str


@dataclass(frozen=True, kw_only=True)
class Move:
    """An image whose call is another in B."""

    sop_instance_uid: str
    call_a: str
    call_b: str
    value_a: float | None
    value_b: float | None


@dataclass(frozen=True, kw_only=True)
class CallAgreement:
    """How far two runs call a finding or a statement alike."""

    kind: Literal["finding", "statement"]
    name: str
    models_a: list[str]
    models_b: list[str]
    n: int  # images that have a call in both
    agreement: float | None  # part of them with the same call
    kappa: float | None  # Cohen's
    why_no_kappa: str
    moved: dict[str, int]  # "absent > present" -> images
    largest_moves: list[Move]
    differences: Differences | None  # of the probability, or of the measurement that the statement rests on


@dataclass(frozen=True, kw_only=True)
class MeasurementAgreement:
    """How far two runs measure alike, where they measure in the same unit."""

    name: str
    unit: str
    models_a: list[str]
    models_b: list[str]
    only_a: int  # images with a value in A, and none in B
    only_b: int
    other_unit: int  # images that are measured in this unit in A, and in another one in B
    differences: Differences | None

    @property
    def is_same(self) -> bool:
        """Whether both runs measured the same on the same images."""
        is_everywhere = not (self.only_a or self.only_b or self.other_unit)
        return is_everywhere and self.differences is not None and self.differences.max_abs == 0


def compare_calls(kind: Literal["finding", "statement"], name: str, columns: Columns, runs: Matched) -> CallAgreement:
    """Compare the calls of the images that both processed."""
    (values_a, calls_a), (values_b, calls_b) = runs.at_processed(columns)
    called = np.flatnonzero((calls_a != "") & (calls_b != ""))
    a, b = calls_a[called], calls_b[called]
    kappa, why = cohen_kappa(a, b)
    moved = called[a != b]
    order = np.argsort(-np.nan_to_num(np.abs(values_b - values_a)[moved]), kind="stable")
    return CallAgreement(
        kind=kind,
        name=name,
        models_a=sorted(columns[0].models),
        models_b=sorted(columns[1].models),
        n=called.size,
        agreement=float(np.mean(a == b)) if called.size and why != _NO_CALLS else None,
        kappa=kappa,
        why_no_kappa=why,
        moved=dict(sorted(Counter(f"{calls_a[at]} > {calls_b[at]}" for at in moved).items())),
        largest_moves=[
            Move(
                sop_instance_uid=runs.processed[at],
                call_a=str(calls_a[at]),
                call_b=str(calls_b[at]),
                value_a=_number(values_a[at]),
                value_b=_number(values_b[at]),
            )
            for at in moved[order][:MAX_LISTED]
        ],
        differences=differences(values_a, values_b),
    )


def compare_measurements(name: str, columns: Columns, runs: Matched) -> list[MeasurementAgreement]:
    """Compare what both runs measure under one name, for each unit that occurs."""
    (values_a, units_a), (values_b, units_b) = runs.at_processed(columns)
    has_a, has_b = np.isfinite(values_a), np.isfinite(values_b)
    units = sorted({*units_a[has_a].tolist(), *units_b[has_b].tolist()})
    return [
        MeasurementAgreement(
            name=name,
            unit=unit,
            models_a=sorted(columns[0].models),
            models_b=sorted(columns[1].models),
            only_a=int(np.sum(has_a & ~has_b & (units_a == unit))),
            only_b=int(np.sum(has_b & ~has_a & (units_b == unit))),
            other_unit=int(np.sum(has_a & has_b & (units_a == unit) & (units_b != unit))),
            differences=differences(
                *(values[(units_a == unit) & (units_b == unit)] for values in (values_a, values_b))
            ),
        )
        for unit in units
    ]


def differences(a: Values, b: Values) -> Differences | None:
    """Describe ``b - a`` where both are finite; None where that is nowhere."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not a.size:
        return None
    change = b - a
    mean, sd = float(change.mean()), float(change.std(ddof=1)) if change.size > 1 else None
    r, why = pearson(a, b)
    return Differences(
        n=change.size,
        mean=mean,
        sd=sd,
        max_abs=float(np.abs(change).max()),
        quantiles={str(q): float(value) for q, value in zip(QUANTILES, np.quantile(change, QUANTILES), strict=True)},
        limits_of_agreement=None if sd is None else (mean - _WITHIN * sd, mean + _WITHIN * sd),
        correlation=r,
        why_no_correlation=why,
    )


def pearson(a: Values, b: Values) -> tuple[float | None, str]:
    """Pearson's correlation, or why there is none."""
    if a.size < 2:
        return None, "one image"
    for name, values in (("A", a), ("B", b)):
        if values.min() == values.max():
            return None, f"all values of {name} are the same"
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1)), ""


def cohen_kappa(a: Labels, b: Labels) -> tuple[float | None, str]:
    """Cohen's kappa of two lists of calls, not weighted (Cohen 1960), or why there is none."""
    if not a.size:
        return None, "no image in common"
    if (a == Presence.INDETERMINATE).all() or (b == Presence.INDETERMINATE).all():
        return None, _NO_CALLS
    observed = np.mean(a == b)
    expected = sum(np.mean(a == call) * np.mean(b == call) for call in np.unique(a))
    if expected == 1:
        return None, "all calls are the same"
    return float((observed - expected) / (1 - expected)), ""


_NO_CALLS = "a run without operating point calls nothing"


def _number(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None

"""Images per second of ``run`` against the loop by hand, on all cores: in PyTorch, and with the fastest backend."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from benchmarks._harness import Missing, Plan, Row, in_turn, ratios
from benchmarks._ways import place
from cxr_dicom.config import ModelSettings

GOALS = {"torch": 1.3, "openvino": 1.8}


def measure(plan: Plan) -> Iterator[Row]:
    """Yield rows for each backend, on all cores and on one thread."""
    with place(plan) as ways:
        for backend, goal in GOALS.items():
            row = f"by hand: images/s, {backend}, against the loop by hand"
            if why := lacks(backend):
                yield Missing(row, why)
                continue
            pairs = in_turn(partial(ways.run, None, backend), partial(ways.by_hand, None), plan.repeats)
            figures = [(ours, by_hand.images_per_second) for ours, by_hand in pairs]
            yield ratios(row, figures, at_least=goal)


def lacks(backend: str) -> str:
    """Say why a backend cannot be measured; empty when it can."""
    if backend == "torch":
        return ""
    if "backend" not in ModelSettings.model_fields:
        return "there is no setting models.backend"
    return "" if find_spec(backend) else f"{backend} is not installed"

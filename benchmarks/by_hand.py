"""Images per second of ``run`` against two loops by hand, on all cores: in PyTorch, and with the fastest backend.

The first loop is what a competent user writes, the second what one writes who has measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from benchmarks._harness import Missing, Plan, Row, in_turn, ratios
from benchmarks._ways import place
from cxr_dicom.config import ModelSettings

GOALS = {"torch": (1.3, 1.2), "openvino": (1.8, 1.5)}  # against the one loop, and against the other


def measure(plan: Plan) -> Iterator[Row]:
    """Yield two rows for each backend."""
    with place(plan) as ways:
        loops = {"the loop by hand": ways.by_hand, "the better loop by hand": ways.by_skilled_hand}
        for backend, goals in GOALS.items():
            for (loop, way), goal in zip(loops.items(), goals, strict=True):
                row = f"by hand: images/s, {backend}, against {loop}"
                if why := lacks(backend) or plan.spares(backend):
                    yield Missing(row, why)
                    continue
                pairs = in_turn(partial(ways.run, None, backend), partial(way, None), plan.repeats)
                figures = [(ours, theirs.images_per_second) for ours, theirs in pairs]
                yield ratios(row, figures, at_least=goal)


def lacks(backend: str) -> str:
    """Say why a backend cannot be measured; empty when it can."""
    if backend == "torch":
        return ""
    if "backend" not in ModelSettings.model_fields:
        return "there is no setting models.backend"
    return "" if find_spec(backend) else f"{backend} is not installed"

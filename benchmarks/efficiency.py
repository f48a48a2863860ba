"""How much of the time is network: images per second of ``run`` over those of the bare forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks._harness import Plan, Row, in_turn, ratios
from benchmarks._ways import place


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for one thread, and one for all cores."""
    with place(plan) as ways:
        for threads, name in ((1, "1 thread"), (None, "all cores"))[: 1 if plan.is_quick else 2]:
            pairs = in_turn(partial(ways.run, threads), partial(ways.bare, threads), plan.repeats)
            figures = [(run, bare.images_per_second) for run, bare in pairs]
            yield ratios(f"efficiency: images/s, against bare forward passes, {name}", figures, at_least=0.9)

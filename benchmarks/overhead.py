"""Processor seconds for an image outside of the forward passes, ours against those of the loop by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks._harness import Plan, Row, in_turn, ratios
from benchmarks._ways import place


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the row; on one thread, where a thread's clock sees all of a forward pass."""
    with place(plan) as ways:
        pairs = in_turn(partial(ways.process, 1), partial(ways.by_hand, 1), plan.repeats)
        figures = [(ours.overhead, by_hand.overhead) for ours, by_hand in pairs]
        yield ratios("overhead: processor time outside the networks, against the loop by hand", figures, at_most=0.25)

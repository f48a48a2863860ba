"""Processor seconds for an image outside of the forward passes, ours against those of the loop by hand.

On two images, for what we write of one depends on its size: Columns of the CR are no multiple of 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pydicom import Dataset

from benchmarks._harness import Plan, Row, in_turn, ratios
from benchmarks._ways import place, real
from cxr_dicom import synthetic

IMAGES: dict[str, Callable[[], Dataset]] = {
    "CR 1955 × 1841": real,
    "DX 2500 × 2048": partial(synthetic.radiograph, 2500, 2048),
}


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each image; on one thread, where a thread's clock sees all of a forward pass."""
    for name, image in IMAGES.items():
        with place(plan, image) as ways:
            pairs = in_turn(partial(ways.process, 1), partial(ways.by_hand, 1), plan.repeats)
        figures = [(ours.overhead, by_hand.overhead) for ours, by_hand in pairs]
        row = f"overhead: processor time outside the networks, against the loop by hand, {name}"
        yield ratios(row, figures, at_most=0.25)

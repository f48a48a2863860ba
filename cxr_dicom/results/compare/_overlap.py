"""Masks of two runs, and their Dice."""

from __future__ import annotations

import multiprocessing
import signal
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records.plane import Box, Region
from cxr_dicom.results import masks
from cxr_dicom.results.compare._runs import RESULTS, Matched, row_at
from cxr_dicom.results.compare._statistics import MAX_LISTED

HISTOGRAM_BINS = 50  # of Dice, 0 to 1; the last one holds 1
ReportProgress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Worst:
    """An image whose masks agree little."""

    sop_instance_uid: str
    dice: float


@dataclass(frozen=True, kw_only=True)
class StructureAgreement:
    """How far two runs outline a structure alike."""

    name: str
    n: int  # images that have it in both
    only_a: int  # images that have it in A, and not in B
    only_b: int
    median: float | None  # of Dice
    p10: float | None
    minimum: float | None
    histogram: list[int]  # images by Dice, in bins of equal width from 0 to 1
    worst: list[Worst]  # lowest first; those below 1


@dataclass(frozen=True, kw_only=True)
class MaskAgreement:
    """Masks of the images that both runs processed."""

    images: int
    unread: dict[str, int]  # why masks of an image could not be compared -> images
    structures: list[StructureAgreement]


class Overlap(NamedTuple):
    """Dice of one image."""

    dice: Mapping[str, float] = {}
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    problem: str = ""


def compare_masks(runs: Matched, *, jobs: int, report_progress: ReportProgress) -> MaskAgreement:
    """Compare the masks of the images that both runs processed, in ``jobs`` processes."""
    a, b, uids = runs.a, runs.b, runs.processed
    found: defaultdict[str, _Collected] = defaultdict(_Collected)
    unread: Counter[str] = Counter()
    offsets = ([run.offset(uid) for uid in uids] for run in (a, b))
    with _mapping(jobs) as map_:
        for number, image in enumerate(map_(partial(overlap, a.folder, b.folder), *offsets)):
            unread.update([image.problem] if image.problem else [])
            for name, dice in image.dice.items():
                found[name].add(number, dice)
            for name in image.only_a:
                found[name].only_a += 1
            for name in image.only_b:
                found[name].only_b += 1
            report_progress(number + 1, len(uids))
    structures = [collected.summary(name, uids) for name, collected in sorted(found.items())]
    return MaskAgreement(images=len(uids), unread=dict(sorted(unread.items())), structures=structures)


def overlap(a: Path, b: Path, offset_a: int, offset_b: int) -> Overlap:
    """Compare the masks of one image, whose rows begin at these offsets of the two runs' results."""
    try:
        masks_a, masks_b = (read(a, offset_a), read(b, offset_b))
    except OSError as error:
        return Overlap(problem=f"a segmentation cannot be opened: {error.strerror or type(error).__name__}")
    except masks.NOT_OURS:
        return Overlap(problem="a segmentation is not one that cxr-dicom writes")
    both = [name for name in masks_a if name in masks_b]
    if any(masks_a[name].shape != masks_b[name].shape for name in both):
        return Overlap(problem="the matrices differ")
    return Overlap(
        dice={name: dice(masks_a[name], masks_b[name]) for name in both},
        only_a=tuple(name for name in masks_a if name not in masks_b),
        only_b=tuple(name for name in masks_b if name not in masks_a),
    )


def dice(a: Region, b: Region) -> float:
    """Twice the common pixels over the sum of both; 1 when both are empty (Dice 1945)."""
    total = a.area + b.area
    box = Box(
        top=max(a.box.top, b.box.top),
        left=max(a.box.left, b.box.left),
        bottom=min(a.box.bottom, b.box.bottom),
        right=min(a.box.right, b.box.right),
    )
    if not total:
        return 1.0
    if min(box.shape) <= 0:
        return 0.0
    return 2 * int(np.count_nonzero(_crop(a, box) & _crop(b, box))) / total


def read(folder: Path, offset: int) -> masks.Masks:
    """Read the masks of the image whose row begins at ``offset`` of the results in ``folder``."""
    return masks.read(folder, row_at(folder / RESULTS, offset))


@dataclass
class _Collected:
    """Dice of one structure over the images."""

    only_a: int = 0
    only_b: int = 0
    dice: array[float] = field(default_factory=lambda: array("d"))
    images: array[int] = field(default_factory=lambda: array("L"))

    def add(self, image: int, dice: float) -> None:
        self.images.append(image)
        self.dice.append(dice)

    def summary(self, name: str, uids: list[str]) -> StructureAgreement:
        dice = np.array(self.dice)
        median, p10 = map(float, np.quantile(dice, (0.5, 0.1))) if dice.size else (None, None)
        worst = [at for at in np.argsort(dice, kind="stable")[:MAX_LISTED] if dice[at] < 1]
        return StructureAgreement(
            name=name,
            n=dice.size,
            only_a=self.only_a,
            only_b=self.only_b,
            median=median,
            p10=p10,
            minimum=float(dice.min()) if dice.size else None,
            histogram=np.histogram(dice, HISTOGRAM_BINS, (0, 1))[0].tolist(),
            worst=[Worst(uids[self.images[at]], float(dice[at])) for at in worst],
        )


def _crop(region: Region, box: Box) -> NDArray[np.bool_]:
    top, left = region.box.top, region.box.left
    return region.pixels[box.top - top : box.bottom - top, box.left - left : box.right - left]


@contextmanager
def _mapping(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Give the function that maps: in this process, or over several."""
    if jobs == 1:
        yield map
        return
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for the parent
    )
    try:
        yield partial(pool.map, chunksize=8)
    except BrokenProcessPool as error:
        raise CxrDicomError("a process that compared masks died, possibly for lack of memory") from error
    finally:
        pool.shutdown(cancel_futures=True)

"""What a competent user writes who has measured: the loop by hand without what it wastes.

Each network runs once and keeps no graph, the map of the top finding is computed from the last feature map, the
structures go to highdicom as one label map, headers travel without their pixels, and images are decoded and made
small in processes of their own while the networks run on all cores. Of structures that overlap, the label map keeps
the last, as label maps do; all other outputs are those of the loop by hand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import highdicom as hd
import numpy as np
import torch
import torchxrayvision as xrv
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from benchmarks._by_hand import STRUCTURES, Loop, identity, parametric_map, report, uncropped, with_geometry

Decoded = tuple[Dataset, np.ndarray, np.ndarray]  # header, central square, the same small


class SkilledLoop(Loop):
    """The body of the loop, with the networks loaded."""

    def run(self, paths: Sequence[Path], workers: int) -> Iterator[None]:
        """Process images, and yield after each; without workers, images are decoded here."""
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        with ExitStack() as stack, torch.inference_mode():
            images: Iterable[Decoded] = map(decoded, paths)
            if workers:
                pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("spawn")))
                images = pool.map(decoded, paths)
            for source, square, small in images:
                self.write(source, square, small)
                yield

    def write(self, source: Dataset, square: np.ndarray, small: np.ndarray) -> None:
        """Process one image."""
        scores, heatmap = self.classify_small(small, square.shape[1])
        geometry, name = with_geometry(source), source.SOPInstanceUID
        if self.segments:
            labels = uncropped(self.label(square)[None], source)
            label_map(geometry, labels).save_as(self.out / f"{name}.seg.dcm")
        parametric_map(geometry, uncropped(heatmap[None], source)[0]).save_as(self.out / f"{name}.pm.dcm")
        report(source, scores).save_as(self.out / f"{name}.sr.dcm")

    def classify_small(self, small: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Score the findings; the gradient of the top one is the weight of its channel, where that is not cut off."""
        features = self.classifier.features(torch.from_numpy(small)[None])
        scores = self.classifier.classifier(features.relu().mean((2, 3))).sigmoid()[0]
        weights = self.classifier.classifier.weight[scores.argmax()] * (features > 0).float().mean((2, 3))
        activation = (weights[..., None, None] * features).sum(1, keepdim=True).relu()
        activation = activation / activation.max().clamp(min=1e-9)
        heatmap = torch.nn.functional.interpolate(activation, (side, side), mode="bilinear")
        return scores.numpy(), heatmap[0, 0].numpy()

    def label(self, square: np.ndarray) -> np.ndarray:
        """Number the structure of each pixel, from 1."""
        probabilities = self.segmenter(torch.from_numpy(square)[None]).sigmoid()
        labels = np.zeros(square.shape[1:], np.uint8)
        for number, plane in enumerate(probabilities[0], start=1):
            enlarged = torch.nn.functional.interpolate(plane[None, None], square.shape[1:], mode="bilinear")
            labels[enlarged[0, 0].numpy() > 0.5] = number
        return labels


def decoded(path: Path) -> Decoded:
    """Read an image for both networks."""
    square = xrv.datasets.XRayCenterCrop()(xrv.utils.read_xray_dcm(path)[None])
    small = xrv.datasets.XRayResizer(224)(square).astype(np.float32)
    return dcmread(path, stop_before_pixels=True), square, small


def label_map(source: Dataset, labels: np.ndarray) -> Dataset:
    """One LABELMAP of the structures that were found."""
    algorithm = hd.AlgorithmIdentificationSequence("by hand", codes.DCM.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(
            segment_number=int(number),
            segment_label=STRUCTURES[number - 1],
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Lung,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number in np.unique(labels)
        if number
    ]
    return hd.seg.Segmentation([source], labels, "LABELMAP", described, **identity(100))

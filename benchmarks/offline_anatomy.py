"""The forward pass of ``offline-anatomy`` against that of ``chestx-det``, turn by turn, on one thread.

Neither time depends on the values of weights, so ``chestx-det`` has random ones. Run it with
``scripts/bench offline_anatomy``.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from statistics import median
from time import process_time

import torch
from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

from cxr_dicom.infer import chestx_det, offline_anatomy
from cxr_dicom.infer.offline.unet import load


def main() -> None:
    """Print processor seconds of both, and their ratio pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    small = load(files("cxr_dicom.infer.offline").joinpath(offline_anatomy.WEIGHTS_FILE).read_bytes())
    large = pspnet(len(chestx_det.MODELS[0].predicts)).eval()
    pairs = [(seconds(small, 1, offline_anatomy.INPUT_SIZE), seconds(large, 3, 512)) for _ in range(repeats + 1)]
    pairs = pairs[1:]  # the first warms up
    ratios = [of_large / of_small for of_small, of_large in pairs]
    print(f"offline-anatomy {median(s for s, _ in pairs):.3f} s, chestx-det {median(s for _, s in pairs):.3f} s")
    print(f"chestx-det / offline-anatomy: {median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f})")


def seconds(network: torch.nn.Module, channels: int, size: int) -> float:
    """Processor time of one forward pass on a square of ``size`` pixels."""
    pixels = torch.zeros(1, channels, size, size)
    with torch.inference_mode():
        start = process_time()
        network(pixels)
        return process_time() - start


if __name__ == "__main__":
    main()

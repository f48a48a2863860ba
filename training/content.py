"""The content check: a network that knows a frontal chest the right way round, and the shapes of lungs and heart.

The network sees real radiographs as they hang against the same turned, mirrored and inverted, against
pieces of them, projections of a CT from the side, drawings of other parts of the body, and whatever
other pictures lie in a folder. The shapes are mean and covariance of the numbers of
`cxr_dicom.gate.shape` on what `offline-anatomy` outlines.

    python -m training.content --data DIR --others DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch.nn import functional

from cxr_dicom.gate import shape
from cxr_dicom.infer.models.offline_anatomy import OfflineAnatomy
from cxr_dicom.infer.offline.frontal import SIZE, WEIGHTS_FILE, frontal_network
from cxr_dicom.infer.offline.postprocess import normalise
from cxr_dicom.records.plane import TURNS, Region
from training.drawings import make
from training.evaluate import SETTINGS, masks_of
from training.radiographs import records

STEPS = 2200
RIGHT, WRONG, OTHER, PIECES = 28, 28, 18, 8  # pictures of one batch
NAMES = ("gap", "overlap", "height_ratio", "area_ratio", "thorax_aspect", "right_aspect", "left_aspect")
NAMES += ("right_fill", "left_fill", "taper", "heart_across", "heart_down", "heart_width", "heart_area")
WIDENING = (0.03, 0.04, 0.1, 0.12, 0.1, 0.1, 0.1, 0.04, 0.04, 0.1, 0.02, 0.03, 0.03, 0.1)
"""What other patients, devices and fields add to the standard deviation of each number."""

rng = np.random.default_rng(0)


def small(picture: np.ndarray) -> torch.Tensor:
    """(1, SIZE, SIZE) in [0, 1], bright is dense, the picture in the middle of a square."""
    rows, columns = picture.shape
    scale = SIZE / max(rows, columns)
    fitted = Image.fromarray((normalise(picture) * 255).astype(np.uint8)).resize(
        (max(1, round(columns * scale)), max(1, round(rows * scale))), Image.Resampling.BOX
    )
    square = np.zeros((SIZE, SIZE), np.float32)
    top, left = (SIZE - fitted.height) // 2, (SIZE - fitted.width) // 2
    square[top : top + fitted.height, left : left + fitted.width] = np.asarray(fitted) / 255
    return torch.from_numpy(square)[None]


def uniform(count: int, low: float, high: float) -> torch.Tensor:
    """(N, 1, 1, 1) between the two."""
    return (torch.rand(count) * (high - low) + low)[:, None, None, None]


def chance(count: int, share: float) -> torch.Tensor:
    """(N, 1, 1, 1): 1 with the probability ``share``, else 0."""
    return (torch.rand(count) < share).float()[:, None, None, None]


def posed(pictures: torch.Tensor, strong: bool = False) -> torch.Tensor:
    """Move, turn by some degrees, zoom and stretch; beyond the picture there is black, or its border."""
    count = len(pictures)
    angle = torch.randn(count) * 0.4 if strong else (torch.randn(count) * 0.12).clamp(-0.26, 0.26)
    zoom = torch.exp(uniform(count, -0.5, 0.5) if strong else uniform(count, -0.3, 0.28)).flatten()
    stretch = torch.exp(uniform(count, -0.16, 0.16)).flatten()
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift = torch.randn(count, 2) * (0.25 if strong else 0.09)
    rows = [
        torch.stack([cosine * stretch, -sine, shift[:, 0]], 1),
        torch.stack([sine, cosine / stretch, shift[:, 1]], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(pictures.shape), align_corners=False)
    black, border = (
        functional.grid_sample(pictures, grid, padding_mode=mode, align_corners=False) for mode in ("zeros", "border")
    )
    continued = chance(count, 0.25)
    return black * (1 - continued) + border * continued


def exposed(pictures: torch.Tensor) -> torch.Tensor:
    """Other windows, gamma and resolution."""
    count = len(pictures)
    low, high = uniform(count, 0, 0.22) * chance(count, 0.5), 1 - uniform(count, 0, 0.3) * chance(count, 0.5)
    pictures = ((pictures - low) / (high - low)).clamp(1e-4, 1) ** torch.exp(uniform(count, -0.8, 0.8))
    coarse = functional.interpolate(functional.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    blurred = chance(count, 0.25)
    return pictures * (1 - blurred) + coarse * blurred


def diseased(pictures: torch.Tensor) -> torch.Tensor:
    """Up to three opacities, as large as a lung."""
    count = len(pictures)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    for _ in range(3):
        across = (columns - uniform(count, -0.7, 0.7)) / uniform(count, 0.08, 0.5)
        down = (rows - uniform(count, -0.6, 0.7)) / uniform(count, 0.08, 0.6)
        share = torch.exp(-((across**2 + down**2) ** 2)) * uniform(count, 0.2, 0.9) * chance(count, 0.22)
        pictures = pictures * (1 - share) + share * uniform(count, 0.55, 0.9)
    return pictures


def framed(pictures: torch.Tensor) -> torch.Tensor:
    """Shutters, markers and noise."""
    count = len(pictures)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    shut = chance(count, 0.3)
    top, bottom, left, right = (uniform(count, 0, 0.28) * chance(count, 0.6) * shut for _ in range(4))
    inside = ((columns > left - 1) & (columns < 1 - right) & (rows > top - 1) & (rows < 1 - bottom)).float()
    pictures = pictures * inside + (1 - inside) * chance(count, 0.15)
    for picture in pictures:
        for _ in range(int(rng.binomial(2, 0.35))):
            row, column = rng.integers(0, SIZE - 6, 2)
            picture[0, row : row + rng.integers(1, 4), column : column + rng.integers(1, 6)] = 1
    return (pictures + torch.randn_like(pictures) * uniform(count, 0, 0.07)).clamp(0, 1)


def stretched(pictures: torch.Tensor) -> torch.Tensor:
    """The 1st and the 99th percentile become 0 and 1, as `normalise` does."""
    flat = pictures.flatten(1)
    low, high = (flat.quantile(share, 1)[:, None, None, None] for share in (0.01, 0.99))
    return ((pictures - low) / (high - low).clamp(min=0.05)).clamp(0, 1)


def some(pictures: torch.Tensor, count: int) -> torch.Tensor:
    """Draw with repetition."""
    return pictures[torch.randint(len(pictures), (count,))]


def stored(picture: torch.Tensor, turn: int, inverted: bool) -> torch.Tensor:
    """One picture in another way round."""
    turned = torch.from_numpy(np.ascontiguousarray(TURNS[turn].to_standard(picture[0].numpy())))[None]
    return 1 - turned if inverted else turned


def chests(right: torch.Tensor, count: int) -> torch.Tensor:
    """Chests as they hang."""
    return exposed(stretched(framed(diseased(posed(some(right, count))))))


def wrong_ways(right: torch.Tensor, count: int) -> torch.Tensor:
    """Chests in other ways round, mirrored ones most often: they are hardest."""
    made = []
    for picture in chests(right, count):
        kind = rng.random()
        turn, inverted = (1 if kind < 0.35 else int(rng.integers(1, 8))), bool(rng.random() < 0.2)
        made.append(stored(picture, *((0, True) if kind > 0.88 else (turn, inverted))))
    return torch.stack(made)


def pieces(right: torch.Tensor, count: int) -> torch.Tensor:
    """Cut-outs of chests that are no chest, and chests whose halves have changed places or are doubled."""
    made = []
    for picture in some(right, count):
        side = int(rng.uniform(0.2, 0.42) * SIZE)
        top, left = rng.integers(0, SIZE - side, 2)
        cut = picture[None, :, top : top + side, left : left + side]
        choices = [torch.roll(picture, SIZE // 2, -1), torch.roll(picture, SIZE // 2, -2)]
        choices += [torch.cat([picture[..., : SIZE // 2]] * 2, -1)]
        choices += [functional.interpolate(cut, (SIZE, SIZE), mode="bilinear")[0]] * 5
        made.append(choices[rng.integers(len(choices))])
    return exposed(stretched(framed(torch.stack(made))))


def others(sources: list[torch.Tensor], count: int) -> torch.Tensor:
    """Other pictures, each source as often as the next, in any way round."""
    drawn = torch.cat([posed(some(source, count // len(sources) + 1), strong=True) for source in sources])[:count]
    turned = torch.stack([stored(each, int(rng.integers(8)), bool(rng.random() < 0.15)) for each in drawn])
    return exposed(stretched(framed(turned)))


def train(right: torch.Tensor, sources: list[torch.Tensor], steps: int) -> torch.nn.Module:
    """Train the network anew."""
    network = frontal_network()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        batch = [chests(right, RIGHT), wrong_ways(right, WRONG), others(sources, OTHER), pieces(right, PIECES)]
        pictures = torch.cat(batch)
        truth = torch.full((len(pictures),), 0.01)
        truth[:RIGHT] = 0.99
        loss = functional.binary_cross_entropy_with_logits(network(pictures), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        if step % 100 == 0:
            print(step, round(loss.item(), 3), flush=True)
    return network.eval()


def shapes(masks: list[np.ndarray]) -> dict[str, object]:
    """Mean and precision of the numbers of shape and place, the oddest 3 % left out."""
    found = (shape.numbers(*map(Region.from_matrix, each)) for each in masks)
    values = np.array([[each[name] for name in NAMES] for each in found if each is not None])
    for _ in range(3):
        mean, covariance = values.mean(0), np.cov(values.T)
        covariance = 0.85 * covariance + 0.15 * np.diag(np.diag(covariance))
        off = values - mean
        distance = np.einsum("ij,jk,ik->i", off, np.linalg.inv(covariance), off)
        values = values[distance <= np.quantile(distance, 0.99)]
    precision = np.linalg.inv(covariance + np.diag(np.square(WIDENING)))
    return {"names": NAMES, "mean": np.round(mean, 4).tolist(), "precision": np.round(precision, 2).tolist()}


def main() -> None:
    """Read the command line, train, and write both files into the package."""
    parser = argparse.ArgumentParser(description="Train the content check.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the radiographs")
    parser.add_argument("--others", type=Path, required=True, help="folder of .npy pictures that are no frontal chest")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    learnt = [record for record in records(arguments.data) if not record.held_out]
    right = torch.stack([small(record.pixels()) for record in learnt])
    pictures = torch.stack([small(np.load(path)) for path in sorted(arguments.others.glob("*.npy"))])
    network = train(right, [pictures, torch.stack([small(each) for each in make(800, 0)])], arguments.steps)
    package = Path(__file__).parent.parent / "cxr_dicom"
    tensors = {k: v.half() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    safetensors.torch.save_file(tensors, package / "infer" / "offline" / WEIGHTS_FILE)
    anatomy = OfflineAnatomy(SETTINGS, "cpu")
    content = shapes([masks_of(anatomy, record.path) for record in learnt[::5]])
    (package / "gate" / shape.SHAPES_FILE).write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()

"""Figures of the model card: ``python -m training.evaluate --data DIR [--weights FILE] [--pictures DIR]``.

Everything is measured on patients that no round of training saw. The outlines
in `outlines.json` were made for this project by an AI engineer, not by a
radiologist, before any prediction on these radiographs was looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_dicom.config import Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.infer.models.offline_anatomy import OfflineAnatomy
from cxr_dicom.infer.offline.postprocess import implausible
from cxr_dicom.ingest.folder import scan
from cxr_dicom.ingest.memory import as_file
from cxr_dicom.ingest.wrap import wrap
from cxr_dicom.select import select

from .measures import cardiothoracic_ratio, dice, interval
from .pictures import sheet
from .radiographs import Record, records
from .shape import ORGANS, polygon

OUTLINES = Path(__file__).with_name("outlines.json")
WEIGHTS = Path(__file__).parents[1] / "cxr_dicom" / "infer" / "offline" / "anatomy.safetensors"
SETTINGS = Settings()
SIDE = 512  # pixels of the radiographs and of the masks that are compared


@dataclass(frozen=True, kw_only=True)
class Score:
    """Comparison of one radiograph's masks with its outlines; Dice from 0 to 1."""

    record: Record
    found: np.ndarray  # (3, 512, 512) bool
    drawn: np.ndarray  # (3, 512, 512) bool
    lungs: float  # both lungs as one, the drawn heart's pixels left out
    lungs_with_heart: float  # both lungs as one, all pixels
    organs: tuple[float, ...]  # right lung, left lung, heart
    ratio_found: float  # cardiothoracic ratio of the masks
    ratio_drawn: float  # of the outlines


def masks_of(model: OfflineAnatomy, picture: Path) -> np.ndarray:
    """(3, 512, 512) bool masks of one radiograph: what `cxr-dicom run --wrap` outlines on it."""
    with as_file(wrap(picture)) as file:
        (study,), _ = scan([file])
        (image,) = select(study, SETTINGS.select).images
        prediction = model.predict(read(image, SETTINGS.pixels), ())
    found = {mask.structure.name: mask.region.matrix() for mask in prediction.masks}
    return np.stack([found.get(organ, np.zeros(image.shape, bool)) for organ in ORGANS])


def compare(record: Record, found: np.ndarray, contours: dict[str, list]) -> Score:
    """Score masks (3, 512, 512) against contours given in fractions of the image."""
    drawn = np.stack([polygon(np.array(contours[organ]), SIDE) for organ in ORGANS])
    lungs = [masks[:2].any(0) for masks in (found, drawn)]
    return Score(
        record=record,
        found=found,
        drawn=drawn,
        lungs=dice(*lungs, ignored=drawn[2]),
        lungs_with_heart=dice(*lungs),
        organs=tuple(dice(one, other) for one, other in zip(found, drawn, strict=True)),
        ratio_found=cardiothoracic_ratio(found),
        ratio_drawn=cardiothoracic_ratio(drawn),
    )


def report(scores: Sequence[Score], found: dict[str, np.ndarray], held_out: Sequence[Record]) -> str:
    """Write the figures out as text.

    Parameters
    ----------
    scores : sequence of Score
        The outlined radiographs.
    found : dict
        Masks (3, 512, 512) of every held-out radiograph by file name.
    held_out : sequence of Record

    Returns
    -------
    str
    """
    lungs = np.array([score.lungs for score in scores])
    tenth = lambda values: np.percentile(values, 10)  # noqa: E731
    share = lambda values: np.mean(values >= 0.8)  # noqa: E731
    lines = [
        f"Outlined radiographs: {len(scores)}, one of each patient; {_views(scores)}",
        f"Lungs, heart left out: median Dice {_ci(lungs)}; tenth percentile {_ci(lungs, tenth)}; "
        f"at least 0.80: {_ci(lungs, share)}; worst {lungs.min():.3f}",
        f"Lungs, all pixels:     median Dice {_ci([score.lungs_with_heart for score in scores])}",
    ]
    for index, organ in enumerate(ORGANS):
        values = [score.organs[index] for score in scores]
        lines.append(f"{organ.replace('_', ' '):<22} median Dice {_ci(values)}; worst {min(values):.3f}")
    off = [score.ratio_found - score.ratio_drawn for score in scores]
    lines.append(
        f"Cardiothoracic ratio against the outlines: mean difference {_ci(off, np.mean, 3)}, "
        f"standard deviation {np.std(off, ddof=1):.3f}, mean absolute {_ci(np.abs(off), np.mean, 3)}"
    )
    lines.append("Outlined radiographs from worst to best (lungs without the heart, right, left, heart):")
    for score in sorted(scores, key=lambda score: score.lungs):
        organs = " ".join(f"{value:.3f}" for value in score.organs)
        findings = ", ".join(score.record.findings)
        lines.append(f"  {score.record.image} {score.lungs:.3f} {organs}  {score.record.view} {findings}")
    lines.append(f"Held-out radiographs: {len(held_out)} of {len({r.patient_id for r in held_out})} patients")
    doubts = {r.image: reasons for r in held_out if (reasons := implausible(found[r.image]))}
    swaps = sum("the lungs are on each other's side" in reasons for reasons in doubts.values())
    lines.append(f"Lungs on each other's side: {swaps}; other doubts: {len(doubts) - swaps}")
    lines += [f"  {name}: {'; '.join(reasons)}" for name, reasons in doubts.items()]
    normal = [r for r in held_out if r.findings == ("No Finding",) and r.view == "PA" and r.age >= 18]
    ratios = np.array([cardiothoracic_ratio(found[r.image]) for r in normal])
    inside = (ratios >= 0.35) & (ratios <= 0.55)
    lines.append(
        f"Cardiothoracic ratio, No Finding, PA, 18 years or older, {len(ratios)} radiographs: "
        f"median {_ci(ratios)}; range {np.nanmin(ratios):.2f} to {np.nanmax(ratios):.2f}; "
        f"between 0.35 and 0.55: {_ci(inside, np.mean)}"
    )
    return "\n".join(lines)


def _views(scores):
    pa = sum(score.record.view == "PA" for score in scores)
    normal = sum(score.record.findings == ("No Finding",) for score in scores)
    return f"{pa} PA, {len(scores) - pa} AP; {normal} without findings"


def _ci(values, statistic=np.median, digits=3):
    value, low, high = interval(values, statistic)
    return f"{value:.{digits}f} (95 % {low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Read the command line, print the figures, draw the pictures."""
    parser = argparse.ArgumentParser(description="Evaluate offline-anatomy.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the radiographs")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--pictures", type=Path, help="folder for the model card's pictures")
    arguments = parser.parse_args()
    model = OfflineAnatomy(SETTINGS, "cpu", arguments.weights.read_bytes())
    outlines = json.loads(OUTLINES.read_text())
    held_out = [record for record in records(arguments.data) if record.held_out]
    found = {record.image: masks_of(model, record.path) for record in held_out}
    scores = [compare(r, found[r.image], outlines[r.image]) for r in held_out if r.image in outlines]
    print(report(scores, found, held_out))
    if arguments.pictures:
        ranked = sorted(scores, key=lambda score: score.lungs)
        for name, chosen in (("worst", ranked[:8]), ("best", ranked[-8:])):
            tiles = [(score.record.pixels(), score.found, score.drawn) for score in chosen]
            sheet(tiles, arguments.pictures / f"offline-anatomy-{name}.jpg")


if __name__ == "__main__":
    main()

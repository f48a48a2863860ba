"""Figures of the content check: right ones refused, wrong ones passed, other ways round named.

    python -m training.content_figures --data DIR --others DIR --further DIR

Radiographs that are held out, as they are and exposed, cut, turned and hidden in ways that practice
knows; further frontal radiographs of other places; pictures that are no frontal chest; drawings of
kinds that training never saw.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from cxr_dicom.config import Settings
from cxr_dicom.gate import judge
from cxr_dicom.infer import build_models
from cxr_dicom.infer.offline.postprocess import normalise
from cxr_dicom.records import AS_DECLARED, WAYS, ChestImage, Radiograph, Spacing, SpacingSource, StoredInstance
from cxr_dicom.records.plane import Orientation
from training.drawings import UNSEEN, make
from training.radiographs import records

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"]}})
rng = np.random.default_rng(5)


def radiograph(picture: np.ndarray) -> Radiograph:
    """Take a picture, 0 to 1, for the pixels of an upright image."""
    header = Dataset()
    header.Rows, header.Columns = picture.shape
    uids = dict.fromkeys(("study_instance_uid", "series_instance_uid", "sop_instance_uid", "sop_class_uid"), "1")
    image = ChestImage(
        instance=StoredInstance(path=Path("x"), **uids),
        header=header,
        view="PA",
        orientation=Orientation(),
        spacing=Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE),
    )
    return Radiograph(image=image, pixels=np.ascontiguousarray(picture, dtype=np.float32) * 2048 - 1024, sha256="")


def said(models: list, picture: np.ndarray) -> str:
    """The word for the content of a picture."""
    taken = radiograph(picture)
    return judge(taken, [model.predict(taken, ()) for model in models], models).word


def hidden(picture: np.ndarray, *places: tuple[float, float, float, float]) -> np.ndarray:
    """Cover ellipses with what is dense: x, y, half width and half height as shares of the picture."""
    rows, columns = picture.shape
    y, x = np.mgrid[:rows, :columns]
    for across, down, width, height in places:
        far = ((x / columns - across) / width) ** 2 + ((y / rows - down) / height) ** 2
        share = 0.9 * np.exp(-(far**2))
        picture = picture * (1 - share) + share * 0.8
    return picture


def resized(picture: np.ndarray, columns: float, rows: float) -> np.ndarray:
    """Scale both sides."""
    size = max(1, round(picture.shape[1] * columns)), max(1, round(picture.shape[0] * rows))
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BOX))


def cut(picture: np.ndarray, share: float) -> np.ndarray:
    """Cut a margin off each side."""
    rows, columns = (round(share * side) for side in picture.shape)
    return picture[rows:-rows, columns:-columns]


def shuttered(picture: np.ndarray) -> np.ndarray:
    """Black from the shutters above and on the right side."""
    shut = picture.copy()
    shut[: len(shut) // 12] = shut[:, : shut.shape[1] // 14] = 0
    return shut


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda picture: picture,
    "dark": lambda picture: picture**2.2,
    "bright": lambda picture: picture**0.45,
    "hard window": lambda picture: np.clip((picture - 0.2) / 0.5, 0, 1),
    "turned by 10 degrees": lambda picture: ndimage.rotate(picture, rng.choice([-10, 10]), reshape=False, order=1),
    "margins of 8 % cut off": lambda picture: cut(picture, 0.08),
    "in a field half as large again": lambda picture: np.pad(picture, [(side // 4,) * 2 for side in picture.shape]),
    "shutters": shuttered,
    "noise": lambda picture: np.clip(picture + rng.normal(0, 0.08, picture.shape), 0, 1),
    "96 columns": lambda picture: resized(picture, 96 / picture.shape[1], 96 / picture.shape[1]),
    "narrow": lambda picture: resized(picture, 0.8, 1),
    "wide and low, as small children": lambda picture: resized(picture, 1, 0.78),
    "right lung opaque": lambda picture: hidden(picture, (0.32, 0.5, 0.2, 0.35)),
    "left lung opaque": lambda picture: hidden(picture, (0.68, 0.5, 0.2, 0.35)),
    "both bases opaque": lambda picture: hidden(picture, (0.3, 0.8, 0.22, 0.18), (0.7, 0.8, 0.22, 0.18)),
    "large heart": lambda picture: hidden(picture, (0.55, 0.66, 0.26, 0.2)),
}


def counted(title: str, words: Iterable[str]) -> None:
    """Print how often each word was said."""
    found = Counter(words)
    print(
        f"{title}: {found.total()} pictures: {', '.join(f'{word} {n}' for word, n in found.most_common())}", flush=True
    )


def files(folder: Path) -> list[np.ndarray]:
    """The pictures of a folder, .npy, 0 to 1."""
    return [normalise(np.load(path)) for path in sorted(folder.glob("*.npy"))]


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description="Figures of the content check.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the radiographs")
    parser.add_argument("--others", type=Path, required=True, help="folder of .npy pictures that are no frontal chest")
    parser.add_argument("--further", type=Path, required=True, help="folder of .npy frontal radiographs")
    parser.add_argument("--each", type=int, default=60, help="radiographs for each change and each way round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = build_models(SETTINGS)
    held = [record.pixels() for record in records(arguments.data) if record.held_out]
    further = files(arguments.further)
    counted("held out", (said(models, picture) for picture in held))
    counted("further", (said(models, picture) for picture in further))
    counted("others", (said(models, picture) for picture in files(arguments.others)))
    drawn = make(60, 1, UNSEEN)
    counted("drawings of unseen kinds", (said(models, normalise(picture)) for picture in drawn))
    some = [both[i] for both in (held, further) for i in rng.permutation(len(both))[: arguments.each // 2]]
    for title, change in CHANGES.items():
        counted(title, (said(models, change(picture)) for picture in some))
    for way in WAYS:
        if way != AS_DECLARED:
            right = "+".join(way.words)
            taken = (way.turn.to_source(1 - picture if way.inverted else picture) for picture in some)
            counted(right, ("right" if word == right else word for word in (said(models, each) for each in taken)))


if __name__ == "__main__":
    main()

"""Checks for authors: whether a model does what its protocol says.

A check runs the real thing on synthetic studies and raises an ``AssertionError`` with what was expected and what
was found. Images are read from files, as in a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset

from cxr_dicom import synthetic
from cxr_dicom.records import Heatmap, Prediction, Radiograph, StoredInstance, Study
from cxr_dicom.records.guard import guarded_predictions, guarded_radiograph
from cxr_dicom.records.plane import Grid, Orientation, Point

if TYPE_CHECKING:
    from cxr_dicom.infer.base import Model

ORIENTATIONS = tuple(
    Orientation(transpose=transpose, flip_rows=rows, flip_columns=columns)
    for transpose, rows, columns in product((False, True), repeat=3)
)
SIZES = ((320, 256), (257, 191), (191, 257), (64, 64))  # rows and columns


def check_model(model: Model, earlier: Sequence[Model] = ()) -> None:
    """Check that a model does what `infer.base.Model` says. The model is closed at the end.

    Parameters
    ----------
    model
        As ``build`` gives it.
    earlier
        Models that it needs before it, such as one that outlines the lungs.

    Raises
    ------
    AssertionError
        With expected and actual.
    """
    from cxr_dicom.infer.contract import problem_of_info

    expect(not (wrong := problem_of_info(getattr(model, "info", None))), f"info: {wrong}")
    with TemporaryDirectory() as folder:
        radiographs = list(_radiographs(Path(folder)))
    before = [_predicted(earlier, radiograph) for radiograph in radiographs]
    first = [_checked(model, *pair) for pair in zip(radiographs, before, strict=True)]
    _expect_same_turned(radiographs, first)
    again = [_checked(model, *pair) for pair in reversed(list(zip(radiographs, before, strict=True)))]
    for radiograph, one, other in zip(radiographs, first, reversed(again), strict=True):
        _expect_same(one, other, f"{_about(radiograph)}, predicted again after other images")
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(lambda pair: _checked(model, *pair), zip(radiographs[-4:], before[-4:], strict=True)))
    for radiograph, one, other in zip(radiographs[-4:], first[-4:], beside, strict=True):
        _expect_same(one, other, f"{_about(radiograph)}, while another thread predicts")
    model.close()


# --- images --------------------------------------------------------------------------------------


def _radiographs(folder: Path) -> Iterator[Radiograph]:
    """One image in all orientations, then one of each size, and one that is stored in another way."""
    upright = synthetic.radiograph(*SIZES[0])
    for orientation in ORIENTATIONS:
        yield read(synthetic.turned(upright, orientation), folder)
    for number, size in enumerate(SIZES[1:], start=1):
        yield read(synthetic.radiograph(*size, seed=number), folder)
    yield read(synthetic.radiograph(*SIZES[0], modality="CR", photometric="MONOCHROME1", seed=9), folder)


def read(dataset: Dataset, folder: Path) -> Radiograph:
    """Write an image to a file, select it and decode it, as a run does."""
    from cxr_dicom.config import PixelSettings, SelectSettings
    from cxr_dicom.dicom import pixels
    from cxr_dicom.select import select

    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    instance = StoredInstance(
        path=path,
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
    )
    study = Study(study_instance_uid=instance.study_instance_uid, instances=(instance,))
    (image,) = select(study, SelectSettings()).images
    return pixels.read(image, PixelSettings())


def _predicted(models: Sequence[Model], radiograph: Radiograph) -> tuple[Prediction, ...]:
    predictions: list[Prediction] = []
    for model in models:
        predictions.append(model.predict(radiograph, predictions))
    return guarded_predictions(predictions)


# --- predictions ---------------------------------------------------------------------------------


def _checked(model: Model, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
    """Predict as a run does, and check what can be said of one image."""
    from cxr_dicom.infer.contract import problem

    given = guarded_radiograph(radiograph)
    header = given.image.header.to_json()
    try:
        made = model.predict(given, earlier)
    except Exception as error:
        raise AssertionError(
            f"{_about(radiograph)}: expected a Prediction, got {type(error).__name__}: {error}"
        ) from error
    wrong = problem(made, model.info, radiograph.image)
    expect(not wrong, f"{_about(radiograph)}: {wrong}")
    expect(
        given.image.header.to_json() == header, f"{_about(radiograph)}: expected the header as it was, it was changed"
    )
    return _copied(made)


def _copied(made: Prediction) -> Prediction:
    """Copy arrays, whose memory a model might use for the next image."""
    masks = (replace(m, region=replace(m.region, pixels=m.region.pixels.copy())) for m in made.masks)
    heatmaps = (replace(h, values=h.values.copy()) for h in made.heatmaps)
    vector = None if made.embedding is None else made.embedding.copy()
    return replace(made, masks=tuple(masks), heatmaps=tuple(heatmaps), embedding=vector)


def _expect_same(one: Prediction, other: Prediction, when: str) -> None:
    for part in ("findings", "measurements", "statements", "detections", "warnings"):
        first, second = getattr(one, part), getattr(other, part)
        expect(first == second, f"{when}: {part}: expected {first!r:.200}, got {second!r:.200}")
    expect(_arrays(one) == _arrays(other), f"{when}: expected the same masks, heatmaps and vector, got others")


def _arrays(prediction: Prediction) -> list[object]:
    masks = [(m.structure, m.region.shape, m.region.box, m.region.pixels.tobytes()) for m in prediction.masks]
    vector = None if prediction.embedding is None else prediction.embedding.tobytes()
    return [*masks, *((h.name, h.grid, h.values.tobytes()) for h in prediction.heatmaps), vector]


def _expect_same_turned(radiographs: Sequence[Radiograph], predictions: Sequence[Prediction]) -> None:
    """Compare with the upright image: in the standard view the pixels of all orientations are the same."""
    upright, expected = radiographs[0].image, predictions[0]
    for radiograph, prediction in list(zip(radiographs, predictions, strict=True))[1 : len(ORIENTATIONS)]:
        turn, when = radiograph.image.orientation, _about(radiograph)
        scores = [
            [(f.name, f.raw, f.probability, f.call) for f in answer.findings] for answer in (expected, prediction)
        ]
        expect(
            scores[0] == scores[1], f"{when}: expected the scores of the upright image, {scores[0]}, got {scores[1]}"
        )
        names = [[m.structure.name for m in answer.masks] for answer in (expected, prediction)]
        expect(names[0] == names[1], f"{when}: expected the masks {names[0]}, got {names[1]}")
        for mask, other in zip(expected.masks, prediction.masks, strict=True):
            one, two = mask.region.matrix(), turn.to_standard(other.region.matrix())
            share = float((one != two).mean())
            text = f"{when}: mask {mask.structure.name}: expected it where it lies on the upright image, turned;"
            expect(not share, f"{text} {share:.1%} of the pixels differ")
        boxes = [
            [(d.key, d.score, *_extent(d.corners)) for d in expected.detections],
            [
                (d.key, d.score, *_extent(turn.points_to_standard(d.corners, radiograph.image.shape)))
                for d in prediction.detections
            ],
        ]
        text = f"{when}: expected the boxes of the upright image, turned: {boxes[0]}, got {boxes[1]}"
        expect([box[:2] for box in boxes[0]] == [box[:2] for box in boxes[1]], text)
        expect(all(np.allclose(one[2:], two[2:], atol=0.05) for one, two in zip(*boxes, strict=True)), text)
        names = [[h.name for h in answer.heatmaps] for answer in (expected, prediction)]
        expect(names[0] == names[1], f"{when}: expected the heatmaps {names[0]}, got {names[1]}")
        for heatmap, turned in zip(expected.heatmaps, prediction.heatmaps, strict=True):
            _expect_turned(heatmap, turned, turn, upright.shape, when)


def _expect_turned(upright: Heatmap, turned: Heatmap, turn: Orientation, shape: tuple[int, int], when: str) -> None:
    stored = turn.to_source(upright.values)
    text = f"{when}: heatmap {upright.name}: expected the values of the upright image, turned"
    expect(stored.shape == turned.values.shape and bool(np.allclose(stored, turned.values, atol=1e-5)), text)
    numbers = turn.to_source(np.arange(upright.values.size).reshape(upright.values.shape))
    source = shape[::-1] if turn.transpose else shape
    for corner in ((0, 0), (-1, -1)):
        place = _sample(upright.grid, np.unravel_index(int(numbers[corner]), upright.values.shape))
        (expected,) = turn.points_to_source([place], source)
        found = _sample(turned.grid, tuple(index % size for index, size in zip(corner, numbers.shape, strict=True)))
        text = f"{when}: heatmap {upright.name}: grid: expected the sample {corner} at {expected}, got it at {found}"
        expect(bool(np.allclose(expected, found, atol=0.01)), text)


def _extent(corners: Sequence[Point]) -> tuple[float, ...]:
    return (*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())


def _sample(grid: Grid, index: Sequence[np.intp | int]) -> Point:
    """Return the place of a sample, as (column, row)."""
    row, column = ((float(index[axis]) + 0.5) * grid.step[axis] + grid.origin[axis] for axis in (0, 1))
    return column, row


def _about(radiograph: Radiograph) -> str:
    turn, (rows, columns) = radiograph.image.orientation, radiograph.image.shape
    words = [name for name in ("transpose", "flip_rows", "flip_columns") if getattr(turn, name)]
    return f"image of {rows} x {columns}, {' and '.join(words) or 'upright'}"


def expect(is_true: bool, text: str) -> None:
    """Raise an ``AssertionError`` with ``text`` unless it is true."""
    if not is_true:
        raise AssertionError(text)

"""`check_model` passes what is right, and names what is wrong."""

import itertools
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from cxr_dicom.config import Settings
from cxr_dicom.infer import build_models
from cxr_dicom.records import (
    Code,
    Detection,
    Finding,
    Heatmap,
    Mask,
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Structure,
)
from cxr_dicom.records.plane import Grid, Region
from cxr_dicom.synthetic.contract import check_model

CODE = Code(value="1", scheme="99TEST", meaning="Test")
PART = Structure(name="part", title="Part", category=CODE, type=CODE, laterality=None, colour=(1, 2, 3))
UNIT = Code(value="1", scheme="UCUM", meaning="no units")
INFO = ModelInfo(
    name="test",
    version="1",
    title="",
    predicts=("part", "score", "map"),
    input_size=None,
    manufacturer="",
    licence="",
    citation="",
)


class Right:
    """Outlines and maps the brightest parts, and says where the first of them is."""

    info = INFO

    def predict(self, radiograph, earlier):
        image, pixels = radiograph.image, radiograph.pixels
        bright = pixels > np.quantile(pixels, 0.9)
        top = [(float(column), float(row)) for row, column in np.argwhere(bright)[:1]]
        score = float(bright[:100, :50].mean())
        return Prediction(
            model=self.info,
            masks=(self.mask(image, bright),),
            heatmaps=(self.heatmap(image, bright),),
            findings=(self.finding(score),),
            measurements=(self.measurement(image.orientation.points_to_source(top, image.shape)),),
            detections=self.detections(image, bright),
            embedding=self.embedding(score),
        )

    def mask(self, image, bright):
        return Mask(structure=PART, region=Region.from_matrix(image.orientation.to_source(bright)))

    def heatmap(self, image, bright):
        values = np.ascontiguousarray(image.orientation.to_source(bright), np.float32)
        return Heatmap(name="map", title="", quantity=CODE, definition="", values=values, grid=Grid(shape=values.shape))

    def finding(self, score):
        return Finding(
            name="score", code=CODE, site=None, raw=score, probability=score, operating_point=None,
            call=Presence.INDETERMINATE,
        )  # fmt: skip

    def measurement(self, points):
        return Measurement(name="place", code=CODE, value=1.0, unit=UNIT, points=points)

    def detections(self, image, bright):
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        corners = [(float(columns[0]), float(rows[0])), (columns[-1] - 9.0, rows[-1] + 1.0)]
        return (self.detection(image.orientation.points_to_source(corners, image.shape)),)

    def detection(self, corners):
        left, top, right, bottom = (*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())
        return Detection(
            name="score", number=1, title="", code=CODE, site=None, score=0.5, box=(left, top, right, bottom)
        )

    def embedding(self, score):
        return np.full(3, score, np.float32)

    def close(self):
        pass


class InStandardView(Right):
    def mask(self, image, bright):
        stored = bright.T if image.orientation.transpose else bright  # the right shape, the wrong side
        return Mask(structure=PART, region=Region.from_matrix(stored))


class NeverTurned(Right):
    def mask(self, image, bright):
        return Mask(structure=PART, region=Region.from_matrix(bright))


class ShiftedByARow(Right):
    def mask(self, image, bright):
        return super().mask(image, np.roll(bright, 1, axis=0) if image.orientation.flip_rows else bright)


class MapInStandardView(Right):
    def heatmap(self, image, bright):
        right = super().heatmap(image, bright)
        return replace(right, values=np.ascontiguousarray(right.values[::-1]))


class GridOffTheImage(Right):
    def heatmap(self, image, bright):
        right = super().heatmap(image, bright)
        return replace(right, grid=replace(right.grid, step=(2.0, 2.0)))


class GridShifted(Right):
    def heatmap(self, image, bright):
        right = super().heatmap(image, bright)
        return replace(right, grid=replace(right.grid, origin=(0.5, 0.0)))


class MapOutOfRange(Right):
    def heatmap(self, image, bright):
        right = super().heatmap(image, bright)
        return replace(right, values=right.values * 255)


class ScoreOutOfRange(Right):
    def finding(self, score):
        return replace(super().finding(score), raw=-0.1)


class NeedsEvenSizes(Right):
    def mask(self, image, bright):
        rows, columns = (size // 2 * 2 for size in bright.shape)
        return super().mask(image, bright[:rows, :columns])


class Counting(Right):
    numbers = itertools.count()

    def finding(self, score):
        return super().finding(next(self.numbers) / 1e6)


class Random(Right):
    def finding(self, score):
        return super().finding(random.random())


class KeepsTheFirst(Right):
    """Forgets to clear what it made of the image before; the first round of images looks right."""

    def __init__(self):
        self.seen = 0

    def finding(self, score):
        self.seen += 1
        return super().finding(score if self.seen <= 12 else 0.5)


class WritesToThePixels(Right):
    def predict(self, radiograph, earlier):
        radiograph.pixels[0, 0] = 0
        return super().predict(radiograph, earlier)


class WritesToTheHeader(Right):
    def predict(self, radiograph, earlier):
        radiograph.image.header.PatientName = "x"
        return super().predict(radiograph, earlier)


class PointsOffTheImage(Right):
    def measurement(self, points):
        return super().measurement(((1e6, 0.0),))


class BoxInStandardView(Right):
    def detections(self, image, bright):
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        return (self.detection([(columns[0] / 2, rows[0] / 2), (columns[-1] / 2, rows[-1] / 2)]),)


class BoxOffTheImage(Right):
    def detection(self, corners):
        return replace(super().detection(corners), box=(-1.0, 0.0, 5.0, 5.0))


class NumbersTwice(Right):
    def detections(self, image, bright):
        return super().detections(image, bright) * 2


class VectorOfDoubles(Right):
    def embedding(self, score):
        return np.ones(3)


class OtherVector(Right):
    numbers = itertools.count()

    def embedding(self, score):
        return np.full(3, next(self.numbers), np.float32)


class NoReason(Right):
    def measurement(self, points):
        return replace(super().measurement(points), value=None)


class NotThreadSafe(Right):
    """Waits for the other thread, on a busy machine too; the first two rounds of twelve images have none."""

    seen = 0

    def predict(self, radiograph, earlier):
        self.now, self.seen = radiograph, self.seen + 1
        made, end = super().predict(radiograph, earlier), time.monotonic() + (10 if self.seen > 24 else 0)
        while time.monotonic() < end:
            if self.now is not radiograph:
                return replace(made, warnings=("disturbed",))
            time.sleep(0.001)
        return made


def test_what_is_right_passes():
    check_model(Right())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (InStandardView(), r"flip_columns: mask part: expected it where it lies on the upright image"),
        (NeverTurned(), r"expected the source matrix as stored, 256 x 320, got one of 320 x 256"),
        (ShiftedByARow(), r"flip_rows: mask part: expected it where it lies .* pixels differ"),
        (MapInStandardView(), r"heatmap map: expected the values of the upright image, turned"),
        (GridOffTheImage(), r"grid: expected rows 0 to 320 of the source, got 0 to 640"),
        (GridShifted(), r"grid: expected the sample \(0, 0\) at"),
        (MapOutOfRange(), r"values: expected 0 to 1, got 0 to 255"),
        (ScoreOutOfRange(), r"finding score: raw: expected a float of 0 to 1, got -0.1"),
        (NeedsEvenSizes(), r"image of 257 x 191, upright: mask part: expected the source matrix as stored"),
        (Counting(), r"expected the scores of the upright image"),
        (Random(), r"expected the scores of the upright image"),
        (KeepsTheFirst(), r"predicted again after other images: findings: expected"),
        (WritesToThePixels(), r"expected a Prediction, got ValueError: assignment destination is read-only"),
        (WritesToTheHeader(), r"expected the header as it was"),
        (PointsOffTheImage(), r"points: expected \(column, row\) on the source matrix of 320 x 256"),
        (BoxInStandardView(), r"expected the boxes of the upright image, turned"),
        (BoxOffTheImage(), r"detection score: box: expected left, top, right, bottom inside of 320 x 256"),
        (NumbersTwice(), r"detections: 'score': expected numbers from 1 on, in their order, got \[1, 1\]"),
        (VectorOfDoubles(), r"embedding: expected an array of float32 of one dimension, got float64"),
        (OtherVector(), r"predicted again after other images: expected the same masks, heatmaps and vector"),
        (NoReason(), r"reason: expected one where there is no value"),
        (NotThreadSafe(), r"while another thread predicts: warnings"),
        (object(), r"info: expected a ModelInfo, got NoneType"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_is_wrong_is_named(model, expected):
    with pytest.raises(AssertionError, match=expected):
        check_model(model)


class Lungs(Right):
    """Two dark halves: an earlier model for one that needs lungs."""

    info = replace(INFO, name="lungs", predicts=("right_lung", "left_lung"))

    def predict(self, radiograph, earlier):
        image, dark = radiograph.image, radiograph.pixels < -300
        middle = dark.shape[1] // 2
        halves = {
            "right_lung": np.arange(dark.shape[1]) < middle - 8,
            "left_lung": np.arange(dark.shape[1]) > middle + 8,
        }
        masks = [
            Mask(structure=replace(PART, name=name), region=self.mask(image, dark & half).region)
            for name, half in halves.items()
        ]
        return Prediction(model=self.info, masks=tuple(masks))


def test_our_own_model_keeps_the_contract_after_the_one_that_it_needs():
    settings = Settings.model_validate({"models": {"names": ("lung-opacity",)}})
    (opacity,) = build_models(settings)
    check_model(Lungs())
    check_model(opacity, earlier=(Lungs(),))

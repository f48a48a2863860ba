"""The map of relative opacity, on radiographs whose brightness is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom.config import Settings
from cxr_dicom.dicom import codes
from cxr_dicom.infer.models import lung_opacity
from cxr_dicom.records import (
    ChestImage,
    Mask,
    ModelInfo,
    Prediction,
    Radiograph,
    Spacing,
    SpacingSource,
    StoredInstance,
    Structure,
)
from cxr_dicom.records.plane import Orientation, Region

SHAPE = (700, 900)
LUNGS = {"right_lung": (slice(100, 550), slice(100, 350)), "left_lung": (slice(100, 550), slice(550, 800))}
MASS = (slice(440, 540), slice(600, 700))  # lower zone of the left lung
TURNS = [
    Orientation(),
    Orientation(flip_columns=True),
    Orientation(transpose=True, flip_rows=True),
    Orientation(flip_rows=True),
]


def radiograph(orientation: Orientation, shape: tuple[int, int] = SHAPE) -> Radiograph:
    pixels = np.full(shape, 600, np.float32)
    for lung in LUNGS.values():
        pixels[lung] = -500
    pixels[MASS] = 600
    header = Dataset()
    header.Rows, header.Columns = orientation.to_source(pixels).shape
    instance = StoredInstance(
        path=Path("x"), study_instance_uid="1", series_instance_uid="2", sop_instance_uid="3", sop_class_uid="4"
    )
    spacing = Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE)
    image = ChestImage(instance=instance, header=header, view="PA", orientation=orientation, spacing=spacing)
    return Radiograph(image=image, pixels=pixels, sha256="0")


def anatomy(orientation: Orientation, shape: tuple[int, int] = SHAPE) -> Prediction:
    info = ModelInfo(
        name="painted",
        version="1",
        title="",
        predicts=tuple(LUNGS),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
    )
    masks = []
    for name, where in LUNGS.items():
        matrix = np.zeros(shape, bool)
        matrix[where] = True
        structure = Structure(
            name=name, title=name, category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(0, 0, 0)
        )
        masks.append(Mask(structure=structure, region=Region.from_matrix(orientation.to_source(matrix))))
    return Prediction(model=info, masks=tuple(masks))


@pytest.fixture
def model():
    return lung_opacity.build("lung-opacity", Settings())


@pytest.mark.parametrize("orientation", TURNS)
def test_the_mass_is_opaque_and_aerated_lung_is_not_wherever_the_source_stores_them(model, orientation):
    heatmap = model.predict(radiograph(orientation), [anatomy(orientation)]).heatmaps[0]
    assert heatmap.values.shape == heatmap.grid.shape
    mass, aerated, outside = (
        orientation.points_to_source([point], orientation.to_source(np.empty(SHAPE)).shape)[0]
        for point in ((650, 490), (200, 300), (450, 300))
    )

    def value(point):
        column, row = point
        (top, left), (rows, columns) = heatmap.grid.origin, heatmap.grid.step
        return heatmap.values[int((row - top) / rows), int((column - left) / columns)]

    assert value(mass) > 0.95
    assert value(aerated) < 0.05
    assert value(outside) == 0


@pytest.mark.parametrize("orientation", TURNS)
def test_the_map_covers_the_lungs_to_half_a_sample_where_the_step_does_not_divide_the_matrix(model, orientation):
    shape = (701, 1997)  # a step of 4 repeats the border three times
    prediction = anatomy(orientation, shape)
    heatmap = model.predict(radiograph(orientation, shape), [prediction]).heatmaps[0]
    boxes = [mask.region.box for mask in prediction.masks]
    for axis, low, high in ((0, "top", "bottom"), (1, "left", "right")):
        reached = np.flatnonzero(heatmap.values.any(axis=1 - axis))
        step, origin = heatmap.grid.step[axis], heatmap.grid.origin[axis]
        assert step == 4
        assert reached[0] * step + origin == pytest.approx(min(getattr(box, low) for box in boxes), abs=step / 2)
        assert (reached[-1] + 1) * step + origin == pytest.approx(max(getattr(b, high) for b in boxes), abs=step / 2)


def test_numbers_of_zones_say_where_the_mass_is(model):
    orientation = Orientation(flip_columns=True)
    prediction = model.predict(radiograph(orientation), [anatomy(orientation)])
    numbers = {m.name: m.value for m in prediction.measurements}
    assert len(numbers) == 2 * 2 * 4
    assert numbers["left_lung_lower_zone_opaque_fraction"] == pytest.approx(100 * 100 / (150 * 250), abs=0.03)
    assert numbers["left_lung_upper_zone_opaque_fraction"] == 0
    assert numbers["right_lung_mean_relative_opacity"] < 0.01
    assert numbers["left_lung_mean_relative_opacity"] > 0.05


def test_brightness_and_contrast_of_the_radiograph_do_not_matter(model):
    plain = radiograph(Orientation())
    changed = replace(plain, pixels=plain.pixels * np.float32(0.3) + np.float32(100))
    first, second = (model.predict(r, [anatomy(Orientation())]).heatmaps[0].values for r in (plain, changed))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_without_lungs_or_contrast_there_is_a_warning_and_no_map(model):
    plain = radiograph(Orientation())
    assert "no anatomy model" in model.predict(plain, []).warnings[0]
    flat = replace(plain, pixels=np.zeros_like(plain.pixels))
    prediction = model.predict(flat, [anatomy(Orientation())])
    assert "not denser" in prediction.warnings[0]
    assert prediction.heatmaps == ()

"""Pictures of a radiograph and of what was found on it, for reports and people.

Pure drawing: arrays in, arrays out. All pictures are in the orientation of the source matrix as
stored and lie on the preview, which is the whole matrix made smaller. What is dense is bright,
whatever the Photometric Interpretation says.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxr_dicom.records import Heatmap, Mask
from cxr_dicom.records.plane import Orientation, Point, Region, Shape

Grey = NDArray[np.uint8]  # (rows, columns)
Colour = NDArray[np.uint8]  # (rows, columns, 3), sRGB
Layer = NDArray[np.uint8]  # (rows, columns, 4), sRGB and opacity
RGB = tuple[int, int, int]
Extent = tuple[float, float, float, float]  # left, top, right, bottom

# Nine even samples of "inferno", a perceptually uniform colour map by Nathaniel J. Smith and
# Stefan van der Walt (CC0, https://bids.github.io/colormap); between them the map is linear.
INFERNO: tuple[RGB, ...] = (
    (0, 0, 4),
    (31, 12, 72),
    (85, 15, 109),
    (136, 34, 106),
    (186, 54, 85),
    (227, 89, 51),
    (249, 140, 10),
    (249, 201, 50),
    (252, 255, 164),
)

_WINDOW_PERCENTILES = (0.5, 50, 99.5)  # black, middle grey, white
_MIDDLE_GREY = 0.45  # where the median of the window is shown
_GAMMAS = (0.5, 2.0)
_BAR_MM = 50
_BOX_COLOUR = (255, 214, 10)
_FINE = 2  # outlines are drawn on a matrix this many times finer, for smooth edges
_OUTLINE_WIDTH = 3  # pixels of the preview
_FILL_OPACITY = 0.18
_OUTLINE_OPACITY = 0.95
_HEAT_OPACITY = 0.75  # where the value is 1; it falls with the value, so that nothing hides where nothing is


class Line(NamedTuple):
    """A line between two points of the source matrix."""

    points: Sequence[Point]
    colour: RGB


def preview(
    pixels: NDArray[np.floating],
    long_side: int = 1024,
    window: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> Grey:
    """Make the small 8-bit picture that all others are drawn on.

    Parameters
    ----------
    pixels
        (rows, columns), bright = dense, any range; not finite values count as the darkest.
    long_side
        Length of the longer side in pixels. A smaller matrix keeps its size.
    window
        Values, rising, and how bright each is shown, 0 to 1: the window of the image.

    Returns
    -------
    ndarray
        (rows, columns), as the window shows it. Without one 0 and 255 are the 0.5th and 99.5th
        percentile, and the median is a middle grey.
    """
    rows, columns = pixels.shape
    scale = min(1.0, long_side / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    pixels = pixels.astype(np.float32, copy=False)
    if not np.isfinite((pixels.min(), pixels.max())).all():
        pixels = np.nan_to_num(pixels)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    if window is not None:
        windowed: Grey = np.rint(np.interp(small, *window) * 255).astype(np.uint8)
        return windowed
    low, middle, high = np.percentile(small, _WINDOW_PERCENTILES)
    span = max(float(high - low), float(np.finfo(np.float32).tiny))
    window = np.clip((small - low) / span, 0, 1)
    median = min(max(float(middle - low) / span, 0.01), 0.99)
    gamma = min(max(np.log(_MIDDLE_GREY) / np.log(median), _GAMMAS[0]), _GAMMAS[1])
    grey: Grey = np.rint(window**gamma * 255).astype(np.uint8)
    return grey


def smaller(picture: Grey, long_side: int) -> Grey:
    """Shrink a picture to this length of its longer side in pixels; a smaller one keeps its size."""
    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side), Image.Resampling.BOX)
    return np.asarray(image)


class Stain(NamedTuple):
    """What is laid over a part of a preview."""

    place: tuple[slice, slice]
    colour: NDArray[np.float32]  # (3), or (rows, columns, 3); 0 to 255
    opacity: NDArray[np.floating]  # (rows, columns), 0 to 1


def stained(preview: Grey, stains: Iterable[Stain]) -> Colour:
    """Lay stains over a preview, one after the other."""
    picture = _to_colour(preview)
    for place, colour, opacity in stains:
        _blend(picture[place], colour, opacity)
    return _to_bytes(picture)


def overlay(preview: Grey, masks: Iterable[Mask]) -> Colour:
    """Draw outlines and translucent fills of ``masks`` in the colours of their structures."""
    return stained(preview, outlined(preview.shape[:2], masks))


def outlined(shape: Shape, masks: Iterable[Mask]) -> Iterator[Stain]:
    """Yield what `overlay` lays over a preview of ``shape``."""
    for mask in masks:
        place, fine = _sample(mask.region, shape)
        outline = fine & ~_erode(fine, _OUTLINE_WIDTH * _FINE)
        opacity = np.maximum(_shrink(fine) * _FILL_OPACITY, _shrink(outline) * _OUTLINE_OPACITY)
        yield Stain(place, np.asarray(mask.structure.colour, np.float32), opacity)


def heat(preview: Grey, heatmap: Heatmap, shape: Shape) -> Colour:
    """Lay ``heatmap`` over the preview of a source matrix of ``shape``; clear at 0, and outside its grid."""
    return stained(preview, [heated(preview.shape[:2], heatmap, shape)])


def heated(size: Shape, heatmap: Heatmap, shape: Shape) -> Stain:
    """Return what `heat` lays over a preview of ``size``."""
    values = heatmap.grid.resample(heatmap.values, size, shape)
    return Stain((slice(None), slice(None)), inferno(values), _HEAT_OPACITY * values)


def lines(picture: Colour, lines: Iterable[Line], shape: Shape) -> Colour:
    """Draw measured lines of a source matrix of ``shape``, with a tick at either end and a dark rim."""
    fine = Image.fromarray(picture).resize(
        (picture.shape[1] * _FINE, picture.shape[0] * _FINE), Image.Resampling.BILINEAR
    )
    draw = ImageDraw.Draw(fine)
    thickness = max(2, round(max(fine.size) / 220))
    for line in lines:
        strokes = _with_ticks(_scaled(line.points, shape, (fine.size[1], fine.size[0])), tick=4 * thickness)
        for colour, width in (((0, 0, 0), thickness + 3), (line.colour, thickness)):
            for stroke in strokes:
                draw.line(stroke, fill=colour, width=width)
    return np.asarray(fine.resize((picture.shape[1], picture.shape[0]), Image.Resampling.BOX))


def framed(picture: Grey | Colour, boxes: Iterable[tuple[Extent, str]], shape: Shape) -> Colour:
    """Draw boxes of a source matrix of ``shape``, with a dark rim and a label each.

    Parameters
    ----------
    boxes
        Left, top, right, bottom on the matrix, and what stands above the box, or in it where it touches the top.
    """
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    image = Image.fromarray(np.ascontiguousarray(colour))
    draw, size = ImageDraw.Draw(image), max(10, round(max(image.size) / 45))
    font, width = ImageFont.load_default(size), max(2, round(max(image.size) / 300))
    across, down = image.width / shape[1], image.height / shape[0]
    for (left, top, right, bottom), label in boxes:
        place = round(left * across), round(top * down), round(right * across) - 1, round(bottom * down) - 1
        ends = (*place[:2], max(place[0], place[2]), max(place[1], place[3]))
        for paint, thickness in (((0, 0, 0), width + 2), (_BOX_COLOUR, width)):
            draw.rectangle(ends, outline=paint, width=thickness)
        above = ends[1] - round(1.3 * size)
        draw.text(
            (ends[0], above if above >= 0 else ends[1] + width),
            label,
            fill=_BOX_COLOUR,
            font=font,
            stroke_width=max(1, size // 12),
            stroke_fill=(0, 0, 0),
        )
    return np.asarray(image)


def layer(draw: Callable[[Grey], Colour], shape: Shape) -> Layer:
    """Return what ``draw`` lays over a preview of ``shape``, by itself: over black and over white it looks different.

    Where both look alike nothing shines through; else the difference says how much does.
    """
    black, white = (draw(np.full(shape, grey, np.uint8)).astype(np.float32) for grey in (0, 255))
    red, green, blue = np.moveaxis(white - black, -1, 0)
    opacity = 1 - np.clip((red + green + blue)[..., None] / np.float32(3) / 255, 0, 1)
    colour = np.clip(black / np.maximum(opacity, 1 / 255), 0, 255)
    made: Layer = np.rint(np.concatenate([colour, 255 * opacity], axis=-1)).astype(np.uint8)
    return made


def hung(picture: Grey | Colour, orientation: Orientation) -> Colour:
    """Turn a picture of a stored matrix to the standard view, as radiographs hang: right on the left, head up."""
    turned = np.swapaxes(picture, 0, 1) if orientation.transpose else picture
    turned = turned[:: -1 if orientation.flip_rows else 1, :: -1 if orientation.flip_columns else 1]
    return np.ascontiguousarray(turned if turned.ndim == 3 else np.repeat(turned[..., None], 3, axis=-1))


def annotated(picture: Colour, *, marks_right: bool, pixel_mm: float | None = None, where: str = "") -> Colour:
    """Mark the patient's right on a picture in the standard view, and draw a bar of 5 cm.

    Parameters
    ----------
    marks_right
        Whether the image says which side is which: an R is never guessed.
    pixel_mm
        Millimetres between the columns of the picture; None: no bar.
    where
        Where the millimetres are measured, if not in the patient.
    """
    image = Image.fromarray(picture)
    draw, size = ImageDraw.Draw(image), max(12, round(max(image.size) / 25))
    font, rim = ImageFont.load_default(size), max(1, size // 12)
    white, black, margin = (255, 255, 255), (0, 0, 0), size // 2
    if marks_right:
        draw.text((margin, margin), "R", fill=white, font=font, stroke_width=rim, stroke_fill=black)
    length = _BAR_MM / pixel_mm if pixel_mm else 0.0
    if 0 < length < image.width / 2:
        left, bottom = margin, image.height - margin
        for colour, width in ((black, 3 * rim), (white, rim)):
            draw.line((left, bottom, left + length, bottom), fill=colour, width=width)
        place = left, bottom - round(1.6 * size)
        draw.text(
            place, f"{_BAR_MM // 10} cm {where}".strip(), fill=white, font=font, stroke_width=rim, stroke_fill=black
        )
    return np.asarray(image)


def inferno(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colour of each value of 0 to 1: (..., 3), 0 to 255."""
    stops = np.linspace(0, 1, len(INFERNO))
    table = np.asarray(INFERNO, np.float32)
    colours = np.empty((*values.shape, 3), np.float32)
    for channel in range(3):
        colours[..., channel] = np.interp(values, stops, table[:, channel])
    return colours


def colour_bar(length: int, thickness: int) -> Colour:
    """Draw the colours of 0 (left) to 1 (right)."""
    return _to_bytes(np.repeat(inferno(np.linspace(0, 1, length))[None], thickness, axis=0))


def data_uri(picture: Grey | Colour | Layer, quality: int = 82) -> str:
    """Encode a picture as a JPEG inside a ``data:`` URI, a layer as WebP. Equal pictures give equal text."""
    buffer = io.BytesIO()
    form, options = ("webp", {"method": 2}) if picture.shape[2:] == (4,) else ("jpeg", {"optimize": True})
    Image.fromarray(picture).save(buffer, form, quality=quality, **options)
    return f"data:image/{form};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _to_colour(preview: Grey) -> NDArray[np.float32]:
    return np.repeat(preview[..., None], 3, axis=-1).astype(np.float32)


def _to_bytes(picture: NDArray[np.float32]) -> Colour:
    return np.rint(picture).astype(np.uint8)


def _blend(picture: NDArray[np.float32], colour: NDArray[np.float32], opacity: NDArray[np.floating]) -> None:
    picture += opacity[..., None].astype(np.float32) * (colour - picture)


def _sample(region: Region, shape: Shape) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Where ``region`` lies in a picture of ``shape``, and its nearest pixels there, on the finer matrix."""
    box = region.box
    rows, inner_rows, source_rows = _along_box(shape[0], region.shape[0], box.top, box.bottom)
    columns, inner_columns, source_columns = _along_box(shape[1], region.shape[1], box.left, box.right)
    fine = np.zeros(((rows.stop - rows.start) * _FINE, (columns.stop - columns.start) * _FINE), bool)
    fine[inner_rows, inner_columns] = region.pixels[np.ix_(source_rows, source_columns)]
    return (rows, columns), fine


def _along_box(size: int, source: int, first: int, end: int) -> tuple[slice, slice, NDArray[np.intp]]:
    """Along one axis: the pixels that a box touches, the finer ones in it, and which pixel of it each shows."""
    nearest = _nearest(size * _FINE, source)
    start, stop = map(int, np.searchsorted(nearest, (first, end)))
    place = slice(start // _FINE, -(-stop // _FINE))
    lead = place.start * _FINE
    return place, slice(start - lead, stop - lead), nearest[start:stop] - first


def _nearest(samples: int, size: int) -> NDArray[np.intp]:
    return ((np.arange(samples) + 0.5) * size / samples).astype(np.intp)


def _erode(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    inner = mask.copy()
    for _ in range(pixels):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner


def _shrink(fine: NDArray[np.bool_]) -> NDArray[np.float64]:
    bits = fine.view(np.uint8)
    blocks = sum(bits[row::_FINE, column::_FINE] for row in range(_FINE) for column in range(_FINE))
    return np.asarray(blocks / _FINE**2, np.float64)


def _scaled(points: Sequence[Point], shape: Shape, size: Shape) -> tuple[Point, Point]:
    (x0, y0), (x1, y1) = points
    x_scale, y_scale = size[1] / shape[1], size[0] / shape[0]
    return (x0 * x_scale, y0 * y_scale), (x1 * x_scale, y1 * y_scale)


def _with_ticks(ends: tuple[Point, Point], tick: float) -> list[tuple[Point, Point]]:
    (x0, y0), (x1, y1) = ends
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
    dx, dy = -(y1 - y0) / length * tick, (x1 - x0) / length * tick
    return [ends, *(((x - dx, y - dy), (x + dx, y + dy)) for x, y in ends)]

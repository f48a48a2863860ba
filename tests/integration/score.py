"""How well a screenshot agrees with the truth, through the viewer's own map from pixels to the screen."""

import colorsys

import numpy as np
from PIL import Image

_STRIDE = 3  # every third source pixel is looked at
_MARGIN = 4  # screen pixels along the border of the viewport that are its frame
_COLOURED = 25  # greatest minus least of red, green and blue; a radiograph is grey
_SAME_HUE = 30  # degrees
_GREEN = 150  # degrees; blue and violet lie above


class Screenshot:
    """A screenshot, seen from the matrix of the radiograph that it shows.

    Parameters
    ----------
    path
        The picture.
    placement
        Where the viewer puts the first and the hundredth pixel of the matrix, and its canvas.
    shape
        Rows and columns of the matrix.
    """

    def __init__(self, path, placement, shape):
        picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
        origin, along_columns, along_rows = (np.array(placement[key]) for key in ("origin", "column100", "row100"))
        rows, columns = np.mgrid[1 : shape[0] : _STRIDE, 1 : shape[1] : _STRIDE]
        x, y = (
            origin[axis]
            + (columns + 0.5) * (along_columns - origin)[axis] / 100
            + (rows + 0.5) * (along_rows - origin)[axis] / 100
            for axis in (0, 1)
        )
        left, top, width, height = placement["canvas"]
        self.visible = (abs(x - left - width / 2) < width / 2 - _MARGIN) & (
            abs(y - top - height / 2) < height / 2 - _MARGIN
        )
        inside = np.clip(y.astype(int), 0, picture.shape[0] - 1), np.clip(x.astype(int), 0, picture.shape[1] - 1)
        self.pixels = picture[inside]
        self.coloured = self.pixels.max(-1) - self.pixels.min(-1) > _COLOURED

    def of_matrix(self, matrix):
        """Return the values of a matrix of the source's shape at the pixels that are looked at."""
        return matrix[1::_STRIDE, 1::_STRIDE]

    def iou(self, found, truth, ignore=None):
        """Intersection over union of two sets of pixels, where the viewport shows them."""
        counted = self.visible if ignore is None else self.visible & ~ignore
        union = ((found | truth) & counted).sum()
        return float((found & truth & counted).sum() / union) if union else 0.0

    def has_hue_of(self, colour):
        """Which pixels have the hue of ``colour``; an overlay on grey keeps its hue at any opacity."""
        return self.coloured & (hue_distance(hues(self.pixels), hue(colour)) < _SAME_HUE)

    @property
    def warm(self):
        """Which pixels are green, yellow or red: the upper half of a rainbow."""
        return self.coloured & (hues(self.pixels) < _GREEN)


def hue(colour):
    """Return the hue of an RGB colour, 0 to 255 each, in degrees."""
    return 360 * colorsys.rgb_to_hsv(*(part / 255 for part in colour[:3]))[0]


def hues(pixels):
    """Return the hue of every pixel in degrees; 0 for grey."""
    low, high = pixels.min(-1), pixels.max(-1)
    span = np.maximum(high - low, 1)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    sixth = np.select(
        [high == red, high == green], [((green - blue) / span) % 6, (blue - red) / span + 2], (red - green) / span + 4
    )
    return 60 * sixth


def hue_distance(one, other):
    """Return the angle between hues in degrees, 0 to 180."""
    return abs((one - other + 180) % 360 - 180)

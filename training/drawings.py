"""Drawings of what is no frontal chest: other parts of the body, text, noise, patterns.

Nobody would take them for radiographs. They teach the content check what lies beside each other on
a chest and not elsewhere. Some kinds are kept for testing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 128
Random = np.random.Generator
Drawing = Callable[[Random], np.ndarray]
_MIDDLE = SIDE / 2


def _drawn(draw: Callable[[ImageDraw.ImageDraw], object], blur: float) -> np.ndarray:
    """(128, 128) float32, 0 to 1."""
    picture = Image.new("L", (SIDE, SIDE), 0)
    draw(ImageDraw.Draw(picture))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255


def _ellipse(x: float, y: float, width: float, height: float, blur: float = 2) -> np.ndarray:
    return _drawn(lambda pen: pen.ellipse([x - width, y - height, x + width, y + height], fill=255), blur)


def _box(left: float, top: float, right: float, bottom: float, blur: float = 1) -> np.ndarray:
    return _drawn(lambda pen: pen.rectangle([left, top, right, bottom], fill=255), blur)


def _stick(start: np.ndarray, end: np.ndarray, width: float, blur: float = 2) -> np.ndarray:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.line([tuple(start), tuple(end)], fill=255, width=max(1, int(width)))
        for x, y in (start, end):
            pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)

    return _drawn(draw, blur)


def _bone(start: np.ndarray, end: np.ndarray, width: float) -> np.ndarray:
    """A shaft with a dense rim and two heads."""
    heads = sum(_ellipse(*point, width * 0.75, width * 0.6, 1.2) for point in (start, end))
    return 0.35 * _stick(start, end, width, 0.7) - 0.15 * _stick(start, end, width * 0.6, 0.9) + 0.15 * heads


def _limb(random: Random) -> np.ndarray:
    angle, width = random.uniform(-0.5, 0.5), random.uniform(30, 70)
    centre, along = np.array([random.uniform(45, 83), _MIDDLE]), np.array([np.sin(angle), np.cos(angle)])
    picture = _stick(centre - along * 90, centre + along * 90, width, 3) * random.uniform(0.3, 0.5)
    bones, joint = random.integers(1, 3), random.uniform(-20, 20)
    for index in range(bones):
        beside = centre + np.array([along[1], -along[0]]) * ((index - (bones - 1) / 2) * width * 0.35)
        thick = random.uniform(8, 18)
        picture += _bone(beside + along * (joint - 4), beside - along * 100, thick)
        picture += _bone(beside + along * (joint + 4), beside + along * 100, thick * random.uniform(0.7, 1.2))
    return picture


def _hand(random: Random) -> np.ndarray:
    wrist, size = np.array([random.uniform(50, 78), random.uniform(85, 105)]), random.uniform(0.7, 1.1)
    palm = _ellipse(wrist[0], wrist[1] - 6 * size, 26 * size, 24 * size, 3)
    picture = 0.35 * np.maximum(palm, _stick(wrist, wrist + np.array([0, 60]), 32 * size, 3))
    for angle, length in zip(np.linspace(-0.75, 0.55, 5), (45, 66, 72, 66, 51), strict=True):
        along = np.array([np.sin(angle), -np.cos(angle)])
        finger = 0.33 * _stick(wrist + along * 18 * size, wrist + along * length * size, 12 * size)
        picture = np.maximum(picture, finger)
        start = wrist + along * 6 * size
        for _ in range(4):
            end = start + along * (length * size / 4.2)
            picture += _bone(start, end, 5 * size)
            start = end + along * 2
    return picture


def _pelvis(random: Random) -> np.ndarray:
    picture, size = _ellipse(_MIDDLE, 75, 84, 115, 6) * 0.45, random.uniform(0.8, 1.1)
    for side in (-1, 1):
        x = _MIDDLE + side * 32 * size
        picture += 0.3 * _ellipse(x, 47, 28 * size, 27) - 0.1 * _ellipse(x, 47, 20 * size, 18, 3)
        picture += 0.3 * _ellipse(x + side * 10, 83, 11, 11) + 0.15 * _ellipse(_MIDDLE + side * 18, 100, 14, 15)
        picture += _bone(np.array([x + side * 14, 90]), np.array([x + side * 20, 150]), 14)
    for y in range(-5, 40, 12):
        picture += 0.15 * _box(54, y, 74, y + 9)
    return picture


def _spine(random: Random) -> np.ndarray:
    picture = np.full((SIDE, SIDE), random.uniform(0.2, 0.45), np.float32)
    width, x, bend = random.uniform(14, 34), _MIDDLE + random.uniform(-20, 20), random.uniform(-15, 15)
    for y in np.arange(-6, SIDE, width * 0.8):
        middle = x + bend * np.sin(y / 60)
        picture += 0.3 * _box(middle - width / 2, y, middle + width / 2, y + width * 0.62, 1.2)
    return picture + 0.2 * _box(x - width, 0, x + width, SIDE, 6)


def _abdomen(random: Random) -> np.ndarray:
    picture, width = _ellipse(_MIDDLE, 70, 58, 130, 4) * 0.6, random.uniform(14, 22)
    for y in np.arange(-6, SIDE, width * 0.9):
        picture += 0.15 * _box(_MIDDLE - width / 2, y, _MIDDLE + width / 2, y + width * 0.65)
    for _ in range(random.integers(4, 16)):
        size = random.uniform(4, 14)
        gas = _ellipse(random.uniform(15, 113), random.uniform(10, 118), size * random.uniform(0.9, 1.3), size, 1.5)
        picture -= random.uniform(0.1, 0.3) * gas
    return picture


def _text(random: Random) -> np.ndarray:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        y = random.integers(2, 20)
        while y < SIDE:
            for x in range(random.integers(2, 30), SIDE, 6):
                if random.random() < 0.75:
                    letter = [x, y, x + random.integers(2, 5), y + random.integers(2, 5)]
                    pen.rectangle(letter, fill=int(random.integers(120, 256)))
            y += random.integers(6, 14)

    picture = _drawn(draw, 0.3)
    return 1 - picture if random.random() < 0.4 else picture


def _noise(random: Random) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = 1
    picture = np.fft.irfft2(np.fft.rfft2(random.normal(size=(SIDE, SIDE))) / frequency ** random.uniform(0, 2.5))
    return 0.5 + (picture - picture.mean()) / picture.std() / 4


def _waves(random: Random) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = (
        np.sin(random.uniform(2, 25) * x + random.uniform(0, 6)) * np.cos(random.uniform(2, 25) * y)
        for _ in range(random.integers(1, 4))
    )
    return 0.5 + 0.3 * sum(waves)


def _shapes(random: Random) -> np.ndarray:
    picture = np.full((SIDE, SIDE), random.uniform(0, 0.3), np.float32)
    for _ in range(random.integers(1, 7)):
        x, y = random.uniform(0, SIDE, 2)
        width, height = random.uniform(8, 60, 2)
        inside = (
            _ellipse(x, y, width, height, 1) if random.random() < 0.6 else _box(x - width, y, x + width, y + height)
        )
        picture = np.where(inside > 0.5, random.random(), picture)
    return picture


def _two_dark_fields(random: Random) -> np.ndarray:
    """What is dark on both sides and no lung."""
    body = _ellipse(_MIDDLE, _MIDDLE, 60, 60) if random.random() < 0.5 else _box(8, 8, 120, 120, 2)
    width, height, apart = random.uniform(6, 21), random.uniform(10, 45), random.uniform(16, 34)
    y = random.uniform(45, 85)
    fields = sum(_ellipse(_MIDDLE + side * apart, y, width, height) for side in (-1, 1))
    return body * random.uniform(0.5, 0.9) - random.uniform(0.3, 0.6) * fields


def _skull(random: Random) -> np.ndarray:
    width, height = random.uniform(38, 52), random.uniform(46, 58)
    picture = _ellipse(_MIDDLE, 60, width, height) * 0.85 - _ellipse(_MIDDLE, 60, width - 6, height - 6) * 0.3
    for side in (-1, 1):
        picture -= 0.25 * _ellipse(_MIDDLE + side * 20, 71, 11, 9, 1.5)
    return picture - 0.2 * _ellipse(_MIDDLE, 88, 6, 10, 1.5) + 0.2 * _box(44, 102, 84, 116, 2)


def _breast(random: Random) -> np.ndarray:
    side, size = random.choice([0, SIDE]), random.uniform(50, 90)
    picture = _ellipse(side, _MIDDLE, size * 0.8, size * 0.75, 4) * 0.5
    for _ in range(12):
        x, y = abs(side - random.uniform(0, size * 0.6)), _MIDDLE + random.uniform(-0.4, 0.4) * size
        spot = random.uniform(3, 12)
        picture += picture * 0.6 * _ellipse(x, y, spot, spot, 4)
    return picture


def _phantom(random: Random) -> np.ndarray:
    picture, step = np.full((SIDE, SIDE), 0.5, np.float32), random.integers(6, 18)
    picture[::step], picture[:, ::step] = 1, 0.9
    return picture + 0.2 * _ellipse(_MIDDLE, _MIDDLE, 34, 34, 1)


def _knees(random: Random) -> np.ndarray:
    picture, apart = np.zeros((SIDE, SIDE), np.float32), random.uniform(26, 34)
    for side in (-1, 1):
        x = _MIDDLE + side * apart
        picture += 0.4 * _box(x - 22, -5, x + 22, 133, 4) + _bone(np.array([x, 58]), np.array([x - side * 3, -10]), 15)
        picture += _bone(np.array([x, 70]), np.array([x, 140]), 14) + 0.25 * _ellipse(x, 54, 16, 10)
    return picture


def _teeth(random: Random) -> np.ndarray:
    picture = np.full((SIDE, SIDE), 0.25, np.float32)
    for middle, bend in ((40, random.uniform(0.2, 0.5)), (80, -random.uniform(0.2, 0.5))):
        for index in range(12):
            x, y = 8 + index * 10, middle + bend * (index - 5.5) ** 2
            picture += 0.45 * _box(x - 4, y - 14, x + 4, y + 14)
    return picture


LEARNT: tuple[Drawing, ...] = (
    *(_limb, _hand, _pelvis, _spine, _abdomen),
    *(_text, _noise, _waves, _shapes, _two_dark_fields),
)
UNSEEN: tuple[Drawing, ...] = (_skull, _breast, _phantom, _knees, _teeth)


def make(count: int, seed: int, kinds: tuple[Drawing, ...] = LEARNT) -> list[np.ndarray]:
    """Draw ``count`` pictures, (128, 128) in any unit, each kind as often as the next; some are inverted."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        picture = kinds[index % len(kinds)](random)
        picture = picture + random.normal(0, random.uniform(0, 0.05), picture.shape)
        made.append(-picture if random.random() < 0.15 else picture)
    return made

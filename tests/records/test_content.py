"""How a picture may be stored, in words, and what follows from it."""

import itertools

import numpy as np
import pytest

from cxr_dicom.records import AS_DECLARED, WAYS, Content, Way, WayWord
from cxr_dicom.records.plane import TURNS, Orientation

UPRIGHT = np.arange(6).reshape(2, 3)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(TURNS, TURNS)))
def test_one_turn_then_another_is_one_turn(one, other):
    assert np.array_equal(one.then(other).to_standard(UPRIGHT), other.to_standard(one.to_standard(UPRIGHT)))


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_words_say_how_the_picture_lies(quarters, mirrored, inverted):
    stored = np.rot90(UPRIGHT[:, ::-1] if mirrored else UPRIGHT, -quarters)  # clockwise
    ways = (way for way in WAYS if way.inverted == inverted)
    (way,) = (way for way in ways if np.array_equal(way.turn.to_standard(stored), UPRIGHT))
    turned = {0: (), 1: (WayWord.TURNED_90,), 2: (WayWord.TURNED_180,), 3: (WayWord.TURNED_270,)}[quarters]
    assert way.words == (*([WayWord.MIRRORED] * mirrored), *turned, *([WayWord.INVERTED] * inverted))
    head_up = way.rotation.to_standard(stored)
    assert np.array_equal(head_up, UPRIGHT[:, ::-1] if mirrored else UPRIGHT)


SIDE, MIRROR = Orientation(transpose=True, flip_rows=True), Orientation(flip_columns=True)


@pytest.mark.parametrize(
    ("content", "word", "passed"),
    [
        (Content(), "as_declared", True),
        (Content(doubt="two hands"), "doubtful", False),
        (Content(way=Way(turn=SIDE)), "turned_90", False),
        (Content(way=Way(turn=SIDE), corrected=True), "turned_90", True),
        (Content(way=Way(turn=MIRROR)), "mirrored", False),
        (Content(way=Way(turn=MIRROR.then(SIDE)), corrected=True), "mirrored+turned_270", False),  # sides are unknown
        (Content(way=Way(inverted=True)), "inverted", False),
        (Content(way=Way(inverted=True), corrected=True), "inverted", False),
    ],
)
def test_what_passes_may_be_called(content, word, passed):
    assert (content.word, content.passed) == (word, passed)
    assert bool(content.sentence) == (content != Content())


def test_the_sentence_says_what_was_done_and_what_was_not():
    assert WAYS[0] == AS_DECLARED
    assert Content(doubt="two hands").sentence == "no plausible frontal chest: two hands"
    way = Way(turn=MIRROR.then(SIDE), inverted=True)
    on_its_side = Content(way=way, corrected=True).sentence
    assert on_its_side == (
        "the picture is mirrored (or the heart lies on the patient's right: situs inversus) and turned by 90 degrees "
        "counterclockwise and inverted (dense is dark), which the header does not say; turned upright and inverted "
        "back before it was analysed; right and left are as declared"
    )

"""Dice, cardiothoracic ratio and bootstrap on masks whose answer is known."""

import numpy as np
import pytest

from training.measures import cardiothoracic_ratio, dice, interval


def test_dice_leaves_ignored_pixels_out():
    found, wanted, ignored = np.zeros((3, 10, 10), bool)
    found[:, :5], wanted[:, :6], ignored[:, 5] = True, True, True
    assert dice(found, wanted) == pytest.approx(10 / 11)
    assert dice(found, wanted, ignored) == 1.0


def test_dice_of_two_empty_masks_is_one():
    assert dice(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1.0


def test_cardiothoracic_ratio_of_boxes():
    masks = np.zeros((3, 100, 100), bool)
    masks[0, 10:80, 10:40] = masks[1, 10:80, 60:90] = masks[2, 50:80, 35:71] = True
    assert cardiothoracic_ratio(masks) == pytest.approx(36 / 80)


def test_cardiothoracic_ratio_without_a_heart_is_not_a_number():
    masks = np.ones((3, 4, 4), bool)
    masks[2] = False
    assert np.isnan(cardiothoracic_ratio(masks))


def test_interval_holds_the_statistic_and_repeats():
    values = np.random.default_rng(0).normal(5, 1, 50)
    value, low, high = interval(values)
    assert low < value < high
    assert interval(values) == (value, low, high)

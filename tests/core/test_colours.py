"""Colours mean one thing: classes differ from each other and from errors, for colour-blind readers too."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from segexplorer.core import colours
from segexplorer.core.colours import CLASSES, DISTINCT, ClassColours

ERRORS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73")
# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear light
DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
NAPARI_DARK, NAPARI_LIGHT = "#262930", "#EFEBE9"


def channels(text: str) -> list[float]:
    return [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else math.pow((value + 0.055) / 1.055, 2.4)


def as_seen(text: str, matrix: tuple[tuple[float, ...], ...] | None) -> NDArray[np.float64]:
    """CIELAB of a colour, normally or through a matrix; one colour at a time, by other code than the search's."""
    values = channels(text)
    if matrix is not None:
        light = [linear(value) for value in values]
        mixed = [min(1.0, max(0.0, sum(m * x for m, x in zip(row, light, strict=True)))) for row in matrix]
        values = [12.92 * x if x <= 0.0031308 else 1.055 * math.pow(x, 1 / 2.4) - 0.055 for x in mixed]
    return np.asarray(rgb2lab(np.array(values)))


def least(some: tuple[str, ...], others: tuple[str, ...] | None, matrix: object = None) -> float:
    """The least CIEDE2000 among some colours, or between them and others."""
    one = np.array([as_seen(text, matrix) for text in some])  # type: ignore[arg-type]
    if others is None:
        i, j = np.triu_indices(len(one), 1)
        return float(deltaE_ciede2000(one[i], one[j]).min())
    two = np.array([as_seen(text, matrix) for text in others])  # type: ignore[arg-type]
    return float(deltaE_ciede2000(one[:, np.newaxis], two[np.newaxis]).min())


def test_errors_keep_the_colours_of_okabe_and_ito() -> None:
    drawn = (colours.FALSE_POSITIVE, colours.FALSE_NEGATIVE, colours.WRONG_CLASS, colours.TRUE_POSITIVE)
    assert drawn == ERRORS


def test_twelve_classes_differ_for_everybody() -> None:
    first = CLASSES[:DISTINCT]
    assert DISTINCT == 12 and len(set(first)) == 12
    assert least(first, None) >= 14
    assert least(first, ERRORS) >= 20
    for matrix in (DEUTERANOPIA, PROTANOPIA):
        assert least(first, None, matrix) >= 7
        assert least(first, ERRORS, matrix) >= 7


def test_six_classes_are_far_apart() -> None:
    assert least(CLASSES[:6], None) >= 25
    assert min(least(CLASSES[:6], None, matrix) for matrix in (DEUTERANOPIA, PROTANOPIA)) >= 9


def test_255_classes_differ_and_none_is_like_an_error() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 255
    assert least(CLASSES, None) >= 4
    assert least(CLASSES[:50], None) >= 10
    assert least(CLASSES, ERRORS) >= 12
    for matrix in (DEUTERANOPIA, PROTANOPIA):
        assert least(CLASSES, ERRORS, matrix) >= 3.5


def test_no_class_has_the_hue_of_an_error() -> None:
    def cielab(text: str) -> float:
        _, a, b = as_seen(text, None)
        return math.degrees(math.atan2(b, a))

    def oklab(text: str) -> float:
        """Ottosson 2020; CIELAB gives blues of one hue different angles."""
        red, green, blue = map(linear, channels(text))
        long = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)
        medium = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
        short = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
        a = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
        b = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
        return math.degrees(math.atan2(b, a))

    for hue, text, error in itertools.product((cielab, oklab), CLASSES, ERRORS):
        gap = abs((hue(text) - hue(error) + 180) % 360 - 180)
        assert gap >= 17.9, f"{text} has nearly the hue of {error}"


def test_classes_are_seen_on_both_backgrounds_of_napari() -> None:
    def luminance(text: str) -> float:
        return sum(w * linear(c) for w, c in zip((0.2126, 0.7152, 0.0722), channels(text), strict=True))

    for text, (ground, enough) in itertools.product(CLASSES[:12], ((NAPARI_DARK, 2.2), (NAPARI_LIGHT, 1.5))):
        low, high = sorted((luminance(text), luminance(ground)))
        ratio = (high + 0.05) / (low + 0.05)
        assert ratio >= enough, f"{text} on {ground}"
        assert colours.contrast(text, ground) == pytest.approx(ratio)


def test_contrast_is_that_of_wcag() -> None:
    assert colours.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert colours.contrast("#777777", "#FFFFFF") == pytest.approx(4.478, abs=1e-3)  # the example of WebAIM
    assert colours.contrast("#FFFFFF", "#FFFFFF") == 1


def test_a_class_has_one_colour_by_index_name_and_value() -> None:
    palette = ClassColours(("kidneys", "liver"))
    assert palette.colour("liver") == palette.colour(2) == CLASSES[1]
    assert palette.colour("spleen") == palette.colour(0) == colours.UNKNOWN
    assert palette.indices([0, 2, 1]) == {2: CLASSES[1], 1: CLASSES[0]}
    # both kidneys are one class, so the liver is the second
    named = {0: "background", 2: "kidneys", 3: "kidneys", 5: "liver"}
    assert ClassColours.of_values(named) == palette
    assert palette.values(named) == {2: CLASSES[0], 3: CLASSES[0], 5: CLASSES[1]}
    assert ClassColours().colour(256) == CLASSES[0]  # as many label values as there may be


def test_an_error_map_has_the_colours_of_errors() -> None:
    named = {1: "true positive", 2: "false positive", 3: "false negative", 4: "wrong class"}
    drawn = ClassColours.of_values(named).values(named)
    assert [drawn[value] for value in (2, 3, 4, 1)] == list(ERRORS)


def test_the_balance_has_neutral_in_its_middle_and_no_colour_of_an_error() -> None:
    ramp = colours.diverging(255)
    assert ramp[0] == pytest.approx(colours.rgba(colours.MISSED_PREVAILS))
    assert ramp[127] == pytest.approx(colours.rgba(colours.NEUTRAL))
    assert ramp[-1] == pytest.approx(colours.rgba(colours.EXTRA_PREVAILS))
    assert np.array_equal(colours.diverging(flipped=True), ramp[::-1])
    ends = (colours.MISSED_PREVAILS, colours.EXTRA_PREVAILS)
    assert least(ends, ERRORS) >= 25
    for matrix in (DEUTERANOPIA, PROTANOPIA):
        assert least(ends, ERRORS, matrix) >= 9
        assert least(ends, None, matrix) >= 50

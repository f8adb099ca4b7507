"""The colours of errors and classes, in a palette that colour-blind readers can tell apart.

Okabe and Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

VERMILLION = "#D55E00"
BLUE = "#0072B2"
REDDISH_PURPLE = "#CC79A7"
BLUISH_GREEN = "#009E73"
NEUTRAL = "#F2F2F2"

FALSE_POSITIVE, FALSE_NEGATIVE = VERMILLION, BLUE
WRONG_CLASS, TRUE_POSITIVE = REDDISH_PURPLE, BLUISH_GREEN

_CLASSES = (
    "#56B4E9",  # sky blue
    "#E69F00",  # orange
    "#F0E442",  # yellow
    BLUISH_GREEN,
    REDDISH_PURPLE,
    BLUE,
    VERMILLION,
    "#9D8DF1",
    "#B5E48C",
    "#C49A6C",
    "#F7B6D2",
    "#5AD8C8",
)
"""Okabe and Ito's eight without black, the ones that do not mean errors first; then lighter and duller ones."""
_GOLDEN_ANGLE = 0.618033988749895


def class_colour(index: int) -> str:
    """Return "#RRGGBB" of class `index`, counted from 1: the same class index always has the same colour."""
    if index <= len(_CLASSES):
        return _CLASSES[index - 1]
    hue = (index * _GOLDEN_ANGLE) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, 0.75 + 0.2 * (index % 2))
    return f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}"


def rgba(colour: str, opacity: float = 1.0) -> tuple[float, float, float, float]:
    """Return "#RRGGBB" as red, green, blue and opacity from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, opacity


def diverging(n: int = 255, *, flipped: bool = False) -> NDArray[np.float32]:
    """Return (n, 4) colours from missed (blue) over neutral, in the middle, to extra (vermillion)."""
    anchors = np.array([rgba(FALSE_NEGATIVE), rgba(NEUTRAL), rgba(FALSE_POSITIVE)])
    positions = np.linspace(0, 2, n)
    colours = np.stack([np.interp(positions, (0, 1, 2), channel) for channel in anchors.T], axis=1)
    return (colours[::-1] if flipped else colours).astype(np.float32)

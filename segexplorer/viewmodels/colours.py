"""The colours that mean errors, everywhere: Okabe and Ito's, which colour-blind readers can tell apart.

Okabe and Ito 2008, "Color Universal Design", https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VERMILLION = "#D55E00"
BLUE = "#0072B2"
REDDISH_PURPLE = "#CC79A7"
BLUISH_GREEN = "#009E73"
NEUTRAL = "#F2F2F2"

FALSE_POSITIVE, FALSE_NEGATIVE = VERMILLION, BLUE
WRONG_CLASS, TRUE_POSITIVE = REDDISH_PURPLE, BLUISH_GREEN


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

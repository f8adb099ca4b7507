"""Which side of the patient lies at which edge of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_TOWARDS = {0: ("S", "I"), 1: ("A", "P"), 2: ("R", "L")}
"""Axis of a (z, y, x) RAS array -> letters of its positive and of its negative end."""
_NAMES = {0: "axial", 1: "coronal", 2: "sagittal"}


@dataclass(frozen=True)
class EdgeLetters:
    """Letters at the edges of the picture: R, L, A, P, S, I for right, left, anterior, ..., inferior."""

    left: str
    right: str
    top: str
    bottom: str


def edge_letters(order: Sequence[int], orientation: Sequence[str]) -> EdgeLetters:
    """Return the letters at the edges of a slice of a (z, y, x) RAS array.

    Parameters
    ----------
    order
        The order in which a viewer shows the three axes, as a permutation of (0, 1, 2): the slice is across
        the first, the second runs along the height, the third along the width.
    orientation
        Which way positive axes point on the screen: (depth, "up" or "down", "left" or "right").

    Raises
    ------
    ValueError
        When the order is no permutation of three axes.
    """
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"the order must be a permutation of 0, 1, 2, not {tuple(order)}")
    positive_v, negative_v = _TOWARDS[order[1]]
    positive_h, negative_h = _TOWARDS[order[2]]
    top, bottom = (positive_v, negative_v) if orientation[1] == "up" else (negative_v, positive_v)
    left, right = (positive_h, negative_h) if orientation[2] == "left" else (negative_h, positive_h)
    return EdgeLetters(left, right, top, bottom)


def plane_name(order: Sequence[int]) -> str:
    """Return "axial", "coronal" or "sagittal" for an order of axes."""
    return _NAMES[order[0]]

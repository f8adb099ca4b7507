"""Colours and orientations of the napari face: classes, errors, balance, and how the patient lies on the screen."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from napari.utils import Colormap, DirectLabelColormap
from napari.utils.theme import get_theme
from numpy.typing import NDArray

from segexplorer.viewmodels import colours, overlay

Convention = Literal["radiological", "neurological"]
ORIENTATIONS: dict[Convention, tuple[str, str, str]] = {
    "radiological": ("away", "up", "left"),
    "neurological": ("towards", "up", "right"),
}
"""Convention -> `viewer.camera.orientation` for arrays in (z, y, x) RAS order.

Radiological shows the patient's right on the left of the screen, neurological on the right; superior and
anterior are up in both.
"""

AXIS_LABELS = ("z", "y", "x")
UNITS = ("mm", "mm", "mm")
"""On every layer alike: napari leaves units out of a picture whose layers disagree."""

_CLASSES = (
    "#56B4E9",  # sky blue
    "#E69F00",  # orange
    "#F0E442",  # yellow
    "#009E73",  # bluish green
    "#CC79A7",  # reddish purple
    "#0072B2",  # blue
    "#D55E00",  # vermillion
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


def label_colormap(values: Sequence[int]) -> Any:
    """Return the colours of label values: the i-th value has the colour of class i; others are grey."""
    table: dict[int | None, Any] = {None: colours.rgba("#808080"), 0: (0.0, 0.0, 0.0, 0.0)}
    table |= {
        value: colours.rgba(class_colour(position)) for position, value in enumerate(values, 1) if value != 0
    }
    return DirectLabelColormap(color_dict=table)


def error_colormap() -> Any:
    """Return the colours of `viewmodels.overlay` codes; unknown codes are transparent."""
    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0)}
    table |= dict(overlay.colour_table().items())
    return DirectLabelColormap(color_dict=table)


def balance_colormap(table: NDArray[np.float32] | None = None) -> Any:
    """Return a diverging colour map, missed (blue) to extra (vermillion) unless told; NaN is transparent."""
    return Colormap(
        colors=colours.diverging() if table is None else table,
        name="segexplorer balance",
        display_name="missed to extra",
        nan_color=np.zeros(4, dtype=np.float32),
    )


def is_dark(viewer: Any) -> bool:
    """Whether the viewer's theme has a dark background."""
    return bool(sum(get_theme(viewer.theme).background.as_rgb_tuple()[:3]) < 3 * 128)

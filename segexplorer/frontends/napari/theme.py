"""Colours and orientations in napari: classes, errors, maps of regions, how the patient is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from napari.utils import Colormap, DirectLabelColormap
from napari.utils.theme import get_theme

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.viewmodels import errors, race
from segexplorer.viewmodels.regions import Quantity, map_colours

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


def label_colormap(values: Mapping[int, str]) -> Any:
    """Return the colours of label values with the names of their classes; other values are grey."""
    table: dict[int | None, Any] = {None: colours.rgba(colours.UNKNOWN), 0: (0.0, 0.0, 0.0, 0.0)}
    palette = ClassColours.of_values(values)
    table |= {value: colours.rgba(colour) for value, colour in palette.values(values).items()}
    return DirectLabelColormap(color_dict=table)


def error_colormap(*, filled: bool = True) -> Any:
    """Return the colours of `viewmodels.errors` codes; unknown codes are transparent, as all are unless filled."""
    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0)}
    if filled:
        table |= dict(errors.colour_table().items())
    return DirectLabelColormap(color_dict=table)


def lane_colormap() -> Any:
    """Return the colours of where one lane of a race alone is right (`viewmodels.race`)."""
    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0)}
    table |= {value: colours.rgba(colour) for value, colour in race.COLOURS.items()}
    return DirectLabelColormap(color_dict=table)


def map_colormap(quantity: Quantity) -> Any:
    """Return the colours of the colour indices of a map, whose opacity says how much error there is."""
    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0)}
    table |= {index: tuple(map(float, colour)) for index, colour in enumerate(map_colours(quantity))}
    return DirectLabelColormap(color_dict=table)


def pull_colormap() -> Any:
    """Return the colours of a pull, from less (brown) over nothing to more (teal) of a class."""
    table = colours.pull()
    strengths = np.linspace(-1, 1, len(table))
    controls = (1 + np.sign(strengths) * strengths**2) / 2  # the layer holds values, not strengths
    return Colormap(colors=table, controls=controls, name="segexplorer pull", display_name="less to more")


def is_dark(viewer: Any) -> bool:
    """Whether the viewer's theme has a dark background."""
    return bool(sum(get_theme(viewer.theme).background.as_rgb_tuple()[:3]) < 3 * 128)

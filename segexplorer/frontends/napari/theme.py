"""Colours and orientations in napari: classes, errors with legend, balance, how the patient is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from napari.utils import Colormap, DirectLabelColormap
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from segexplorer.core import colours
from segexplorer.viewmodels import errors

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


def label_colormap(values: Sequence[int]) -> Any:
    """Return the colours of label values: the i-th value has the colour of class i; others are grey."""
    table: dict[int | None, Any] = {None: colours.rgba("#808080"), 0: (0.0, 0.0, 0.0, 0.0)}
    table |= {
        value: colours.rgba(colours.class_colour(position))
        for position, value in enumerate(values, 1)
        if value != 0
    }
    return DirectLabelColormap(color_dict=table)


def error_colormap() -> Any:
    """Return the colours of `viewmodels.overlay` codes; unknown codes are transparent."""
    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0)}
    table |= dict(errors.colour_table().items())
    return DirectLabelColormap(color_dict=table)


def balance_colormap(table: NDArray[np.float32] | None = None) -> Any:
    """Return a diverging colour map, by default missed (blue) to extra (vermillion); NaN is transparent."""
    return Colormap(
        colors=colours.diverging() if table is None else table,
        name="segexplorer balance",
        display_name="missed to extra",
        nan_color=np.zeros(4, dtype=np.float32),
    )


def is_dark(viewer: Any) -> bool:
    """Whether the viewer's theme has a dark background."""
    return bool(sum(get_theme(viewer.theme).background.as_rgb_tuple()[:3]) < 3 * 128)


class Legend(QWidget):  # type: ignore[misc, unused-ignore]
    """Swatches and names of the errors layer and of the ends of the balance."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(2)
        for number, entry in enumerate(errors.LEGEND):
            row, column = divmod(number, 2)
            grid.addWidget(_swatch(entry.colour, entry.outline), row, 2 * column)
            grid.addWidget(QLabel(entry.name), row, 2 * column + 1)
        balance = QLabel()
        balance.setFixedHeight(10)
        balance.setStyleSheet(
            "background: qlineargradient(x1:0, x2:1, "
            f"stop:0 {colours.FALSE_NEGATIVE}, stop:0.5 {colours.NEUTRAL}, stop:1 {colours.FALSE_POSITIVE});"
        )
        grid.addWidget(balance, 2, 0, 1, 4)
        # the same two ends whatever is shown: balance -1 to 1, beta high to low, alpha low to high
        grid.addWidget(QLabel("missed prevails"), 3, 0, 1, 2)
        extra = QLabel("extra prevails")
        extra.setAlignment(Qt.AlignmentFlag.AlignRight)
        grid.addWidget(extra, 3, 2, 1, 2)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)


def _swatch(colour: str, outline: bool) -> QLabel:
    swatch = QLabel()
    swatch.setFixedSize(14, 14)
    border = f"border: 2px solid {colour}; background: transparent;"
    swatch.setStyleSheet(border if outline else f"background: {colour};")
    return swatch

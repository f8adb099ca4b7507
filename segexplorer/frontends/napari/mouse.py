"""The mouse over slices, as in 3D Slicer and ITK-SNAP: the wheel changes the slice, a click sends every view there.

Shift and the left button drag level and width of the grey values. What napari does with the mouse stays: drag with
the left button moves the picture, with the right one zooms, as do two clicks and a box with Alt; Ctrl and the wheel
change the slice too, Alt and the wheel the layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from segexplorer.frontends.napari.layers import METADATA, CaseLayers, slice_row

_WIDTH_PIXELS = 150.0
"""Dragging so far to the right multiplies the width by e."""
_LEVEL_PIXELS = 300.0
"""Dragging so far up raises the level by the width there was."""
_LEFT_BUTTON = 1
_CLICK_PIXELS = 4
"""A button that is released within so many pixels was a click."""


def image_to_window(viewer: Any) -> Any | None:
    """Return the image whose grey values are meant: the active one, else the topmost that can be seen."""
    active = viewer.layers.selection.active
    candidates = [active] if active is not None else []
    candidates += [layer for layer in reversed(list(viewer.layers)) if layer.visible]
    return next((layer for layer in candidates if _is_grey(layer)), None)


def _is_grey(layer: Any) -> bool:
    """Whether a layer is an image in shades of grey, not one of the maps over it."""
    if layer.as_layer_data_tuple()[2] != "image" or getattr(layer, "rgb", False):
        return False
    own = layer.metadata.get(METADATA)
    return own is None or own.get("colours", "grey") == "grey"


def set_limits(layer: Any, low: float, high: float) -> None:
    """Show `low` black and `high` white, widening the range of choice where they are beyond it."""
    first, last = layer.contrast_limits_range
    if low < first or high > last:
        layer.contrast_limits_range = (min(first, low), max(last, high))
    layer.contrast_limits = (low, high)


def dragged(limits: tuple[float, float], right: float, up: float) -> tuple[float, float]:
    """Return the limits after dragging so many pixels to the right (wider) and up (higher level)."""
    low, high = limits
    level, width = (low + high) / 2, high - low
    level += up / _LEVEL_PIXELS * width
    width *= math.exp(max(-20.0, min(20.0, right / _WIDTH_PIXELS)))
    return level - width / 2, level + width / 2


class MouseOverSlices:
    """What the mouse does over the slices of a main viewer and of the views that are linked with it.

    It acts only where cases are shown; other layers of the user keep napari's own behaviour.

    Parameters
    ----------
    main
        The viewer that holds the common point and the layers.
    layers
        Knows whether cases are shown.
    pointed
        Called with the point under the mouse, (z, y, x) in mm, of the linked views.
    clicked
        Called with a point that was clicked in any of them, once every view is there.
    """

    def __init__(
        self,
        main: Any,
        layers: CaseLayers,
        pointed: Callable[[tuple[float, ...] | None], None],
        clicked: Callable[[tuple[float, ...]], None] = lambda _: None,
    ) -> None:
        self._main, self._layers, self._pointed, self._clicked = main, layers, pointed, clicked
        self._models: list[Any] = []
        self._turned = 0.0

    def attach(self, model: Any) -> None:
        """Act over the canvas of a viewer."""
        model.mouse_wheel_callbacks.append(self._on_wheel)
        model.mouse_drag_callbacks.append(self._on_press)
        if model is not self._main:
            model.mouse_move_callbacks.append(self._on_move)
        self._models.append(model)

    def detach(self, model: Any) -> None:
        """Let go of a viewer."""
        model.mouse_wheel_callbacks.remove(self._on_wheel)
        model.mouse_drag_callbacks.remove(self._on_press)
        if model is not self._main:
            model.mouse_move_callbacks.remove(self._on_move)
        self._models = [other for other in self._models if other is not model]

    def closing(self) -> None:
        """Let go of all viewers."""
        for model in list(self._models):
            self.detach(model)

    def _acts_on(self, model: Any) -> bool:
        dims = model.dims
        return bool(self._layers.oriented and dims.ndisplay == 2 and dims.ndim >= 3 and model.layers)

    def _on_wheel(self, model: Any, event: Any) -> None:
        if event.modifiers or not self._acts_on(model):
            return
        event.handled = True  # vispy would zoom
        # a step is a notch at most; fine wheels and touch pads turn in parts of one
        self._turned += float(np.clip(event.delta[1], -1, 1)) * (-1 if event.native.inverted() else 1)
        steps = int(self._turned)
        self._turned -= steps
        if steps:
            axis = int(model.dims.order[-3])
            model.dims.set_point(axis, slice_row(model, axis).move(float(model.dims.point[axis]), steps))

    def _on_move(self, model: Any, event: Any) -> None:
        self._pointed(tuple(float(v) for v in event.position))

    def _on_press(self, model: Any, event: Any) -> Iterator[None]:
        if event.button != _LEFT_BUTTON or not self._acts_on(model):
            return
        if tuple(event.modifiers) == ("Shift",):
            yield from self._drag_window(model, event)
        elif not event.modifiers:
            yield from self._locate(model, event)

    def _drag_window(self, model: Any, event: Any) -> Iterator[None]:
        """Follow the mouse with level and width while its button is held."""
        layer = image_to_window(self._main)
        if layer is None or not _moves_picture(model):
            return
        limits, (x, y) = tuple(layer.contrast_limits), (float(v) for v in event.pos[:2])
        yield
        while event.type == "mouse_move":
            set_limits(layer, *dragged(limits, float(event.pos[0]) - x, y - float(event.pos[1])))
            yield

    def _locate(self, model: Any, event: Any) -> Iterator[None]:
        """Send every view to the point that was clicked; a drag is none."""
        if not _moves_picture(model) or self._main.dims.ndim != 3:
            return
        pressed = np.asarray(event.pos[:2], dtype=float)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos[:2], dtype=float) - pressed).max() <= _CLICK_PIXELS:
            point = tuple(float(v) for v in event.position)
            self._main.dims.set_point(range(3), point)
            self._clicked(point)


def _moves_picture(model: Any) -> bool:
    """Whether the left button moves the picture: no tool of a layer has it."""
    active = model.layers.selection.active
    return active is None or active.mode == "pan_zoom"

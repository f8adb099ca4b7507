"""Grey values of images: CT windows by name, and level and width by dragging with the right button."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from segexplorer.faces.napari import pictures
from segexplorer.faces.napari.layers import METADATA

_WIDTH_PIXELS = 150.0
"""Dragging so far to the right multiplies the width by e."""
_LEVEL_PIXELS = 300.0
"""Dragging so far up raises the level by the width there was."""
_RIGHT_BUTTON = 2


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
    """Show `low` black and `high` white, widening the range that can be chosen where they lie beyond it."""
    first, last = layer.contrast_limits_range
    if low < first or high > last:
        layer.contrast_limits_range = (min(first, low), max(last, high))
    layer.contrast_limits = (low, high)


def apply_window(layer: Any, name: str) -> None:
    """Show an image in a CT window by name, one of `pictures.WINDOWS`."""
    level, width = pictures.WINDOWS[name]
    set_limits(layer, level - width / 2, level + width / 2)


def dragged(limits: tuple[float, float], right: float, up: float) -> tuple[float, float]:
    """Return the limits after dragging so many pixels to the right (wider) and up (higher level)."""
    low, high = limits
    level, width = (low + high) / 2, high - low
    level += up / _LEVEL_PIXELS * width
    width *= math.exp(max(-20.0, min(20.0, right / _WIDTH_PIXELS)))
    return level - width / 2, level + width / 2


def drag_window(viewer: Any, event: Any) -> Iterator[None]:
    """Follow the mouse with level and width while its right button is held; napari's mouse callback."""
    layer = image_to_window(viewer)
    if event.button != _RIGHT_BUTTON or event.modifiers or viewer.dims.ndisplay != 2 or layer is None:
        return
    camera = viewer.scene.camera
    panned, limits = camera.mouse_pan, tuple(layer.contrast_limits)
    x, y = (float(v) for v in event.pos[:2])
    camera.mouse_pan = False  # vispy would zoom
    try:
        yield
        while event.type == "mouse_move":
            set_limits(layer, *dragged(limits, float(event.pos[0]) - x, y - float(event.pos[1])))
            yield
    finally:
        camera.mouse_pan = panned

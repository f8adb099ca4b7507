"""`segexplorer.view`: the one door through which other faces and scripts open napari, lazily and by name."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import MissingExtraError

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume

QT_BINDINGS = ("PySide6", "PyQt6", "PyQt5", "PySide2")


def require_window() -> None:
    """Make sure that a window could open.

    Raises
    ------
    MissingExtraError
        When no Qt binding is installed.
    """
    if not any(importlib.util.find_spec(name) for name in QT_BINDINGS):
        raise MissingExtraError.of("PySide6", "all", "The window")


def view(*things: str | Path | Volume, block: bool = True) -> Any:
    """Open images and labels in napari, with the dock.

    Parameters
    ----------
    things
        Paths of images and labels, or volumes in memory; an integer volume is shown as a label.
    block
        Whether to wait until the window is closed; in a notebook or IPython with `%gui qt` use False.

    Returns
    -------
    napari.Viewer

    Raises
    ------
    MissingExtraError
        When no Qt binding is installed.
    DataError
        When a file cannot be read.
    """
    require_window()
    opening = importlib.import_module("segexplorer.faces.napari.opening")
    viewer = opening.open_viewer(things)
    if block:
        importlib.import_module("napari").run()
    return viewer

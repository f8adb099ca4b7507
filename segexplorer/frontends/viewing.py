"""`segexplorer.view`: through it other frontends and scripts open napari, lazily and by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import MissingExtraError

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume
    from segexplorer.training.result_scores import Scoring

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
    """Open images and labels in napari, one over the other, with the dock.

    Parameters
    ----------
    things
        Paths of images and labels, or volumes in memory. Few different whole numbers are taken for a label.
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
        When a file cannot be read; no window is opened then.
    """
    require_window()
    pictures = [picture_of(volume, number) for number, volume in enumerate(open_all(things), start=1)]
    napari = importlib.import_module("napari")
    layers = importlib.import_module("segexplorer.frontends.napari.layers")
    viewer = napari.Viewer(title="Segmentation Explorer")
    shown = layers.CaseLayers(viewer)
    for picture in pictures:
        shown.show(picture)
    viewer.window.add_plugin_dock_widget("segexplorer")
    if block:
        napari.run()
    return viewer


def view_results(
    asked: Sequence[Mapping[str, Any]], scoring: Scoring | None = None, *, block: bool = True
) -> Any:
    """Open napari with the dock and the case table of result folders.

    Parameters
    ----------
    asked
        A dictionary per folder: `folder`, and where wanted `labels`, `images`, `kind`, `pattern`, `settings`.
    scoring
        How cases are scored.
    block
        Whether to wait until the window is closed.

    Returns
    -------
    napari.Viewer

    Raises
    ------
    MissingExtraError
        When no Qt binding is installed.
    """
    require_window()
    napari = importlib.import_module("napari")
    results = importlib.import_module("segexplorer.frontends.napari.panels.results")
    viewer = napari.Viewer(title="Segmentation Explorer")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    folders = [results.Asked(**one) for one in asked]

    def begin() -> None:
        dock.workbench.fold(True)  # who only looks needs the room that napari's layer controls take
        dock.cases.results.open(folders, scoring)

    dock.ready.connect(begin)
    if block:
        napari.run()
    return viewer


def open_all(things: Sequence[str | Path | Volume]) -> list[Volume]:
    """Open what is not open; contours and segments of DICOM take the grid of the first volume."""
    from segexplorer.data.io import open_volume
    from segexplorer.data.volume import Volume

    volumes: list[Volume] = []
    for thing in things:
        like = volumes[0] if volumes else None
        volumes.append(thing if isinstance(thing, Volume) else open_volume(thing, like=like))
    return volumes


def picture_of(volume: Volume, number: int) -> Any:
    """Return the layer to be of a volume."""
    reader = importlib.import_module("segexplorer.frontends.napari.io")
    pictures = importlib.import_module("segexplorer.viewmodels.layer_images")
    path = volume.provenance.path
    name = reader.stem(path) if path is not None else f"volume {number}"
    key, named = f"view/{number}", volume.label_names
    if named:
        values = {v: named.get(v, f"label {v}") for v in pictures.label_values(volume.array)}
        return pictures.label_picture(volume, name, values, key=key)
    if reader.looks_like_label(path or Path(), volume.array):
        return pictures.label_picture(volume, name, key=key)
    return pictures.image_picture(volume, name, key=key)

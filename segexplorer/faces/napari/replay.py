"""The window with a run that was: curves grow and predictions change as they did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari

from segexplorer.core.errors import SegExplorerError
from segexplorer.faces.napari.dock import TABS
from segexplorer.faces.napari.past import Past
from segexplorer.training.history import Frame, open_run
from segexplorer.training.replay import Replay
from segexplorer.training.snapshots import WatchedSnapshot


def show_replay(folder: Path, speed: float) -> Any:
    """Open the window, replay a run folder in it, and wait until it is closed.

    Raises
    ------
    DataError
        When the folder is no run folder, or nothing happened in it yet; no window is opened then.
    """
    replay = replay_for_viewer(folder, speed)
    viewer = napari.Viewer(title=f"Segmentation Explorer: replay of {folder.name}")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")

    def begin() -> None:
        dock.tabs.setCurrentIndex(TABS.index("Run"))
        dock.run.begin(replay)

    dock.ready.connect(begin)
    napari.run()
    return viewer


def replay_for_viewer(folder: Path, speed: float) -> Replay:
    """Return the replay of a run folder with the watched cases, and their labels where the data is here."""
    return Replay(folder, speed, load=_loader(folder))


def _loader(folder: Path) -> Callable[[Frame], WatchedSnapshot]:
    """Return what reads a frame with the label of its case, or alone where the data is not on this machine."""
    past = Past(open_run(folder).experiment)

    def load(frame: Frame) -> WatchedSnapshot:
        try:
            return past.snapshot(frame)
        except SegExplorerError:  # a shared run, another machine: the prediction is shown without its errors
            return frame.load()

    return load

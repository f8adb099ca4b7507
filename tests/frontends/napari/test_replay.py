"""A run that was, in the window: its curves and watched cases come again, and nothing can be changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from segexplorer.core.events import RunFinished
from segexplorer.frontends.napari.dock import SegmentationExplorer, replay_for_viewer
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

SETTINGS: dict[str, Any] = {
    "data": {"kind": "phantom", "count": 2, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [32, 32, 32], "batch_size": 1, "steps_per_epoch": 2},
    "network": {"kind": "unet", "base_features": 2, "levels": 2},
    "loss": "tversky",
    "schedule": {"kind": "constant", "epochs": 2},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(RunFolder.create(Experiment.of(SETTINGS), tmp_path_factory.mktemp("replay") / "run"))
    list(run)
    return run.folder


def test_watched_cases_come_with_their_labels_where_the_data_is(folder: Path) -> None:
    replay = replay_for_viewer(folder, math.inf)
    list(replay)
    shown = replay.watched.last("validation")
    assert shown is not None and shown.truth is not None and shown.truth.shape == shown.prediction.shape


def test_watched_cases_come_alone_where_it_is_not(folder: Path) -> None:
    moved = {"kind": "folder", "root": "/nowhere", "classes": {"liver": 1}}
    RunFolder.open(folder).save_experiment(Experiment.of({**SETTINGS, "data": moved}))
    try:
        replay = replay_for_viewer(folder, math.inf)
        list(replay)
        shown = replay.watched.last("validation")
        assert shown is not None and shown.truth is None and shown.prediction.any()
    finally:
        RunFolder.open(folder).save_experiment(Experiment.of(SETTINGS))


@pytest.mark.gui
def test_the_window_follows_a_replay_as_it_follows_a_run(folder: Path, viewer: Any, qtbot: Any) -> None:
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    assert isinstance(dock, SegmentationExplorer)
    qtbot.waitUntil(lambda: dock.tabs is not None)
    ends: list[RunFinished] = []
    dock.bridge.ended.connect(ends.append)
    before = (folder / "events.jsonl").read_bytes()
    dock.run.begin(replay_for_viewer(folder, math.inf))
    qtbot.waitUntil(lambda: bool(ends))
    assert ends[0].state == "finished" and ends[0].step == 4
    qtbot.waitUntil(lambda: set(dock.layers.keys) >= {"image", "errors"})
    assert not dock.run.buttons.extend.isEnabled() and not dock.run.buttons.predict.isEnabled()
    assert (folder / "events.jsonl").read_bytes() == before

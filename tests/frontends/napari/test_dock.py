"""The whole plug-in in a real window, with real runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from segexplorer.core.events import RunFinished
from segexplorer.frontends.napari.dock import LOADING, SegmentationExplorer
from segexplorer.training.experiment import Experiment

pytestmark = pytest.mark.gui
TITLES = ("Cases", "Experiment", "Run", "Inspect")
SETTINGS: dict[str, Any] = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "squared_dice_ce_adaptive_region",
    "schedule": {"kind": "polynomial", "epochs": 200},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


@pytest.fixture
def dock(viewer: Any, qtbot: Any, tmp_path: Path) -> SegmentationExplorer:
    _, made = viewer.window.add_plugin_dock_widget("segexplorer")
    assert isinstance(made, SegmentationExplorer)
    assert made.message.text() == LOADING
    qtbot.waitUntil(lambda: made.tabs is not None, timeout=60_000)
    made.run.set_folder(tmp_path / "runs")
    return made


def click(qtbot: Any, button: Any) -> None:
    qtbot.waitUntil(button.isEnabled, timeout=20_000)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def start(dock: SegmentationExplorer, qtbot: Any) -> Any:
    dock.experiment.set_experiment(Experiment.of(SETTINGS))
    dock.show_tab("run")
    click(qtbot, dock.run.buttons.start)
    qtbot.waitUntil(lambda: dock.inspect.seen is not None, timeout=60_000)
    return dock.bridge.run


def test_tabs_stand_in_the_order_of_work(dock: SegmentationExplorer, viewer: Any) -> None:
    assert tuple(dock.tabs.tabText(i) for i in range(dock.tabs.count())) == TITLES
    assert "Segmentation Explorer: plots" in viewer.window.dock_widgets
    assert not dock.run.buttons.start.isEnabled()
    assert "No case is chosen yet" in dock.run.why_not.text()


def test_a_real_run_is_shown_held_changed_and_stopped(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    run = start(dock, qtbot)
    assert set(dock.layers.keys) >= {"image", "errors", "balance"}
    assert dock.layers.layer("image") == viewer.layers[0]
    errors = dock.layers.layer("errors")
    first = errors.metadata["segexplorer"], errors.name
    qtbot.waitUntil(lambda: dock.layers.layer("errors").name != first[1], timeout=30_000)
    assert len(viewer.layers) == 3
    click(qtbot, dock.run.buttons.pause)
    qtbot.waitUntil(lambda: run.state == "paused", timeout=20_000)
    click(qtbot, dock.run.buttons.step)
    qtbot.waitUntil(lambda: dock.inspect.snapshot.partial, timeout=20_000)
    viewer.layers.remove(viewer.layers["errors"] if "errors" in viewer.layers else viewer.layers[1])
    viewer.layers[-1].name = "renamed by the user"
    click(qtbot, dock.run.buttons.pause)
    click(qtbot, dock.run.buttons.predict)
    qtbot.wait(500)
    assert viewer.layers[-1].name == "renamed by the user" and len(viewer.layers) == 2
    click(qtbot, dock.run.buttons.stop)
    qtbot.waitUntil(dock.run.buttons.start.isEnabled, timeout=20_000)
    assert run.state == "stopped" and (run.folder / "checkpoints" / "last").is_file()


def test_taking_the_dock_away_stops_the_run_and_keeps_its_checkpoint(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    run = start(dock, qtbot)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: run.state == "stopped", timeout=20_000)
    assert dock.bridge.wait(20)
    assert (run.folder / "checkpoints" / "last").is_file()
    viewer.layers.clear()
    qtbot.wait(200)


def test_a_real_failure_is_reported_and_the_form_is_ready_again(
    dock: SegmentationExplorer, qtbot: Any
) -> None:
    broken = {**SETTINGS, "data": {"kind": "folder", "root": "/nowhere", "classes": {"liver": 1}}}
    dock.experiment.set_experiment(Experiment.of(broken))
    ends: list[RunFinished] = []
    dock.bridge.ended.connect(ends.append)
    click(qtbot, dock.run.buttons.start)
    qtbot.waitUntil(lambda: bool(ends), timeout=20_000)
    assert ends[0].state == "failed" and "/nowhere" in dock.run.progress.failure.text
    assert dock.run.buttons.start.isEnabled()


@pytest.mark.slow
def test_closing_the_window_in_mid_run_leaves_no_thread_and_no_complaint(tmp_path: Path) -> None:
    program = f"""
        import threading, napari
        from qtpy.QtCore import QTimer
        from segexplorer.training.experiment import Experiment
        viewer = napari.Viewer()
        _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
        def begin():
            dock.experiment.set_experiment(Experiment.of({SETTINGS!r}))
            dock.run.set_folder({str(tmp_path)!r})
            dock.run.start()
        dock.ready.connect(begin)
        def look():
            if dock.inspect is not None and dock.inspect.seen is not None:
                timer.stop()
                dock.window().close()
        timer = QTimer()
        timer.timeout.connect(look)
        timer.start(50)
        napari.run()
        assert dock.bridge.wait(30)
        assert dock.bridge.run.state == "stopped", dock.bridge.run.state
        print("over")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "over" in done.stdout
    assert "Internal C++ object" not in done.stderr and "Traceback" not in done.stderr
    (folder,) = tmp_path.iterdir()
    assert (folder / "checkpoints" / "last").is_file()

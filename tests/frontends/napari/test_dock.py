"""The whole plug-in in a real window, with real runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import napari
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QScrollArea

from segexplorer.frontends.napari.dock import LOADING, SegmentationExplorer
from segexplorer.frontends.napari.leaving import DOCK, NAPARI, Answer, QuestionBox, resume_detached
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.ownership import holder_of

pytestmark = pytest.mark.gui
TITLES = ("Cases", "Experiment", "Run", "Inspect", "Why")
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
    qtbot.waitUntil(lambda: made.tabs is not None, timeout=180_000)
    made.run.set_folder(tmp_path / "runs")
    return made


def click(qtbot: Any, button: Any) -> None:
    qtbot.waitUntil(button.isEnabled)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def start(dock: SegmentationExplorer, qtbot: Any) -> Any:
    dock.experiment.set_experiment(Experiment.of(SETTINGS))
    dock.show_tab("run")
    click(qtbot, dock.run.buttons.start)
    qtbot.waitUntil(lambda: dock.inspect.seen is not None)
    return dock.bridge.run


def test_tabs_stand_in_the_order_of_work(dock: SegmentationExplorer, viewer: Any) -> None:
    assert tuple(dock.tabs.tabText(i) for i in range(dock.tabs.count())) == TITLES
    assert "Plots (Segmentation Explorer)" in viewer.window.dock_widgets
    assert not dock.run.buttons.start.isEnabled()
    assert "No case is chosen yet" in dock.run.start_reason.text()


def test_every_tab_fits_a_narrow_dock_with_many_classes_of_long_names(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    name = "left superior segment of the lower lobe of the lung, part"
    dock.cases.class_table.set_classes({f"{name} {n:03}": (n,) for n in range(1, 105)})
    dock.experiment.form.set(Experiment.of(SETTINGS))
    window = dock.window()
    window.resize(1024, 768)
    window.resizeDocks([dock.parent()], [381], Qt.Orientation.Horizontal)
    for kind in ("cases", "experiment", "run", "inspect"):
        dock.show_tab(kind)
        qtbot.wait(50)
        assert dock.tabs.width() <= 381, kind
        areas = [a for a in dock.tabs.currentWidget().findChildren(QScrollArea) if a.isVisible()]
        assert areas, kind
        for area in areas:
            assert area.widget().minimumSizeHint().width() <= area.viewport().width(), kind
    assert window.width() <= 1024 and window.height() <= 768


def test_a_real_run_is_shown_held_changed_and_stopped(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    run = start(dock, qtbot)
    dock.display.issue("choose_class", 1)
    qtbot.waitUntil(lambda: {"image", "errors", "balance"} <= set(dock.layers.keys))
    assert dock.layers.layer("image") == viewer.layers[0]
    errors = dock.layers.layer("errors")
    first = errors.metadata["segexplorer"], errors.name
    qtbot.waitUntil(lambda: dock.layers.layer("errors").name != first[1])
    assert len(viewer.layers) == 3
    click(qtbot, dock.run.buttons.pause)
    qtbot.waitUntil(lambda: run.state == "paused")
    click(qtbot, dock.run.buttons.step)
    qtbot.waitUntil(lambda: dock.display.screen.caption.step.endswith("(this slice)"))
    viewer.layers.remove(viewer.layers["errors"] if "errors" in viewer.layers else viewer.layers[1])
    viewer.layers[-1].name = "renamed by the user"
    click(qtbot, dock.run.buttons.pause)
    click(qtbot, dock.run.buttons.predict)
    qtbot.wait(500)
    assert viewer.layers[-1].name == "renamed by the user" and len(viewer.layers) == 2
    click(qtbot, dock.run.buttons.stop)
    qtbot.waitUntil(dock.run.buttons.start.isEnabled)
    assert run.state == "stopped" and (run.folder / "checkpoints" / "last").is_file()


def test_taking_the_dock_away_stops_the_run_and_keeps_its_checkpoint(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    run = start(dock, qtbot)
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: run.state == "stopped")
    assert dock.bridge.wait(20)
    assert (run.folder / "checkpoints" / "last").is_file()
    viewer.layers.clear()
    qtbot.wait(200)


def test_what_the_plan_refuses_cannot_be_started_and_a_click_leads_to_the_field(
    dock: SegmentationExplorer, qtbot: Any
) -> None:
    broken = {**SETTINGS, "data": {"kind": "folder", "root": "/nowhere", "classes": {"liver": 1}}}
    dock.experiment.set_experiment(Experiment.of(broken))
    assert not dock.run.buttons.start.isEnabled()
    qtbot.waitUntil(lambda: "/nowhere" in dock.run.start_reason.text())
    assert not dock.run.buttons.start.isEnabled() and dock.run.why_not.text() == ""
    few = {**SETTINGS, "data": {**SETTINGS["data"], "count": 1}, "split": {}}
    dock.experiment.set_experiment(Experiment.of(few))
    qtbot.waitUntil(lambda: "held out" in dock.run.start_reason.text())
    reason = dock.run.start_reason.text()
    assert "split." not in reason.partition("<a href")[0], "settings are named as on the screen"
    dock.show_tab("run")
    dock.run.start_reason.linkActivated.emit("split.self_validation")
    assert dock.tabs.currentWidget() is dock.cases
    dock.experiment.set_experiment(Experiment.of(SETTINGS))
    qtbot.waitUntil(dock.run.buttons.start.isEnabled)
    assert dock.run.start_reason.text() == ""


def press_when_asked(qtbot: Any, answer: Answer) -> list[str]:
    """Let somebody press an answer of the next dialog; the title of the dialog will be in the list."""
    titles: list[str] = []

    def look() -> None:
        box = QuestionBox.on_screen()
        if box is None:
            QTimer.singleShot(50, look)
            return
        titles.append(box.windowTitle())
        qtbot.mouseClick(box.button_for(answer), Qt.MouseButton.LeftButton)

    QTimer.singleShot(50, look)
    return titles


def test_the_cross_of_the_dock_asks_and_training_can_go_on_without_it(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any
) -> None:
    run = start(dock, qtbot)
    cross = dock.parent().titleBarWidget().close_button
    titles = press_when_asked(qtbot, "cancel")
    qtbot.mouseClick(cross, Qt.MouseButton.LeftButton)
    assert titles == [DOCK.title] and dock.isVisible() and run.state == "running"
    titles = press_when_asked(qtbot, "background")
    qtbot.mouseClick(cross, Qt.MouseButton.LeftButton)
    assert titles == [DOCK.title] and not dock.isVisible()
    before = open_run(run.folder).events()[-1].step
    qtbot.waitUntil(lambda: open_run(run.folder).events()[-1].step > before + 3)
    entries = viewer.window.plugins_menu.actions()
    next(entry for entry in entries if "Segmentation Explorer" in entry.text()).trigger()
    assert dock.isVisible() and dock.bridge.run is run and run.state == "running"
    titles = press_when_asked(qtbot, "stop")
    qtbot.mouseClick(cross, Qt.MouseButton.LeftButton)
    assert titles == [DOCK.title]
    qtbot.waitUntil(lambda: run.state == "stopped")
    assert dock.bridge.wait(20) and (run.folder / "checkpoints" / "last").is_file()


@pytest.mark.slow
def test_closing_the_window_in_mid_run_leaves_no_thread_and_no_complaint(tmp_path: Path) -> None:
    program = f"""
        import napari
        from qtpy.QtCore import QTimer
        from segexplorer.frontends.napari.leaving import QuestionBox
        from segexplorer.training.experiment import Experiment
        viewer = napari.Viewer()
        _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
        def begin():
            dock.experiment.set_experiment(Experiment.of({SETTINGS!r}))
            dock.run.set_folder({str(tmp_path)!r})
            dock.run.start()
        dock.ready.connect(begin)
        answers, states = ["cancel", "stop"], []
        def look():
            box = QuestionBox.on_screen()
            if box is not None:
                states.append(dock.bridge.run.state)
                box.button_for(answers.pop(0)).click()
            elif answers and dock.inspect is not None and dock.inspect.seen is not None:
                QTimer.singleShot(0, dock.window().close)  # it waits for the answer, which this timer brings
        timer = QTimer()
        timer.timeout.connect(look)
        timer.start(50)
        napari.run()
        assert dock.bridge.wait(30)
        assert states == ["running", "running"], states
        assert dock.bridge.run.state == "stopped", dock.bridge.run.state
        print("over")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "over" in done.stdout
    assert "Internal C++ object" not in done.stderr and "Traceback" not in done.stderr
    (folder,) = tmp_path.iterdir()
    assert (folder / "checkpoints" / "last").is_file()
    assert holder_of(folder) is None, "the folder is free for who goes on with it"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the other process is ended by a signal")
def test_a_run_is_handed_over_to_a_process_that_trains_on_without_napari(qtbot: Any, tmp_path: Path) -> None:
    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: dock.tabs is not None, timeout=180_000)
    dock.run.set_folder(tmp_path)
    run = start(dock, qtbot)
    window, gone, processes = dock.window(), [], []
    dock.leaving.hand_over = lambda folder: processes.append(resume_detached(folder))
    window.destroyed.connect(lambda _=None: gone.append(True))
    titles = press_when_asked(qtbot, "hand_over")
    assert not window.close()
    assert titles == [NAPARI.title]
    qtbot.waitUntil(lambda: bool(gone))
    stopped_at = open_run(run.folder).events()[-1].step
    (process,) = processes
    try:
        qtbot.waitUntil(lambda: holder_of(run.folder) is not None)
        owner = holder_of(run.folder)
        assert owner is not None and owner.pid == process.pid != os.getpid()
        assert os.getsid(owner.pid) != os.getsid(0), "it outlives this process and its terminal"
        qtbot.waitUntil(lambda: open_run(run.folder).events()[-1].step > stopped_at)
        assert open_run(run.folder).events()[-1].attempt == 2
        assert open_run(run.folder).state == "running"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert holder_of(run.folder) is None
    assert open_run(run.folder).state == "stopped"

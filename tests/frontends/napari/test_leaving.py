"""Closing the dock or napari while a run trains: nothing is stopped unasked, and a run can be handed over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow

from segexplorer.core.errors import DiskError
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments
from segexplorer.frontends.napari.leaving import (
    DOCK,
    NAPARI,
    PAINTED,
    RACE_DOCK,
    RACE_NAPARI,
    Answer,
    Leaving,
    Question,
    QuestionBox,
    ask_user,
    resume_detached,
)
from segexplorer.frontends.napari.linked_views import EdgeLetters
from segexplorer.frontends.napari.panels.run import RunPanel
from segexplorer.session import Session
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.ownership import holder_of
from segexplorer.viewmodels import layer_images
from tests.frontends.napari.scripted import ScriptedRun


class Dock(QDockWidget):  # type: ignore[misc]
    """What the cross of napari's dock does."""

    def destroyOnClose(self) -> None:
        self.widget().setParent(None)


class Scene:
    """A window with a dock, a run that trains, and somebody who answers."""

    def __init__(self, qtbot: Any) -> None:
        self.bridge, self.run = RunBridge(), ScriptedRun()
        self.window, self.dock, self.widget = QMainWindow(), Dock(), QLabel("in the dock")
        qtbot.addWidget(self.window)
        self.dock.setWidget(self.widget)
        self.window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.window.show()
        self.leaving = Leaving(self.widget, self.bridge)
        self.leaving.follow()
        self.asked: list[Any] = []
        self.handed: list[Path] = []
        self.leaving.hand_over = self.handed.append

    def answers(self, answer: Answer) -> None:
        def ask(question: Any, parent: Any) -> Answer:
            self.asked.append(question)
            assert answer in dict(question.answers)
            return answer

        self.leaving.ask = ask

    def trains(self, qtbot: Any) -> None:
        self.bridge.start(self.run)
        qtbot.waitUntil(lambda: self.run.done > 3)


@pytest.fixture
def scene(qtbot: Any) -> Iterator[Scene]:
    made = Scene(qtbot)
    yield made
    made.bridge.close()
    assert made.bridge.wait(5)


def test_closing_the_dock_in_mid_run_asks_and_does_what_is_answered(scene: Scene, qtbot: Any) -> None:
    scene.trains(qtbot)
    scene.answers("cancel")
    scene.dock.destroyOnClose()
    assert scene.asked == [DOCK] and scene.dock.isVisible() and scene.run.state == "running"
    scene.answers("background")
    scene.dock.destroyOnClose()
    assert not scene.dock.isVisible() and scene.dock.widget() is scene.widget
    before = scene.run.done
    qtbot.waitUntil(lambda: scene.run.done > before + 3)
    scene.dock.show()
    scene.answers("stop")
    scene.dock.destroyOnClose()
    assert scene.widget.parent() is None, "the dock is taken away, by which the run is stopped and saved"


def test_without_training_nobody_is_asked(scene: Scene) -> None:
    scene.answers("cancel")
    scene.dock.destroyOnClose()
    assert scene.asked == [] and scene.widget.parent() is None
    scene.window.close()
    assert not scene.window.isVisible()


def test_closing_napari_in_mid_run_can_be_cancelled(scene: Scene, qtbot: Any) -> None:
    scene.trains(qtbot)
    scene.answers("cancel")
    assert not scene.window.close()
    assert scene.asked == [NAPARI] and scene.window.isVisible() and scene.run.state == "running"


@pytest.mark.parametrize("answer", ["stop", "hand_over"])
@pytest.mark.parametrize("paused", [False, True])
def test_napari_closes_once_the_run_is_saved(scene: Scene, qtbot: Any, answer: Answer, paused: bool) -> None:
    scene.trains(qtbot)
    if paused:
        scene.run.pause()
        qtbot.waitUntil(lambda: scene.run.state == "paused")
    scene.answers(answer)
    assert not scene.window.close() and scene.window.isVisible()
    assert not scene.window.close(), "who is impatient is not asked again"
    qtbot.waitUntil(lambda: not scene.window.isVisible())
    assert scene.run.state == "stopped" and not scene.bridge.busy and scene.asked == [NAPARI]
    assert scene.handed == ([scene.run.folder] if answer == "hand_over" else [])


class Painter:
    """Somebody who has painted, and whose label is saved when the test says so."""

    def __init__(self) -> None:
        self.painted, self.then = True, []

    def save(self, then: Any) -> None:
        self.then.append(then)

    def saved(self) -> None:
        self.painted = False
        self.then.pop()()


@pytest.mark.parametrize("what", ["dock", "napari"])
def test_a_painted_label_is_not_lost_unasked(scene: Scene, qtbot: Any, what: str) -> None:
    painter = scene.leaving.painter = Painter()
    close = scene.dock.destroyOnClose if what == "dock" else scene.window.close
    closed = (lambda: scene.widget.parent() is None) if what == "dock" else (lambda: scene.window.isHidden())
    scene.answers("cancel")
    close()
    assert scene.asked == [PAINTED] and not closed() and painter.then == []
    scene.answers("save")
    close()
    assert not closed(), "not before it is on the disk"
    painter.saved()
    assert closed() and len(scene.asked) == 2


@pytest.mark.parametrize("what", ["dock", "napari"])
def test_what_was_painted_may_go(scene: Scene, what: str) -> None:
    scene.leaving.painter = Painter()
    scene.answers("discard")
    (scene.dock.destroyOnClose if what == "dock" else scene.window.close)()
    assert scene.asked == [PAINTED]
    assert scene.widget.parent() is None if what == "dock" else scene.window.isHidden()


def test_after_the_painted_label_the_run_is_asked_for(scene: Scene, qtbot: Any) -> None:
    scene.trains(qtbot)
    scene.leaving.painter = Painter()

    def ask(question: Any, parent: Any) -> Answer:
        scene.asked.append(question)
        return "discard" if question == PAINTED else "cancel"

    scene.leaving.ask = ask
    scene.window.close()
    assert scene.asked == [PAINTED, NAPARI] and scene.window.isVisible()
    scene.window.close()
    assert scene.asked[2:] == [PAINTED, NAPARI], "who stays is asked again"


class Races:
    trains = True


@pytest.mark.parametrize("what", ["dock", "napari"])
def test_a_race_that_is_trained_is_not_stopped_unasked(scene: Scene, what: str) -> None:
    scene.leaving.races = Races()
    close = scene.dock.destroyOnClose if what == "dock" else scene.window.close
    closed = (lambda: scene.widget.parent() is None) if what == "dock" else (lambda: scene.window.isHidden())
    scene.answers("cancel")
    close()
    assert not closed()
    if what == "dock":
        scene.answers("background")
        close()
        assert scene.dock.isHidden() and not closed(), "the race goes on without the dock"
        scene.dock.show()
    scene.answers("stop")
    close()
    assert closed() and set(scene.asked) == {RACE_DOCK if what == "dock" else RACE_NAPARI}


def test_nobody_is_asked_twice_at_a_time(scene: Scene, qtbot: Any) -> None:
    scene.trains(qtbot)

    def ask(question: Any, parent: Any) -> Answer:
        scene.asked.append(question)
        scene.window.close()
        scene.dock.destroyOnClose()
        return "cancel"

    scene.leaving.ask = ask
    scene.window.close()
    assert scene.asked == [NAPARI] and scene.window.isVisible() and scene.dock.isVisible()
    scene.window.close()
    assert scene.asked == [NAPARI, NAPARI], "it is asked again the next time"
    assert scene.run.state == "running"


def test_a_run_that_cannot_be_handed_over_keeps_napari_open(scene: Scene, qtbot: Any) -> None:
    def refuse(folder: Path) -> None:
        raise DiskError("The run could not be handed over.", "It is saved.")

    scene.trains(qtbot)
    scene.answers("hand_over")
    scene.leaving.hand_over = refuse
    scene.window.close()
    qtbot.waitUntil(lambda: not scene.bridge.busy)
    qtbot.wait(50)
    assert scene.window.isVisible() and scene.run.state == "stopped"
    assert scene.window.close()


@pytest.mark.parametrize(
    ("question", "answer"), [(q, answer) for q in (DOCK, NAPARI) for answer, _ in q.answers]
)
def test_the_dialog_offers_its_answers_and_each_can_be_pressed(
    scene: Scene, qtbot: Any, question: Question, answer: Answer
) -> None:
    written: list[str] = []

    def press() -> None:
        box = QuestionBox.on_screen()
        assert box is not None
        written.append(box.button_for(answer).text())
        qtbot.mouseClick(box.button_for(answer), Qt.MouseButton.LeftButton)

    QTimer.singleShot(50, press)
    assert ask_user(question, scene.window) == answer
    assert written == [dict(question.answers)[answer]] and QuestionBox.on_screen() is None


def test_the_cross_of_the_dialog_and_escape_cancel(scene: Scene, qtbot: Any) -> None:
    QTimer.singleShot(50, lambda: qtbot.keyClick(QuestionBox.on_screen(), Qt.Key.Key_Escape))
    assert ask_user(NAPARI, scene.window) == "cancel"
    QTimer.singleShot(50, lambda: QuestionBox.on_screen().close())
    assert ask_user(DOCK, scene.window) == "cancel"


def test_what_the_user_opened_stays_the_right_way_up_when_the_dock_goes(qtbot: Any) -> None:
    viewer, canvas = ViewerModel(), QLabel()
    qtbot.addWidget(canvas)
    canvas.resize(300, 200)
    canvas.show()
    before = tuple(viewer.scene.camera.orientation)
    display = Display(viewer, RunBridge(), CaseLayers(viewer))
    scan = Volume.from_array(np.zeros((4, 5, 6), np.int16), affine=np.eye(4))
    opened = layer_images.image_picture(scan, "scan")
    viewer.add_image(opened.data, **layer_arguments(opened))
    display.layers.show(layer_images.image_picture(scan, "image of a run"))
    turned = tuple(viewer.scene.camera.orientation)
    assert turned != before
    display.closing()
    display.leave_viewer()
    assert [layer.name for layer in viewer.layers] == ["scan"]
    assert tuple(viewer.scene.camera.orientation) == turned and display.layers.oriented
    letters = EdgeLetters(viewer, canvas, display.layers)
    assert letters.shown["left"] == "R"
    again = Display(viewer, RunBridge(), CaseLayers(viewer))  # the dock is opened again, and closed
    again.closing()
    again.leave_viewer()
    assert tuple(viewer.scene.camera.orientation) == turned
    viewer.layers.clear()
    assert tuple(viewer.scene.camera.orientation) == before and letters.shown == {}
    letters.closing()


TINY = {
    "data": {"kind": "phantom", "count": 3, "size": 16, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "dice",
    "schedule": {"kind": "polynomial", "epochs": 100_000},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


@pytest.mark.slow
def test_a_run_that_was_handed_over_trains_on_and_the_window_says_whose_it_is(
    qtbot: Any, tmp_path: Path
) -> None:
    folder = RunFolder.create(Experiment.of(TINY), tmp_path / "run").path
    assert holder_of(folder) is None
    process = resume_detached(folder)
    try:
        deadline = time.monotonic() + 120
        while (owner := holder_of(folder)) is None and time.monotonic() < deadline:
            assert process.poll() is None, "the process has ended"
            time.sleep(0.1)
        assert owner is not None and owner.pid == process.pid != os.getpid()
        if os.name == "posix":
            assert os.getsid(process.pid) != os.getsid(0), "it outlives this process and its terminal"
        viewer, bridge = ViewerModel(), RunBridge()
        display = Display(viewer, bridge, CaseLayers(viewer))
        panel = RunPanel(Session(), viewer, bridge, lambda: lambda: Experiment.of(TINY), display)
        qtbot.addWidget(panel)
        while not (folder / "events.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        panel.open_run(folder)
        qtbot.waitUntil(lambda: f"in use by process {process.pid}" in panel.why_not.text())
        assert f"in use by process {process.pid}" in display.screen.title
        panel.closing()
        display.closing()
        bridge.close()  # else it goes on looking at the run, for a panel that is gone
        assert bridge.wait(5)
    finally:
        process.send_signal(signal.SIGTERM if os.name == "posix" else signal.SIGINT)
        process.wait(60)
    assert holder_of(folder) is None, "it has given the folder back"

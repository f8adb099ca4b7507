"""The menu "Lectures", and beside the canvas the lecture that is open: question, clicks, answer, step by step.

A lecture opens its recorded run, which is made when it is opened for the first time. It is replayed, so that
nothing that is clicked changes it.
"""

from __future__ import annotations

import math
import threading
from functools import partial
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QMenu, QPushButton, QToolButton, QVBoxLayout, QWidget

from segexplorer.core.errors import RunActiveError, SegExplorerError
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workbench import Workbench
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.lecture_runs import Making
from segexplorer.training.replay import Replay
from segexplorer.viewmodels.lectures import LECTURES, Lecture, Place
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.watched_case import frame_loader

DOCK_NAME = "Lecture"
REACHED = "✓ The window shows it."
_LOOK_MS = 200
_WIDTH = 270


def _text(size: int = 13) -> QLabel:
    """Return a label for a paragraph with bold parts."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.MarkdownText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setStyleSheet(f"font-size: {size}px;")
    return label


class LecturePanel(QWidget):  # type: ignore[misc, unused-ignore]
    """The step of a lecture that a reader is at; draws a `Place`, and holds nothing of it.

    Attributes
    ----------
    title, heading, predict, do, reached, answer
        The texts; `answer` is hidden until it is asked for.
    message
        That the recorded run is being made, or why it cannot be opened.
    show_answer, back, next, leave
        The buttons.
    """

    def __init__(self) -> None:
        super().__init__()
        self.title, self.heading = widgets.heading(""), widgets.guidance()
        self.title.setWordWrap(True)
        self.message = widgets.guidance()
        self.predict, self.do, self.answer = _text(), _text(), _text()
        self.reached = widgets.guidance()
        self.show_answer = QPushButton("Show the answer")
        self.show_answer.setToolTip("First say, or write down, what you expect")
        self.back, self.next = QPushButton("Back"), QPushButton("Next")
        self.leave = QPushButton("End the lecture")
        self.leave.setToolTip("Close this panel; the run stays open")
        self._step = QWidget()
        inner = QVBoxLayout(self._step)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(6)
        for widget in (
            self.heading,
            widgets.heading("Predict"),
            self.predict,
            widgets.heading("Then click"),
            self.do,
            self.reached,
            self.show_answer,
            self.answer,
        ):
            inner.addWidget(widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.back)
        buttons.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.addWidget(widgets.scrolled(self.title, self.message, self._step), 1)
        layout.addLayout(buttons)
        layout.addWidget(self.leave)
        self.setMinimumWidth(220)

    def sizeHint(self) -> Any:
        """Prefer a column that leaves the canvas its room."""
        hint = super().sizeHint()
        hint.setWidth(_WIDTH)
        return hint

    def draw(self, place: Place, message: str, screen: Screen, *, failed: bool) -> None:
        """Show a step; only the message while its run is not open."""
        self.title.setText(place.lecture.title)
        widgets.say(self.message, message, widgets.RED if failed else widgets.GREY)
        opened = not message
        self._step.setVisible(opened)
        widgets.say(self.heading, place.heading)
        step = place.step
        for label, text in ((self.predict, step.predict), (self.do, step.do), (self.answer, step.answer)):
            if label.text() != text:
                label.setText(text)
        widgets.say(self.reached, REACHED if opened and step.reached(screen) else "", widgets.AMBER)
        self.answer.setVisible(place.answered)
        self.show_answer.setVisible(not place.answered)
        widgets.enable(self.back, opened and place.number > 0, "The step before", "This is the first step")
        widgets.enable(self.next, opened and not place.is_last, "The next step", "This is the last step")


class LectureGuide(QObject):  # type: ignore[misc, unused-ignore]
    """Opens lectures in one window, and goes through their steps.

    Parameters
    ----------
    dock
        The plug-in in this window, ready (`dock.SegmentationExplorer`).

    Attributes
    ----------
    panel
        The panel beside the canvas; it is in the window while a lecture is open.
    place
        How far the reader is; None while no lecture is open.
    """

    def __init__(self, dock: Any) -> None:
        super().__init__()
        self._dock = dock
        self._display: Display = dock.display
        self._workbench: Workbench = dock.workbench
        self.panel = LecturePanel()
        self.place: Place | None = None
        self._message, self._failed = "", False
        self._stop = threading.Event()
        self._making: Making | None = None
        self._work = LatestWork(self._on_made, self._on_refused, newest_only=True)
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self._look)
        self._was_folded = True
        panel = self.panel
        panel.show_answer.clicked.connect(lambda _=False: self._go(lambda place: place.revealed()))
        panel.back.clicked.connect(lambda _=False: self._go(lambda place: place.moved(-1)))
        panel.next.clicked.connect(lambda _=False: self._go(lambda place: place.moved(1)))
        panel.leave.clicked.connect(lambda _=False: self.leave())
        self._display.changed.connect(self._on_changed)

    # -- opened -------------------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Open a lecture by its name: its panel at once, its run as soon as it is there."""
        self._stop.set()
        stop = self._stop = threading.Event()
        lecture = LECTURES[name]
        self.place, self._making = Place(lecture), None
        self._show()
        if self._dock.bridge.trains or self._display.reality.making:
            self._say(str(RunActiveError()), failed=True)
            return
        self._say("Opening the recorded run…")
        self._timer.start()

        def report(making: Making) -> None:
            self._making = making  # one assignment; the timer reads it on the main thread

        self._work.send(lambda: (lecture, _replay(lecture.recording.make(report, stop))))

    def _look(self) -> None:
        if self._making is not None and not self._failed:
            self._say(self._making.sentence())

    def _on_made(self, answer: tuple[Lecture, Replay]) -> None:
        lecture, replay = answer
        self._timer.stop()
        if self.place is None or self.place.lecture is not lecture:
            return  # it was closed, or another one was opened meanwhile
        if self._dock.bridge.busy:
            self._on_refused(RunActiveError())
            return
        self._dock.run.begin(replay)
        self._dock.show_tab("inspect")
        self._say("")

    def _on_refused(self, error: SegExplorerError) -> None:
        self._timer.stop()
        self._say(str(error), failed=True)

    def _say(self, message: str, *, failed: bool = False) -> None:
        self._message, self._failed = message, failed
        self._draw()

    # -- shown --------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Bring the panel into the window, where napari's own panels are folded away for it."""
        window = self._dock.viewer.window
        if self.panel.parent() is None:
            self._was_folded = self._workbench.folded
            window.add_dock_widget(self.panel, name=DOCK_NAME, area="left", add_vertical_stretch=False)
        self._workbench.fold(True)
        self.panel.parent().setVisible(True)
        self.panel.setVisible(True)

    def leave(self) -> None:
        """End the lecture; a run that is still being made is not made. What is displayed stays."""
        self._stop.set()
        self._timer.stop()
        self.place = None
        if self.panel.parent() is not None:
            self._dock.viewer.window.remove_dock_widget(self.panel)
            self._workbench.fold(self._was_folded)

    def _go(self, move: Any) -> None:
        if self.place is not None:
            self.place = move(self.place)
            self._draw()

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if parts != {"read_out"}:
            self._draw()

    def _draw(self) -> None:
        if self.place is not None:
            self.panel.draw(self.place, self._message, self._display.screen, failed=self._failed)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._stop.set()
        self._timer.stop()
        self._work.close()
        self._display.changed.disconnect(self._on_changed)


def _replay(folder: Path) -> Replay:
    return Replay(folder, math.inf, load=frame_loader(folder))


class LectureMenu(QToolButton):  # type: ignore[misc, unused-ignore]
    """The menu "Lectures" of the dock.

    Attributes
    ----------
    actions_by_name
        Name of a lecture -> its entry.
    """

    def __init__(self, guide: LectureGuide) -> None:
        super().__init__()
        self.setText("Lectures")
        self.setToolTip("Short lectures over recorded runs: predict, click, and see why")
        self.setStyleSheet("QToolButton { padding: 2px 16px 2px 8px; }")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self.actions_by_name = {name: menu.addAction(found.title) for name, found in LECTURES.items()}
        for name, action in self.actions_by_name.items():
            action.setToolTip(LECTURES[name].about)
            action.triggered.connect(partial(guide.begin, name))
        self.setMenu(menu)


def show_lecture(name: str) -> Any:
    """Open the window with a lecture, and wait until it is closed."""
    viewer = napari.Viewer(title="Segmentation Explorer: lecture")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    dock.ready.connect(lambda: dock.lectures.begin(name))
    napari.run()
    return viewer

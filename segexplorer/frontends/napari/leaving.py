"""What becomes of a run that trains, and of a label that was painted, when the dock or napari is closed.

Nothing is stopped or lost unasked. A program that closes the viewer (`viewer.close()`) is not asked: the run is
stopped at its next boundary and saved.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMessageBox, QPushButton, QWidget

from segexplorer.core.errors import DiskError, RunStateError
from segexplorer.frontends.napari.bridge import RunBridge

Answer = Literal["background", "stop", "hand_over", "save", "discard", "cancel"]


@dataclass(frozen=True)
class Question:
    """A question with its answers and what is written on their buttons; the last answer changes nothing."""

    title: str
    text: str
    answers: tuple[tuple[Answer, str], ...]


DOCK = Question(
    "Close Segmentation Explorer while it trains?",
    "Training can go on without the dock. Open it again from the menu Plugins, and the run is there as it is by "
    "then.",
    (
        ("background", "Go on in the background"),
        ("stop", "Stop and save"),
        ("cancel", "Cancel"),
    ),
)
NAPARI = Question(
    "Close napari while it trains?",
    "A run that is stopped is saved and can be gone on with. Handed over, it trains on without a window, in a "
    "process of its own; open its folder here at any time to look at it.",
    (
        ("stop", "Stop and save"),
        ("hand_over", "Train on without napari"),
        ("cancel", "Cancel"),
    ),
)
RACE_DOCK = replace(DOCK, title="Close Segmentation Explorer while it trains a race?")
RACE_NAPARI = Question(
    "Close napari while it trains a race?",
    "Every lane of a race that is stopped is saved. Open its folder to go on with it.",
    (
        ("stop", "Stop and save"),
        ("cancel", "Cancel"),
    ),
)
PAINTED = Question(
    "Close before the painted label is saved?",
    "It is saved as a new version of the label; the file that it was read from stays as it is.",
    (
        ("save", "Save as a new version"),
        ("discard", "Close without saving"),
        ("cancel", "Cancel"),
    ),
)
Ask = Callable[[Question, QWidget], Answer]


class Painter(Protocol):
    """Who has a label open for painting (`label_painting.LabelPainter`)."""

    @property
    def painted(self) -> bool:
        """Whether there is something to save."""

    def save(self, then: Callable[[], None]) -> None:
        """Save it, and call `then` when it is safe."""


class Races(Protocol):
    """Who trains races (`racing.RaceKeeper`)."""

    @property
    def trains(self) -> bool:
        """Whether a race is being trained."""


class QuestionBox(QMessageBox):  # type: ignore[misc, unused-ignore]
    """The dialog of a question. Its cross and Escape are its last answer, which changes nothing."""

    def __init__(self, question: Question, parent: QWidget) -> None:
        super().__init__(QMessageBox.Icon.Question, question.title, question.text, parent=parent)
        self._buttons = {
            answer: self.addButton(
                text,
                QMessageBox.ButtonRole.RejectRole
                if answer == "cancel"
                else QMessageBox.ButtonRole.AcceptRole,
            )
            for answer, text in question.answers
        }
        first, *_, last = self._buttons
        self.setEscapeButton(self._buttons[last])
        self.setDefaultButton(self._buttons[first])

    @classmethod
    def on_screen(cls) -> QuestionBox | None:
        """Return the dialog that waits for an answer; None where nobody is asked."""
        box = QApplication.activeModalWidget()
        return box if isinstance(box, cls) else None

    def button_for(self, answer: Answer) -> QPushButton:
        """Return the button that gives an answer.

        Raises
        ------
        KeyError
            When the question does not offer it.
        """
        return self._buttons[answer]

    def wait(self) -> Answer:
        """Show the dialog and return what was answered."""
        self.exec()
        pressed = self.clickedButton()
        return next((answer for answer, button in self._buttons.items() if button is pressed), "cancel")


def ask_user(question: Question, parent: QWidget) -> Answer:
    """Ask in a dialog and return the answer; to close the dialog is to cancel."""
    box = QuestionBox(question, parent)
    try:
        return box.wait()
    finally:
        box.deleteLater()


def resume_detached(folder: Path) -> subprocess.Popen[bytes]:
    """Go on with a run in a process that outlives this one: `segexplorer train --resume`.

    The run folder must be free. Its log says how the process fares.

    Raises
    ------
    DiskError
        When no process can be started.
    """
    command = [sys.executable, "-m", "segexplorer.frontends.cli", "train", "--resume", str(folder)]
    nothing = subprocess.DEVNULL
    try:
        if sys.platform == "win32":
            flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
            return subprocess.Popen(
                command, stdin=nothing, stdout=nothing, stderr=nothing, creationflags=flags
            )
        return subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except OSError as error:
        raise DiskError(
            f"The run could not be handed over: {error.strerror}.",
            f"It is saved. Go on with it in a terminal: segexplorer train --resume {folder}",
        ) from error


class Leaving(QObject):  # type: ignore[misc, unused-ignore]
    """Asks before a dock or its window closes over a run that trains or a painted label, and does as answered.

    Parameters
    ----------
    widget
        The widget in the dock.
    bridge
        Knows whether a run is being iterated.

    Attributes
    ----------
    ask
        How the user is asked; a test, or a program, may put another function here.
    hand_over
        Goes on with a run folder without this process.
    painter
        Who may have painted a label; None before there are panels.
    races
        Who may train a race; None before there are panels.
    """

    _window: Any = None
    """On the class, since Qt may still send events when Python has cleared the instance."""

    def __init__(self, widget: QWidget, bridge: RunBridge) -> None:
        super().__init__(widget)
        self._widget, self._bridge = widget, bridge
        self._dock: QDockWidget | None = None
        self._destroy: Callable[[], None] | None = None
        self._then: Answer | None = None
        self._quits = self._asking = False
        self._unsaved_may_go = False
        self.painter: Painter | None = None
        self.races: Races | None = None
        self.ask: Ask = ask_user
        self.hand_over: Callable[[Path], Any] = resume_detached
        bridge.ended.connect(self._on_ended)

    def follow(self) -> None:
        """Find the dock and the window that the widget is in; called when it is shown."""
        parent = self._widget.parentWidget()
        while parent is not None and not isinstance(parent, QDockWidget):
            parent = parent.parentWidget()
        if parent is not None and parent is not self._dock and hasattr(parent, "destroyOnClose"):
            # the cross in the title of napari's dock calls this method, and takes no answer: it is replaced
            self._dock, self._destroy = parent, parent.destroyOnClose
            parent.destroyOnClose = self.close_dock
        if self._window is not self._widget.window():
            self._window = self._widget.window()
            self._window.installEventFilter(self)

    def _answer_to(self, question: Question, parent: QWidget) -> Answer:
        """Ask, but never twice at a time: what closes the window while the question is open changes nothing."""
        if self._asking:
            return "cancel"
        self._asking = True
        try:
            return self.ask(question, parent)
        finally:
            self._asking = False

    def _label_waits(self, parent: QWidget, again: Callable[[], None]) -> bool:
        """Ask about a painted label; whether closing has to wait (`again` closes once it is saved)."""
        if self.painter is None or self._unsaved_may_go or not self.painter.painted:
            return False
        answer = self._answer_to(PAINTED, parent)
        if answer == "save":
            self.painter.save(again)
        self._unsaved_may_go = answer == "discard"
        return not self._unsaved_may_go

    @property
    def _trains_race(self) -> bool:
        return self.races is not None and self.races.trains

    # -- the dock -----------------------------------------------------------------------------------------

    def close_dock(self) -> None:
        """The cross of the dock was pressed."""
        if self._dock is None or self._destroy is None or self._label_waits(self._widget, self.close_dock):
            return
        races = self._trains_race
        trains = races or self._bridge.trains
        answer: Answer = self._answer_to(RACE_DOCK if races else DOCK, self._widget) if trains else "stop"
        if answer == "background":
            self._unsaved_may_go = False
            self._dock.hide()
            show_info("Training goes on. Open Segmentation Explorer from the menu Plugins to see it again.")
        elif answer == "stop":
            self._destroy()

    # -- napari -------------------------------------------------------------------------------------------

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Ask before the window closes; it closes by itself once the run is saved."""
        if watched is not self._window or event.type() != QEvent.Type.Close:
            return False
        if self._then is None:
            if not self._canvas_is_open():
                return False  # a program closes the viewer
            if self._label_waits(self._window, self._close_window):
                event.ignore()
                return True
            if (
                self._trains_race
            ):  # it stops at its next step and its lanes save themselves when the dock goes
                if self._answer_to(RACE_NAPARI, self._window) == "stop":
                    return False
                self._unsaved_may_go = False
                event.ignore()
                return True
            if not self._bridge.trains:
                return False
            answer = self._answer_to(NAPARI, self._window)
            if answer != "cancel":
                self._leave(answer)
            else:
                self._unsaved_may_go = False
        event.ignore()
        return True

    def _canvas_is_open(self) -> bool:
        """Whether the canvas still shows: `viewer.close()` closes it before the window."""
        canvas = getattr(self._window, "_qt_viewer", None)
        return canvas is None or not canvas.isHidden()

    def _leave(self, answer: Answer) -> None:
        self._then, self._quits = answer, bool(getattr(self._window, "_quit_app", False))
        show_info("The run is being saved; napari closes by itself when it is.")
        run = self._bridge.current
        if run.accepts("stop"):
            try:
                run.stop()
            except RunStateError:
                return  # it came to its end by itself in between

    def _on_ended(self, end: Any) -> None:
        then, self._then = self._then, None
        if then is None:
            return
        if then == "hand_over" and end.state == "stopped":
            try:
                self.hand_over(Path(self._bridge.current.folder))
            except DiskError as error:
                show_info(str(error))
                return  # napari stays open, so that this can be read
        QTimer.singleShot(0, self._close_window)

    def _close_window(self) -> None:
        try:
            self._window.close(quit_app=self._quits)
        except TypeError:  # not napari's own window
            self._window.close()

    def closing(self) -> None:
        """Let go of dock and window."""
        if self._window is not None:
            self._window.removeEventFilter(self)

"""Small parts that the panels share: a heading, guidance, a scrolled column, and work off the main thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.faces.forms.tones import Tone, set_tone

RED: Tone = "red"
AMBER: Tone = "amber"
GREY: Tone = "grey"
_PATIENCE_S = 2.0
"""How long a closing window waits for a piece of work."""


def heading(text: str) -> QLabel:
    """Return the heading of a section."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: bold; margin-top: 6px;")
    return label


def guidance(text: str = "", tone: Tone = GREY) -> QLabel:
    """Return text that wraps, in small print; hidden while it is empty."""
    label = QLabel(text)
    label.setWordWrap(True)
    set_tone(label, tone)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(bool(text))
    return label


def say(label: QLabel, text: str, tone: Tone = GREY) -> None:
    """Put a text into a guidance label, or hide it."""
    label.setText(text)
    set_tone(label, tone)
    label.setVisible(bool(text))


def scrolled(*widgets: QWidget) -> QScrollArea:
    """Return the widgets in a column that scrolls up and down, never sideways."""
    inside = QWidget()
    layout = QVBoxLayout(inside)
    layout.setContentsMargins(8, 4, 8, 8)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inside)
    return area


class Errand:
    """At most one piece of work at a time off the main thread; a newer one makes an older one's answer void.

    Parameters
    ----------
    done, failed
        Called on the main thread with the answer, or with the error that a user can act on.
    """

    def __init__(self, done: Callable[[Any], None], failed: Callable[[SegExplorerError], None]) -> None:
        self._done, self._failed = done, failed
        self._current = 0
        self._open = True
        self._workers: set[Any] = set()
        self._under_way: set[threading.Event] = set()

    @property
    def busy(self) -> bool:
        """Whether something is being worked on."""
        return bool(self._workers)

    def send(self, work: Callable[[], Any]) -> None:
        """Start a piece of work; `work` touches neither napari nor Qt."""
        self._current += 1
        number = self._current
        through = threading.Event()
        worker = create_worker(_told, work, through, _start_thread=False)
        self._workers.add(worker)
        self._under_way.add(through)
        worker.returned.connect(lambda answer: self._back(number, answer))
        worker.finished.connect(lambda: self._finished(worker, through))
        worker.start()

    def close(self) -> None:
        """Let nothing come back any more: the widgets are going. Waits a moment for work in hand."""
        self._open = False
        until = time.monotonic() + _PATIENCE_S
        for through in self._under_way:
            through.wait(max(0.0, until - time.monotonic()))

    def _finished(self, worker: Any, through: threading.Event) -> None:
        self._workers.discard(worker)
        self._under_way.discard(through)

    def _back(self, number: int, answer: tuple[Any, SegExplorerError | None]) -> None:
        if not self._open or number != self._current:
            return
        value, error = answer
        if error is not None:
            self._failed(error)
        else:
            self._done(value)


def _told(work: Callable[[], Any], through: threading.Event) -> tuple[Any, SegExplorerError | None]:
    """Do the work; a user's mistake is an answer, anything else is a bug and goes to napari's own dialog."""
    try:
        return work(), None
    except SegExplorerError as error:
        return None, error
    finally:
        through.set()

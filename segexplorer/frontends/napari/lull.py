"""What can wait is done between two slices, one thing at a time.

A slice and other work in one turn of the event loop keep the window from the user for the time of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QWidget

LOOK_MS, MOST_LOOKS = 30, 30
"""Milliseconds until it is looked again whether somebody still scrolls, and how often: about a second in all."""
SCROLLING_S = 0.2
"""So long after a slice was gone to, the next one may follow."""


class Frames(QObject):  # type: ignore[misc, unused-ignore]
    """Knows whether somebody scrolls through slices, and hands the time after each that was drawn to one who waits.

    Parameters
    ----------
    viewer, canvas
        The napari viewer, and the canvas that draws its slices.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        super().__init__()
        self._viewer = viewer
        self._gone_to = -SCROLLING_S
        self._waiting: list[PatientTimer] = []
        self._after = QTimer(self)
        self._after.setSingleShot(True)
        self._after.setInterval(0)
        self._after.timeout.connect(self._serve)
        viewer.dims.events.point.connect(self._on_point)
        canvas.frameSwapped.connect(self._after.start)

    @property
    def scrolling(self) -> bool:
        """Whether a slice was gone to a moment ago."""
        return time.monotonic() - self._gone_to < SCROLLING_S

    def wait(self, timer: PatientTimer) -> None:
        """Let a timer have the time after one of the next slices, in turn."""
        if timer not in self._waiting:
            self._waiting.append(timer)

    def forget(self, timer: PatientTimer) -> None:
        """Let a timer wait no longer."""
        if timer in self._waiting:
            self._waiting.remove(timer)

    def _on_point(self, _: Any = None) -> None:
        self._gone_to = time.monotonic()

    def _serve(self) -> None:
        if self._waiting:
            self._waiting[0].call()

    def closing(self) -> None:
        """Let go of viewer and canvas."""
        self._viewer.dims.events.point.disconnect(self._on_point)
        self._gone_to = -SCROLLING_S
        self._after.stop()
        self.deleteLater()  # and what Qt connected to it; the canvas may be gone


class PatientTimer(QTimer):  # type: ignore[misc, unused-ignore]
    """Calls a function at intervals, or once; while somebody scrolls, after a slice, within a second or so.

    Parameters
    ----------
    called
        What is called, on the main thread.
    milliseconds
        The interval.
    frames
        Whose slices are waited for; without them (a window without a canvas) nothing is.
    repeats
        Whether it is called again and again until it is stopped.
    """

    def __init__(
        self,
        called: Callable[[], None],
        milliseconds: int,
        frames: Frames | None,
        *,
        repeats: bool = True,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._frames, self._called = frames, called
        self._milliseconds, self._repeats = milliseconds, repeats
        self._looks = 0
        self.setInterval(milliseconds)
        self.timeout.connect(self._on_timeout)

    def ask(self) -> None:
        """Start unless it runs already: several requests before a call are one."""
        if not self.isActive():
            self._looks = 0
            self.start(self._milliseconds)

    def call(self) -> None:
        """Call now."""
        if self._frames is not None:
            self._frames.forget(self)
        if not self.isActive():
            return  # it was stopped while it waited
        self._looks = 0
        if self._repeats:
            self.setInterval(self._milliseconds)
        else:
            self.stop()
        self._called()

    def _on_timeout(self) -> None:
        if self._frames is not None and self._frames.scrolling and self._looks < MOST_LOOKS:
            self._looks += 1
            self.setInterval(min(LOOK_MS, self._milliseconds))
            self._frames.wait(self)
        else:
            self.call()

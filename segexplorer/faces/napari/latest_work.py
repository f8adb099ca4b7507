"""Array work for the window: one piece at a time off the main thread, and only the newest of those that wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from napari.qt.threading import create_worker

from segexplorer.core.errors import SegExplorerError

_PATIENCE_S = 2.0
"""How long a closing window waits for a piece of work, whose signals would outlive it otherwise."""
_LAST_SIGNALS_S = 0.05
"""How long it then leaves the worker for its last signals."""


class LatestWork:
    """Runs pure functions in a worker, one at a time; of the requests that wait, only the newest is done.

    Parameters
    ----------
    done, failed
        Called on the main thread with the answer, or with an error that a user can act on.
    """

    def __init__(self, done: Callable[[Any], None], failed: Callable[[SegExplorerError], None]) -> None:
        self._done, self._failed = done, failed
        self._worker: Any = None
        self._waiting: Callable[[], Any] | None = None
        self._open = True
        self._through = threading.Event()
        self._through.set()

    @property
    def busy(self) -> bool:
        """Whether something is being worked on or waits."""
        return self._worker is not None

    def send(self, work: Callable[[], Any]) -> None:
        """Do a piece of work now or as soon as the present one is through; it touches neither napari nor Qt."""
        if not self._open:
            return  # a signal of a window that is going away
        if self._worker is None:
            self._begin(work)
        else:
            self._waiting = work

    def close(self) -> None:
        """Let nothing come back any more; waits a moment for the piece of work in hand."""
        self._open, self._waiting = False, None
        if self._worker is not None:
            self._through.wait(_PATIENCE_S)
            time.sleep(_LAST_SIGNALS_S)  # Qt's own waiting would keep the interpreter from the worker

    def _begin(self, work: Callable[[], Any]) -> None:
        self._through.clear()
        self._worker = create_worker(self._answered, work, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        self._worker.start()

    def _on_returned(self, answer: tuple[Any, SegExplorerError | None]) -> None:
        if not self._open:
            return
        value, error = answer
        if error is None:
            self._done(value)
        else:
            self._failed(error)

    def _on_finished(self) -> None:
        self._worker = None
        work, self._waiting = self._waiting, None
        if self._open and work is not None:
            self._begin(work)

    def _answered(self, work: Callable[[], Any]) -> tuple[Any, SegExplorerError | None]:
        """A user's mistake is an answer; anything else is a defect and goes to napari's own dialog."""
        try:
            return work(), None
        except SegExplorerError as error:
            return None, error
        finally:
            self._through.set()

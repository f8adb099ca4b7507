"""Work off the notebook's own threads: one piece at a time, of those of one sort that wait only the newest.

A thread lives only while there is something to do, so that nothing stays behind when a cell is run again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from segexplorer.core.errors import SegExplorerError

Work = Callable[[], Any]
Done = Callable[[Any], None]


def defect(error: Exception) -> SegExplorerError:
    """Return an error that nobody expected as one that can be shown."""
    return SegExplorerError(
        f"This failed unexpectedly: {type(error).__name__}: {error}",
        "It is a defect of segexplorer; please report it with what you did.",
    )


class Background:
    """Runs functions in a thread of its own, which ends when nothing waits.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: dict[str, tuple[Work, Done]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._open = True

    @property
    def busy(self) -> bool:
        """Whether something is being worked on or waits."""
        with self._changed:
            return self._thread is not None

    def send(self, sort: str, work: Work, done: Done) -> None:
        """Do a piece of work when those before it are through, in the place of a waiting one of its sort.

        Parameters
        ----------
        done
            Called in that thread with what the work returned, or with the `SegExplorerError` that it raised.
        """
        with self._changed:
            if not self._open:
                return
            self._waiting[sort] = (work, done)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name=self.name, daemon=True)
                self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Begin nothing more, and wait a moment for the piece of work in hand; its answer is not told."""
        with self._changed:
            self._open = False
            self._waiting.clear()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is worked on and nothing waits; return whether that came about."""
        with self._changed:
            return self._changed.wait_for(lambda: self._thread is None, seconds)

    def _drain(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                sort = next(iter(self._waiting))
                work, done = self._waiting.pop(sort)
            answer = answered(work)
            with self._changed:
                told = self._open
            if told:
                done(answer)


def answered(work: Work) -> Any:
    """Return what a piece of work returns, or the error that it raises; both are answers."""
    try:
        return work()
    except SegExplorerError as error:
        return error
    except Exception as error:  # noqa: BLE001  nobody may wait for ever; the message says that it is a defect
        return defect(error)

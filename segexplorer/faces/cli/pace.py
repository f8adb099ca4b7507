"""How long work of many windows over several cases will still take, from what it took so far."""

from __future__ import annotations

from collections.abc import Sequence


class Pace:
    """Two rates, each measured where it arises: seconds per window, and per case for all else.

    Reading, resampling and writing a case take as long as many windows, so that one rate over both would promise
    too little at a case's beginning and too much at its end. Times are of any clock, in seconds.

    Parameters
    ----------
    windows
        Of each case, in order.
    now
        When the first case is begun.
    """

    def __init__(self, windows: Sequence[int], now: float) -> None:
        self.windows = windows
        self._finished: list[float] = []  # seconds of each finished case beside its windows
        self._beside = self._window_seconds = 0.0
        self._done = 0
        self._at = now

    @property
    def case(self) -> int:
        """Index of the present case."""
        return len(self._finished)

    @property
    def done(self) -> int:
        """Windows done over all cases."""
        return sum(self.windows[: self.case]) + self._done

    def tell(self, done: int, now: float) -> None:
        """Take down that `done` windows of the present case are done; as many as before: it was something else."""
        if done > self._done:
            self._window_seconds += now - self._at
        else:
            self._beside += now - self._at
        self._done, self._at = done, now

    def tell_case(self, now: float) -> None:
        """Take down that the present case is done with."""
        self._finished.append(self._beside + now - self._at)
        self._beside, self._done, self._at = 0.0, 0, now

    def left(self) -> float | None:
        """Return the seconds left; None before the first window, when nothing can be told."""
        if not self.done:
            return None
        waiting = len(self.windows) - self.case
        windows = (sum(self.windows) - self.done) * self._window_seconds / self.done
        if not self._finished:  # what the first case will need after its windows nobody knows yet
            return windows + (waiting - 1) * self._beside
        beside = sum(self._finished) / len(self._finished)
        present = max(0.0, beside - self._beside) if waiting else 0.0
        return windows + max(0, waiting - 1) * beside + present

"""The one place where a run's events enter the Qt thread.

A napari worker iterates the run (so napari lists the task and asks before it closes) and fills a bounded queue;
arrays wait in the run's own latest-wins slots. A timer on the main thread empties both and updates the panels. The
worker yields nothing and touches neither Qt nor napari.
"""

from __future__ import annotations

import atexit
import sys
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from napari.qt.threading import FunctionWorker, create_worker
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from segexplorer.core.errors import RunActiveError, RunStateError
from segexplorer.core.events import Event, RunFinished, StepDone
from segexplorer.training.host import lower_priority
from segexplorer.training.step_columns import RecordedEvents, StepColumns, events_of, stretches
from segexplorer.training.watch import Watch

CAPACITY = 4000
SWITCH_S = 0.001
"""How long the training thread may keep the interpreter while the window waits for it (Python's own: 5 ms)."""
FAST_MS, SLOW_MS = 100, 400
"""Milliseconds between two looks, in 2D and in 3D, where every redraw of a volume is dear."""
PATIENCE_S = 120.0
"""How long the interpreter waits at its end for the last checkpoint."""


class EventQueue:
    """Events on their way from the training thread; bounded, and only steps are ever left out.

    Parameters
    ----------
    capacity
        When that many wait, the oldest `StepDone` gives way; every other event is kept, and recorded steps, which
        come in columns.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._pieces: deque[Event | StepColumns] = deque()
        self._lock = threading.Lock()

    def put(self, events: Sequence[Event]) -> None:
        """Add events, from any thread."""
        with self._lock:
            for piece in stretches(events):
                if len(self._pieces) >= self._capacity:
                    for index, waiting in enumerate(self._pieces):
                        if isinstance(waiting, StepDone):
                            del self._pieces[index]
                            break
                self._pieces.append(piece)

    def take(self) -> Sequence[Event]:
        """Return everything that waits, in order."""
        with self._lock:
            taken = RecordedEvents(self._pieces)
            self._pieces.clear()
        return taken


class RunJob:
    """What the worker and the main thread share about one attempt of one run."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.queue = EventQueue()
        self.done = threading.Event()
        self.to_stop = threading.Event()

    def iterate(self) -> None:
        """Iterate the run to its end; in the worker's thread."""
        try:
            if self.to_stop.is_set():
                self.queue.put([RunFinished(state="stopped", reason="stopped before it began")])
                return
            run = self.run
            for events in run.batches() if isinstance(run, Watch) else ([event] for event in run):
                self.queue.put(events)
                if self.to_stop.is_set():
                    self.ask_to_stop()
        except Exception as error:  # noqa: BLE001  a run promises not to raise; if it does, the form must not hang
            failed = RunFinished(
                state="failed",
                reason="failed",
                error=f"{type(error).__name__}: {error}",
                remedy="This is a defect of segexplorer; please report it with the cause below.",
                cause=traceback.format_exc(),
            )
            self.queue.put([failed])
        finally:
            self.done.set()

    def ask_to_stop(self) -> None:
        """Stop at the next boundary, paused or not; from any thread."""
        self.to_stop.set()
        if self.run.accepts("stop"):
            try:
                self.run.stop()
            except RunStateError:
                return  # it came to its end by itself in between

    def wait_at_exit(self) -> None:
        """Let the last checkpoint be written before the interpreter goes."""
        self.ask_to_stop()
        self.done.wait(PATIENCE_S)


class Job(Protocol):
    """What is iterated in a thread of its own and can be asked to stop, from any thread."""

    def iterate(self) -> None: ...
    def ask_to_stop(self) -> None: ...


class JobWorker(FunctionWorker[None]):  # type: ignore[misc, unused-ignore]
    """A worker whose `quit` (napari calls it when the window closes) stops its job, even a paused run."""

    def __init__(self, function: Any, job: Job) -> None:
        super().__init__(function, job)
        self._job = job

    def quit(self) -> None:
        super().quit()
        self._job.ask_to_stop()


def iterate_in_thread(job: Job) -> None:
    """Iterate in a thread of its own: niceness cannot be given back, and the pool's thread serves others later."""

    def work() -> None:
        lower_priority()
        job.iterate()

    thread = threading.Thread(target=work, name="segexplorer training")
    thread.start()
    thread.join()


class RunBridge(QObject):  # type: ignore[misc, unused-ignore]
    """Brings what a run says to the main thread.

    Attributes
    ----------
    begun
        psygnal signal (run): a run is being iterated from now on.
    events_arrived
        psygnal signal (events, in order), at most ten times a second.
    watched_arrived
        psygnal signal (dict role -> `WatchedSnapshot`): only what is new, only the newest.
    patch_arrived, trained_arrived
        psygnal signals: (`PatchSnapshot`), and (`TrainedPatch`, or why it is not kept).
    ended
        psygnal signal (`RunFinished`): the worker is through, so the run can be iterated again.
    """

    begun = Signal(object)
    events_arrived = Signal(Sequence)
    watched_arrived = Signal(dict)
    patch_arrived = Signal(object)
    trained_arrived = Signal(object)
    ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run: Any | None = None
        self._job: RunJob | None = None
        self.worker: Any = None
        self._switch_before = sys.getswitchinterval()
        self._timer = QTimer(self)
        self._timer.setInterval(FAST_MS)
        self._timer.timeout.connect(self.look)

    @property
    def busy(self) -> bool:
        """Whether a run is being iterated, or its end has not been shown yet."""
        return self._job is not None

    @property
    def trains(self) -> bool:
        """Whether a run of this process is being iterated, and no run of another is looked at."""
        return self.busy and not isinstance(self.run, Watch)

    def leave(self) -> None:
        """End looking on at the run of another process; its last events are dropped."""
        if self._job is not None and not self.trains:
            job = self._job
            job.ask_to_stop()
            self._finish(job, [RunFinished(state="stopped", reason="no longer watched")])

    def start(self, run: Any) -> None:
        """Iterate a run in a napari worker.

        Raises
        ------
        RunStateError
            When one is being iterated already.
        """
        if self.busy:
            raise RunActiveError
        self.run = run
        job = self._job = RunJob(run)
        self.worker = create_worker(iterate_in_thread, job, _start_thread=False, _worker_class=JobWorker)
        atexit.register(job.wait_at_exit)
        self.begun.emit(run)
        self._switch_before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        self.worker.start()
        self._timer.start()

    @property
    def current(self) -> Any:
        """The current run.

        Raises
        ------
        RunStateError
            When there is none yet.
        """
        if self.run is None:
            raise RunStateError("There is no run yet.", "Press Start first.")
        return self.run

    def open(self, run: Any, events: Sequence[Event]) -> None:
        """Show a run that was made earlier: its events as if they came now. It may be gone on with.

        Raises
        ------
        RunStateError
            When another run is going on.
        """
        if self.busy:
            raise RunActiveError
        self.run = run
        self.begun.emit(run)
        self.events_arrived.emit(events)
        ends = events_of(events, RunFinished)
        self.ended.emit(ends[-1] if ends else RunFinished(state="stopped", reason="its process ended"))

    def set_refresh_interval(self, slow: bool) -> None:
        """Look less often, while the viewer is in 3D."""
        self._timer.setInterval(SLOW_MS if slow else FAST_MS)

    def look(self) -> None:
        """Tell what has come since the last look; the timer calls it."""
        job = self._job
        if job is None:
            return
        done = job.done.is_set()  # before the queue is emptied: nothing can follow
        events = job.queue.take()
        if events:
            self.events_arrived.emit(events)
        watched, patch = job.run.watched.take(), job.run.patch.take()
        if watched:
            self.watched_arrived.emit(watched)
        for snapshot in patch.values():
            self.patch_arrived.emit(snapshot)
        for trained in job.run.trained.take().values():
            self.trained_arrived.emit(trained)
        if done:
            self._finish(job, events)

    def _finish(self, job: RunJob, events: Sequence[Event]) -> None:
        self._timer.stop()
        sys.setswitchinterval(self._switch_before)
        self._job = self.worker = None
        atexit.unregister(job.wait_at_exit)
        ends = events_of(events, RunFinished)
        self.ended.emit(ends[-1] if ends else RunFinished(state="stopped", reason="the iteration was left"))

    def close(self) -> None:
        """Stop the run at its next boundary and emit nothing more. Does not wait; the worker ends by itself."""
        self._timer.stop()
        sys.setswitchinterval(self._switch_before)
        for signal in (
            self.begun,
            self.events_arrived,
            self.watched_arrived,
            self.patch_arrived,
            self.trained_arrived,
            self.ended,
        ):
            signal.disconnect()
        if self._job is not None:
            self._job.ask_to_stop()

    def wait(self, seconds: float) -> bool:
        """Wait until no thread of ours iterates any more; for tests and scripts, not for a live window."""
        return self._job is None or self._job.done.wait(seconds)

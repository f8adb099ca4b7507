"""Work off the main thread: one piece at a time, of those that wait only the newest; and what is imported first.

While the heavy imports run in a worker, the window shows "Loading".
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker

from segexplorer.core import plugins
from segexplorer.core.errors import SegExplorerError
from segexplorer.core.plugins import PluginReport

_PATIENCE_S = 2.0
"""How long a closing window waits for a piece of work in hand."""
_Answer = tuple[Any, SegExplorerError | None]


class LatestWork:
    """Runs functions in a worker, one at a time; of the requests that wait, only the newest is done.

    Parameters
    ----------
    done, failed
        Called on the main thread with the answer, or with an error. A defect is passed to `failed` too, so that
        nobody waits for ever, and napari shows its cause.
    newest_only
        Whether an answer is dropped when another request waits already.
    """

    def __init__(
        self,
        done: Callable[[Any], None],
        failed: Callable[[SegExplorerError], None],
        *,
        newest_only: bool = False,
    ) -> None:
        self._done, self._failed, self._newest_only = done, failed, newest_only
        self.worker: _Worker | None = None
        self._waiting: Callable[[], Any] | None = None
        self._open = True

    @property
    def busy(self) -> bool:
        """Whether something is being worked on or waits."""
        return self.worker is not None

    def send(self, work: Callable[[], Any]) -> None:
        """Do a piece of work now or as soon as the present one is through; it touches neither napari nor Qt."""
        if not self._open:
            return  # a signal of a window that is going away
        if self.worker is None:
            self._begin(work)
        else:
            self._waiting = work

    def close(self) -> None:
        """Let nothing come back any more; waits a moment for the piece of work in hand."""
        self._open, self._waiting = False, None
        if self.worker is not None:
            self.worker.abandoned = True
            self.worker.through.wait(_PATIENCE_S)

    def _begin(self, work: Callable[[], Any]) -> None:
        self.worker = create_worker(_answered, work, _start_thread=False, _worker_class=_Worker)
        self.worker.returned.connect(self._on_returned)
        self.worker.errored.connect(self._on_defect)
        self.worker.finished.connect(self._on_finished)
        self.worker.start()

    def _on_returned(self, answer: _Answer) -> None:
        if not self._open or (self._newest_only and self._waiting is not None):
            return
        value, error = answer
        if error is None:
            self._done(value)
        else:
            self._failed(error)

    def _on_defect(self, error: Exception) -> None:
        if self._open:
            self._failed(
                SegExplorerError(
                    f"This failed unexpectedly: {type(error).__name__}: {error}",
                    "It is a defect of segexplorer; please report it with the cause that napari shows.",
                )
            )

    def _on_finished(self) -> None:
        self.worker = None
        work, self._waiting = self._waiting, None
        if self._open and work is not None:
            self._begin(work)


class _Worker(FunctionWorker[_Answer]):  # type: ignore[misc, unused-ignore]
    """A worker that knows when its thread has emitted its last signal: only then may the receivers be deleted."""

    def __init__(self, function: Any, work: Callable[[], Any]) -> None:
        super().__init__(function, work)
        self.through = threading.Event()
        self.abandoned = False

    def run(self) -> None:
        try:
            super().run()
        except RuntimeError:
            # Errors of the work are signals. What is raised here is a signal without a sender: Qt has deleted
            # it with the window, as the work took longer than the window waits, and nobody is left to tell.
            if not self.abandoned:
                raise
        finally:
            self.through.set()


def _answered(work: Callable[[], Any]) -> _Answer:
    """A user's mistake is an answer; anything else is a defect and goes to napari's own dialog."""
    try:
        return work(), None
    except SegExplorerError as error:
        return None, error


HEAVY = (
    "torch",
    "monai.networks.nets",
    "monai.inferers",
    "segexplorer.losses",
    "segexplorer.networks",
    "segexplorer.training.plan",
    "segexplorer.training.engine",
)
"""Slow to import; torch and MONAI first."""


@dataclass(frozen=True)
class Machine:
    """What the window says of this machine.

    Attributes
    ----------
    device
        The device that "auto" takes, by name.
    remedy
        The command that makes an idle NVIDIA GPU usable; "" where there is nothing to cure.
    plugins
        What became of every plug-in.
    gpus
        How many GPUs torch can use.
    """

    device: str
    remedy: str
    plugins: tuple[PluginReport, ...] = ()
    gpus: int = 0

    @property
    def plugin_failures(self) -> tuple[str, ...]:
        """A sentence for every plug-in that could not be imported."""
        return tuple(
            f"The plug-in {report.name} ({report.package} {report.version}) was not loaded: {report.error}"
            for report in self.plugins
            if report.error
        )


def load() -> Machine:
    """Import what is slow and look at the machine; not on the main thread."""
    for name in HEAVY:
        importlib.import_module(name)
    reports = plugins.load()
    compute = importlib.import_module("segexplorer.training.compute")
    runtime = compute.resolve_compute(compute.Compute(), window=True)
    return Machine(runtime.device_name, compute.gpu_remedy(), reports, compute.gpu_count())

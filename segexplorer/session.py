"""Session: the one door of the frontends. Commands in, events out; it delegates everything and holds no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from segexplorer.core.errors import RunStateError
from segexplorer.core.events import Event
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run, SliceView

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume
    from segexplorer.training.plan import Plan


class Session:
    """What a window, a command line or a notebook works through.

    `events` repeats the events of the current run, on whatever thread iterates it.
    """

    events = Signal(Event)

    def __init__(self) -> None:
        self.run: Run | None = None

    def plan(self, experiment: Experiment, *, window: bool = False) -> Plan:
        """Resolve an experiment without training: cases, memory, warnings, badges.

        Raises
        ------
        SegExplorerError
            When the experiment cannot be run as it is, in one sentence.
        """
        from segexplorer.training.plan import resolve

        return resolve(experiment, window=window)

    def prepare(self, experiment: Experiment, output: Path | None = None, *, window: bool = False) -> Run:
        """Make a new idle run in its own folder; iterate it, or call its `start`.

        Parameters
        ----------
        output
            The run folder, new or empty; by default `./segexplorer-runs/<time>-<loss>`.
        window
            Whether a viewer is open in this process (leaves it one CPU core).
        """
        return self._adopt(Run(RunFolder.create(experiment, output), window=window))

    def resume(self, folder: str | Path, *, window: bool = False) -> Run:
        """Open a run folder to go on from its last checkpoint."""
        return self._adopt(Run(RunFolder.open(folder), window=window))

    def _adopt(self, run: Run) -> Run:
        if self.run is not None and self.run.state in ("preparing", "running", "paused", "stopping"):
            raise RunStateError("A run is going on already.", "Stop it first.")
        self.run = run
        run.events.connect(self.events.emit)
        return run

    @property
    def current(self) -> Run:
        """The current run.

        Raises
        ------
        RunStateError
            When there is none yet.
        """
        if self.run is None:
            raise RunStateError("There is no run yet.", "Start one first.")
        return self.run

    def pause(self) -> None:
        """Hold before the next step."""
        self.current.pause()

    def unpause(self) -> None:
        """Go on after a pause."""
        self.current.unpause()

    def step(self, view: SliceView | None = None) -> None:
        """Do one step, pause, and predict the slab that the viewer shows."""
        self.current.step(view)

    def stop(self) -> None:
        """Finish the step in hand, save, and end."""
        self.current.stop()

    def set(self, path: str, value: Any) -> None:
        """Change a live setting from the next step on."""
        self.current.set(path, value)

    def extend(self, epochs: int) -> None:
        """Train longer."""
        self.current.extend(epochs)

    def predict_now(self) -> None:
        """Predict the watched cases at the next boundary."""
        self.current.predict_now()

    def predict(
        self, folder: str | Path, images: Sequence[str | Path | Volume], *, checkpoint: str = "best"
    ) -> Volume:
        """Predict one case (an image, or its channels) with a run's network, in the image's own grid."""
        from segexplorer.training.predict import predict

        return predict(folder, images, checkpoint=checkpoint)

"""A session: plans, runs and predictions of one window, command line or notebook.

A session makes runs and passes their events on; commands go to the run itself (`session.run.pause()`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from segexplorer.core.errors import RunActiveError
from segexplorer.core.events import ACTIVE_STATES, Event, Role
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume
    from segexplorer.training.plan import Plan
    from segexplorer.training.scores import SplitScores, Weights


class Session:
    """Makes one run at a time.

    Attributes
    ----------
    run
        The current run, None before the first. It takes the commands: `pause`, `unpause`, `step`, `stop`, `set`,
        `extend` and `predict_now`.
    events
        Emits the events of the current run, on the thread that iterates it.
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

    def prepare(
        self,
        experiment: Experiment,
        output: Path | None = None,
        *,
        parent: Path | None = None,
        window: bool = False,
    ) -> Run:
        """Make a new idle run in its own folder; iterate it, or call its `start`.

        Parameters
        ----------
        output
            The run folder, new or empty; by default `<parent>/<time>-<loss>`.
        parent
            `./segexplorer-runs` by default.
        window
            Whether a viewer is open in this process (leaves it one CPU core).
        """
        return self._adopt(Run(RunFolder.create(experiment, output, parent=parent), window=window))

    def resume(self, folder: str | Path, *, window: bool = False) -> Run:
        """Open a run folder to continue from its last checkpoint."""
        return self._adopt(Run(RunFolder.open(folder), window=window))

    def _adopt(self, run: Run) -> Run:
        if self.run is not None and self.run.state in ACTIVE_STATES:
            raise RunActiveError
        self.run = run
        run.events.connect(self.events.emit)
        return run

    def predict(
        self, folder: str | Path, images: Sequence[str | Path | Volume], *, checkpoint: str = "best"
    ) -> Volume:
        """Predict one case (an image, or its channels) with a run's network, in the image's own grid."""
        from segexplorer.training.predict import predict

        return predict(folder, images, checkpoint=checkpoint)

    def score_split(
        self,
        folder: str | Path,
        split: Role = "test",
        *,
        checkpoint: Weights | None = None,
        again: bool = False,
    ) -> SplitScores:
        """Score a run's own test, validation or training cases once; return what is recorded of them afterwards."""
        from segexplorer.training.scores import score_split

        return score_split(folder, split, checkpoint=checkpoint, again=again)

"""The tab "Run": start, hold, step, stop and extend a run; change it on the way; see what became of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QFileDialog, QLineEdit, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import RunStateError, SegExplorerError
from segexplorer.core.events import Event, ParameterApplied, Planned, RunFinished
from segexplorer.faces.napari.bridge import RunBridge
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.loading import Machine
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.live_changes import LiveChanges
from segexplorer.faces.napari.panels.run_buttons import RunButtons
from segexplorer.faces.napari.panels.run_log import RunLog
from segexplorer.faces.napari.panels.run_status import RunStatus
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import fresh_folder
from segexplorer.training.history import open_run
from segexplorer.viewmodels import status

RUNS = Path.home() / "segexplorer-runs"
ExperimentMaker = Callable[[], Callable[[], Experiment]]


class RunPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Buttons and sentences of the current run.

    Parameters
    ----------
    session, viewer
        As in every panel.
    bridge
        Where the run's events come from.
    experiment_maker
        `ExperimentPanel.experiment_maker`: raises in one sentence, or returns what a worker calls.
    slice_view
        Returns the plane of the watched case that the viewer shows, for Step; None in 3D.
    folder
        Where new runs make their folders.

    Attributes
    ----------
    started
        psygnal signal (run): a new run was made and begins.
    """

    started = Signal(object)

    def __init__(
        self,
        session: Any,
        viewer: Any,
        bridge: RunBridge,
        experiment_maker: ExperimentMaker,
        slice_view: Callable[[], Any],
        *,
        folder: Path = RUNS,
    ) -> None:
        super().__init__()
        self.session, self.viewer, self.bridge = session, viewer, bridge
        self._experiment_maker, self._slice_view = experiment_maker, slice_view
        self.status = status.Status()
        self._making = LatestWork(self._on_made, self._on_not_made)
        self._opening = LatestWork(self._on_opened, self._on_not_made)
        self._busy_making = False
        self._ready = True
        self._build(folder)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.ended.connect(self._on_ended)
        self.check()

    # -- widgets ------------------------------------------------------------------------------------------

    def _build(self, folder: Path) -> None:
        self._device = parts.guidance("Looking at this machine…")
        self._remedy = parts.guidance("", parts.AMBER)
        self._folder = QLineEdit(str(folder))
        self._folder.setToolTip("Every run makes a new folder in here; nothing is overwritten.")
        choose = QPushButton("…")
        choose.setFixedWidth(28)
        choose.setToolTip("Choose the output folder")
        choose.clicked.connect(self._choose_folder)
        self.buttons = RunButtons(self)
        self._why_not = parts.guidance()
        self.progress = RunStatus()
        self.live = LiveChanges()
        self.live.applied.connect(self._apply)
        self._log = RunLog()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            parts.scrolled(
                self._device,
                self._remedy,
                parts.heading("Output folder"),
                parts.row(self._folder, choose),
                self.buttons,
                self._why_not,
                self.progress,
                parts.heading("Change while it trains"),
                self.live,
                parts.heading("What happened"),
                self._log,
            )
        )

    def show_machine(self, machine: Machine) -> None:
        """Tell the device by name, and the command that cures a GPU that torch cannot use."""
        parts.say(self._device, f"Device: {machine.device}")
        parts.say(
            self._remedy,
            f"There is an NVIDIA GPU that torch cannot use. {machine.remedy}" if machine.remedy else "",
            parts.AMBER,
        )

    # -- commands -----------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where new runs make their folders."""
        return Path(self._folder.text()).expanduser()

    def set_folder(self, folder: Path) -> None:
        """Choose where new runs make their folders."""
        self._folder.setText(str(folder))

    def start(self) -> None:
        """Make a new run of the experiment as the tabs show it, and begin."""
        if self.bridge.busy or self._busy_making:
            raise RunStateError("A run is going on already.", "Stop it first.")
        make, parent, session = self._experiment_maker(), self.folder, self.session

        def work() -> Any:
            experiment = make()
            return session.prepare(experiment, fresh_folder(experiment, parent), window=True)

        self._busy_making = True
        self.progress.failure.clear()
        parts.say(self._why_not, "Making the run folder…")
        self._making.send(work)
        self._redraw()

    def check(self) -> None:
        """Find out whether Start is possible, and say why where it is not."""
        if self.bridge.busy or self._busy_making:
            return
        try:
            self._experiment_maker()
        except SegExplorerError as error:
            self._ready = False
            parts.say(self._why_not, f"Start is not possible yet. {error}", parts.AMBER)
        else:
            self._ready = True
            parts.say(self._why_not, "")
        self._redraw()

    def choose_run(self) -> None:
        """Ask for a run folder and open it."""
        chosen = QFileDialog.getExistingDirectory(self, "Open a run folder", str(self.folder))
        if chosen:
            self.open_run(Path(chosen))

    def open_run(self, folder: Path) -> None:
        """Show a run that was made earlier; Go on and Extend continue it."""
        if self.bridge.busy or self._busy_making:
            raise RunStateError("A run is going on already.", "Stop it first.")
        session = self.session

        def work() -> Any:
            events = open_run(folder).events()
            return session.resume(folder, window=True), events

        self._busy_making = True
        parts.say(self._why_not, "Opening the run…")
        self._opening.send(work)
        self._redraw()

    def _on_opened(self, answer: tuple[Any, list[Event]]) -> None:
        run, events = answer
        self._busy_making = False
        self.status = status.Status()
        self._log.clear()
        self.started.emit(run)
        self.bridge.open(run, events)

    def begin(self, run: Any) -> None:
        """Iterate a run that was made elsewhere (a demo, a resumed folder)."""
        self._on_made(run)

    def pause_or_resume(self) -> None:
        """Hold, go on after a pause, or go on with a run that was stopped."""
        run = self.bridge.current
        if run.accepts("pause"):
            run.pause()
        elif run.accepts("unpause"):
            run.unpause()
        else:
            self.bridge.start(run)

    def step(self) -> None:
        """Do one step, hold, and predict the slice that the viewer shows."""
        self.bridge.current.step(self._slice_view())

    def stop(self) -> None:
        """Finish the step in hand, save, and end."""
        self.bridge.current.stop()

    def predict_now(self) -> None:
        """Predict the watched cases at the next boundary."""
        self.bridge.current.predict_now()

    def extend(self) -> None:
        """Train longer; a run that has ended goes on."""
        run = self.bridge.current
        run.extend(self.buttons.epochs.value())
        if not self.bridge.busy:
            self.bridge.start(run)

    def obeyed(self, slot: Callable[[], None]) -> None:
        """Follow a button; a command that came too late, or a form that is wrong, becomes a sentence."""
        try:
            slot()
        except SegExplorerError as error:
            self._on_refused(error)
        self._redraw()

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Output folder", str(self.folder))
        if chosen:
            self._folder.setText(chosen)

    # -- what comes back ----------------------------------------------------------------------------------

    def _on_made(self, run: Any) -> None:
        self._busy_making = False
        self.status = status.Status()
        self._log.clear()
        parts.say(self._why_not, "")
        self.started.emit(run)
        self.bridge.start(run)

    def _on_not_made(self, error: SegExplorerError) -> None:
        self._busy_making = False
        self._on_refused(error)

    def _on_refused(self, error: SegExplorerError) -> None:
        parts.say(self._why_not, str(error), parts.RED)
        self._redraw()

    def _on_begun(self, run: Any) -> None:
        self.progress.failure.clear()
        parts.say(self._why_not, "")
        self.live.show_experiment(run.experiment, running=self.bridge.busy)
        self._redraw()

    def _on_events(self, events: list[Event]) -> None:
        self.status.extend(events)
        if any(isinstance(event, (ParameterApplied, Planned)) for event in events):
            self.live.show_experiment(self.bridge.current.experiment, running=self.bridge.busy)
        self._log.show_lines(self.status.log)
        for event in events:
            if isinstance(event, RunFinished) and event.state == "failed":
                self.progress.failure.show_failure(self.status.failure, self.status.cause)
        self._redraw()

    def _on_ended(self, _: RunFinished) -> None:
        self.check()

    def _apply(self, path: str, value: Any) -> None:
        def send() -> None:
            self.bridge.current.set(path, value)

        self.obeyed(send)

    # -- drawing ------------------------------------------------------------------------------------------

    def _redraw(self) -> None:
        run, busy = self.bridge.run, self.bridge.busy or self._busy_making
        self.buttons.follow(run, busy=busy, making=self._busy_making, ready=self._ready)
        self.progress.draw(self.status, run, ready=self._ready)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._making.close()
        self._opening.close()
        self.live.closing()

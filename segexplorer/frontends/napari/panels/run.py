"""The tab "Run": start, pause, step, stop and extend a run, change its live settings, and follow its progress.

Progress is a sentence, a bar and figures; a log says what was applied at which step; a failed run shows its
cause.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.errors import RunActiveError, SegExplorerError
from segexplorer.core.events import Event, ParameterApplied, Planned, RunFinished
from segexplorer.frontends.forms import LiveForm
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.workers import LatestWork, Machine
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.ownership import Holder
from segexplorer.viewmodels import status
from segexplorer.viewmodels.status import LogLine, Status


class RunLog(QPlainTextEdit):  # type: ignore[misc, unused-ignore]
    """Lines of the log, the newest at the end; it can be selected and copied."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setMinimumHeight(110)
        self.setPlaceholderText("Validations, checkpoints and applied changes are listed here.")
        self._last: LogLine | None = None

    def clear(self) -> None:
        """Forget the lines."""
        super().clear()
        self._last = None

    def show_lines(self, lines: Iterable[LogLine]) -> None:
        """Add the lines that are new."""
        known = list(lines)
        if not known or known[-1] is self._last:
            return
        start = next((i + 1 for i, line in enumerate(known) if line is self._last), 0)
        for line in known[start:]:
            self.appendPlainText(line.sentence)
        self._last = known[-1]


class FailureBox(QWidget):  # type: ignore[misc, unused-ignore]
    """Why a run failed and what to do; the button `more` unfolds the traceback (`cause`), for a report."""

    def __init__(self) -> None:
        super().__init__()
        self._text = widgets.guidance("", widgets.RED)
        self.more = QPushButton("Show the cause")
        self.more.setCheckable(True)
        self.cause = QPlainTextEdit()
        self.cause.setReadOnly(True)
        self.cause.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.cause.setMinimumHeight(140)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.cause)
        self.more.toggled.connect(self._unfold)
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown, "" without a failure."""
        return str(self._text.text())

    def show_failure(self, text: str, cause: str) -> None:
        """Show a failure with its traceback folded."""
        widgets.say(self._text, text, widgets.RED)
        self.cause.setPlainText(cause)
        self.more.setVisible(bool(cause))
        self.more.setChecked(False)
        self.setVisible(True)

    def clear(self) -> None:
        """Show nothing."""
        self.more.setChecked(False)
        self.cause.setVisible(False)
        widgets.say(self._text, "")
        self.setVisible(False)

    def _unfold(self, shown: bool) -> None:
        self.cause.setVisible(shown)
        self.more.setText("Hide the cause" if shown else "Show the cause")


class RunStatus(QWidget):  # type: ignore[misc, unused-ignore]
    """Draws a `Status`; owns nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.headline = widgets.guidance()
        self.headline.setStyleSheet("font-weight: bold;")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.figures = widgets.guidance()
        self.badge = widgets.guidance("", widgets.AMBER)
        self.failure = FailureBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.headline, self.bar, self.figures, self.badge, self.failure):
            layout.addWidget(widget)

    def draw(self, status: Status, run: Any, *, ready: bool) -> None:
        """Show the state of a run.

        Parameters
        ----------
        run
            The current run or None.
        ready
            Whether the tabs hold an experiment that can be run.
        """
        waiting = "Ready: Start begins a run." if ready else "No run yet."
        widgets.say(self.headline, status.headline if run is not None else waiting)
        self.bar.setValue(round(1000 * status.fraction))
        self.bar.setFormat(status.progress or "%p%")
        figures = [status.rate, f"{status.memory} in use" if status.memory else ""]
        where = f"Folder: {run.folder}" if run is not None else ""
        widgets.say(self.figures, "\n".join(t for t in (", ".join(f for f in figures if f), where) if t))
        widgets.say(self.badge, ", ".join(status.badges), widgets.AMBER)


class Commands(Protocol):
    """What the buttons do; `obeyed` calls one of the others and turns refusals into a sentence."""

    def obeyed(self, slot: Callable[[], None]) -> None: ...
    def start(self) -> None: ...
    def choose_run(self) -> None: ...
    def pause_or_resume(self) -> None: ...
    def step(self) -> None: ...
    def stop(self) -> None: ...
    def predict_now(self) -> None: ...
    def extend(self) -> None: ...


class RunButtons(QWidget):  # type: ignore[misc, unused-ignore]
    """Start, open, hold, step, stop, predict and extend."""

    def __init__(self, commands: Commands) -> None:
        super().__init__()

        def button(text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            made.clicked.connect(lambda _=False: commands.obeyed(slot))
            return made

        self.start = button("Start", "Begin a new run in a new folder", commands.start)
        self.pause = button("Pause", "Hold before the next step", commands.pause_or_resume)
        self.step = button("Step", "One training step, then predict the slice shown", commands.step)
        self.stop = button("Stop", "Finish this step, save, and end", commands.stop)
        self.predict = button("Predict now", "Predict the watched cases now", commands.predict_now)
        self.open = button(
            "Open run…", "Show a run that was made earlier, and go on with it", commands.choose_run
        )
        self.extend = button("Extend", "Train longer, at the schedule's floor", commands.extend)
        self.epochs = QSpinBox()
        self.epochs.setRange(1, 10_000)
        self.epochs.setValue(10)
        self.epochs.setSuffix(" epochs")
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        rows = (
            (self.start, self.pause, self.step),
            (self.stop, self.predict, self.open),
        )
        for row, buttons in enumerate(rows):
            for column, widget in enumerate(buttons):
                layout.addWidget(widget, row, column)
                layout.setColumnStretch(column, 1)
        layout.addWidget(self.extend, 2, 0)
        layout.addWidget(self.epochs, 2, 1, 1, 2)

    def follow(self, run: Any, *, busy: bool, making: bool, ready: bool) -> None:
        """Enable what makes sense now.

        Parameters
        ----------
        run
            The current run or None.
        busy
            Whether it is being iterated, or the next one is being made.
        making
            Whether a run is being made or opened.
        ready
            Whether the tabs hold an experiment that can be run.
        """
        can = status.buttons(run.accepts if run is not None else None)
        goes_on = run is not None and not busy and run.accepts("start")
        self.start.setEnabled(ready and not busy)
        self.open.setEnabled(not busy)
        self.pause.setEnabled(goes_on or (busy and can.pause))
        self.pause.setText("Go on" if goes_on else can.pause_label)
        self.step.setEnabled(busy and can.step)
        self.stop.setEnabled(busy and can.stop)
        self.predict.setEnabled(busy and run is not None and run.accepts("predict_now"))
        self.extend.setEnabled(can.extend and not making)
        self.epochs.setEnabled(self.extend.isEnabled())


class LiveChanges(QWidget):  # type: ignore[misc, unused-ignore]
    """The live form of the current run, once there is one.

    Attributes
    ----------
    applied
        psygnal signal (dotted path -> value): the user asks for a change of these settings together.
    """

    applied = Signal(dict)

    def __init__(self) -> None:
        super().__init__()
        self.form: LiveForm | None = None
        self._note = widgets.guidance("What may be changed while it trains appears here after Start.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._note)

    def show_experiment(self, experiment: Experiment, *, running: bool) -> None:
        """Show the effective settings; what is typed into the form of a running run stays until it is applied."""
        if self.form is None:
            self.form = LiveForm(experiment)
            self.form.applied.connect(self._tell)
            self.layout().addWidget(self.form.native)
            self._note.setVisible(False)
        elif not self.form.changes or not running:
            self.form.set(experiment)

    def _tell(self, values: dict[str, Any]) -> None:
        self.applied.emit(values)

    def closing(self) -> None:
        """Tell nothing any more."""
        if self.form is not None:
            with contextlib.suppress(ValueError):
                self.form.applied.disconnect(self._tell)


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
    device, remedy
        What it trains on, and the command that cures a GPU that torch cannot use.
    why_not
        Why Start is not possible, or why a command was refused.
    log
        What happened, line by line.
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
        self.experiment_maker, self._slice_view = experiment_maker, slice_view
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
        self.device = widgets.guidance("Looking at this machine…")
        self.remedy = widgets.guidance("", widgets.AMBER)
        self._folder = QLineEdit(str(folder))
        self._folder.setToolTip("Every run makes a new folder in here; nothing is overwritten.")
        choose = QPushButton("…")
        choose.setFixedWidth(28)
        choose.setToolTip("Choose the output folder")
        choose.clicked.connect(self._choose_folder)
        self.buttons = RunButtons(self)
        self.why_not = widgets.guidance()
        self.progress = RunStatus()
        self.live = LiveChanges()
        self.live.applied.connect(self._apply)
        self.log = RunLog()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self.device,
                self.remedy,
                widgets.heading("Output folder"),
                widgets.row(self._folder, choose),
                self.buttons,
                self.why_not,
                self.progress,
                widgets.heading("Change while it trains"),
                self.live,
                widgets.heading("What happened"),
                self.log,
            )
        )

    def show_machine(self, machine: Machine) -> None:
        """Tell the device by name, and the command that cures a GPU that torch cannot use."""
        widgets.say(self.device, f"Device: {machine.device}")
        widgets.say(
            self.remedy,
            f"There is an NVIDIA GPU that torch cannot use. {machine.remedy}" if machine.remedy else "",
            widgets.AMBER,
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
            raise RunActiveError
        make, parent, session = self.experiment_maker(), self.folder, self.session

        def work() -> Any:
            experiment = make()
            return session.prepare(experiment, parent=parent, window=True)

        self._busy_making = True
        self.progress.failure.clear()
        widgets.say(self.why_not, "Making the run folder…")
        self._making.send(work)
        self._redraw()

    def check(self) -> None:
        """Find out whether Start is possible, and say why where it is not."""
        if self.bridge.busy or self._busy_making:
            return
        try:
            self.experiment_maker()
        except SegExplorerError as error:
            self._ready = False
            widgets.say(self.why_not, f"Start is not possible yet. {error}", widgets.AMBER)
        else:
            self._ready = True
            widgets.say(self.why_not, "")
        self._redraw()

    def choose_run(self) -> None:
        """Ask for a run folder and open it."""
        chosen = QFileDialog.getExistingDirectory(self, "Open a run folder", str(self.folder))
        if chosen:
            self.open_run(Path(chosen))

    def open_run(self, folder: Path) -> None:
        """Show a run that was made earlier; Go on and Extend continue it."""
        if self.bridge.busy or self._busy_making:
            raise RunActiveError
        session = self.session

        def work() -> Any:
            record = open_run(folder)
            events = record.events()
            if record.state == "interrupted":
                at = events[-1]
                end = RunFinished(
                    state="stopped", reason="its process has died", attempt=at.attempt, step=at.step
                )
                events.append(replace(end, seq=at.seq + 1, time=at.time))
            return session.resume(folder, window=True), events, record.holder

        self._busy_making = True
        widgets.say(self.why_not, "Opening the run…")
        self._opening.send(work)
        self._redraw()

    def _on_opened(self, answer: tuple[Any, list[Event], Holder | None]) -> None:
        run, events, holder = answer
        self._busy_making = False
        self.status = status.Status()
        self.log.clear()
        self.started.emit(run)
        self.bridge.open(run, events)
        if holder is not None:
            widgets.say(
                self.why_not,
                f"This run is in use by {holder}. It is shown as it was when it was opened; Go on continues it "
                "once that process has ended.",
                widgets.AMBER,
            )

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
        self.log.clear()
        widgets.say(self.why_not, "")
        self.started.emit(run)
        self.bridge.start(run)

    def _on_not_made(self, error: SegExplorerError) -> None:
        self._busy_making = False
        self._on_refused(error)

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self.why_not, str(error), widgets.RED)
        self._redraw()

    def _on_begun(self, run: Any) -> None:
        self.progress.failure.clear()
        widgets.say(self.why_not, "")
        self.live.show_experiment(run.experiment, running=self.bridge.busy)
        self._redraw()

    def _on_events(self, events: list[Event]) -> None:
        self.status.extend(events)
        if any(isinstance(event, (ParameterApplied, Planned)) for event in events):
            self.live.show_experiment(self.bridge.current.experiment, running=self.bridge.busy)
        self.log.show_lines(self.status.log)
        for event in events:
            if isinstance(event, RunFinished) and event.state == "failed":
                self.progress.failure.show_failure(self.status.failure, self.status.cause)
        self._redraw()

    def _on_ended(self, _: RunFinished) -> None:
        self.check()

    def _apply(self, values: dict[str, Any]) -> None:
        def send() -> None:
            self.bridge.current.set_values(values)

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


@registry.register
class RunTab(PanelSpec):
    """The tab Run."""

    display_name: ClassVar[str] = "Run"
    position: ClassVar[float] = 30
    kind: Literal["run"] = "run"

    def build(self, context: PanelContext) -> RunPanel:
        """Return the tab's widget."""
        experiment, inspect = context.panel("experiment"), context.panel("inspect")
        panel = RunPanel(
            context.session, context.viewer, context.bridge, experiment.experiment_maker, inspect.slice_view
        )
        panel.show_machine(context.machine)
        experiment.changed.connect(panel.check)
        panel.started.connect(lambda _: experiment.box.stop_measuring())
        return panel

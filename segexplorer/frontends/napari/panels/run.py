"""The tab "Run": start, pause, step, stop and extend a run, change its live settings, and follow its progress.

Progress is a sentence, a bar and figures; a log says what was applied at which step; a failed run shows its
cause.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
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
from segexplorer.frontends.forms import LiveForm, appearance
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.experiment import OF_CASES
from segexplorer.frontends.napari.panels.report_button import ReportButton
from segexplorer.frontends.napari.panels.retrain import RetrainButton, folder_of
from segexplorer.frontends.napari.panels.run_board import BoardButton
from segexplorer.frontends.napari.workers import LatestWork, Machine
from segexplorer.study.race import is_race
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.ownership import Holder
from segexplorer.training.step_columns import RecordedEvents, events_of, stretches
from segexplorer.training.watch import Watch
from segexplorer.viewmodels import status
from segexplorer.viewmodels.screen import Control, Screen
from segexplorer.viewmodels.status import LogLine, Status
from segexplorer.viewmodels.watched_case import frame_loader


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

    def show_lines(self, lines: Iterable[LogLine], phrase: Callable[[str], str] = str) -> None:
        """Add the lines that are new, in the words that `phrase` gives them."""
        known = list(lines)
        if not known or known[-1] is self._last:
            return
        start = next((i + 1 for i, line in enumerate(known) if line is self._last), 0)
        for line in known[start:]:
            self.appendPlainText(phrase(line.sentence))
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
        named = "" if run is None else f"{Path(run.folder).name}: {status.headline}"
        widgets.say(self.headline, named or waiting)
        self.bar.setVisible(run is not None)
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
    """Start, open, hold, step, stop, predict, extend, and the board of runs."""

    def __init__(self, commands: Commands, board: QPushButton) -> None:
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
        buttons = (self.start, self.pause, self.step, self.stop, self.predict, self.open, self.extend)
        self._tips = {button: button.toolTip() for button in buttons}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        rows = (
            (self.start, self.pause, self.step),
            (self.stop, self.predict, self.open),
        )
        for row, in_row in enumerate(rows):
            for column, widget in enumerate(in_row):
                layout.addWidget(widget, row, column)
                layout.setColumnStretch(column, 1)
        last = QHBoxLayout()
        for widget, share in ((self.extend, 5), (self.epochs, 7), (board, 6)):
            widget.setMinimumWidth(1)
            last.addWidget(widget, share)
        layout.addLayout(last, 2, 0, 1, 3)

    def draw(self, controls: Mapping[str, Control]) -> None:
        """Enable what makes sense now; the tool tip of a disabled button says why it is."""
        one = next((c for c in ("unpause", "go_on") if controls[c].enabled), "pause")
        self.pause.setText({"unpause": "Resume", "go_on": "Go on"}.get(one, "Pause"))
        shown = {
            self.start: "start",
            self.open: "open",
            self.pause: one,
            self.step: "step",
            self.stop: "stop",
            self.predict: "predict_now",
            self.extend: "extend",
        }
        for button, command in shown.items():
            control = controls[command]
            button.setEnabled(control.enabled)
            button.setToolTip(self._tips[button] if control.enabled else control.why or self._tips[button])
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

    def in_words(self, text: str) -> str:
        """Return a text in which the live settings are called as on the screen, not by their dotted paths."""
        form = self.form
        if form is None or not form.paths:
            return text
        paths = "|".join(re.escape(path) for path in sorted(form.paths, key=len, reverse=True))
        return re.sub(rf"(?<![\w.])(?:{paths})(?![\w])", lambda found: form.label(found[0]), text)

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
    display
        What the window displays; it knows which buttons can be pressed, and which slice is shown.
    folder
        Where new runs make their folders.

    Attributes
    ----------
    started
        psygnal signal (run): a new run was made and begins.
    race_opened
        psygnal signal: the folder that was opened holds a race, which the tab Why tells about.
    field_asked
        psygnal signal (dotted path): the user wants to see the setting that keeps Start from being possible.
    device, remedy
        What it trains on, and the command that cures a GPU that torch cannot use.
    start_reason
        Why Start is not possible, beside it; a link to the setting at fault.
    why_not
        Why a command was refused.
    log
        What happened, line by line.
    report
        Writes the run as one page.
    board
        Opens the board of runs.
    retrain
        Puts corrected labels together for a training that goes on from the run.
    """

    started = Signal(object)
    race_opened = Signal()
    field_asked = Signal(str)

    def __init__(
        self,
        session: Any,
        viewer: Any,
        bridge: RunBridge,
        experiment_maker: ExperimentMaker,
        display: Display,
        *,
        folder: Path = RUNS,
    ) -> None:
        super().__init__()
        self.session, self.viewer, self.bridge = session, viewer, bridge
        self.experiment_maker, self.display = experiment_maker, display
        self.status = status.Status()
        self._making = LatestWork(self._on_made, self._on_not_made)
        self._opening = LatestWork(self._on_opened, self._on_not_made)
        self._build(folder)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.ended.connect(self._on_ended)
        display.changed.connect(self._on_changed)
        viewer.events.theme.connect(self._on_theme)
        self._draw(display.screen)

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
        self.board = BoardButton(self.viewer, lambda folder: self.obeyed(lambda: self.open_run(folder)))
        self.buttons = RunButtons(self, self.board)
        self.start_reason = widgets.guidance("", widgets.AMBER)
        self.start_reason.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.start_reason.linkActivated.connect(self.field_asked.emit)
        self.why_not = widgets.guidance()
        self.progress = RunStatus()
        self.live = LiveChanges()
        self.live.applied.connect(self._apply)
        self.retrain = RetrainButton(lambda: folder_of(self.bridge))
        self.report = ReportButton(lambda: getattr(self.bridge.run, "folder", None))
        self.log = RunLog()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self.device,
                self.remedy,
                widgets.section("Output folder", widgets.row(self._folder, choose), key="Run.folder"),
                self.buttons,
                self.start_reason,
                self.why_not,
                self.progress,
                widgets.section("Change while it trains", self.live, key="Run.live"),
                self.report,
                self.retrain,
                widgets.section("What happened", self.log, key="Run.log"),
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
        if self.bridge.busy or self.display.reality.making:
            raise RunActiveError
        make, parent, session = self.experiment_maker(), self.folder, self.session

        def work() -> Any:
            experiment = make()
            return session.prepare(experiment, parent=parent, window=True)

        self.progress.failure.clear()
        widgets.say(self.why_not, "")
        self.display.refresh_run(making="Making the run folder…")
        self._making.send(work)

    def choose_run(self) -> None:
        """Ask for a run folder and open it."""
        chosen = QFileDialog.getExistingDirectory(self, "Open a run folder", str(self.folder))
        if chosen:
            self.open_run(Path(chosen))

    def open_run(self, folder: Path) -> None:
        """Show a run that was made earlier; Go on and Extend continue it. A race is shown with all its lanes."""
        if self.bridge.trains or self.display.reality.making:
            raise RunActiveError
        if is_race(folder):
            widgets.say(self.why_not, "")
            self.display.races.open(folder)
            self.race_opened.emit()
            return
        session = self.session

        def work() -> Any:
            record = open_run(folder)
            holder = record.holder
            if holder is not None and not holder.is_this_process():
                return Watch(folder, load=frame_loader(folder)), [], holder
            events = record.events()
            if record.state == "interrupted":
                at = events[-1]
                end = RunFinished(
                    state="stopped", reason="its process has died", attempt=at.attempt, step=at.step
                )
                end = replace(end, seq=at.seq + 1, time=at.time)
                events = RecordedEvents([*stretches(events), end])
            return session.resume(folder, window=True), events, holder

        widgets.say(self.why_not, "")
        self._let_go()
        self.display.refresh_run(making="Opening the run…")
        self._opening.send(work)

    def _on_opened(self, answer: tuple[Any, Sequence[Event], Holder | None]) -> None:
        run, events, holder = answer
        if isinstance(run, Watch):
            self.watch(run, holder)
            return
        self.display.refresh_run(making="")
        self.status = status.Status()
        self.log.clear()
        self.started.emit(run)
        self.bridge.open(run, events)
        if holder is not None:
            self.display.set_owner(str(holder))
            widgets.say(
                self.why_not,
                f"This run is in use by {holder}. It is shown as it was when it was opened; Go on continues it "
                "once that process has ended.",
                widgets.AMBER,
            )

    def watch(self, run: Watch, holder: Holder | None) -> None:
        """Show a run that another process trains, as it goes on."""
        self.begin(run)
        if holder is not None:
            self.display.set_owner(str(holder))
        widgets.say(
            self.why_not,
            f"This run is in use by {holder or 'another process'}. It is shown as it goes on; Stop ends "
            "looking on, and the run itself goes on.",
            widgets.AMBER,
        )

    def _let_go(self) -> None:
        """End looking on at a run of another process, whose events come no more from now on."""
        if self.bridge.busy:
            self.bridge.leave()

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
        self.bridge.current.step(self.display.slice_view())

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
        self.display.refresh_run(making="")
        self.status = status.Status()
        self.log.clear()
        widgets.say(self.why_not, "")
        self.started.emit(run)
        self.bridge.start(run)

    def _on_not_made(self, error: SegExplorerError) -> None:
        self.display.refresh_run(making="")
        self._on_refused(error)

    def _on_refused(self, error: SegExplorerError) -> None:
        widgets.say(self.why_not, self.live.in_words(str(error)), widgets.RED)
        self._redraw()

    def _on_begun(self, run: Any) -> None:
        self.progress.failure.clear()
        widgets.say(self.why_not, "")
        self.live.show_experiment(run.experiment, running=self.bridge.busy)
        self._redraw()

    def _on_events(self, events: Sequence[Event]) -> None:
        self.status.extend(events)
        if events_of(events, ParameterApplied, Planned):
            self.live.show_experiment(self.bridge.current.experiment, running=self.bridge.busy)
        self.log.show_lines(self.status.log, self.live.in_words)
        for event in events_of(events, RunFinished):
            if event.state == "failed":
                self.progress.failure.show_failure(self.status.failure, self.status.cause)
        self._redraw()

    def _on_ended(self, _: RunFinished) -> None:
        self._redraw()

    def _apply(self, values: dict[str, Any]) -> None:
        def send() -> None:
            self.bridge.current.set_values(values)

        self.obeyed(send)

    # -- drawing ------------------------------------------------------------------------------------------

    def _redraw(self) -> None:
        self.display.refresh_run()
        self._draw(self.display.screen)

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if not parts.isdisjoint({"controls", "title"}):
            self._draw(screen)

    def _on_theme(self, _: Any = None) -> None:
        self._draw(self.display.screen)

    def _draw(self, screen: Screen) -> None:
        self.buttons.draw(screen.controls)
        start = screen.controls["start"]
        self._draw_reason(start, of_new=self.bridge.run is not None and not self.bridge.busy)
        self.progress.draw(self.status, self.bridge.run, ready=start.enabled)

    def _draw_reason(self, start: Control, *, of_new: bool) -> None:
        """Say beside Start why it is not possible; beside a run that has ended, that another one is meant."""
        if start.enabled or not start.why or self.bridge.busy:
            widgets.say(self.start_reason, "")
            return
        text = escape(start.why)
        if start.path:
            what = "A new run cannot start yet" if of_new else "Start is not possible yet"
            tone = appearance.colour("amber", dark=theme.is_dark(self.viewer))
            text = f'{what}: {text} <a href="{escape(start.path)}" style="color: {tone}">Show where</a>'
        widgets.say(self.start_reason, text, widgets.AMBER, rich=True)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._making.close()
        self._opening.close()
        self.display.changed.disconnect(self._on_changed)
        self.viewer.events.theme.disconnect(self._on_theme)
        self.live.closing()
        self.retrain.closing()
        self.report.closing()
        self.board.closing()


@registry.register
class RunTab(PanelSpec):
    """The tab Run."""

    display_name: ClassVar[str] = "Run"
    position: ClassVar[float] = 30
    kind: Literal["run"] = "run"

    def build(self, context: PanelContext) -> RunPanel:
        """Return the tab's widget."""
        experiment = context.panel("experiment")
        panel = RunPanel(
            context.session, context.viewer, context.bridge, experiment.experiment_maker, context.display
        )
        panel.show_machine(context.machine)
        experiment.judged.connect(lambda facts: context.display.learn(plan=facts))
        experiment.judge()

        def show(path: str) -> None:
            tab = context.panel("cases" if path.partition(".")[0] in OF_CASES else "experiment")
            widgets.bring_to_front(tab)
            experiment.focus(path)

        def load(path: Path) -> None:
            experiment.load(path)
            widgets.bring_to_front(experiment)

        panel.field_asked.connect(show)
        panel.retrain.prepared.connect(load)
        panel.started.connect(lambda _: experiment.box.stop_measuring())
        return panel

"""The tab "Experiment": network, loss and everything else that is decided before Start, with the plan it leads to.

The plan names the cases, the memory and, measured on request, the time that the experiment will take.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import DataError, RunStateError, SegExplorerError, SpecError
from segexplorer.core.events import ACTIVE_STATES
from segexplorer.frontends.forms import SpecForm
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.cases import CasesPanel
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.experiment import Experiment
from segexplorer.training.host import lower_priority
from segexplorer.training.timing import Timing
from segexplorer.viewmodels import status as timings
from segexplorer.viewmodels.reality import PlanFacts

GUIDANCE = "Choose cases first; the plan then states memory and number of steps."
PLANNING, MEASURING = "Planning…", "Measuring: a few steps and windows of this plan…"


class PlanBox(QWidget):  # type: ignore[misc, unused-ignore]
    """The plan in words, and a button that measures the time it will take.

    Parameters
    ----------
    session
        Plans, and knows whether a run is going on, beside which nothing can be timed.

    Attributes
    ----------
    planned
        psygnal signal with the `Plan` that was resolved in the background.
    refused
        psygnal signal with the error that says why there is no plan.
    phrase
        Puts a sentence into the words of the form; another function may be put here.
    """

    planned = Signal(object)
    refused = Signal(object)

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self.phrase: Callable[[str], str] = str
        self._plan: Any = None
        self._to_stop = threading.Event()
        self.work = LatestWork(self._on_plan, self.refuse, newest_only=True)
        self.timing = LatestWork(self._on_timing, self._on_not_timed, newest_only=True)
        self.summary, self.warnings, self.time = (
            widgets.guidance(GUIDANCE),
            widgets.guidance(),
            widgets.guidance(),
        )
        self.measure_button = QPushButton("Measure the time")
        self.measure_button.setToolTip(
            "Does a few training steps and predictions of this plan in the background, and keeps nothing of them."
        )
        self.measure_button.clicked.connect(lambda _=False: self.measure_or_stop())
        self.measure_button.hide()
        row = QHBoxLayout()
        row.addWidget(self.measure_button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.summary)
        layout.addWidget(self.time)
        layout.addLayout(row)
        layout.addWidget(self.warnings)

    # -- the plan -----------------------------------------------------------------------------------------

    def plan(self, make: Callable[[], Experiment]) -> None:
        """Resolve the experiment that `make` gives in the background, and show the plan."""
        self._forget()
        widgets.say(self.summary, PLANNING)
        session = self._session
        self.work.send(lambda: session.plan(make(), window=True))

    def refuse(self, error: SegExplorerError) -> None:
        """Say why there is no plan."""
        self._forget()
        widgets.say(self.summary, "")
        widgets.say(self.warnings, self.phrase(str(error)), widgets.RED)
        self.refused.emit(error)

    def show_text(self, shown: SegExplorerError | str) -> None:
        """Say something that leaves the plan as it is; errors in red."""
        widgets.say(
            self.warnings, str(shown), widgets.RED if isinstance(shown, SegExplorerError) else widgets.GREY
        )

    def _forget(self) -> None:
        """There is no plan now, and nothing to be timed."""
        self.stop_measuring()
        self._plan = None
        widgets.say(self.time, "")
        self.measure_button.hide()

    def _on_plan(self, plan: Any) -> None:
        self._plan = plan
        lines = [f"<b>{label}</b>&nbsp; {escape(text)}" for label, text in plan.summary().items()]
        widgets.say(self.summary, "<br>".join(lines), rich=True)
        shown = [
            *plan.badges,
            *(f"{p.case}: {p.message} {p.remedy}".removeprefix(": ") for p in plan.warnings),
        ]
        widgets.say(self.warnings, self.phrase("\n".join(shown)), widgets.AMBER)
        self._show_button()
        self.planned.emit(plan)

    # -- the time -----------------------------------------------------------------------------------------

    def measure_or_stop(self) -> None:
        """Measure how long the plan will take, or stop measuring."""
        if self.timing.busy:
            self.stop_measuring()
            return
        if self._plan is None:
            return
        if getattr(self._session.run, "state", None) in ACTIVE_STATES:
            self._on_not_timed(
                RunStateError("A run is going on, which shows its own time.", "Stop it first.")
            )
            return
        plan, stop = self._plan, threading.Event()
        self._to_stop = stop
        self.timing.send(lambda: (plan, _measured(plan, stop)))
        widgets.say(self.time, MEASURING)
        self._show_button()

    def stop_measuring(self) -> None:
        """Break off at the next step or window."""
        self._to_stop.set()

    def _on_timing(self, answer: tuple[Any, Timing | None]) -> None:
        plan, found = answer
        if plan is self._plan:
            text = "" if found is None else f"<b>Time</b>&nbsp; {timings.sentence(found)}"
            widgets.say(self.time, text, rich=True)
        self._show_button(done=True)

    def _on_not_timed(self, error: SegExplorerError) -> None:
        widgets.say(self.time, str(error), widgets.RED)
        self._show_button(done=True)

    def _show_button(self, *, done: bool = False) -> None:
        measuring = self.timing.busy and not done
        self.measure_button.setText("Stop measuring" if measuring else "Measure the time")
        self.measure_button.setVisible(self._plan is not None)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self.stop_measuring()
        self.timing.close()
        self.work.close()


def _measured(plan: Any, stop: threading.Event) -> Timing | None:
    """Measure in a thread of lower priority than the window's, as training does."""
    from segexplorer.training.timing import measure

    with ThreadPoolExecutor(1, initializer=lower_priority) as pool:
        return pool.submit(measure, plan, stopped=stop.is_set).result()


OF_CASES = ("data", "split")
"""Settings of an experiment that are edited in the Cases tab."""
_PATH = re.compile(r"\b[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+\b")
_WAIT_MS = 700
"""How long the form rests before it is planned anew: nobody wants a plan of every letter typed."""


class ExperimentPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """The form of an experiment without its data, and what it would cost.

    Parameters
    ----------
    session, viewer
        As in every panel.
    cases
        The panel that knows data and split.
    gpus
        How many GPUs there are; of one, no number of devices is asked for.

    Attributes
    ----------
    changed
        psygnal signal: the experiment is another one now, valid or not.
    judged
        psygnal signal (`PlanFacts`): whether it can be started, and if not, why, in the words of the forms.
    """

    changed = Signal()
    judged = Signal(object)

    def __init__(self, session: Any, viewer: Any, cases: CasesPanel, gpus: int = 0) -> None:
        super().__init__()
        self.session, self.viewer, self._cases, self._gpus = session, viewer, cases, gpus
        self.form: SpecForm[Experiment] = SpecForm(Experiment, exclude=(*OF_CASES, "changes"))
        self.box = PlanBox(session)
        self.box.phrase = lambda text: self._in_words(text)[0]
        self.box.planned.connect(lambda _: self._judge(PlanFacts("fits")))
        self.box.refused.connect(self._on_refused)
        self._edited = False
        self._saving = LatestWork(self.box.show_text, self.box.show_text)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WAIT_MS)
        self._timer.timeout.connect(self.plan)
        load, save = QPushButton("Load YAML…"), QPushButton("Save YAML…")
        load.clicked.connect(self._choose_load)
        save.clicked.connect(self._choose_save)
        row = QWidget()
        buttons = QHBoxLayout(row)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(load)
        buttons.addWidget(save)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                row, self.form.native, widgets.section("Before you start", self.box, key="Experiment.plan")
            )
        )
        self._show_devices()
        self.form.changed.connect(self._on_change)
        cases.changed.connect(self._on_change)
        cases.proposal.proposed.connect(self._on_proposal)
        cases.proposal.label = self.label

    # -- what comes out -----------------------------------------------------------------------------------

    def experiment_maker(self) -> Callable[[], Experiment]:
        """Return a function for a worker that gives the experiment; layers without a file are saved by it.

        Raises
        ------
        SegExplorerError
            When cases or settings are not fit for training, in one sentence.
        """
        settings = self.form.plain()
        if self.form.problems:
            raise SpecError(self.form.problem_sentence())
        dataset = self._cases.dataset_maker()

        def make() -> Experiment:
            data, split = dataset()
            return Experiment.of({**settings, "data": data, "split": split})

        return make

    def experiment(self) -> Experiment:
        """Return the experiment (see `experiment_maker`); saves layers without a file, so it may take a while."""
        return self.experiment_maker()()

    @property
    def problem_path(self) -> str:
        """Dotted path of the first setting that is at fault, here or in the Cases tab; "" where all are sound."""
        return self.form.problems[0][0] if self.form.problems else self._cases.problem_path

    def focus(self, path: str) -> bool:
        """Unfold, scroll to and focus the field of a setting, here or in the Cases tab; False where there is none.

        Whoever calls it brings the tab to the front.
        """
        if path.partition(".")[0] in OF_CASES:
            return self._cases.focus(path)
        return self.form.focus(path)

    def label(self, path: str) -> str:
        """Return what the screen calls a setting: "Loss › Weight of Dice"."""
        return self._cases.label(path) if path.partition(".")[0] in OF_CASES else self.form.label(path)

    def set_experiment(self, experiment: Experiment) -> None:
        """Show an experiment, its data in the Cases tab."""
        self.form.set(experiment)
        self._cases.set_dataset(experiment.data, experiment.split)

    def _on_proposal(self, proposal: Any) -> None:
        """Show what was proposed for the cases; layers stay chosen as they are."""
        if self._cases.from_layers:
            self.form.set(proposal.experiment)
        else:
            self.set_experiment(proposal.experiment)

    def load(self, path: Path) -> None:
        """Show the experiment of a YAML file; a file that is wrong changes nothing and is explained."""
        try:
            self.set_experiment(Experiment.from_yaml(path))
        except SegExplorerError as error:
            self.box.show_text(error)

    def save(self, path: Path) -> None:
        """Write the experiment as YAML, in the background."""

        def work() -> str:
            make().save(path)
            return f"Saved {path}"

        try:
            make = self.experiment_maker()
        except SegExplorerError as error:
            self.box.show_text(error)
            return
        self._saving.send(work)

    # -- the plan -----------------------------------------------------------------------------------------

    def refusal(self, error: SegExplorerError) -> PlanFacts:
        """Return an error as the reason why nothing can be started: settings by their labels on the screen."""
        text, found = self._in_words(str(error))
        path = self.problem_path or (found[0] if found else "data" if isinstance(error, DataError) else "")
        return PlanFacts("refused", text, path)

    def _in_words(self, text: str) -> tuple[str, list[str]]:
        """Return a text with settings by their labels on the screen, and the paths that they had."""
        found: list[str] = []

        def named(match: re.Match[str]) -> str:
            path = match[0]
            if path.partition(".")[0] not in Experiment.model_fields:
                return path
            found.append(path)
            return self.label(path) or path

        return _PATH.sub(named, text), found

    def judge(self) -> None:
        """Say whether the experiment can be started, as far as that is known without planning it."""
        try:
            self.experiment_maker()
        except SegExplorerError as error:
            self.judged.emit(self.refusal(error))
        else:
            self.judged.emit(PlanFacts("planning"))

    def _judge(self, facts: PlanFacts) -> None:
        if not self._edited:  # else it is of what was there before
            self.judged.emit(facts)

    def _on_refused(self, error: SegExplorerError) -> None:
        self._judge(self.refusal(error))

    def plan(self) -> None:
        """Resolve the experiment in the background and show what it would cost."""
        self._edited = False
        try:
            make = self.experiment_maker()
        except SegExplorerError as error:
            self.box.refuse(error)
        else:
            self.box.plan(make)

    def _show_devices(self) -> None:
        """Ask for a number of devices where there are several, or where an experiment from elsewhere does."""
        several = self._gpus > 1 or self.form.plain()["compute"]["devices"] != 1
        self.form.row_for("compute.devices").visible = several

    def _on_change(self, *_: Any) -> None:
        self._show_devices()
        self._edited = True
        self._timer.start()
        self.judge()
        self.changed.emit()

    # -- files --------------------------------------------------------------------------------------------

    def _choose_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load an experiment", "", "Experiments (*.yaml *.yml)")
        if path:
            self.load(Path(path))

    def _choose_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the experiment", "experiment.yaml", "YAML (*.yaml)")
        if path:
            self.save(Path(path))

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._timer.stop()
        self._saving.close()
        self.box.closing()


@registry.register
class ExperimentTab(PanelSpec):
    """The tab Experiment."""

    display_name: ClassVar[str] = "Experiment"
    position: ClassVar[float] = 20
    kind: Literal["experiment"] = "experiment"

    def build(self, context: PanelContext) -> ExperimentPanel:
        """Return the tab's widget."""
        return ExperimentPanel(context.session, context.viewer, context.panel("cases"), context.machine.gpus)

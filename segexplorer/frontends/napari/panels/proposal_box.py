"""A button in the tab Cases that proposes all settings of the tab Experiment for the cases chosen there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import RunStateError, SegExplorerError
from segexplorer.core.events import ACTIVE_STATES
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.splits import Split
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.metrics.tasks import TASKS
from segexplorer.training.host import lower_priority
from segexplorer.training.timing import Timing

TITLE, STOP = "Propose settings", "Stop"
_PHASES = {"headers": "Reading headers", "voxels": "Reading voxels", "steps": "Timing some steps"}
_TICK_MS = 200
_MOST_MINUTES = 100_000.0
_NAMED = 6
"""Cases that are left out, and warnings, that are shown."""


class ProposalBox(QWidget):  # type: ignore[misc, unused-ignore]
    """What is segmented, how long training may take, and a button; the reasons of the proposal below it.

    Parameters
    ----------
    session
        Knows whether a run is going on, beside which no step can be timed.
    dataset_maker
        Gives a function for a worker that returns data set and split, or raises why there is none.

    Attributes
    ----------
    proposed
        psygnal signal with the `Proposal`.
    button
        Begins, and stops what is under way.
    task_box, minutes
        What is segmented ("" lets the classes decide), and the time.
    message, reasons
        How far it is, or why there is no proposal; and each setting with its reason.
    label
        What the screen calls a setting, by its dotted path.
    work
        What is done off the main thread.
    """

    proposed = Signal(object)

    def __init__(
        self, session: Any, dataset_maker: Callable[[], Callable[[], tuple[DatasetSpec, Split]]]
    ) -> None:
        super().__init__()
        self._session, self._dataset_maker = session, dataset_maker
        self.label: Callable[[str], str] = str
        self._stop = threading.Event()
        self._progress = ""
        self.button = QPushButton(TITLE)
        self.button.setToolTip(
            "Look at the cases and at this machine, time some steps, and fill in the tab Experiment."
        )
        self.button.clicked.connect(lambda _=False: self.begin_or_stop())
        self.task_box = QComboBox()
        self.task_box.addItem("By the classes", "")
        for task in TASKS.values():
            self.task_box.addItem(task.name.capitalize(), task.name)
        self.task_box.setToolTip("What is segmented: decides loss, mirroring and metrics.")
        self.task_box.setAccessibleName("What is segmented")
        self.minutes = QDoubleSpinBox()
        self.minutes.setAccessibleName("How long training may take")
        self.minutes.setDecimals(1)
        self.minutes.setRange(0.1, _MOST_MINUTES)
        self.minutes.setValue(60.0)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip("How long training may take on this machine.")
        self.message, self.reasons = widgets.guidance(), widgets.guidance()
        self.work = LatestWork(self._on_proposal, self._on_refused, newest_only=True)
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._show_progress)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Segmented are", self.task_box)
        form.addRow("Training may take", self.minutes)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.message)
        layout.addWidget(self.reasons)

    def begin_or_stop(self) -> None:
        """Propose settings in the background, or stop doing so."""
        if self.work.busy:
            self._stop.set()
            return
        try:
            if getattr(self._session.run, "state", None) in ACTIVE_STATES:
                raise RunStateError("A run is going on, so that no step can be timed.", "Stop it first.")
            make = self._dataset_maker()
        except SegExplorerError as error:
            self._on_refused(error)
            return
        stop = self._stop = threading.Event()
        task, minutes = str(self.task_box.currentData()) or None, self.minutes.value()

        def looked(what: str, done: int, total: int) -> None:
            self._progress = f"{_PHASES[what]}: {done} of {total}"

        def propose() -> Any:
            # torch is imported by then
            from segexplorer.training.proposal import propose, this_machine

            return propose(
                make()[0],
                task=task,
                minutes=minutes,
                hardware=this_machine(window=True),
                measure=lambda plan: _measured(plan, stop),
                looked=looked,
                stopped=stop.is_set,
            )

        widgets.say(self.reasons, "")
        self._progress = "Looking at the cases"
        self._show_progress()
        self.button.setText(STOP)
        self._timer.start()
        self.work.send(propose)

    def _show_progress(self) -> None:
        widgets.say(self.message, f"{self._progress}…")

    def _end(self) -> None:
        self._timer.stop()
        self.button.setText(TITLE)

    def _on_refused(self, error: SegExplorerError) -> None:
        self._end()
        stopped = self._stop.is_set()
        widgets.say(
            self.message, "Stopped." if stopped else str(error), widgets.GREY if stopped else widgets.RED
        )

    def _on_proposal(self, proposal: Any) -> None:
        self._end()
        left_out = [f"{p.case}: {p.message}".removeprefix(": ") for p in proposal.problems]
        more = f"\nand {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        widgets.say(
            self.message,
            "\n".join(["The tab Experiment shows the proposal.", *left_out[:_NAMED]]) + more,
            widgets.AMBER if left_out else widgets.GREY,
        )
        self.proposed.emit(proposal)  # first: only the form that shows it knows what its settings are called
        named = ((self.label(path) or path, why) for path, why in proposal.reasons.items())
        sentences = [*proposal.heading()[1:], *(f"{label}: {why}" for label, why in named)]
        lines = [_bold(sentence) for sentence in sentences]
        widgets.say(self.reasons, "<br>".join(lines), rich=True)

    def closing(self) -> None:
        """Stop, and let nothing come back any more."""
        self._stop.set()
        self._timer.stop()
        self.work.close()


def _bold(sentence: str) -> str:
    """Return "path: why" with the path in bold, as HTML."""
    head, colon, rest = sentence.partition(": ")
    return f"<b>{escape(head)}</b>&nbsp; {escape(rest)}" if colon else escape(sentence)


def _measured(plan: Any, stop: threading.Event) -> Timing | None:
    """Time steps as a run beside this window takes them: fewer threads, and a lower priority."""
    from segexplorer.training.compute import resolve_compute
    from segexplorer.training.timing import measure

    beside = replace(plan, runtime=resolve_compute(plan.experiment.compute, window=True))
    with ThreadPoolExecutor(1, initializer=lower_priority) as pool:
        return pool.submit(measure, beside, stopped=stop.is_set).result()

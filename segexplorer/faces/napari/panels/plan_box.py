"""What an experiment comes to before it starts: its plan, what to know of it, and how long it will take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import RunStateError, SegExplorerError
from segexplorer.faces.napari.bridge import stand_back
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.panels import parts
from segexplorer.training.experiment import Experiment
from segexplorer.training.timing import Timing
from segexplorer.viewmodels import timing as timings

GUIDANCE = "Choose cases first; the plan then tells memory and number of steps."
PLANNING, MEASURING = "Planning…", "Measuring: a few steps and windows of this plan…"
_UNDER_WAY = ("preparing", "running", "paused", "stopping")


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
    """

    planned = Signal(object)

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._plan: Any = None
        self._to_stop = threading.Event()
        self.work = LatestWork(self._on_plan, self.refuse, newest_only=True)
        self.timing = LatestWork(self._on_timing, self._on_not_timed, newest_only=True)
        self.summary, self.warnings, self.time = parts.guidance(GUIDANCE), parts.guidance(), parts.guidance()
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
        """Resolve the experiment that `make` gives in the background, and tell what it comes to."""
        self._forget()
        parts.say(self.summary, PLANNING)
        session = self._session
        self.work.send(lambda: session.plan(make(), window=True))

    def refuse(self, error: SegExplorerError) -> None:
        """Say why there is no plan."""
        self._forget()
        parts.say(self.summary, "")
        self.tell(error)

    def tell(self, told: SegExplorerError | str) -> None:
        """Say something that leaves the plan as it is; errors in red."""
        parts.say(self.warnings, str(told), parts.RED if isinstance(told, SegExplorerError) else parts.GREY)

    def _forget(self) -> None:
        """There is no plan now, and nothing to be timed."""
        self.stop_measuring()
        self._plan = None
        parts.say(self.time, "")
        self.measure_button.hide()

    def _on_plan(self, plan: Any) -> None:
        self._plan = plan
        lines = [f"<b>{label}</b>&nbsp; {text}" for label, text in plan.summary().items()]
        parts.say(self.summary, "<br>".join(lines))
        told = [
            *plan.badges,
            *(f"{p.case}: {p.message} {p.remedy}".removeprefix(": ") for p in plan.warnings),
        ]
        parts.say(self.warnings, "\n".join(told), parts.AMBER)
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
        if getattr(self._session.run, "state", None) in _UNDER_WAY:
            self._on_not_timed(
                RunStateError("A run is going on, which tells its own time.", "Stop it first.")
            )
            return
        plan, stop = self._plan, threading.Event()
        self._to_stop = stop
        self.timing.send(lambda: (plan, _measured(plan, stop)))
        parts.say(self.time, MEASURING)
        self._show_button()

    def stop_measuring(self) -> None:
        """Break off at the next step or window."""
        self._to_stop.set()

    def _on_timing(self, answer: tuple[Any, Timing | None]) -> None:
        plan, found = answer
        if plan is self._plan:
            text = "" if found is None else f"<b>Time</b>&nbsp; {timings.sentence(found)}"
            parts.say(self.time, text)
        self._show_button(done=True)

    def _on_not_timed(self, error: SegExplorerError) -> None:
        parts.say(self.time, str(error), parts.RED)
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
    """Measure in a thread that stands back behind the window's, as training does."""
    from segexplorer.training.timing import measure

    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        return pool.submit(measure, plan, stopped=stop.is_set).result()

"""The tab "Experiment": network, loss and everything else that is decided before Start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError, SpecError
from segexplorer.faces.forms import SpecForm
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.cases import CasesPanel
from segexplorer.faces.napari.panels.plan_box import PlanBox
from segexplorer.training.experiment import Experiment

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

    Attributes
    ----------
    changed
        psygnal signal: the experiment is another one now, valid or not.
    """

    changed = Signal()

    def __init__(self, session: Any, viewer: Any, cases: CasesPanel) -> None:
        super().__init__()
        self.session, self.viewer, self._cases = session, viewer, cases
        self._form: SpecForm[Experiment] = SpecForm(Experiment, exclude=("data", "split", "changes"))
        self.box = PlanBox(session)
        self._saving = LatestWork(self.box.tell, self.box.tell)
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
        layout.addWidget(parts.scrolled(row, self._form.native, parts.heading("Before you start"), self.box))
        self._form.changed.connect(self._on_change)
        cases.changed.connect(self._on_change)

    # -- what comes out -----------------------------------------------------------------------------------

    def experiment_maker(self) -> Callable[[], Experiment]:
        """Return a function for a worker that gives the experiment; layers without a file are saved by it.

        Raises
        ------
        SegExplorerError
            When cases or settings are not fit for training, in one sentence.
        """
        settings = self._form.plain()
        if self._form.problems:
            raise SpecError("; ".join(f"{path} {text}" for path, text in self._form.problems) + ".")
        dataset = self._cases.dataset_maker()

        def make() -> Experiment:
            data, split = dataset()
            return Experiment.of({**settings, "data": data, "split": split})

        return make

    def experiment(self) -> Experiment:
        """Return the experiment (see `experiment_maker`); saves layers without a file, so it may take a while."""
        return self.experiment_maker()()

    def set_experiment(self, experiment: Experiment) -> None:
        """Show an experiment, its data in the Cases tab."""
        self._form.set(experiment)
        self._cases.set_dataset(experiment.data, experiment.split)

    def load(self, path: Path) -> None:
        """Show the experiment of a YAML file; a file that is wrong changes nothing and is explained."""
        try:
            self.set_experiment(Experiment.from_yaml(path))
        except SegExplorerError as error:
            self.box.tell(error)

    def save(self, path: Path) -> None:
        """Write the experiment as YAML, in the background."""

        def work() -> str:
            make().save(path)
            return f"Saved {path}"

        try:
            make = self.experiment_maker()
        except SegExplorerError as error:
            self.box.tell(error)
            return
        self._saving.send(work)

    # -- the plan -----------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Resolve the experiment in the background and show what it would cost."""
        try:
            make = self.experiment_maker()
        except SegExplorerError as error:
            self.box.refuse(error)
        else:
            self.box.plan(make)

    def _on_change(self, *_: Any) -> None:
        self._timer.start()
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

"""The settings that may be changed while a run goes on."""

from __future__ import annotations

import contextlib
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from segexplorer.faces.forms import LiveForm
from segexplorer.faces.napari.panels import parts
from segexplorer.training.experiment import Experiment


class LiveChanges(QWidget):  # type: ignore[misc, unused-ignore]
    """The live form of the current run, once there is one.

    Attributes
    ----------
    applied
        psygnal signal (dotted path, value): the user asks for a change.
    """

    applied = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self.form: LiveForm | None = None
        self._note = parts.guidance("What may be changed while it trains appears here after Start.")
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

    def _tell(self, path: str, value: Any) -> None:
        self.applied.emit(path, value)

    def closing(self) -> None:
        """Tell nothing any more."""
        if self.form is not None:
            with contextlib.suppress(ValueError):
                self.form.applied.disconnect(self._tell)

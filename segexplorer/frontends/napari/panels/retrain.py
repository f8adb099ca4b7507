"""The button *Retrain with corrected labels…*: a new version of the run's data, and the experiment that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.training.relabel import Relabelled, corrected_labels, relabel

TITLE = "Retrain with corrected labels…"


class RetrainButton(QWidget):  # type: ignore[misc, unused-ignore]
    """Puts corrected labels together and hands over an experiment that fine-tunes the run.

    Parameters
    ----------
    run_folder
        Returns the folder of the run that is shown; None where there is none, or it is going on.

    Attributes
    ----------
    prepared
        psygnal signal (path): the experiment file is there; Start trains it.
    button, message
        What is clicked, and what became of it.
    """

    prepared = Signal(object)

    def __init__(self, run_folder: Callable[[], Path | None]) -> None:
        super().__init__()
        self._run_folder = run_folder
        self.button = QPushButton(TITLE)
        self.button.setToolTip(
            "Labels that were corrected become a new version of the data; nothing is overwritten. The experiment "
            "goes on from the weights of this run, with the same cases held out."
        )
        self.button.clicked.connect(lambda _=False: self._ask())
        self.message = widgets.guidance()
        self._work = LatestWork(self._on_ready, self._on_refused)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.message)

    @property
    def busy(self) -> bool:
        """Whether labels are being put together."""
        return self._work.busy

    def _ask(self) -> None:
        run = self._run_folder()
        if run is None:
            widgets.say(self.message, "Open a run that is not going on: its weights are where this begins.")
            return
        labels = QFileDialog.getExistingDirectory(
            self, "Folder of the corrected labels, named by their cases"
        )
        place = QFileDialog.getExistingDirectory(self, "Where to make the new version") if labels else ""
        if place:
            self.prepare(run, labels, Path(place) / f"{run.name}-relabelled")

    def prepare(self, run: Path, labels: str, output: Path) -> None:
        """Put the labels of a folder together, in the background."""
        folders = (output, *(output.with_name(f"{output.name}-{number}") for number in range(2, 1000)))
        free = next(folder for folder in folders if not folder.exists())
        widgets.say(self.message, "Comparing the labels with those of the run…")
        self.button.setEnabled(False)
        self._work.send(lambda: relabel(run, corrected_labels(run, labels), free))

    def _on_ready(self, found: Relabelled) -> None:
        self.button.setEnabled(True)
        count = len(found.cases)
        widgets.say(
            self.message,
            f"{count} {'label differs' if count == 1 else 'labels differ'}; the new version is {found.folder}. "
            "The tabs show its experiment: press Start.",
        )
        self.prepared.emit(found.experiment)

    def _on_refused(self, error: SegExplorerError) -> None:
        self.button.setEnabled(True)
        widgets.say(self.message, str(error), widgets.RED)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._work.close()


def folder_of(bridge: Any) -> Path | None:
    """Return the folder of the run that a window shows; None without one, and while it is going on."""
    folder = getattr(bridge.run, "folder", None)
    return None if folder is None or bridge.busy else Path(folder)

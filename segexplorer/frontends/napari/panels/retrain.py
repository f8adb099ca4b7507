"""The button *Retrain with corrected labels…*: a new version of the run's data, and the experiment that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtWidgets import QFileDialog

from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.task_button import TaskButton
from segexplorer.training.relabel import Relabelled, corrected_labels, relabel

TITLE = "Retrain with corrected labels…"


class RetrainButton(TaskButton):
    """Puts corrected labels together and hands over an experiment that fine-tunes the run.

    Parameters
    ----------
    run_folder
        Returns the folder of the run that is shown; None where there is none, or it is going on.

    Attributes
    ----------
    prepared
        psygnal signal (path): the experiment file is there; Start trains it.
    """

    prepared = Signal(object)

    def __init__(self, run_folder: Callable[[], Path | None]) -> None:
        super().__init__(
            TITLE,
            "Labels that were corrected become a new version of the data; nothing is overwritten. The experiment "
            "goes on from the weights of this run, with the same cases held out.",
        )
        self._run_folder = run_folder

    def ask(self) -> None:
        """Ask for the folder of the labels, and where the new version goes."""
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
        self.begin(
            "Comparing the labels with those of the run…",
            lambda: relabel(run, corrected_labels(run, labels), free),
        )

    def finished(self, result: Relabelled) -> str:
        """Hand the experiment over."""
        self.prepared.emit(result.experiment)
        count = len(result.cases)
        return (
            f"{count} {'label differs' if count == 1 else 'labels differ'}; the new version is {result.folder}. "
            "The tabs show its experiment: press Start."
        )


def folder_of(bridge: Any) -> Path | None:
    """Return the folder of the run that a window shows; None without one, and while it is going on."""
    folder = getattr(bridge.run, "folder", None)
    return None if folder is None or bridge.busy else Path(folder)

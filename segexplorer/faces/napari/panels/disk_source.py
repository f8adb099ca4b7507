"""Naming a data set on the disk: any registered kind and its split, or a folder whose layout is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from psygnal import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.datasets import described, recognise, registry
from segexplorer.data.datasets.base import DatasetSpec, Recognition
from segexplorer.data.splits import Split
from segexplorer.faces.forms import SpecForm
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.panels import parts


class _OnDisk(Spec):
    """Any registered data set, and how it is divided."""

    data: Annotated[DatasetSpec, registry.late_bound] = parameter(
        title="Data set", meaning="Where the cases are."
    )
    split: Split = parameter(default_factory=Split, title="Split", meaning="Which cases train and validate.")


class DiskSource(QWidget):  # type: ignore[misc, unused-ignore]
    """The form of a data set, and a button that fills it by looking at a folder.

    Attributes
    ----------
    changed
        psygnal signal: another data set or split.
    refused
        psygnal signal with the error that says why a folder is not recognised.
    """

    changed = Signal()
    refused = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._form: SpecForm[_OnDisk] = SpecForm(_OnDisk)
        self._form.changed.connect(lambda _: self.changed.emit())
        finder = QPushButton("Find out from a folder…")
        finder.setToolTip("Choose the folder of a data set; its layout is recognised by the names in it.")
        finder.clicked.connect(lambda _=False: self._choose_folder())
        self.errand = LatestWork(self._on_recognised, self._on_refused, newest_only=True)
        self.told = parts.guidance()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(finder)
        column.addWidget(self.told)
        column.addWidget(self._form.native)
        column.addStretch(1)

    @property
    def chosen(self) -> tuple[DatasetSpec, Split]:
        """The data set and split of the form."""
        value = self._form.value
        return value.data, value.split

    def set(self, dataset: DatasetSpec, split: Split) -> None:
        """Show a data set and its split."""
        parts.say(self.told, "")
        self._form.set(_OnDisk(data=dataset, split=split))

    def recognise(self, folder: Path) -> None:
        """Find out, off the main thread, which data set a folder is, show it, and say by what it was recognised."""

        def work() -> tuple[Recognition, DatasetSpec]:
            found = recognise(folder)
            return found, described(found)

        parts.say(self.told, f"Looking at {folder.name}…")
        self.errand.send(work)

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open the folder of a data set")
        if folder:
            self.recognise(Path(folder))

    def _on_recognised(self, answer: tuple[Recognition, DatasetSpec]) -> None:
        found, dataset = answer
        self.set(dataset, self.chosen[1])
        name = type(dataset).display_name
        parts.say(
            self.told,
            f"{found.folder.name} was recognised as “{name}”, because there is {found.reason}.",
        )
        self.changed.emit()

    def _on_refused(self, error: SegExplorerError) -> None:
        parts.say(self.told, "")
        self.refused.emit(error)

"""A button whose work is done in the background, with a sentence below it about what became of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork


class TaskButton(QWidget):  # type: ignore[misc, unused-ignore]
    """Asks what it needs to know when it is clicked, and does one piece of work at a time.

    Parameters
    ----------
    title, tooltip
        What the button says, and what it does.

    Attributes
    ----------
    button, message
        What is clicked, and what became of it.
    """

    def __init__(self, title: str, tooltip: str) -> None:
        super().__init__()
        self.button = QPushButton(title)
        self.button.setToolTip(tooltip)
        self.button.clicked.connect(lambda _=False: self.ask())
        self.message = widgets.guidance()
        self._work = LatestWork(self._on_result, self._on_refused)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.message)

    @property
    def busy(self) -> bool:
        """Whether the work is being done."""
        return self._work.busy

    @abstractmethod
    def ask(self) -> None:
        """Ask what has to be known, and begin."""

    @abstractmethod
    def finished(self, result: Any) -> str:
        """Take what the work returned, and return what is said about it."""

    def begin(self, sentence: str, work: Callable[[], Any]) -> None:
        """Do the work in the background; until it ends, the button is off and a sentence says what goes on."""
        widgets.say(self.message, sentence)
        self.button.setEnabled(False)
        self._work.send(work)

    def _on_result(self, result: Any) -> None:
        self.button.setEnabled(True)
        widgets.say(self.message, self.finished(result))

    def _on_refused(self, error: SegExplorerError) -> None:
        self.button.setEnabled(True)
        widgets.say(self.message, str(error), widgets.RED)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._work.close()

"""How the current run stands: a sentence, a bar, figures, and why it failed where it did."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.run_log import FailureBox
from segexplorer.viewmodels.status import Status


class RunStatus(QWidget):  # type: ignore[misc, unused-ignore]
    """Draws a `Status`; owns nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.headline = parts.guidance()
        self.headline.setStyleSheet("font-weight: bold;")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.figures = parts.guidance()
        self.badge = parts.guidance("", parts.AMBER)
        self.failure = FailureBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.headline, self.bar, self.figures, self.badge, self.failure):
            layout.addWidget(widget)

    def draw(self, status: Status, run: Any, *, ready: bool) -> None:
        """Show where a run stands.

        Parameters
        ----------
        run
            The current run or None.
        ready
            Whether the tabs hold an experiment that can be run.
        """
        waiting = "Ready: Start begins a run." if ready else "No run yet."
        parts.say(self.headline, status.headline if run is not None else waiting)
        self.bar.setValue(round(1000 * status.fraction))
        self.bar.setFormat(status.progress or "%p%")
        figures = [status.rate, f"{status.memory} in use" if status.memory else ""]
        where = f"Folder: {run.folder}" if run is not None else ""
        parts.say(self.figures, "\n".join(t for t in (", ".join(f for f in figures if f), where) if t))
        parts.say(self.badge, ", ".join(status.badges), parts.AMBER)

"""The plot dock: the run's curves, two at a time, beside one another below the canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.theme import get_theme
from psygnal import Signal
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QPushButton, QWidget

from segexplorer.core.events import Event, Planned
from segexplorer.faces.napari import theme
from segexplorer.faces.napari.bridge import RunBridge
from segexplorer.faces.napari.pane import Pane
from segexplorer.viewmodels.balance import BalanceHistogram
from segexplorer.viewmodels.curves import PLOTS, Curves

INTERVAL_MS = 100
_TRAINING = tuple(plot for plot in PLOTS if plot.domain == "training, patches")
_WHOLE = tuple(plot for plot in PLOTS if plot.domain == "whole volumes")
FORMATS = {"PNG picture": "png", "SVG drawing": "svg", "CSV of all curves": "csv"}


class PlotDock(QWidget):  # type: ignore[misc, unused-ignore]
    """Curves of the current run, drawn at most ten times a second and only while they can be seen.

    Parameters
    ----------
    viewer
        The napari viewer, whose theme is followed.
    bridge
        Where the run's events come from.

    Attributes
    ----------
    step_dragged
        psygnal signal (step): the user drags the line that marks the prediction shown.
    """

    step_dragged = Signal(float)

    def __init__(self, viewer: Any, bridge: RunBridge) -> None:
        super().__init__()
        self.viewer = viewer
        self.curves = Curves()
        self._drawn = -1
        self._run: Any = None
        self.panes = (Pane(_TRAINING, "loss"), Pane(_WHOLE, "dice", balance=True))
        self._export = QPushButton("Export…")
        menu = QMenu(self._export)
        for title, ending in FORMATS.items():
            menu.addAction(title).triggered.connect(lambda _=False, e=ending: self._choose_export(e))
        self._export.setMenu(menu)
        self.setMinimumHeight(160)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(4, 0, 4, 4)
        for pane in self.panes:
            layout.addWidget(pane, 1)
            pane.picker.currentIndexChanged.connect(lambda _, p=pane: p.change(self.curves))
            pane.step_dragged.connect(self.step_dragged.emit)
        layout.addWidget(self._export, 0, Qt.AlignmentFlag.AlignTop)
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self.refresh)
        self.follow_theme()
        viewer.events.theme.connect(self.follow_theme)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.ended.connect(self._on_ended)

    def sizeHint(self) -> Any:
        """Prefer little height: the canvas above matters more."""
        hint = super().sizeHint()
        hint.setHeight(210)
        return hint

    def follow_theme(self, _: Any = None) -> None:
        """Take background and ink from napari's theme."""
        chosen = get_theme(self.viewer.theme)
        background, ink = chosen.background.as_hex(), chosen.text.as_hex()
        dark = theme.is_dark(self.viewer)
        for pane in self.panes:
            pane.set_colours(background, ink, dark)
            pane.redraw(self.curves)

    def show_step(self, step: float | None) -> None:
        """Mark the step whose prediction the viewer shows."""
        for pane in self.panes:
            pane.show_step(step)

    def show_balance(self, balance: BalanceHistogram | None) -> None:
        """Take the balance of the regions of the prediction shown."""
        for pane in self.panes:
            pane.show_balance(balance)

    def refresh(self) -> None:
        """Draw what has changed, in the panes that can be seen."""
        if self._drawn == self.curves.revision or not self.isVisible():
            return
        self._drawn = self.curves.revision
        for pane in self.panes:
            if not pane.visibleRegion().isEmpty():
                pane.redraw(self.curves)

    def export(self, path: Path) -> tuple[Path, ...]:
        """Write the curves: .csv holds all points of all plots; .png and .svg make one file per visible plot."""
        if path.suffix == ".csv":
            path.write_text(self.curves.to_csv(), encoding="utf-8")
            return (path,)
        written = []
        for pane in self.panes:
            target = path.with_name(f"{path.stem}-{pane.key}{path.suffix}")
            pane.export(target)
            written.append(target)
        return tuple(written)

    def _choose_export(self, ending: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export the curves", f"curves.{ending}", f"*.{ending}")
        if path:
            self.export(Path(path).with_suffix(f".{ending}"))

    def _on_begun(self, run: Any) -> None:
        if run is not self._run:
            self._run = run
            self.curves = Curves()
            for pane in self.panes:
                pane.change(self.curves)
        self._drawn = -1
        self._timer.start()

    def _on_events(self, events: list[Event]) -> None:
        self.curves.extend(events)
        for event in events:
            if isinstance(event, Planned):
                for pane in self.panes:
                    pane.set_classes(event.classes)

    def _on_ended(self, _: Any) -> None:
        self._timer.stop()
        self.refresh()

    def showEvent(self, event: Any) -> None:
        """Draw what came while hidden."""
        super().showEvent(event)
        self.refresh()

    def closing(self) -> None:
        """Let go of the viewer."""
        self._timer.stop()
        self.viewer.events.theme.disconnect(self.follow_theme)

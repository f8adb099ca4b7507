"""Presenter mode: the views on a wall, a large caption and legend, and sliders of the running loss's penalties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QObject, QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, ParameterApplied, Planned
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.workbench import Workbench
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.sliders import PenaltySlider, penalty_sliders

_CAPTION_PIXELS, _TEXT_PIXELS, _LETTER_PIXELS = 26, 20, 22
_PAUSE_MS = 300
"""A slider that has rested so long is applied."""
_MOST = 6
"""Entries of the legend that fit beside one another in large letters."""
_NO_RUN = "While a run goes on, the penalties of its loss are moved here."
_NO_PENALTIES = "This loss has no penalties that may be moved while it trains."


class PresenterBar(QWidget):  # type: ignore[misc, unused-ignore]
    """What is shown, in letters for the last row of a hall.

    Attributes
    ----------
    caption, note
        What is shown, and what became of a slider.
    back
        Leaves the presenter mode.
    sliders
        Dotted path -> slider.
    """

    def __init__(self, bridge: RunBridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._shown: tuple[PenaltySlider, ...] = ()
        self.sliders: dict[str, QSlider] = {}
        self._numbers: dict[str, QLabel] = {}
        self._waiting: dict[str, float] = {}
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_PAUSE_MS)
        self._rest.timeout.connect(self._apply)
        self.caption = QLabel()
        self.caption.setWordWrap(True)
        self.caption.setStyleSheet(f"font-size: {_CAPTION_PIXELS}px; font-weight: bold;")
        self.back = QPushButton("Back to the window")
        self.back.setToolTip("Alt+M")
        self._legend = QHBoxLayout()
        self._legend.setSpacing(10)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(16)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setStyleSheet(f"font-size: {_TEXT_PIXELS - 4}px;")
        head = QHBoxLayout()
        head.addWidget(self.caption, 1)
        head.addWidget(self.back, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 8, 12, 8)
        layout.addLayout(head)
        layout.addLayout(self._legend)
        layout.addLayout(self._grid)
        layout.addWidget(self.note)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.ended.connect(self._on_begun)
        self._on_begun()

    # -- what is shown ------------------------------------------------------------------------------------

    def draw(self, screen: Screen) -> None:
        """Show caption and legend of a screen."""
        self.caption.setText(screen.caption.text or screen.title or "No case of a run is shown yet.")
        while self._legend.count():
            taken = self._legend.takeAt(0).widget()
            if taken is not None:
                taken.deleteLater()
        for entry in screen.legend[:_MOST]:
            swatch = QLabel()
            swatch.setFixedSize(24, 24)
            solid = f"background: {entry.colour};"
            filled = solid if entry.form == "fill" else f"border: 4px solid {entry.colour};"
            swatch.setStyleSheet(filled)
            name = QLabel(entry.name)
            name.setStyleSheet(f"font-size: {_TEXT_PIXELS}px;")
            self._legend.addWidget(swatch)
            self._legend.addWidget(name)
        more = len(screen.legend) - _MOST
        if more > 0:
            rest = QLabel(f"and {more} more")
            rest.setStyleSheet(f"font-size: {_TEXT_PIXELS}px;")
            self._legend.addWidget(rest)
        self._legend.addStretch(1)

    @property
    def legend(self) -> list[str]:
        """The names in the legend."""
        shown = [self._legend.itemAt(i).widget() for i in range(self._legend.count())]
        return [str(label.text()) for label in shown if isinstance(label, QLabel) and label.text()]

    # -- the sliders --------------------------------------------------------------------------------------

    def _on_begun(self, _: Any = None) -> None:
        run = self._bridge.run
        found = penalty_sliders(run.experiment) if run is not None and self._bridge.busy else ()
        if [item.path for item in found] != [item.path for item in self._shown]:
            self._build(found)
        self._shown = found
        self._waiting.clear()
        self._follow()
        self.note.setText("" if found else _NO_RUN if not self._bridge.busy else _NO_PENALTIES)

    def _on_events(self, events: Sequence[Event]) -> None:
        if events_of(events, ParameterApplied, Planned):
            self._on_begun()

    def _build(self, found: Sequence[PenaltySlider]) -> None:
        while self._grid.count():
            taken = self._grid.takeAt(0).widget()
            if taken is not None:
                taken.deleteLater()
        self.sliders, self._numbers = {}, {}
        for number, item in enumerate(found):
            row, column = divmod(number, 2)
            title, slider, value = QLabel(item.title), QSlider(Qt.Orientation.Horizontal), QLabel()
            slider.setRange(0, len(item.slider.stops) - 1)
            slider.setPageStep(max(1, len(item.slider.stops) // 20))
            slider.setAccessibleName(item.title)
            slider.setMinimumWidth(80)
            slider.valueChanged.connect(lambda place, moved=item: self._on_moved(moved, place))
            title.setWordWrap(True)
            for label in (title, value):
                label.setStyleSheet(f"font-size: {_TEXT_PIXELS}px;")
            value.setMinimumWidth(value.fontMetrics().horizontalAdvance("0.000") * 2)
            for place, widget in enumerate((title, slider, value)):
                self._grid.addWidget(widget, row, 3 * column + place)
            self._grid.setColumnStretch(3 * column, 1)
            self._grid.setColumnStretch(3 * column + 1, 2)
            self.sliders[item.path], self._numbers[item.path] = slider, value

    def _follow(self) -> None:
        """Show the values with which the run trains."""
        for item in self._shown:
            slider = self.sliders[item.path]
            with QSignalBlocker(slider):
                slider.setValue(item.slider.nearest(item.value))
            self._numbers[item.path].setText(f"{item.value:g}")

    def _on_moved(self, item: PenaltySlider, place: int) -> None:
        value = item.slider.stops[place]
        self._numbers[item.path].setText(f"{value:g}")
        self._waiting[item.path] = value
        self._rest.start()

    def _apply(self) -> None:
        """Ask the run for the values at which the sliders rest."""
        values, self._waiting = self._waiting, {}
        try:
            self._bridge.current.set_values(values)
        except SegExplorerError as error:
            self.note.setText(str(error))
            self._follow()
        else:
            self.note.setText("Takes effect before the next training step.")

    def closing(self) -> None:
        """Let nothing come any more."""
        self._rest.stop()
        # the bridge of a dock that closes has dropped its listeners already
        for signal, slot in (
            (self._bridge.begun, self._on_begun),
            (self._bridge.events_arrived, self._on_events),
            (self._bridge.ended, self._on_begun),
        ):
            signal.disconnect(slot, missing_ok=True)


class Presenter(QObject):  # type: ignore[misc, unused-ignore]
    """Switches a window between work and wall.

    Parameters
    ----------
    workbench
        The views.
    display
        What the window displays.
    bridge
        The run whose penalties are moved.

    Attributes
    ----------
    bar
        What is under the views in presenter mode; None otherwise.
    """

    def __init__(self, workbench: Workbench, display: Display, bridge: RunBridge) -> None:
        super().__init__()
        self._workbench, self._display, self._bridge = workbench, display, bridge
        self.bar: PresenterBar | None = None

    @property
    def on(self) -> bool:
        """Whether the window is in presenter mode."""
        return self.bar is not None

    def toggle(self) -> None:
        """Fold every dock and write large; or bring everything back as it was."""
        if self.bar is not None:
            self._leave()
            return
        bar = self.bar = PresenterBar(self._bridge)
        bar.back.clicked.connect(self.toggle)
        bar.draw(self._display.screen)
        self._display.changed.connect(self._on_changed)
        self._workbench.clear_docks()
        self._workbench.put_below(bar)
        bar.show()
        self._workbench.enlarge(_LETTER_PIXELS)

    def _leave(self) -> None:
        bar, self.bar = self.bar, None
        assert bar is not None
        self._display.changed.disconnect(self._on_changed)
        bar.closing()
        bar.hide()
        bar.setParent(None)
        bar.deleteLater()
        self._workbench.enlarge(None)
        self._workbench.bring_docks_back()

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if self.bar is not None and not parts.isdisjoint({"caption", "title", "legend"}):
            self.bar.draw(screen)

    def closing(self) -> None:
        """Bring the window back."""
        if self.bar is not None:
            self._leave()

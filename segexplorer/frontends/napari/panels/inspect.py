"""The tab "Inspect": a watched case at the newest or any recorded step, and where its prediction is wrong.

The panel draws its part of a `Screen` and issues commands; it holds nothing of what is shown.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from psygnal import Signal
from qtpy.QtCore import QEvent, QSignalBlocker, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from segexplorer.core.events import Role
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.legend import Legend
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.base import PanelContext, PanelSpec, registry
from segexplorer.frontends.napari.panels.error_list import ErrorList
from segexplorer.frontends.napari.panels.result_tables import Scores
from segexplorer.training.run import SliceView
from segexplorer.viewmodels.absences import Absence
from segexplorer.viewmodels.screen import HistoryShown, Screen
from segexplorer.viewmodels.watched_case import MAPS, SWITCHES, Seen, Switch

NO_MAP = "No map of regions"
_HEIGHT, _SCORES, _ERRORS = 720, 5, 8
"""Height of the tab in pixels up to which its tables show so many rows at once; a higher one shows more."""


class Choices(QWidget):  # type: ignore[misc, unused-ignore]
    """Pickers of case, class and map of regions, and the switches of the other overlays.

    Attributes
    ----------
    overlays
        Switches and `map_picker` in one row, for a place of their own.
    asked
        psygnal signal (command, arguments): what the user asks for.
    """

    asked = Signal(str, tuple)

    def __init__(self) -> None:
        super().__init__()
        self.case_picker = widgets.ElidedComboBox("Case")
        self.class_picker = widgets.ElidedComboBox("Class")
        self.case_picker.currentIndexChanged.connect(
            lambda _: self.asked.emit("choose_case", (self.case_picker.currentData(),))
        )
        self.class_picker.currentIndexChanged.connect(
            lambda _: self.asked.emit("choose_class", (self.class_picker.currentData(),))
        )
        self.switches: dict[Switch, QCheckBox] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.case_picker, 0, 0)
        layout.addWidget(self.class_picker, 0, 1)
        layout.setColumnStretch(0, 1)
        layout.setColumnStretch(1, 1)
        self.overlays = QWidget()
        row = QHBoxLayout(self.overlays)
        row.setContentsMargins(0, 0, 0, 0)
        for switch in (one for one in SWITCHES if one not in MAPS):
            box = self.switches[switch] = QCheckBox(SWITCHES[switch])
            box.toggled.connect(lambda on, s=switch: self.asked.emit("toggle", (s, on)))
            row.addWidget(box)
        self.map_picker = widgets.ElidedComboBox("Map of regions")
        for title, key in ((NO_MAP, None), *((SWITCHES[key], key) for key in MAPS)):
            self.map_picker.addItem(title, key)
        self.map_picker.currentIndexChanged.connect(lambda _: self._on_map(self.map_picker.currentData()))
        self._map: Switch | None = None
        row.addWidget(self.map_picker, 1)

    def _on_map(self, chosen: Switch | None) -> None:
        if chosen is not None:
            self.asked.emit("toggle", (chosen, True))
        elif self._map is not None:
            self.asked.emit("toggle", (self._map, False))

    @property
    def class_index(self) -> int | None:
        """The class that is looked at; None for all."""
        chosen: int | None = self.class_picker.currentData()
        return chosen

    def choose_role(self, role: Role) -> None:
        """Look at the watched case of a role."""
        self.asked.emit("choose_case", (role,))

    def draw(self, screen: Screen) -> None:
        """Show what may be chosen, and what is."""
        _fill(self.case_picker, screen.choices, screen.chosen)
        names = [("All classes", None), *((name, i) for i, name in enumerate(screen.class_names, 1))]
        _fill(self.class_picker, [(key, title) for title, key in names], screen.displayed.cls or 0)
        for switch, box in self.switches.items():
            state = screen.toggles[switch]
            with QSignalBlocker(box):
                box.setChecked(state.on)
            box.setEnabled(state.enabled)
            box.setToolTip(state.why)
        self._map = next((key for key in MAPS if screen.toggles[key].on), None)
        with QSignalBlocker(self.map_picker):
            self.map_picker.setCurrentIndex(self.map_picker.findData(self._map))
        able = [screen.toggles[key] for key in MAPS if screen.toggles[key].enabled]
        self.map_picker.setEnabled(bool(able))
        shown = screen.toggles[self._map or MAPS[0]]
        self.map_picker.setToolTip(shown.why or self.map_picker.currentText())


def _fill(picker: QComboBox, items: Sequence[tuple[Any, str]], place: int) -> None:
    known = [(picker.itemData(i), picker.itemText(i)) for i in range(picker.count())]
    with QSignalBlocker(picker):
        if known != list(items):
            picker.clear()
            for key, title in items:
                picker.addItem(title, key)
        picker.setCurrentIndex(place)


class HistoryRow(QWidget):  # type: ignore[misc, unused-ignore]
    """Chooses a frame; at its right end it follows the run.

    Attributes
    ----------
    asked
        psygnal signal (command, arguments): what the user asks for.
    """

    asked = Signal(str, tuple)

    def __init__(self) -> None:
        super().__init__()
        self._shown: HistoryShown | None = None
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setPageStep(1)
        self.slider.setToolTip("Earlier predictions of this case; drag the line in the plots to the same end")
        self.slider.valueChanged.connect(self._on_value)
        self.newest = QPushButton("Newest")
        self.newest.setToolTip("Follow the run again")
        self.newest.clicked.connect(lambda _=False: self.follow())
        self.text = QLabel()
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setVerticalSpacing(2)
        layout.addWidget(self.text, 0, 0, 1, 2)
        layout.addWidget(self.slider, 1, 0)
        layout.addWidget(self.newest, 1, 1)
        layout.setColumnStretch(0, 1)
        self.draw(None)

    @property
    def follows(self) -> bool:
        """Whether the newest prediction is shown, and the next one when it comes."""
        return self._shown is None or self._shown.follows

    @property
    def steps(self) -> tuple[int, ...]:
        """Optimiser steps of the frames."""
        return () if self._shown is None else self._shown.steps

    def go_to(self, step: float) -> None:
        """Look at the frame nearest to a step."""
        self.asked.emit("scrub", (step,))

    def follow(self) -> None:
        """Look at the newest prediction, and at the next one when it comes."""
        self.asked.emit("follow_newest", ())

    def draw(self, shown: HistoryShown | None) -> None:
        """Show the frames there are, and the place of the one that is shown."""
        self._shown = shown
        self.setVisible(shown is not None)
        if shown is None:
            self.text.setText("")
            return
        with QSignalBlocker(self.slider):
            self.slider.setRange(0, len(shown.steps) - 1)
            self.slider.setValue(shown.place)
        several = len(shown.steps) > 1
        self.slider.setVisible(several)
        self.newest.setVisible(several)
        self.newest.setEnabled(not shown.follows)
        self.text.setText(shown.text)

    def _on_value(self, value: int) -> None:
        if value < len(self.steps):
            self.go_to(self.steps[value])


class Absent(QLabel):  # type: ignore[misc, unused-ignore]
    """Overlays that draw nothing in this slice, with links to the nearest slice where they do.

    Attributes
    ----------
    chosen
        psygnal signal (axis, mm): the slice to go to.
    """

    chosen = Signal(int, float)

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[Absence, ...] = ()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.linkActivated.connect(self._on_link)
        self.draw(())

    def draw(self, absent: tuple[Absence, ...]) -> None:
        """Say what is not here."""
        self._shown = absent
        light_text = self.palette().color(QPalette.ColorRole.WindowText).lightness() > 127
        colour = appearance.colour("amber", dark=light_text)  # Qt's own blue cannot be read on a dark theme
        lines = [
            html.escape(one.text)
            if one.world is None
            else f'<a href="{place}" style="color: {colour}">{html.escape(one.text)}</a>'
            for place, one in enumerate(absent)
        ]
        self.setText("<br>".join(lines))
        self.setVisible(bool(absent))

    def changeEvent(self, event: Any) -> None:
        """Take the colours of another theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_shown"):
            self.draw(self._shown)

    def _on_link(self, place: str) -> None:
        one = self._shown[int(place)]
        self.chosen.emit(one.axis, one.world)


class InspectPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """What is known of the case in the viewer.

    Parameters
    ----------
    display
        What the window displays.

    Attributes
    ----------
    badge
        Which case that is, and whether it was trained on.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.display = display
        self._build()
        display.changed.connect(self._on_changed)
        self._draw(display.screen)

    def _build(self) -> None:
        self.title = widgets.ElidedLabel()
        self.message = widgets.guidance()
        self.badge = widgets.guidance("", widgets.AMBER)
        self.choices = Choices()
        self.history = HistoryRow()
        self.read_out = widgets.guidance()
        self.read_out.setMinimumHeight(44)
        self.read_out.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.scores = Scores()
        self.errors = ErrorList(self.display)
        self.legend = Legend()
        self.absent = Absent()
        self.absent.chosen.connect(self.display.go_to)
        self.choices.asked.connect(self._ask)
        self.history.asked.connect(self._ask)
        self.scores.chosen.connect(lambda source: self._ask("choose_scores", (source,)))
        self.scores.class_chosen.connect(self._on_class)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            widgets.scrolled(
                self.title,
                self.badge,
                self.choices,
                self.history,
                self.choices.overlays,
                self.legend,
                self.message,
                self.absent,
                self.read_out,
                self.scores,
                self.errors,
            )
        )

    def _ask(self, command: str, arguments: tuple[Any, ...]) -> None:
        self.display.issue(command, *arguments)

    def _on_class(self, name: str) -> None:
        """Look at the class of a row of the scores; its mean is all classes."""
        names = self.display.screen.class_names
        if not name or name in names:
            self._ask("choose_class", (names.index(name) + 1 if name else None,))

    @property
    def layers(self) -> Any:
        """The layers that show cases in this viewer."""
        return self.display.layers

    @property
    def viewer(self) -> Any:
        """The napari viewer."""
        return self.display.viewer

    @property
    def busy(self) -> bool:
        """Whether a case is being prepared for the viewer."""
        return self.display.busy

    @property
    def seen(self) -> Seen | None:
        """The picture that is shown."""
        return self.display.seen

    def slice_view(self) -> SliceView | None:
        """Return the plane of the watched case that the viewer shows; None in 3D."""
        return self.display.slice_view()

    def resizeEvent(self, event: Any) -> None:
        """Give the two tables the rows for which the tab is high enough."""
        super().resizeEvent(event)
        spare = max(0, self.height() - _HEIGHT) // widgets.DENSE_ROW
        scores = min(spare // 2, 10)
        self.scores.table.set_most_rows(_SCORES + scores)
        self.errors.table.set_most_rows(_ERRORS + spare - scores)

    # -- drawing ------------------------------------------------------------------------------------------

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if parts != {"read_out"}:
            self._draw(screen, parts)
        self._draw_read_out(screen)

    def _draw(self, screen: Screen, parts: frozenset[str] | None = None) -> None:
        def differs(*names: str) -> bool:
            return parts is None or not parts.isdisjoint(names)

        widgets.say(self.title, screen.title)
        widgets.say(self.message, screen.message, widgets.RED if screen.failed else widgets.GREY)
        widgets.say(self.badge, screen.badge, widgets.AMBER)
        for part in (self.choices, self.choices.overlays, self.scores, self.errors):
            part.setVisible(screen.scene is not None)
        self.choices.draw(screen)
        self.history.draw(screen.history)
        self.legend.draw(screen.legend)
        self.absent.draw(screen.absent)
        if differs("scores", "scores_of", "scored_on", "score_sources", "class_names"):
            self.scores.draw(screen)
        if differs(
            "navigator",
            "errors_note",
            "displayed",
            "error_text",
            "error_life",
            "verdict",
            "painting",
            "class_names",
        ):
            self.errors.draw(screen)
        self._draw_read_out(screen)

    def _draw_read_out(self, screen: Screen) -> None:
        hint = "Move the mouse over the picture to read errors and penalties here."
        self.read_out.setText(screen.read_out or hint)
        self.read_out.setVisible(screen.seen is not None)

    def closing(self) -> None:
        """Draw nothing any more."""
        self.display.changed.disconnect(self._on_changed)
        self.errors.closing()


@registry.register
class InspectTab(PanelSpec):
    """The tab Inspect."""

    display_name: ClassVar[str] = "Inspect"
    position: ClassVar[float] = 40
    kind: Literal["inspect"] = "inspect"

    def build(self, context: PanelContext) -> InspectPanel:
        """Return the tab's widget."""
        return InspectPanel(context.display)

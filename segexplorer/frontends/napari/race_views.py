"""The lanes of a race beside napari's own canvas, which shows lane A: the same slice, the same zoom, one plot.

Every view draws its part of a `RaceShown`. Its layers are no layers of the viewer, so nobody can take one away by
itself; what is switched off for lane A is off in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.layers import Layer
from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from segexplorer.core import colours
from segexplorer.frontends.napari.layers import give_form, layer_arguments
from segexplorer.frontends.napari.linked_views import (
    MARGIN,
    CanvasOverlay,
    Crosshair,
    EdgeLetters,
    PlaneView,
    enlarge,
)
from segexplorer.study.race import B
from segexplorer.viewmodels.caption import elided
from segexplorer.viewmodels.layer_images import Picture
from segexplorer.viewmodels.race import DIFFERENCE, LaneShown, RaceShown, lane_colour
from segexplorer.viewmodels.watched_case import LAYER_ORDER

AXIAL = (0, 1, 2)
LEAST_CONTRAST = 3.0
"""A curve with less contrast with its background (WCAG 2.2, 1.4.11) gets a rim."""


_KEY_BESIDE_FROM, _KEY_WIDTH = 360, 130
"""Width of a plot from which the names of the curves are beside it, and their room there."""
_BREAK = "\u200b"
"""Lets a name be broken where there is no space."""


class LaneTitle(QLabel):  # type: ignore[misc, unused-ignore]
    """Name, loss and Dice of a lane in two lines above its canvas; the tool tip has what is shortened."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = ("", "")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setStyleSheet(f"padding: 2px {MARGIN}px;")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.draw("", "")

    def draw(self, title: str, note: str) -> None:
        """Write another title; every one has two lines, so that all canvases are of one size."""
        self._lines = (title, note)
        self.setToolTip("\n".join(filter(None, self._lines)))
        self._write()

    def enlarge(self, pixels: int | None) -> None:
        """Write in letters of this height; None: in the usual ones."""
        enlarge(self, pixels)
        self._write()

    def _write(self) -> None:
        room = max(40, self.width() - 2 * MARGIN - 2)
        measure = self.fontMetrics().horizontalAdvance
        self.setText("\n".join(elided(line, room, measure) for line in self._lines))

    def resizeEvent(self, event: Any) -> None:
        """Shorten the lines anew."""
        super().resizeEvent(event)
        self._write()


class LaneView(PlaneView):
    """The slice that the main viewer shows, with the overlays of another lane, or of the difference.

    Parameters
    ----------
    viewer
        The main viewer.
    name
        The lane, or `viewmodels.race.DIFFERENCE`.
    is_overlay
        Whether a layer of the main viewer is drawn over the image of the case there: those are lane A's.
    """

    _own: Mapping[str, tuple[Picture, Any]] = {}
    _is_overlay: Callable[[Any], bool] = staticmethod(lambda layer: False)

    def __init__(self, viewer: Any, name: str, is_overlay: Callable[[Any], bool]) -> None:
        self._is_overlay = is_overlay
        super().__init__(viewer, AXIAL)
        self.name = name
        self.title = LaneTitle()
        self.layout().insertWidget(0, self.title)
        self._main.dims.events.order.connect(self._take_order)
        camera = self._main.scene.camera.events
        own = self.model.scene.camera.events
        for theirs, ours in ((camera.center, own.center), (camera.zoom, own.zoom)):
            theirs.connect(self._take_camera)
            ours.connect(self._tell_camera)
        self._take_order()

    def _draw_over(self, canvas: QWidget) -> tuple[CanvasOverlay, ...]:
        self.letters = EdgeLetters(self.model, canvas)
        self.crosshair = Crosshair(self.model, canvas, self._main)
        return self.letters, self.crosshair

    def enlarge(self, pixels: int | None) -> None:
        """Write in letters of this height, for a wall; None: in the usual ones."""
        super().enlarge(pixels)
        self.title.enlarge(pixels)

    def fits(self) -> bool:
        """Return False: the view follows that of lane A."""
        return False

    # -- what is drawn ------------------------------------------------------------------------------------

    @property
    def drawn(self) -> dict[str, Any]:
        """Overlay -> layer."""
        return {key: layer for key, (_, layer) in self._own.items()}

    def draw(self, shown: LaneShown) -> None:
        """Draw the overlays of the lane; a layer that is there takes the new voxels."""
        self.title.draw(shown.title, shown.note)
        order = {key: place for place, key in enumerate((*LAYER_ORDER, DIFFERENCE))}
        made: dict[str, tuple[Picture, Any]] = {}
        for key in sorted(shown.layers, key=lambda key: order.get(key, 0)):
            picture = shown.layers[key]
            before = self._own.get(key)
            if before is not None and before[0] is picture:
                made[key] = before
            elif before is not None and _fits(before[0], picture):
                before[1].data = picture.data
                if before[0].form != picture.form:
                    give_form(before[1], picture)
                made[key] = (picture, before[1])
            else:
                made[key] = (picture, _layer(picture))
        self._own = made
        self._take_layers()

    def _wanted(self) -> list[Any]:
        """Return the image of the case, and whatever the user shows beside it."""
        return [layer for layer in super()._wanted() if not self._is_overlay(layer)]

    def _put(self, copies: list[Any]) -> None:
        super()._put([*copies, *self.drawn.values()])

    # -- where it looks -----------------------------------------------------------------------------------

    def _fit_to_extent(self) -> None:
        self._take_camera()

    def _take_order(self, _: Any = None) -> None:
        """Show the plane that the main viewer shows."""
        dims = self._main.dims
        if dims.ndim == 3 and dims.ndisplay == 2 and tuple(dims.order) != self._order:
            first, second, third = (int(axis) for axis in dims.order)
            self._order = (first, second, third)
            if self._twins:
                self.model.dims.order = self._order
                self._take_point()

    def _take_camera(self, _: Any = None) -> None:
        """Look where lane A is looked at."""
        if self._moving or self._main.dims.ndisplay != 2:
            return
        self._moving = True
        theirs, ours = self._main.scene.camera, self.model.scene.camera
        ours.center, ours.zoom = theirs.center, theirs.zoom
        self._moving = False

    def _tell_camera(self, _: Any = None) -> None:
        """Let lane A, and with it every other lane, be looked at where this one was moved."""
        if self._moving or not self._twins or self._main.dims.ndisplay != 2:
            return
        self._moving = True
        theirs, ours = self._main.scene.camera, self.model.scene.camera
        theirs.center, theirs.zoom = ours.center, ours.zoom
        self._moving = False

    def closing(self) -> None:
        """Let go of the main viewer."""
        self._main.dims.events.order.disconnect(self._take_order)
        camera = self._main.scene.camera.events
        own = self.model.scene.camera.events
        for theirs, ours in ((camera.center, own.center), (camera.zoom, own.zoom)):
            theirs.disconnect(self._take_camera)
            ours.disconnect(self._tell_camera)
        self._own = {}
        super().closing()


def _layer(picture: Picture) -> Any:
    made = Layer.create(picture.data, layer_arguments(picture), picture.kind)
    made.editable = False
    give_form(made, picture)
    return made


def _fits(old: Picture, new: Picture) -> bool:
    """Whether a layer of one picture can show another by its voxels alone."""
    scales = [None if p.colour_scale is None else p.colour_scale.quantity for p in (old, new)]
    return (
        (old.kind, old.colours, old.data.shape, scales[0])
        == (new.kind, new.colours, new.data.shape, scales[1])
        and np.allclose(old.scale, new.scale)
        and np.allclose(old.translate, new.translate)
        and old.values == new.values
    )


class RaceViews:
    """The lanes of the race that is displayed, in the workbench; they go when it is displayed no more.

    Parameters
    ----------
    display
        What the window displays (`display.Display`).
    workbench
        Its views (`workbench.Workbench`).
    """

    def __init__(self, display: Any, workbench: Any) -> None:
        self._display, self._workbench = display, workbench
        self._main_title: LaneTitle | None = None
        display.changed.connect(self._on_changed)
        workbench.changed.connect(self._draw)
        self._draw()

    def _on_changed(self, screen: Any, parts: frozenset[str]) -> None:
        if "race" in parts:
            self._draw()

    def _draw(self) -> None:
        shown: RaceShown | None = self._display.screen.race
        lanes = () if shown is None else tuple(lane.name for lane in shown.lanes[1:])
        if lanes != self._workbench.lanes:
            self._workbench.show_lanes(lanes)  # which says that it has changed, and comes back here
            return
        for lane in () if shown is None else shown.lanes:
            view = self._workbench.views.get(lane.name)
            if isinstance(view, LaneView):
                view.draw(lane)
        self._name_main(None if shown is None else shown.lanes[0])

    def _name_main(self, lane: LaneShown | None) -> None:
        """Write above napari's own canvas which lane it shows, as above the others."""
        if lane is not None:
            if self._main_title is None:
                self._main_title = LaneTitle()
                self._workbench.put_over_main(self._main_title)
            self._main_title.draw(lane.title, lane.note)
        elif self._main_title is not None:
            self._main_title.hide()
            self._main_title.deleteLater()
            self._main_title = None

    @property
    def main_title(self) -> str:
        """What is written above napari's own canvas."""
        return "" if self._main_title is None else str(self._main_title.toolTip())

    def closing(self) -> None:
        """Let go of display and workbench."""
        self._name_main(None)
        self._display.changed.disconnect(self._on_changed)
        self._workbench.changed.disconnect(self._draw)


class RacePlot(QWidget):  # type: ignore[misc, unused-ignore]
    """Dice of the chosen class of the watched case in every lane, over steps.

    Attributes
    ----------
    step_dragged
        psygnal signal (step): the user drags the line that marks the prediction shown.
    curves
        Lane -> pyqtgraph item.
    """

    step_dragged = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.plot = pg.PlotWidget(antialias=True)
        self.plot.setMenuEnabled(False)
        self.plot.setMinimumSize(110, 110)
        self.plot.getPlotItem().setContentsMargins(0, 8, 8, 0)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.curves: dict[str, Any] = {}
        self.key = QLabel()
        self.key.setTextFormat(Qt.TextFormat.RichText)
        self.key.setStyleSheet("font-size: 11px;")
        self.key.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.key.setWordWrap(True)
        self.cursor = pg.InfiniteLine(0, angle=90, movable=True)
        self.cursor.sigDragged.connect(lambda line: self.step_dragged.emit(float(line.value())))
        self.plot.getPlotItem().vb.addItem(self.cursor, ignoreBounds=True)
        self._ink, self._background = "#ffffff", "#000000"
        self._shown: RaceShown | None = None
        layout = self._grid = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._arrange()

    @property
    def _narrow(self) -> bool:
        return bool(self.width() < _KEY_BESIDE_FROM)

    def _arrange(self) -> None:
        """Put the key beside the plot, or above a narrow one."""
        place = (0, 0) if self._narrow else (0, 1)
        self._grid.addWidget(self.plot, *((1, 0) if self._narrow else (0, 0)))
        self._grid.addWidget(self.key, *place)
        self.key.setFixedWidth(max(40, self.width()) if self._narrow else _KEY_WIDTH)

    def resizeEvent(self, event: Any) -> None:
        """Put the key where it has room."""
        super().resizeEvent(event)
        self._arrange()
        self._write_key()

    def set_colours(self, background: str, ink: str) -> None:
        """Follow napari's theme; the colours of the lanes are the same in every theme."""
        self._background, self._ink = background, ink
        self.plot.setBackground(background)
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)
        self.cursor.setPen(pg.mkPen(ink, width=1, style=Qt.PenStyle.DashLine))
        self.cursor.setHoverPen(pg.mkPen(ink, width=3))
        self._forget()
        self.draw(self._shown)

    def draw(self, shown: RaceShown | None) -> None:
        """Draw the curves of a race as they are now."""
        self._shown = shown
        found = {} if shown is None or shown.curves is None else shown.curves.lanes
        if set(self.curves) != set(found):
            self._forget()
        for name, (steps, values) in found.items():
            if name not in self.curves:
                pen = pg.mkPen(lane_colour(name), width=2)
                pale = colours.contrast(lane_colour(name), self._background[:7]) < LEAST_CONTRAST
                rim = pg.mkPen(self._ink, width=4) if pale else None
                self.curves[name] = self.plot.plot(
                    pen=pen, shadowPen=rim, symbol="o", symbolSize=5, name=name
                )
                self.curves[name].setSymbolBrush(pen.color())
                self.curves[name].setSymbolPen(None)
                self.curves[name].setZValue(1 if name == B else 0)
            self.curves[name].setData(np.asarray(steps, float), np.asarray(values, float), connect="finite")
        self.cursor.setVisible(shown is not None and shown.step is not None)
        if shown is None:
            self.key.setText("")
            return
        if shown.step is not None and not self.cursor.moving:
            self.cursor.setValue(shown.step)
        name = "" if shown.curves is None else shown.curves.class_name
        for side, text in (("left", f"Dice, {name}" if name else "Dice"), ("bottom", "step; watched case")):
            self.plot.setLabel(side, text, color=self._ink, **{"font-size": "8pt"})
        self.plot.setXRange(shown.first, shown.last, padding=0.03)
        self.plot.setYRange(0, 1, padding=0.03)
        self._write_key()

    def _write_key(self) -> None:
        """Name the curves; a narrow plot leaves what the lanes train to the titles above them."""
        said = []
        for lane in () if self._shown is None else self._shown.lanes:
            if lane.name not in self.curves:
                continue
            text = escape(lane.name if self._narrow else lane.title).replace("_", f"_{_BREAK}")
            note = f" <i>({escape(lane.note)})</i>" if lane.note and not self._narrow else ""
            said.append(f'<span style="color:{lane_colour(lane.name)}">━━</span> {text}{note}')
        self.key.setText(" &nbsp; ".join(said) if self._narrow else "<br>".join(said))

    def _forget(self) -> None:
        for item in self.curves.values():
            self.plot.removeItem(item)
        self.curves = {}

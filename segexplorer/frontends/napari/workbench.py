"""The workbench around napari's canvas: one, two or four equal views, plots below them, napari's panels folded.

napari's own canvas is one of the views. Everything comes back as it was when the workbench closes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from napari.qt import QtViewer
from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QDockWidget, QGridLayout, QMainWindow, QVBoxLayout, QWidget

from segexplorer.frontends.napari.display import look_at
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.linked_views import (
    CORONAL,
    SAGITTAL,
    Crosshair,
    EdgeLetters,
    LinkedView,
    OwnContext,
    PlaneView,
    SliceNumber,
    ViewFit,
    VolumeView,
    canvas_in,
)
from segexplorer.frontends.napari.mouse import MouseOverSlices
from segexplorer.frontends.napari.race_views import LaneView

Layout = Literal["one", "coronal", "sagittal", "volume", "four", "lanes"]
LAYOUTS: Mapping[Layout, str] = {
    "one": "One view",
    "coronal": "Two: axial and coronal",
    "sagittal": "Two: axial and sagittal",
    "volume": "Two: axial and 3D",
    "four": "Four: axial, coronal, sagittal, 3D",
    "lanes": "The lanes of a race",
}
_Maker: TypeAlias = Callable[[Any], LinkedView]
_MAKERS: Mapping[str, _Maker] = {
    "coronal": lambda viewer: PlaneView(viewer, CORONAL),
    "sagittal": lambda viewer: PlaneView(viewer, SAGITTAL),
    "volume": VolumeView,
}
_PLACES: Mapping[Layout, Mapping[str, tuple[int, int]]] = {
    "one": {},
    "coronal": {"coronal": (0, 1)},
    "sagittal": {"sagittal": (0, 1)},
    "volume": {"volume": (0, 1)},
    "four": {"coronal": (0, 1), "sagittal": (1, 0), "volume": (1, 1)},
    "lanes": {},
}
NAPARI_PANELS = ("layer list", "layer controls")
"""Object names of the docks that napari itself opens."""


class Workbench(QObject):  # type: ignore[misc, unused-ignore]
    """The views in the middle of one window.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        Its case layers.
    pointed
        Called with the point under the mouse, (z, y, x) in mm, of the views that are not napari's own; None when
        the mouse leaves one.
    clicked
        Called with a point that was clicked in any view.

    Attributes
    ----------
    changed
        psygnal signal: other views are shown, or napari's panels were folded or unfolded.
    lanes
        Names of the views beside napari's own in the layout "lanes", which is there while they are.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Any,
        layers: CaseLayers,
        pointed: Callable[[tuple[float, ...] | None], None],
        clicked: Callable[[tuple[float, ...]], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._viewer, self._layers, self._pointed = viewer, layers, pointed
        self.mouse = MouseOverSlices(viewer, layers, pointed, clicked)
        self.views: dict[str, LinkedView] = {}
        self.layout: Layout = "one"
        self.lanes: tuple[str, ...] = ()
        self._before_lanes: Layout = "one"
        self.letters: EdgeLetters | None = None
        self.number: SliceNumber | None = None
        self._crosshair: Crosshair | None = None
        self._fit: ViewFit | None = None
        self._context: OwnContext | None = None
        self._window: QMainWindow | None = None
        self._table: QWidget | None = None
        self._grid: QGridLayout | None = None
        self._main: QWidget | None = None
        self._cells: dict[str, _Cell] = {}
        self._corners: dict[Qt.Corner, Qt.DockWidgetArea] = {}
        self._folded: list[QDockWidget] = []
        self._cleared: list[QDockWidget] = []
        self._letter_pixels: int | None = None

    def attach(self, window: QWidget) -> None:
        """Take over the middle of a window, once its canvas is there; does nothing in a window without one."""
        canvas = canvas_in(window)
        if self._window is not None or canvas is None or not isinstance(window, QMainWindow):
            return
        main = window.centralWidget().findChild(QtViewer)
        if main is None:
            return
        self._window, self._main = window, main
        self.letters = EdgeLetters(self._viewer, canvas, self._layers)
        self.number = SliceNumber(self._viewer, canvas, self._layers)
        self._fit = ViewFit(self._viewer, canvas, lambda: self._layers.oriented)
        self._context = OwnContext(self._viewer, canvas)
        self.mouse.attach(self._viewer)
        middle = window.centralWidget().layout()
        self._table = QWidget()
        whole = QVBoxLayout(self._table)
        whole.setContentsMargins(0, 0, 0, 0)
        views = QWidget()
        whole.addWidget(views, 1)
        self._grid = QGridLayout(views)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)  # napari's sliders end at their last digit
        middle.insertWidget(middle.indexOf(main), self._table)
        self._place("axial", main, 0, 0)
        for corner, area in (
            (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
            (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
        ):
            self._corners[corner] = window.corner(corner)
            window.setCorner(corner, area)

    def _place(self, key: str, view: QWidget, row: int, column: int) -> None:
        """Put a view into a cell; it may become as small as it must, so that all stay equal."""
        assert self._grid is not None
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell(view)
        else:
            self._grid.removeWidget(cell)
        self._grid.addWidget(cell, row, column)

    def owns(self, viewer: Any) -> bool:
        """Whether a viewer is the one of this window, or that of one of its views."""
        raw = getattr(viewer, "__wrapped__", viewer)  # napari hands out its viewer in a proxy
        own = [getattr(self._viewer, "__wrapped__", self._viewer)]
        return any(raw is model for model in (*own, *(view.model for view in self.views.values())))

    # -- views --------------------------------------------------------------------------------------------

    def arrange(self, layout: Layout) -> None:
        """Show these views, all of one size."""
        if self._grid is None or self._fit is None or layout == self.layout:
            return
        self._fit.follow()
        if self.layout == "one":
            self._viewer.dims.ndisplay = 2
            self._viewer.dims.order = tuple(range(self._viewer.dims.ndim))
        places = self._lane_places() if layout == "lanes" else _PLACES[layout]
        for key in [key for key in self.views if key not in places]:
            self._take_away(key)
        for key, (row, column) in places.items():
            if key not in self.views:
                self._open(key)
            self._place(key, self.views[key], row, column)
        used = [(0, 0), *places.values()]
        for line in range(max(self._grid.rowCount(), self._grid.columnCount())):
            self._grid.setColumnStretch(line, int(any(column == line for _, column in used)))
            self._grid.setRowStretch(line, int(any(row == line for row, _ in used)))
        self.layout = layout
        self._mark()
        self.changed.emit()

    def show_lanes(self, lanes: tuple[str, ...]) -> None:
        """Show the lanes of a race beside napari's own view; without any, the views before come back."""
        if lanes == self.lanes or self._grid is None:
            return
        before, self.lanes = self.lanes, lanes  # first: whoever hears of another layout looks at them
        if before and self.layout == "lanes":
            self.arrange("one" if lanes else self._before_lanes)
        elif not before:
            self._before_lanes = self.layout
        if lanes:
            self.arrange("lanes")

    def _lane_places(self) -> dict[str, tuple[int, int]]:
        """Return lane -> row and column, in two rows; lane A has the first place."""
        columns = max(2, -(-(len(self.lanes) + 1) // 2))
        return {name: divmod(number, columns) for number, name in enumerate(self.lanes, 1)}

    def _maker(self, key: str) -> _Maker:
        if key in self.lanes:
            return lambda viewer: LaneView(viewer, key, self._is_overlay)
        return _MAKERS[key]

    def _is_overlay(self, layer: Any) -> bool:
        """Whether a layer is drawn by us over the image of the case."""
        return any(layer == self._layers.layer(key) for key in self._layers.keys if key != "image")

    def toggle_four(self) -> None:
        """Show four views, or one again."""
        self.arrange("one" if self.layout == "four" else "four")

    def look_at(self, place: Sequence[float], size: Sequence[float]) -> None:
        """Show a place in the middle of every view but napari's own; see `display.look_at`."""
        for view in self.views.values():
            look_at(view.model, place, size)

    def _open(self, key: str) -> None:
        view = self.views[key] = self._maker(key)(self._viewer)
        self.mouse.attach(view.model)
        for key, called in self._viewer.keymap.items():  # keys that panels listen to hold here too
            view.model.keymap[key] = lambda _, f=called: f(self._viewer)
        view.canvas.installEventFilter(self)
        if self._letter_pixels is not None:
            view.enlarge(self._letter_pixels)

    def _take_away(self, key: str) -> None:
        view = self.views.pop(key)
        view.canvas.removeEventFilter(self)
        self.mouse.detach(view.model)
        cell = self._cells.pop(key)
        view.closing()
        assert self._grid is not None
        self._grid.removeWidget(cell)
        cell.hide()
        cell.deleteLater()

    def _mark(self) -> None:
        """Mark the common point in napari's own canvas while there is another plane."""
        planes = any(isinstance(view, PlaneView) for view in self.views.values())
        if planes and self._crosshair is None and self.letters is not None:
            self._crosshair = Crosshair(self._viewer, self.letters.canvas)
        elif not planes and self._crosshair is not None:
            self._crosshair.closing()
            self._crosshair = None

    @property
    def crosshair(self) -> Crosshair | None:
        """The mark of the common point in napari's own canvas, while another plane is shown."""
        return self._crosshair

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Forget the point under the mouse when it leaves a view."""
        if event.type() == QEvent.Type.Leave:
            self._pointed(None)
        return False

    # -- napari's own panels ------------------------------------------------------------------------------

    @property
    def _panels(self) -> list[QDockWidget]:
        docks = [] if self._window is None else self._window.findChildren(QDockWidget)
        return [dock for dock in docks if dock.objectName() in NAPARI_PANELS]

    @property
    def folded(self) -> bool:
        """Whether napari's layer list and controls are out of sight."""
        return not any(dock.isVisible() for dock in self._panels)

    def fold(self, folded: bool) -> None:
        """Fold napari's layer list and controls away, or bring back those that were there."""
        if folded == self.folded:
            return
        if self._fit is not None:
            self._fit.follow()
        if folded:
            self._folded = [dock for dock in self._panels if dock.isVisible()]
            for dock in self._folded:
                dock.hide()
        else:
            for dock in self._folded or self._panels:
                dock.show()
            self._folded = []
        self.changed.emit()

    # -- for a wall ---------------------------------------------------------------------------------------

    def clear_docks(self) -> None:
        """Hide every dock of the window, until `bring_docks_back`."""
        if self._window is not None and self._fit is not None and not self._cleared:
            self._fit.follow()
            self._cleared = [dock for dock in self._window.findChildren(QDockWidget) if dock.isVisible()]
            for dock in self._cleared:
                dock.hide()

    def bring_docks_back(self) -> None:
        """Show the docks again that `clear_docks` has hidden."""
        if self._fit is not None and self._cleared:
            self._fit.follow()
        for dock in self._cleared:
            dock.show()
        self._cleared = []

    def put_below(self, widget: QWidget) -> None:
        """Show a widget under the views, below what is there already."""
        if self._table is not None:
            self._table.layout().addWidget(widget)

    def put_above(self, widget: QWidget) -> None:
        """Show a widget above all views."""
        if self._table is not None:
            self._table.layout().insertWidget(0, widget)

    def put_over_main(self, widget: QWidget) -> None:
        """Show a widget at the head of napari's own view, as the other lanes of a race have one."""
        if "axial" in self._cells:
            self._cells["axial"].layout().insertWidget(0, widget)

    def enlarge(self, pixels: int | None) -> None:
        """Write letters and numbers of all views in this height; None: as usual."""
        self._letter_pixels = pixels
        for overlay in (self.letters, self.number):
            if overlay is not None:
                overlay.enlarge(pixels)
        for view in self.views.values():
            view.enlarge(pixels)
        self.changed.emit()

    @property
    def enlarged(self) -> bool:
        """Whether letters are those for a wall."""
        return self._letter_pixels is not None

    # -- closing ------------------------------------------------------------------------------------------

    def closing(self) -> None:
        """Give everything back as it was; a window that has closed is left alone."""
        if self._window is None or self._table is None or self._main is None:
            return
        self.arrange("one")
        self.mouse.closing()
        for part in (self.letters, self.number, self._fit, self._context):
            if part is not None:
                part.closing()
        self.letters = self.number = self._fit = self._context = None
        if self._window.isVisible():
            self._restore(self._window, self._main, self._table)
        self._window = self._table = self._grid = self._main = None

    def _restore(self, window: QMainWindow, main: QWidget, table: QWidget) -> None:
        self.bring_docks_back()
        if self._folded:
            self.fold(False)
        middle = window.centralWidget().layout()
        middle.insertWidget(middle.indexOf(table), main)
        main.show()
        main.dims.show()
        middle.removeWidget(table)
        table.hide()
        table.deleteLater()
        for corner, area in self._corners.items():
            window.setCorner(corner, area)


_SLIDER_FROM = 230
"""Width from which napari's slider shows its number; below, the number on the canvas and the wheel remain."""


class _Cell(QWidget):  # type: ignore[misc, unused-ignore]
    """The place of a view: its size is that of its cell, whatever the view would like."""

    def __init__(self, view: QWidget) -> None:
        super().__init__()
        self._sliders = (view if isinstance(view, QtViewer) else view.view).dims
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(view)
        self.setMinimumSize(60, 60)
        policy = self.sizePolicy()
        policy.setHorizontalPolicy(policy.Policy.Ignored)
        policy.setVerticalPolicy(policy.Policy.Ignored)
        self.setSizePolicy(policy)

    def resizeEvent(self, event: Any) -> None:
        """Show napari's slider where all of it has room."""
        super().resizeEvent(event)
        self._sliders.setVisible(self.width() >= _SLIDER_FROM)

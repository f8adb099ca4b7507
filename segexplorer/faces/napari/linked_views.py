"""Coronal and sagittal views beside napari's own axial one: the same layers, the same point, one convention."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt import QtViewer
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QSplitter, QVBoxLayout, QWidget

from segexplorer.faces.napari import remembered
from segexplorer.faces.napari.crosshair import Crosshair
from segexplorer.faces.napari.edge_letters import EdgeLetters, canvas_in
from segexplorer.viewmodels.orientation import plane_name

ORDERS = ((1, 0, 2), (2, 0, 1))
"""Coronal and sagittal: the slice is across the first axis of (z, y, x), superior is up."""
_WIDTH, _HEIGHTS = "linked_views/width", "linked_views/heights"
_LEAST = 160
_SHARE = 0.45
"""Part of the axial view's width that the two others take at first."""
_FOLLOWED = ("visible", "opacity", "blending", "contrast_limits", "gamma", "colormap", "scale", "translate")


class _Twin:
    """A layer of the main viewer and its copy in a pane; the voxels are shared, not copied."""

    def __init__(self, source: Any) -> None:
        self.source = source
        data, given, sort = source.as_layer_data_tuple()
        self.copy = Layer.create(data, {**given, "blending": _flat(given["blending"])}, sort)
        self.copy.editable = False
        self._connected: list[tuple[Any, Any]] = []
        for name in _FOLLOWED:
            if hasattr(source.events, name) and hasattr(source, name):
                self._connect(getattr(source.events, name), lambda _=None, n=name: self._take(n))
        self._connect(source.events.data, lambda _=None: self._take_data())
        if hasattr(source.events, "paint"):
            self._connect(source.events.paint, lambda _=None: self.copy.refresh())

    def _connect(self, signal: Any, slot: Any) -> None:
        signal.connect(slot)
        self._connected.append((signal, slot))

    def _take(self, name: str) -> None:
        if name == "contrast_limits":
            self.copy.contrast_limits_range = self.source.contrast_limits_range
        value = getattr(self.source, name)
        setattr(self.copy, name, _flat(value) if name == "blending" else value)

    def _take_data(self) -> None:
        if self.copy.data is not self.source.data:
            self.copy.data = self.source.data
        self.copy.refresh()

    def part(self) -> None:
        """Follow no longer."""
        for signal, slot in self._connected:
            signal.disconnect(slot)
        self._connected.clear()


def _flat(blending: str) -> str:
    """Return a blending without a test of depth: layers of one plane would hide each other by rounding."""
    return "translucent_no_depth" if blending == "translucent" else blending


class PlaneView(QWidget):  # type: ignore[misc, unused-ignore]
    """One plane of what the main viewer shows.

    Parameters
    ----------
    viewer
        The main viewer.
    order
        In which order the axes (z, y, x) are shown.
    """

    def __init__(self, viewer: Any, order: tuple[int, int, int]) -> None:
        super().__init__()
        self._main, self._order = viewer, order
        self.model = ViewerModel(title=plane_name(order))
        self.model.theme = viewer.theme
        self._twins: list[_Twin] = []
        self._moving = False
        self._extent: NDArray[np.float64] | None = None
        self.view = QtViewer(self.model)
        title = QLabel(plane_name(order).capitalize())
        title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(title)
        layout.addWidget(self.view, 1)
        self._fit = QTimer(self)  # a child: it dies with the pane
        self._fit.setSingleShot(True)
        self._fit.setInterval(0)
        self._fit.timeout.connect(self.model.reset_view)
        canvas = canvas_in(self.view)
        self.letters = EdgeLetters(self.model, canvas) if canvas is not None else None
        self.crosshair = Crosshair(self.model, canvas) if canvas is not None else None
        self.model.mouse_drag_callbacks.append(self._on_press)
        self.model.dims.events.point.connect(self._tell_point)
        viewer.dims.events.point.connect(self._take_point)
        viewer.scene.camera.events.orientation.connect(self._take_orientation)
        viewer.events.theme.connect(self._take_theme)
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed):
            signal.connect(self._take_layers)
        viewer.layers.events.reordered.connect(self._take_layers)
        self._take_orientation()
        self._take_layers()

    def _take_layers(self, _: Any = None) -> None:
        """Show copies of the layers with three axes, in their order."""
        wanted = [layer for layer in self._main.layers if layer.ndim == 3]
        kept = {id(twin.source): twin for twin in self._twins}
        twins = []
        for layer in wanted:
            known = next((twin for twin in kept.values() if twin.source == layer), None)
            twins.append(known or _Twin(layer))
        for twin in self._twins:
            if twin not in twins:
                twin.part()
        self._twins = twins
        self._moving = True
        camera = self.model.scene.camera
        stood = camera.center, camera.zoom  # napari fits the view to the first layer that comes
        self.model.layers.clear()
        for twin in twins:
            self.model.layers.append(twin.copy)
        self._moving = False
        if twins:
            self.model.dims.order = self._order
            self._take_point()
            camera.center, camera.zoom = stood
            self._fit_to_extent()

    def _fit_to_extent(self) -> None:
        """Fit the slice again where there is more or less to see than before; a zoom by hand stays otherwise."""
        extent = self.model.layers.extent.world
        if self._extent is None or not np.allclose(extent, self._extent):
            self._extent = extent
            self._fit.start()

    def resizeEvent(self, event: Any) -> None:
        """Fit the slice into the pane again, once the canvas has its new size."""
        super().resizeEvent(event)
        self._fit.start()

    def _take_point(self, _: Any = None) -> None:
        if self._moving or not self._twins or self._main.dims.ndim != 3:
            return
        self._moving = True
        self.model.dims.point = self._main.dims.point
        self._moving = False

    def _tell_point(self, _: Any = None) -> None:
        """Move the main viewer where this pane was scrolled to."""
        if self._moving or not self._twins or self._main.dims.ndim != 3:
            return
        self._moving = True
        axis = self._order[0]
        self._main.dims.set_point(axis, self.model.dims.point[axis])
        self._moving = False

    def _on_press(self, model: Any, event: Any) -> None:
        """Send every view to the point that was clicked."""
        if event.button == 1 and not event.modifiers and self._main.dims.ndim == 3:
            for axis, position in enumerate(event.position):
                self._main.dims.set_point(axis, position)

    def _take_orientation(self, _: Any = None) -> None:
        self.model.scene.camera.orientation = self._main.scene.camera.orientation

    def _take_theme(self, _: Any = None) -> None:
        self.model.theme = self._main.theme

    def closing(self) -> None:
        """Let go of the main viewer."""
        self._fit.stop()
        if self.letters is not None:
            self.letters.closing()
        if self.crosshair is not None:
            self.crosshair.closing()
        for twin in self._twins:
            twin.part()
        self._twins = []
        events = self._main.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._take_layers)
        self._main.dims.events.point.disconnect(self._take_point)
        self._main.scene.camera.events.orientation.disconnect(self._take_orientation)
        self._main.events.theme.disconnect(self._take_theme)
        self.model.dims.events.point.disconnect(self._tell_point)
        self.model.layers.clear()
        self.view.close()


class LinkedViews(QWidget):  # type: ignore[misc, unused-ignore]
    """The coronal view above the sagittal one, with a handle between them; their sizes are remembered.

    Parameters
    ----------
    viewer
        The main viewer, which shows the axial slices meanwhile.
    canvas
        The main viewer's canvas, where the common point is marked too.
    """

    def __init__(self, viewer: Any, canvas: QWidget | None = None) -> None:
        super().__init__()
        self._canvas = canvas
        self.crosshair = Crosshair(viewer, canvas) if canvas is not None else None
        self.panes = tuple(PlaneView(viewer, order) for order in ORDERS)
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setChildrenCollapsible(False)
        for pane in self.panes:
            self.splitter.addWidget(pane)
        self.splitter.setSizes(remembered.recall(_HEIGHTS) or [1] * len(self.panes))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 0, 2, 2)
        layout.addWidget(self.splitter)
        self.setMinimumWidth(_LEAST)

    @property
    def width_wanted(self) -> int:
        """The width that the user gave them last; at first a share of the axial view's."""
        kept = remembered.recall(_WIDTH)
        if kept:
            return kept[0]
        return round(_SHARE * self._canvas.width()) if self._canvas is not None else _LEAST

    def closing(self) -> None:
        """Keep the sizes, and let go of the main viewer."""
        remembered.keep(_HEIGHTS, self.splitter.sizes())
        remembered.keep(_WIDTH, [self.width()])
        if self.crosshair is not None:
            self.crosshair.closing()
        for pane in self.panes:
            pane.closing()

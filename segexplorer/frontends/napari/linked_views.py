"""Coronal and sagittal views beside napari's own axial one: the same layers, the same point, one convention.

Crosshairs and orientation letters are small Qt widgets over the canvases that let the mouse through. The
sizes that the user gives the views are kept from one session to the next; nothing of any case is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt import QtViewer
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QSettings, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFrame, QLabel, QSplitter, QVBoxLayout, QWidget

from segexplorer.frontends.napari.layers import METADATA, CaseLayers
from segexplorer.viewmodels.layer_images import edge_letters, plane_name


def _settings() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "segexplorer", "window")


def recall(key: str) -> list[int] | None:
    """Return the sizes kept under a key; None where there are none, or none that can be read."""
    stored = str(_settings().value(key, ""))
    try:
        return [int(part) for part in stored.split()] or None
    except ValueError:
        return None


def keep(key: str, sizes: list[int]) -> None:
    """Keep sizes in pixels under a key."""
    _settings().setValue(key, " ".join(str(size) for size in sizes))


def canvas_in(window: QWidget | None) -> QWidget | None:
    """Return the OpenGL canvas somewhere inside a Qt widget; None where there is none."""
    found = None if window is None else window.findChild(QOpenGLWidget)
    return found if isinstance(found, QWidget) else None


# ---- what is drawn over a canvas: Qt widgets, since napari's overlays cannot be placed in pixels


class CanvasOverlay(QObject):  # type: ignore[misc, unused-ignore]
    """Widgets over a canvas that follow its viewer and its size, and let the mouse through.

    A subclass makes its `widgets` and implements `follow`.

    Parameters
    ----------
    viewer
        A napari viewer or `ViewerModel`.
    canvas
        The widget to cover.
    widgets
        What is drawn; children of the canvas.
    signals
        The viewer's signals after which `follow` is called.
    """

    def __init__(
        self, viewer: Any, canvas: QWidget, widgets: Sequence[QWidget], signals: Sequence[Any]
    ) -> None:
        super().__init__(canvas)
        self.viewer, self.canvas = viewer, canvas
        self._widgets, self._signals = tuple(widgets), tuple(signals)
        for widget in self._widgets:
            widget.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            widget.hide()
        for signal in self._signals:
            signal.connect(self.follow)
        canvas.installEventFilter(self)

    @property
    def flat(self) -> bool:
        """Whether the viewer shows a slice of a volume."""
        dims = self.viewer.dims
        return bool(dims.ndisplay == 2 and dims.ndim >= 3 and len(self.viewer.layers) > 0)

    def follow(self, _: Any = None) -> None:
        """Place the widgets, or hide them where there is nothing to mark."""
        raise NotImplementedError  # pragma: no cover  every overlay has its own

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Place the widgets anew when the canvas changes its size."""
        if event.type() == QEvent.Type.Resize:
            self.follow()
        return False

    def closing(self) -> None:
        """Let go of viewer and canvas."""
        for signal in self._signals:
            signal.disconnect(self.follow)
        self.canvas.removeEventFilter(self)
        for widget in self._widgets:
            widget.hide()
            widget.deleteLater()


_LINE_STYLE = "background: rgba(240, 200, 60, 150); border: none;"


class Crosshair(CanvasOverlay):
    """Two thin lines through the point that the linked views share.

    They follow the point, the camera and the order of the axes; parameters as of `CanvasOverlay`.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self.across, self.down = QFrame(canvas), QFrame(canvas)
        for line in (self.across, self.down):
            line.setStyleSheet(_LINE_STYLE)
        camera = viewer.scene.camera.events
        signals = (
            viewer.dims.events.point,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            camera.center,
            camera.zoom,
            camera.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
        )
        super().__init__(viewer, canvas, (self.across, self.down), signals)
        self.follow()

    @property
    def position(self) -> tuple[int, int] | None:
        """Where the lines cross, in pixels from the left and from the top; None while they are hidden."""
        return None if self.across.isHidden() else (self.down.x(), self.across.y())

    def follow(self, _: Any = None) -> None:
        """Place the lines, or hide them where no slice of a volume is shown."""
        dims, camera, flat = self.viewer.dims, self.viewer.scene.camera, self.flat
        if flat:
            vertical, horizontal = (
                float(dims.point[axis]) - float(middle)
                for axis, middle in zip(dims.order[-2:], camera.center[-2:], strict=True)
            )
            upward, leftward = (
                str(way) == reverse
                for way, reverse in zip(camera.orientation[-2:], ("up", "left"), strict=True)
            )
            width, height = self.canvas.width(), self.canvas.height()
            x = round(width / 2 + (-horizontal if leftward else horizontal) * camera.zoom)
            y = round(height / 2 + (-vertical if upward else vertical) * camera.zoom)
            self.across.setGeometry(0, y, width, 1)
            self.down.setGeometry(x, 0, 1, height)
        for line in (self.across, self.down):
            line.setVisible(flat)


_LETTER_STYLE = (
    "color: #f5f5f5; background: rgba(0, 0, 0, 120); border-radius: 3px; padding: 1px 5px; font-weight: bold;"
)
_CAPTION_STYLE = "color: #f5f5f5; background: rgba(0, 0, 0, 140); border-radius: 3px; padding: 2px 6px;"
_MARGIN = 6
_ABOVE_LETTERS = 34


class EdgeLetters(CanvasOverlay):
    """Letters at the edges of a canvas: which side of the patient is where.

    They follow the slice, the order of the axes and the convention.

    Parameters
    ----------
    viewer, canvas
        As of `CanvasOverlay`.
    layers
        Knows whether volumes in RAS are shown: of anything else nobody knows where right is. None: they are.
    """

    def __init__(self, viewer: Any, canvas: QWidget, layers: CaseLayers | None = None) -> None:
        self._layers = layers
        self.labels = {side: QLabel(canvas) for side in ("left", "right", "top", "bottom")}
        for label in self.labels.values():
            label.setStyleSheet(_LETTER_STYLE)
        signals = (
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            viewer.dims.events.ndim,
            viewer.scene.camera.events.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
        )
        super().__init__(viewer, canvas, tuple(self.labels.values()), signals)
        self.follow()

    @property
    def shown(self) -> dict[str, str]:
        """Side -> letter of the labels that can be seen."""
        return {side: label.text() for side, label in self.labels.items() if not label.isHidden()}

    def follow(self, _: Any = None) -> None:
        """Write the letters of the present view, or hide them."""
        dims = self.viewer.dims
        order = [int(axis) - (dims.ndim - 3) for axis in dims.order[-3:]]
        oriented = self._layers is None or self._layers.oriented
        visible = self.flat and oriented and sorted(order) == [0, 1, 2]
        if visible:
            orientation = [str(way) for way in self.viewer.scene.camera.orientation]
            letters = edge_letters(order, orientation)
            for side, label in self.labels.items():
                label.setText(getattr(letters, side))
                label.adjustSize()
        for label in self.labels.values():
            label.setVisible(visible)
        self._place()

    def _place(self) -> None:
        width, height = self.canvas.width(), self.canvas.height()
        for side, label in self.labels.items():
            x = {"left": _MARGIN, "right": width - label.width() - _MARGIN}.get(
                side, (width - label.width()) // 2
            )
            y = {"top": _MARGIN, "bottom": height - label.height() - _MARGIN}.get(
                side, (height - label.height()) // 2
            )
            label.move(x, y)


class MapCaptions(CanvasOverlay):
    """What the visible maps of regions show, written into a corner of the canvas: of which case, and in what state.

    Parameters as of `CanvasOverlay`.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self.label = QLabel(canvas)
        self.label.setStyleSheet(_CAPTION_STYLE)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        super().__init__(
            viewer, canvas, (self.label,), (viewer.layers.events.inserted, viewer.layers.events.removed)
        )
        self._followed: list[Any] = []
        self.follow()

    @property
    def text(self) -> str:
        """The captions that can be read now, one a line."""
        return "" if self.label.isHidden() else str(self.label.text())

    def follow(self, _: Any = None) -> None:
        """Write the captions of the layers that are visible, or hide the text."""
        self._follow_layers()
        captions = [
            caption
            for layer in self.viewer.layers
            if layer.visible and (caption := layer.metadata.get(METADATA, {}).get("caption"))
        ]
        self.label.setText("\n".join(captions))
        self.label.setWordWrap(False)
        self.label.adjustSize()
        room = max(1, self.canvas.width() - 2 * _MARGIN)
        if self.label.width() > room:  # the end of a line says in which state the map is
            self.label.setWordWrap(True)
            self.label.resize(room, self.label.heightForWidth(room))
        # above the letter at the lower edge, which a long line would cover
        self.label.move(_MARGIN, self.canvas.height() - self.label.height() - _ABOVE_LETTERS)
        self.label.setVisible(bool(captions))

    def _follow_layers(self) -> None:
        """Hear when a layer is shown or hidden, and when it gets other data."""
        # compared by ==: inside a plug-in's widget napari hands out layers in proxies, each time another
        present = list(self.viewer.layers)
        for layer in [old for old in self._followed if not any(old == new for new in present)]:
            self._let_go(layer)
        for layer in present:
            if not any(layer == old for old in self._followed):
                for signal in _heard(layer):
                    signal.connect(self.follow)
                self._followed.append(layer)

    def _let_go(self, layer: Any) -> None:
        for signal in _heard(layer):
            signal.disconnect(self.follow)
        self._followed = [other for other in self._followed if other != layer]

    def closing(self) -> None:
        """Let go of viewer, layers and canvas."""
        for layer in list(self._followed):
            self._let_go(layer)
        super().closing()


def _heard(layer: Any) -> list[Any]:
    return [
        getattr(layer.events, name) for name in ("visible", "name", "data") if hasattr(layer.events, name)
    ]


# ---- the views


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
        before = camera.center, camera.zoom  # napari fits the view to the first layer that comes
        self.model.layers.clear()
        for twin in twins:
            self.model.layers.append(twin.copy)
        self._moving = False
        if twins:
            self.model.dims.order = self._order
            self._take_point()
            camera.center, camera.zoom = before
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
    """The coronal view above the sagittal one, with a handle between them; their sizes are kept.

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
        self.splitter.setSizes(recall(_HEIGHTS) or [1] * len(self.panes))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 0, 2, 2)
        layout.addWidget(self.splitter)
        self.setMinimumWidth(_LEAST)

    @property
    def width_wanted(self) -> int:
        """The width that the user gave them last; at first a share of the axial view's."""
        kept = recall(_WIDTH)
        if kept:
            return kept[0]
        return round(_SHARE * self._canvas.width()) if self._canvas is not None else _LEAST

    def closing(self) -> None:
        """Keep the sizes, and let go of the main viewer."""
        keep(_HEIGHTS, self.splitter.sizes())
        keep(_WIDTH, [self.width()])
        if self.crosshair is not None:
            self.crosshair.closing()
        for pane in self.panes:
            pane.closing()

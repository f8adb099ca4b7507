"""Views beside napari's own: further planes and 3D of the same layers, the same point, one convention.

Crosshairs, letters and slice numbers are small Qt widgets over the canvases that let the mouse through. Each view
fits its slice at once; a zoom by hand stays in proportion when the canvas changes its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt import QtViewer
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFrame, QLabel, QVBoxLayout, QWidget

from segexplorer.frontends.napari.layers import (
    METADATA,
    CaseLayers,
    changing_layers,
    give_surface,
    seen_layers,
    slice_row,
    surface_arguments,
)
from segexplorer.viewmodels.layer_images import edge_letters, plane_name
from segexplorer.viewmodels.surfaces import ORDER, Part, SurfacePicture


def canvas_in(window: QWidget | None) -> QOpenGLWidget | None:
    """Return the OpenGL canvas somewhere inside a Qt widget; None where there is none."""
    found = None if window is None else window.findChild(QOpenGLWidget)
    return found if isinstance(found, QOpenGLWidget) else None


_ENLARGED = " font-size: "
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

    def enlarge(self, pixels: int | None) -> None:
        """Write in letters of this height, for a wall; None: in the usual ones."""
        for label in self._widgets:
            if isinstance(label, QLabel):
                enlarge(label, pixels)
        self.follow()

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


def enlarge(label: QLabel, pixels: int | None) -> None:
    """Write a label in letters of this height; None: in its usual ones."""
    usual = label.styleSheet().partition(_ENLARGED)[0]
    label.setStyleSheet(usual if pixels is None else f"{usual}{_ENLARGED}{pixels}px;")


_LINE_STYLE = "background: rgba(240, 200, 60, 150); border: none;"


class Crosshair(CanvasOverlay):
    """Two thin lines through the point that the linked views share.

    They follow the point, the camera and the order of the axes; further parameters as of `CanvasOverlay`.

    Parameters
    ----------
    main
        The viewer that holds the common point; None: `viewer` itself.
    """

    def __init__(self, viewer: Any, canvas: QWidget, main: Any = None) -> None:
        self._main = viewer if main is None else main
        self.across, self.down = QFrame(canvas), QFrame(canvas)
        for line in (self.across, self.down):
            line.setStyleSheet(_LINE_STYLE)
        camera = viewer.scene.camera.events
        signals = (
            self._main.dims.events.point,
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
        flat = flat and self._main.dims.ndim == dims.ndim
        if flat:
            vertical, horizontal = (
                float(self._main.dims.point[axis]) - float(middle)
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
_PROMPT_STYLE = "color: #b8b8b8; background: transparent;"
MARGIN = 6


def caption_style(ink: str = "#f5f5f5") -> str:
    """Return the style of a note over a picture, which is dark or light anywhere."""
    return f"color: {ink}; background: rgba(0, 0, 0, 140); border-radius: 3px; padding: 2px 6px;"


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
            x = {"left": MARGIN, "right": width - label.width() - MARGIN}.get(
                side, (width - label.width()) // 2
            )
            y = {"top": MARGIN, "bottom": height - label.height() - MARGIN}.get(
                side, (height - label.height()) // 2
            )
            label.move(x, y)


class SliceNumber(CanvasOverlay):
    """The plane and the number of the slice in the upper left corner of a canvas.

    Parameters as of `EdgeLetters`; the plane is named only where volumes in RAS are shown.
    """

    def __init__(self, viewer: Any, canvas: QWidget, layers: CaseLayers | None = None) -> None:
        self._layers = layers
        self.label = QLabel(canvas)
        self.label.setStyleSheet(caption_style())
        dims = viewer.dims.events
        signals = (dims.current_step, dims.order, dims.ndisplay, dims.range, dims.ndim)
        inserted, removed = viewer.layers.events.inserted, viewer.layers.events.removed
        self._heard: list[Any] = []
        super().__init__(viewer, canvas, (self.label,), (*signals, inserted, removed))
        self.follow()

    @property
    def text(self) -> str:
        """What can be read now."""
        return "" if self.label.isHidden() else str(self.label.text())

    def _listen(self) -> None:
        """Hear when layers are hidden or shown: the slices are those of what can be seen."""
        present = list(self.viewer.layers)
        for layer in [old for old in self._heard if not any(old is new for new in present)]:
            layer.events.visible.disconnect(self.follow)
        for layer in [new for new in present if not any(new is old for old in self._heard)]:
            layer.events.visible.connect(self.follow)
        self._heard = present

    def closing(self) -> None:
        """Let go of viewer, layers and canvas."""
        super().closing()
        for layer in self._heard:
            layer.events.visible.disconnect(self.follow)
        self._heard = []

    def follow(self, _: Any = None) -> None:
        """Write the number of the slice, or hide it where there is none."""
        self._listen()
        dims = self.viewer.dims
        shown = self.flat
        if shown:
            axis = int(dims.order[-3])
            row = slice_row(self.viewer, axis)
            place, last = row.place(float(dims.point[axis])), row.count - 1  # from 0, as on napari's slider
            order = [int(a) - (dims.ndim - 3) for a in dims.order[-3:]]
            oriented = self._layers is None or self._layers.oriented
            plane = plane_name(order).capitalize() if oriented and sorted(order) == [0, 1, 2] else "Slice"
            texts = (f"{plane} {place} / {last}", f"{place} / {last}", f"{place}")
            for text in texts if 0 <= place <= last else (f"{plane}: outside the image", "outside"):
                self.label.setText(text)
                self.label.adjustSize()
                if self.label.width() <= self.canvas.width() // 2 - 4 * MARGIN:  # a letter is in the middle
                    break
            self.label.move(MARGIN, MARGIN)
        self.label.setVisible(shown)


class ViewTitle(CanvasOverlay):
    """The name of a view in the upper left corner of its canvas, and a sentence while it shows nothing.

    Parameters
    ----------
    viewer, canvas
        As of `CanvasOverlay`.
    title, prompt
        The name, and the sentence.
    """

    def __init__(self, viewer: Any, canvas: QWidget, title: str, prompt: str) -> None:
        self.title, self.prompt = QLabel(title, canvas), QLabel(prompt, canvas)
        self.title.setStyleSheet(caption_style())
        self.prompt.setStyleSheet(_PROMPT_STYLE)
        self.prompt.setWordWrap(True)
        self.prompt.setAlignment(Qt.AlignmentFlag.AlignCenter)
        signals = (viewer.layers.events.inserted, viewer.layers.events.removed)
        super().__init__(viewer, canvas, (self.title, self.prompt), signals)
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Place the name; show the sentence where nothing is seen."""
        self.title.adjustSize()
        self.title.move(MARGIN, MARGIN)
        self.title.setVisible(True)
        room = max(1, self.canvas.width() - 4 * MARGIN)
        height = self.prompt.heightForWidth(room)
        self.prompt.setGeometry(2 * MARGIN, (self.canvas.height() - height) // 2, room, height)
        self.prompt.setVisible(not any(layer.visible for layer in self.viewer.layers))


# ---- the views


CORONAL, SAGITTAL = (1, 0, 2), (2, 0, 1)
"""Orders of (z, y, x): the slice is across the first axis, superior is up."""
_FOLLOWED = (
    "visible",
    "opacity",
    "blending",
    "contrast_limits",
    "gamma",
    "colormap",
    "contour",
    "scale",
    "translate",
)
_FINEST = 128
"""Voxels along an axis of a label in the 3D view, at most; the whole volume would take seconds to upload."""


class _Twin:
    """A layer of the main viewer and its copy in another view; the voxels are shared, not copied."""

    def __init__(self, source: Any, *, thinned: bool = False) -> None:
        self.source, self._thinned = source, thinned
        data, given, sort = source.as_layer_data_tuple()
        self.copy = Layer.create(
            self._part_of(data),
            {**given, **self._given(), "blending": self._blended(given["blending"])},
            sort,
        )
        self.copy.editable = False
        if hasattr(source, "contour"):  # napari takes no contour when a layer is made
            self.copy.contour = source.contour
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

    def _stride(self) -> int:
        shape = getattr(self.source.data, "shape", ())
        return max(1, -(-max(shape) // _FINEST)) if self._thinned and len(shape) == 3 else 1

    def _part_of(self, data: Any) -> Any:
        stride = self._stride()
        return data if stride == 1 else data[::stride, ::stride, ::stride]

    def _given(self) -> dict[str, Any]:
        stride = self._stride()
        return {} if stride == 1 else {"scale": stride * np.asarray(self.source.scale)}

    def _blended(self, blending: str) -> str:
        """Return a blending without a test of depth in slices: layers of one plane would hide each other."""
        flat = blending == "translucent" and not self._thinned
        return "translucent_no_depth" if flat else blending

    def _take(self, name: str) -> None:
        if name == "contrast_limits":
            self.copy.contrast_limits_range = self.source.contrast_limits_range
        value = self._given().get(name, getattr(self.source, name))
        if name == "visible" and self.copy.visible == value:
            return  # napari would draw it again
        setattr(self.copy, name, self._blended(value) if name == "blending" else value)

    def _take_data(self) -> None:
        if self._thinned or self.copy.data is not self.source.data:
            self.copy.data = self._part_of(self.source.data)
        else:
            self.copy.refresh()

    def part(self) -> None:
        """Follow no longer."""
        for signal, slot in self._connected:
            signal.disconnect(slot)
        self._connected.clear()


class ViewFit(QObject):  # type: ignore[misc, unused-ignore]
    """Keeps what a viewer shows fitted to its canvas; a zoom by hand keeps its ratio to that, and its centre.

    Parameters
    ----------
    model
        A napari viewer or `ViewerModel`.
    canvas
        Its canvas.
    applies
        Whether this is wanted now.
    """

    def __init__(self, model: Any, canvas: QWidget, applies: Callable[[], bool] = lambda: True) -> None:
        super().__init__(canvas)
        self._model, self._canvas, self._applies = model, canvas, applies
        self._fitted = 0.0
        self._centre: tuple[float, ...] = ()
        self._anew = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._refit)
        model.events.reset_view.connect(self._on_reset)
        canvas.installEventFilter(self)

    @property
    def ratio(self) -> float:
        """The zoom as a multiple of the one that fits."""
        return float(self._model.scene.camera.zoom) / self._fitted if self._fitted else 1.0

    def fit(self) -> None:
        """Fit what is shown into the canvas, once the window has laid it out."""
        self._anew = True
        self._timer.start()

    def follow(self) -> None:
        """Learn how far the present zoom is from the one that fits; before the canvas changes its size."""
        if not self._model.layers:
            return
        camera = self._model.scene.camera
        zoom, centre = camera.zoom, camera.center
        self._model.fit_to_view(layers=seen_layers(self._model))
        camera.zoom, camera.center = zoom, centre

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Keep the ratio when the canvas changes its size."""
        if event.type() == QEvent.Type.Resize and self._fitted and self._applies():
            self._timer.start()
        return False

    def _refit(self) -> None:
        if not self._model.layers:
            return
        camera, ratio, before = self._model.scene.camera, self.ratio, self._centre
        centre = camera.center
        anew, self._anew = self._anew, False
        self._model.fit_to_view(layers=seen_layers(self._model))
        if anew:
            return
        if abs(ratio - 1) > 1e-3:
            camera.zoom = ratio * self._fitted
        if not np.allclose(centre[-2:], before[-2:]):
            camera.center = centre

    def _on_reset(self, _: Any = None) -> None:
        camera = self._model.scene.camera
        self._fitted, self._centre = float(camera.zoom), tuple(camera.center)

    def closing(self) -> None:
        """Let go of the viewer."""
        self._timer.stop()
        self._canvas.removeEventFilter(self)
        self._model.events.reset_view.disconnect(self._on_reset)


class OwnContext(QObject):  # type: ignore[misc, unused-ignore]
    """Sees to it that what a layer had on the GPU is freed in the OpenGL context of its canvas.

    vispy frees it when napari takes the layer out, in whatever context is current then: outside of painting that
    may be Qt's or another canvas's, where the same numbers are other things. With Mesa's software renderer the next
    frame ended in a segmentation fault once two layers had gone together (napari 0.9.2, vispy 0.17).

    Parameters
    ----------
    model
        A napari viewer or `ViewerModel` whose canvas is there already.
    canvas
        Its canvas.
    """

    def __init__(self, model: Any, canvas: QOpenGLWidget) -> None:
        super().__init__(canvas)
        self._model, self._canvas = model, canvas
        model.layers.events.removing.connect(self._make_current)

    def _make_current(self, _: Any = None) -> None:
        self._canvas.makeCurrent()

    def closing(self) -> None:
        """Let go of the viewer."""
        self._model.layers.events.removing.disconnect(self._make_current)


class LinkedView(QWidget):  # type: ignore[misc, unused-ignore]
    """A view of what the main viewer shows: copies of its layers in a viewer of their own.

    Parameters
    ----------
    viewer
        The main viewer.
    order
        In which order the axes (z, y, x) are shown.
    title
        What is shown.
    """

    thinned = False

    def __init__(self, viewer: Any, order: tuple[int, int, int], title: str) -> None:
        super().__init__()
        self._main, self._order = viewer, order
        self.model = ViewerModel(title=title)
        self.model.theme = viewer.theme
        self._twins: list[_Twin] = []
        self._moving = False
        self._extent: NDArray[np.float64] | None = None
        self.view = QtViewer(self.model)
        canvas = canvas_in(self.view)
        assert canvas is not None
        self.canvas = canvas
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view)
        self.fit = ViewFit(self.model, canvas, self.fits)
        self._context = OwnContext(self.model, canvas)
        self.overlays = self._draw_over(canvas)
        viewer.events.theme.connect(self._take_theme)
        viewer.scene.camera.events.orientation.connect(self._take_orientation)
        events = viewer.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.connect(self._take_layers)
        self._take_orientation()
        self._take_layers()

    @property
    def axis(self) -> int:
        """The axis of (z, y, x) that its slices are across."""
        return self._order[0]

    def fits(self) -> bool:
        """Return whether the view is fitted to its canvas by itself."""
        return True

    def _draw_over(self, canvas: QWidget) -> tuple[CanvasOverlay, ...]:
        """Return what lies over the canvas."""
        return ()

    def enlarge(self, pixels: int | None) -> None:
        """Write in letters of this height, for a wall; None: in the usual ones."""
        for overlay in self.overlays:
            overlay.enlarge(pixels)

    def _wanted(self) -> list[Any]:
        """Return the layers of the main viewer that are shown here."""
        return [layer for layer in self._main.layers if layer.ndim == 3]

    def _take_layers(self, _: Any = None) -> None:
        """Show copies of the layers, in their order."""
        twins = []
        for layer in self._wanted():
            known = next((twin for twin in self._twins if twin.source == layer), None)
            twins.append(known or _Twin(layer, thinned=self.thinned))
        for twin in self._twins:
            if twin not in twins:
                twin.part()
        self._twins = twins
        self._moving = True
        camera = self.model.scene.camera
        before = (
            camera.center,
            camera.zoom,
            camera.angles,
        )  # napari fits the view to the first layer that comes
        self._put([twin.copy for twin in twins])
        self._moving = False
        if twins:
            self.model.dims.order = self._order
            self._take_point()
            camera.center, camera.zoom, camera.angles = before
            self._fit_to_extent()

    def _put(self, copies: list[Any]) -> None:
        """Bring the copies into the viewer, and what is there already into their order."""
        layers = self.model.layers
        with changing_layers(self.model):
            for layer in [layer for layer in layers if not any(layer is copy for copy in copies)]:
                layers.remove(layer)
            for place, copy in enumerate(copies):
                if copy not in layers:
                    layers.insert(place, copy)
                elif layers.index(copy) != place:
                    layers.move(layers.index(copy), place)
            layers.selection.clear()  # a key must not choose a tool of a copy

    def _fit_to_extent(self) -> None:
        """Fit the view again where there is more or less to see than before; a zoom by hand stays otherwise."""
        layers = self.model.layers
        extent = layers.get_extent(seen_layers(self.model) or layers).world
        if self._extent is None or not np.allclose(extent, self._extent):
            self._extent = extent
            self.fit.fit()

    def _take_point(self, _: Any = None) -> None:
        """Show the common point."""

    def _take_orientation(self, _: Any = None) -> None:
        self.model.scene.camera.orientation = self._main.scene.camera.orientation

    def _take_theme(self, _: Any = None) -> None:
        self.model.theme = self._main.theme

    def closing(self) -> None:
        """Let go of the main viewer."""
        self.fit.closing()
        for overlay in self.overlays:
            overlay.closing()
        for twin in self._twins:
            twin.part()
        self._twins = []
        events = self._main.layers.events
        for signal in (events.inserted, events.removed, events.reordered):
            signal.disconnect(self._take_layers)
        self._main.scene.camera.events.orientation.disconnect(self._take_orientation)
        self._main.events.theme.disconnect(self._take_theme)
        self.model.layers.clear()
        self._context.closing()
        self.view.close()


class PlaneView(LinkedView):
    """Another plane than the one that the main viewer shows; parameters as of `LinkedView`."""

    def __init__(self, viewer: Any, order: tuple[int, int, int]) -> None:
        super().__init__(viewer, order, plane_name(order))
        self.model.dims.events.point.connect(self._tell_point)
        viewer.dims.events.point.connect(self._take_point)

    def _draw_over(self, canvas: QWidget) -> tuple[CanvasOverlay, ...]:
        self.letters = EdgeLetters(self.model, canvas)
        self.number = SliceNumber(self.model, canvas)
        self.crosshair = Crosshair(self.model, canvas, self._main)
        return self.letters, self.number, self.crosshair

    @property
    def _linked(self) -> bool:
        return not self._moving and bool(self._twins) and self._main.dims.ndim == 3

    def _take_point(self, _: Any = None) -> None:
        """Show the slice through the common point; the other coordinates would slice the layers for nothing."""
        axis = self._order[0]
        if self._linked and self.model.dims.point[axis] != self._main.dims.point[axis]:
            self._moving = True
            self.model.dims.set_point(axis, self._main.dims.point[axis])
            self._moving = False

    def _tell_point(self, _: Any = None) -> None:
        """Move the common point to where this view was scrolled."""
        axis = self._order[0]
        if self._linked and self.model.dims.point[axis] != self._main.dims.point[axis]:
            self._moving = True
            self._main.dims.set_point(axis, self.model.dims.point[axis])
            self._moving = False

    def closing(self) -> None:
        """Let go of the main viewer."""
        self._main.dims.events.point.disconnect(self._take_point)
        self.model.dims.events.point.disconnect(self._tell_point)
        super().closing()


FROM_THE_FRONT = (-0.35, -1.0, 0.0), (1.0, 0.0, 0.0)
"""Direction of view and upward direction of views in 3D, (z, y, x): from the front and a little above."""


def _is_solid(own: Any) -> bool:
    """Whether labels are something to be seen in 3D as they are, from what we wrote into the layer (if we did).

    A map of boxes is a block; what a watched case has comes as surfaces.
    """
    return not own or (own.get("colours") != "map" and own.get("key") not in ORDER)


class VolumeView(LinkedView):
    """Labels or surfaces in 3D, seen from the front; parameters as of `LinkedView`.

    Grey values are left out: a projection of a whole body hides what is looked for. Labels are drawn with every
    n-th voxel where they are large.
    """

    thinned = True
    _PROMPT = "Labels, predictions and errors appear here in 3D."

    def __init__(self, viewer: Any) -> None:
        self._surfaces: dict[Part, tuple[SurfacePicture, Any]] = {}
        """Those that were shown, too, hidden: to take a layer out and put it in again stops the window."""
        self._arranged: set[Part] = set()
        super().__init__(viewer, (0, 1, 2), "3D")

    def _draw_over(self, canvas: QWidget) -> tuple[CanvasOverlay, ...]:
        self.title = ViewTitle(self.model, canvas, "3D", self._PROMPT)
        return (self.title,)

    def _wanted(self) -> list[Any]:
        """Return the labels of the user; of a watched case there are surfaces, or will be in a moment."""
        if self._solid:
            return []
        labels = [layer for layer in super()._wanted() if layer.as_layer_data_tuple()[2] == "labels"]
        return [layer for layer in labels if _is_solid(layer.metadata.get(METADATA))]

    @property
    def _solid(self) -> bool:
        """Whether there is a surface to be seen."""
        return bool(self._seen_parts)

    @property
    def _seen_parts(self) -> set[Part]:
        return {part for part, (_, layer) in self._surfaces.items() if layer.visible}

    def hide_others(self, displayed: Mapping[Part, SurfacePicture]) -> None:
        """Hide the surfaces that are not displayed any more, until those that are come."""
        for part, (picture, layer) in self._surfaces.items():
            if layer.visible and displayed.get(part) is not picture:
                layer.visible = False

    def show_surfaces(self, surfaces: Sequence[SurfacePicture]) -> None:
        """Show surfaces instead of labels; without any, the labels come back."""
        camera, first = self.model.scene.camera, not self._surfaces
        before = camera.center, camera.zoom, camera.angles
        for picture in surfaces:
            drawn = self._surfaces.get(picture.part)
            if drawn is None:
                layer = Layer.create((picture.vertices, picture.faces), surface_arguments(picture), "surface")
            else:
                layer = drawn[1]
                if drawn[0] is not picture:
                    give_surface(layer, picture)
            self._surfaces[picture.part] = (picture, layer)
        shown = {picture.part for picture in surfaces}
        for part, (_, layer) in self._surfaces.items():
            if layer.visible != (part in shown):
                layer.visible = part in shown
        if self._seen_parts == self._arranged:
            return  # the same layers, with other surfaces
        self._take_layers()
        if first:
            self._look_from_the_front()
        else:
            camera.center, camera.zoom, camera.angles = before

    def _put(self, copies: list[Any]) -> None:
        super()._put([*copies, *(self._surfaces[part][1] for part in ORDER if part in self._surfaces)])

    def _take_layers(self, _: Any = None) -> None:
        super()._take_layers()
        self._arranged = self._seen_parts
        if (self._twins or self._solid) and self.model.dims.ndisplay != 3:
            self.model.dims.ndisplay = 3
            self._look_from_the_front()

    def _look_from_the_front(self) -> None:
        self.fit.fit()
        self.model.scene.camera.set_view_direction(*FROM_THE_FRONT)

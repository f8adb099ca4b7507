"""The menu "View" of the dock: plots, linked planes, orientation of the patient, CT windows.

A CT window is chosen by name, or its level and width are set by dragging with the right mouse button.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QActionGroup
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMenu, QToolButton, QWidget

from segexplorer.frontends.napari.layers import METADATA, CaseLayers
from segexplorer.frontends.napari.linked_views import EdgeLetters, LinkedViews, MapCaptions, canvas_in
from segexplorer.frontends.napari.theme import Convention
from segexplorer.viewmodels import layer_images

_WIDTH_PIXELS = 150.0
"""Dragging so far to the right multiplies the width by e."""
_LEVEL_PIXELS = 300.0
"""Dragging so far up raises the level by the width there was."""
_RIGHT_BUTTON = 2


def image_to_window(viewer: Any) -> Any | None:
    """Return the image whose grey values are meant: the active one, else the topmost that can be seen."""
    active = viewer.layers.selection.active
    candidates = [active] if active is not None else []
    candidates += [layer for layer in reversed(list(viewer.layers)) if layer.visible]
    return next((layer for layer in candidates if _is_grey(layer)), None)


def _is_grey(layer: Any) -> bool:
    """Whether a layer is an image in shades of grey, not one of the maps over it."""
    if layer.as_layer_data_tuple()[2] != "image" or getattr(layer, "rgb", False):
        return False
    own = layer.metadata.get(METADATA)
    return own is None or own.get("colours", "grey") == "grey"


def set_limits(layer: Any, low: float, high: float) -> None:
    """Show `low` black and `high` white, widening the range of choice where they are beyond it."""
    first, last = layer.contrast_limits_range
    if low < first or high > last:
        layer.contrast_limits_range = (min(first, low), max(last, high))
    layer.contrast_limits = (low, high)


def apply_window(layer: Any, name: str) -> None:
    """Show an image in a CT window by name, one of `pictures.WINDOWS`."""
    level, width = layer_images.WINDOWS[name]
    set_limits(layer, level - width / 2, level + width / 2)


def dragged(limits: tuple[float, float], right: float, up: float) -> tuple[float, float]:
    """Return the limits after dragging so many pixels to the right (wider) and up (higher level)."""
    low, high = limits
    level, width = (low + high) / 2, high - low
    level += up / _LEVEL_PIXELS * width
    width *= math.exp(max(-20.0, min(20.0, right / _WIDTH_PIXELS)))
    return level - width / 2, level + width / 2


def drag_window(viewer: Any, event: Any) -> Iterator[None]:
    """Follow the mouse with level and width while its right button is held; napari's mouse callback."""
    layer = image_to_window(viewer)
    if event.button != _RIGHT_BUTTON or event.modifiers or viewer.dims.ndisplay != 2 or layer is None:
        return
    camera = viewer.scene.camera
    panned, limits = camera.mouse_pan, tuple(layer.contrast_limits)
    x, y = (float(v) for v in event.pos[:2])
    camera.mouse_pan = False  # vispy would zoom
    try:
        yield
        while event.type == "mouse_move":
            set_limits(layer, *dragged(limits, float(event.pos[0]) - x, y - float(event.pos[1])))
            yield
    finally:
        camera.mouse_pan = panned


PLOTS_NAME = "Segmentation Explorer: plots"
VIEWS_NAME = "Coronal and sagittal"
_CONVENTIONS: dict[Convention, str] = {
    "radiological": "Radiological (patient's right on the left)",
    "neurological": "Neurological (patient's right on the right)",
}
_DRAG = "Drag with the right button: to the right wider, up higher"


class ViewMenu(QToolButton):  # type: ignore[misc, unused-ignore]
    """Shows and hides what belongs to looking, and hangs letters and dragging onto the viewer.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        Its case layers, which know the convention.
    plots
        The plot dock; shown again from here once it was closed.
    """

    def __init__(self, viewer: Any, layers: CaseLayers, plots: QWidget) -> None:
        super().__init__()
        self._viewer, self._layers, self._plots = viewer, layers, plots
        self._views: LinkedViews | None = None
        self._letters: EdgeLetters | None = None
        self._captions: MapCaptions | None = None
        self.setText("View")
        self.setToolTip("Plots, linked planes, orientation, CT windows")
        self.setStyleSheet("QToolButton { padding: 2px 16px 2px 8px; margin-right: 4px; }")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self)
        self.plots_action = menu.addAction("Plots")
        self.plots_action.setCheckable(True)
        self.plots_action.triggered.connect(self.show_plots)
        self.views_action = menu.addAction("Axial, coronal and sagittal, linked")
        self.views_action.setCheckable(True)
        self.views_action.triggered.connect(self.show_views)
        menu.addSeparator()
        self.conventions = {name: menu.addAction(title) for name, title in _CONVENTIONS.items()}
        group = QActionGroup(menu)
        for name, action in self.conventions.items():
            action.setCheckable(True)
            action.setChecked(name == layers.convention)
            group.addAction(action)
            action.triggered.connect(lambda _=False, n=name: layers.set_convention(n))
        menu.addSeparator()
        windows = menu.addMenu("CT window")
        windows.setToolTipsVisible(True)
        windows.setToolTip(_DRAG)
        self.windows = {name: windows.addAction(_window_title(name)) for name in layer_images.WINDOWS}
        for window, action in self.windows.items():
            action.triggered.connect(lambda _=False, w=window: self.apply_window(w))
        windows.addSeparator()
        hint = windows.addAction(_DRAG)
        hint.setEnabled(False)
        menu.aboutToShow.connect(self._on_about_to_show)
        self.setMenu(menu)
        viewer.mouse_drag_callbacks.append(drag_window)

    def attach(self, window: QWidget) -> None:
        """Lay the orientation letters and the maps' captions over the canvas of a window, once it is there."""
        canvas = canvas_in(window)
        if self._letters is None and canvas is not None:
            self._letters = EdgeLetters(self._viewer, canvas, self._layers)
            self._captions = MapCaptions(self._viewer, canvas)

    @property
    def letters(self) -> EdgeLetters | None:
        """The letters over the main canvas."""
        return self._letters

    @property
    def captions(self) -> MapCaptions | None:
        """The captions of visible maps over the main canvas."""
        return self._captions

    @property
    def views(self) -> LinkedViews | None:
        """The linked views, while they are shown."""
        return self._views

    def show_plots(self, shown: bool) -> None:
        """Show the plot dock, also after it was closed; or hide it."""
        if self._plots.parent() is None and shown:
            self._viewer.window.add_dock_widget(
                self._plots, name=PLOTS_NAME, area="bottom", add_vertical_stretch=False
            )
        if self._plots.parent() is not None:
            self._plots.parent().setVisible(shown)
        self._plots.setVisible(True)
        if shown:
            self._plots.parent().raise_()

    def show_views(self, shown: bool) -> None:
        """Show the coronal and the sagittal view beside the axial one, or take them away."""
        own = self._own_dock()
        if self._views is not None:
            views, self._views = self._views, None
            views.closing()
            if views.parent() is not None:
                self._viewer.window.remove_dock_widget(views)
            views.deleteLater()
            if not shown and own is not None:
                self._settle({own: own.width()})
        if shown:
            self._viewer.dims.ndisplay = 2
            self._viewer.dims.order = tuple(range(self._viewer.dims.ndim))
            self._views = LinkedViews(self._viewer, self._letters.canvas if self._letters else None)
            widths = {own: own.width()} if own is not None else {}
            width = self._views.width_wanted
            self._viewer.window.add_dock_widget(
                self._views, name=VIEWS_NAME, area="right", add_vertical_stretch=False
            )
            dock, main = self._views.parent(), self.window()
            if own is not None and isinstance(main, QMainWindow):
                main.splitDockWidget(dock, own, Qt.Orientation.Horizontal)
            self._settle({dock: width, **widths})

    def _settle(self, widths: Mapping[Any, int]) -> None:
        """Give docks these widths once the window has laid them out, and fit the slice into what is left."""
        main = self.window()
        if not isinstance(main, QMainWindow):
            return

        def settle() -> None:
            main.layout().activate()
            main.resizeDocks(list(widths), list(widths.values()), Qt.Orientation.Horizontal)
            self._viewer.reset_view()

        QTimer.singleShot(0, self, settle)

    def _own_dock(self) -> QDockWidget | None:
        """The dock at the right that holds the tabs; None where they are elsewhere."""
        main, widget = self.window(), self.parentWidget()
        while widget is not None and not isinstance(widget, QDockWidget):
            widget = widget.parentWidget()
        if not isinstance(main, QMainWindow) or widget is None or widget.isFloating():
            return None
        return widget if main.dockWidgetArea(widget) == Qt.DockWidgetArea.RightDockWidgetArea else None

    def apply_window(self, name: str) -> None:
        """Show the image in a CT window by name."""
        layer = image_to_window(self._viewer)
        if layer is None:
            show_info("There is no image to show in a CT window.")
            return
        apply_window(layer, name)

    def _on_about_to_show(self) -> None:
        self.plots_action.setChecked(self._plots.parent() is not None and self._plots.parent().isVisible())
        self.views_action.setChecked(self._views is not None and self._views.parent() is not None)

    def closing(self) -> None:
        """Let go of the viewer."""
        if drag_window in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(drag_window)
        if self._letters is not None:
            self._letters.closing()
            self._letters = None
        if self._captions is not None:
            self._captions.closing()
            self._captions = None
        if self._views is not None:
            self.show_views(False)


def _window_title(name: str) -> str:
    level, width = layer_images.WINDOWS[name]
    return f"{name.capitalize()}  (level {level:g}, width {width:g} HU)"

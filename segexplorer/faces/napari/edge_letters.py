"""Orientation letters at the edges of a canvas: small Qt labels that lie over it and let the mouse through."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QLabel, QWidget

from segexplorer.faces.napari.layers import CaseLayers
from segexplorer.viewmodels.orientation import edge_letters

_STYLE = (
    "color: #f5f5f5; background: rgba(0, 0, 0, 120); border-radius: 3px; padding: 1px 5px; font-weight: bold;"
)
_MARGIN = 6


def canvas_in(window: QWidget | None) -> QWidget | None:
    """Return the OpenGL canvas somewhere inside a Qt widget; None where there is none."""
    found = None if window is None else window.findChild(QOpenGLWidget)
    return found if isinstance(found, QWidget) else None


class EdgeLetters(QObject):  # type: ignore[misc, unused-ignore]
    """Letters that follow the slice, the order of the axes and the convention.

    Parameters
    ----------
    viewer
        A napari viewer or `ViewerModel`.
    canvas
        The widget to lie over.
    layers
        Tells whether volumes in RAS are shown: of anything else nobody knows where right is. None: they are.
    """

    def __init__(self, viewer: Any, canvas: QWidget, layers: CaseLayers | None = None) -> None:
        super().__init__(canvas)
        self._viewer, self.canvas, self._layers = viewer, canvas, layers
        self.labels = {side: QLabel(canvas) for side in ("left", "right", "top", "bottom")}
        for label in self.labels.values():
            label.setStyleSheet(_STYLE)
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            label.hide()
        self._signals = (
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            viewer.dims.events.ndim,
            viewer.scene.camera.events.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
        )
        for signal in self._signals:
            signal.connect(self.follow)
        canvas.installEventFilter(self)
        self.follow()

    @property
    def shown(self) -> dict[str, str]:
        """Side -> letter of the labels that can be seen."""
        return {side: label.text() for side, label in self.labels.items() if not label.isHidden()}

    def follow(self, _: Any = None) -> None:
        """Write the letters of the present view, or hide them."""
        dims = self._viewer.dims
        ours = self._layers is None or self._layers.oriented
        flat = dims.ndisplay == 2 and dims.ndim >= 3 and ours and len(self._viewer.layers) > 0
        order = [int(axis) - (dims.ndim - 3) for axis in dims.order[-3:]]
        flat = flat and sorted(order) == [0, 1, 2]
        if flat:
            orientation = [str(way) for way in self._viewer.scene.camera.orientation]
            letters = edge_letters(order, orientation)
            for side, label in self.labels.items():
                label.setText(getattr(letters, side))
                label.adjustSize()
        for label in self.labels.values():
            label.setVisible(flat)
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

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Stay at the edges when the canvas changes its size."""
        if event.type() == QEvent.Type.Resize:
            self._place()
        return False

    def closing(self) -> None:
        """Let go of viewer and canvas."""
        for signal in self._signals:
            signal.disconnect(self.follow)
        self.canvas.removeEventFilter(self)
        for label in self.labels.values():
            label.hide()
            label.deleteLater()

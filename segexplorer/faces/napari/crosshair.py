"""Two thin lines through the point that the linked views share: Qt lines over a canvas, the mouse goes through."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QWidget

_STYLE = "background: rgba(240, 200, 60, 150); border: none;"


class Crosshair(QObject):  # type: ignore[misc, unused-ignore]
    """Lines that follow the point, the camera and the order of the axes.

    Parameters
    ----------
    viewer
        A napari viewer or `ViewerModel`; of flat views with at least three axes the point is marked.
    canvas
        The widget to lie over.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._viewer, self._canvas = viewer, canvas
        self.across, self.down = QFrame(canvas), QFrame(canvas)
        for line in (self.across, self.down):
            line.setStyleSheet(_STYLE)
            line.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            line.hide()
        camera = viewer.scene.camera.events
        self._signals = (
            viewer.dims.events.point,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            camera.center,
            camera.zoom,
            camera.orientation,
            viewer.layers.events.inserted,
            viewer.layers.events.removed,
        )
        for signal in self._signals:
            signal.connect(self.follow)
        canvas.installEventFilter(self)
        self.follow()

    @property
    def position(self) -> tuple[int, int] | None:
        """Where the lines cross, in pixels from the left and from the top; None while they are hidden."""
        return None if self.across.isHidden() else (self.down.x(), self.across.y())

    def follow(self, _: Any = None) -> None:
        """Place the lines, or hide them where no slice of a volume is shown."""
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        flat = dims.ndisplay == 2 and dims.ndim >= 3 and len(self._viewer.layers) > 0
        if flat:
            vertical, horizontal = (
                float(dims.point[axis]) - float(middle)
                for axis, middle in zip(dims.order[-2:], camera.center[-2:], strict=True)
            )
            upward, leftward = (
                str(way) == reverse
                for way, reverse in zip(camera.orientation[-2:], ("up", "left"), strict=True)
            )
            width, height = self._canvas.width(), self._canvas.height()
            x = round(width / 2 + (-horizontal if leftward else horizontal) * camera.zoom)
            y = round(height / 2 + (-vertical if upward else vertical) * camera.zoom)
            self.across.setGeometry(0, y, width, 1)
            self.down.setGeometry(x, 0, 1, height)
        for line in (self.across, self.down):
            line.setVisible(flat)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Cross the same point when the canvas changes its size."""
        if event.type() == QEvent.Type.Resize:
            self.follow()
        return False

    def closing(self) -> None:
        """Let go of viewer and canvas."""
        for signal in self._signals:
            signal.disconnect(self.follow)
        self._canvas.removeEventFilter(self)
        for line in (self.across, self.down):
            line.hide()
            line.deleteLater()

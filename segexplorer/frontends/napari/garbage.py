"""What torch and MONAI bring stays out of the garbage collector, which would stop the window to look through it.

napari collects garbage whenever a layer goes (`VispyCanvas._clean_and_update_scenegraph`), and Python now and then.
With more than a million objects of torch and MONAI, each time takes most of a second, in which nothing is drawn:
three surfaces that were replaced took two and a half seconds. What is left, of napari itself, still takes 30 to
60 ms, more than a slice: it has a time of its own.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from qtpy.QtCore import QObject, QTimer

from segexplorer.frontends.napari.lull import Frames, PatientTimer

EVERY_MS, DUE = 30_000, 10
"""How often the oldest objects are looked through, where there were so many collections of younger ones since."""
_NEVER = 1_000_000


class FrozenImports(QObject):  # type: ignore[misc, unused-ignore]
    """Freezes the objects that are there now, until it is closed.

    Of these, layers that were opened before are freed all the same when they go: they hold themselves by their
    events, and only the collector frees them.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(0)
        self._again.timeout.connect(self._freeze)
        viewer.layers.events.removing.connect(self._on_removing)
        self._freeze()

    def _freeze(self) -> None:
        gc.freeze()
        self._layers = weakref.WeakSet(self._viewer.layers)

    def _on_removing(self, event: Any) -> None:
        """Let the collection of napari that follows see a layer that was frozen, and freeze again after it."""
        if self._viewer.layers[event.index] in self._layers:
            gc.unfreeze()
            self._again.start()

    def closing(self) -> None:
        """Let the collector look through everything again."""
        self._again.stop()
        self._viewer.layers.events.removing.disconnect(self._on_removing)
        gc.unfreeze()


class QuietCollector(QObject):  # type: ignore[misc, unused-ignore]
    """Has the oldest objects looked through between two pictures, where Python would do it in the middle of one.

    Parameters
    ----------
    frames
        Of the pictures.
    """

    def __init__(self, frames: Frames) -> None:
        super().__init__()
        self._before = gc.get_threshold()
        gc.set_threshold(*self._before[:2], _NEVER)
        self._timer = PatientTimer(self._collect, EVERY_MS, frames, parent=self)
        self._timer.start()

    def _collect(self) -> None:
        if gc.get_count()[2] >= DUE:
            gc.collect()

    def closing(self) -> None:
        """Let Python decide when again."""
        self._timer.stop()
        if self._before[2] != _NEVER:  # else another window was open before
            gc.set_threshold(*self._before)

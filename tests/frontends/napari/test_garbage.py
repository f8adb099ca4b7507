"""What is there when the dock opens is no work for the collector; layers that go are freed all the same."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from segexplorer.frontends.napari import garbage
from segexplorer.frontends.napari.garbage import DUE, FrozenImports, QuietCollector
from segexplorer.frontends.napari.lull import Frames

pytestmark = pytest.mark.gui


class Canvas(QObject):  # type: ignore[misc, unused-ignore]
    """What of a canvas says that it has drawn."""

    frameSwapped = Signal()


def test_a_layer_that_was_opened_before_is_freed_when_it_goes(qtbot: Any) -> None:
    viewer = ViewerModel()
    before = gc.get_freeze_count()
    viewer.add_image(np.zeros((4, 4, 4)), name="before")
    viewer.add_image(np.zeros((4, 4, 4)), name="other")  # napari's selection holds the last that was active
    gone = weakref.ref(viewer.layers["before"])
    frozen = FrozenImports(viewer)
    assert gc.get_freeze_count() > before + 1000
    viewer.layers.remove("before")
    gc.collect()  # as the canvas of napari does after each layer
    assert gone() is None
    qtbot.waitUntil(lambda: gc.get_freeze_count() > before + 1000)
    viewer.layers.insert(0, Image(np.zeros((4, 4, 4)), name="after"))
    viewer.layers.selection.active = viewer.layers["other"]
    later = weakref.ref(viewer.layers["after"])
    viewer.layers.remove("after")
    assert gc.get_freeze_count() > before + 1000, "it was never frozen"
    gc.collect()
    assert later() is None
    frozen.closing()
    assert gc.get_freeze_count() == 0


def test_the_oldest_objects_are_looked_through_between_pictures(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "EVERY_MS", 50)
    before = gc.get_threshold()
    viewer, canvas = ViewerModel(), Canvas()
    viewer.add_image(np.zeros((4, 4, 4)))
    frames = Frames(viewer, canvas)
    collector, other = QuietCollector(frames), QuietCollector(frames)
    seen: list[int] = []
    gc.callbacks.append(lambda phase, info: seen.append(info["generation"]) if phase == "start" else None)
    try:
        for _ in range(2 * DUE):
            gc.collect(1)
        kept = [[[]] for _ in range(20 * before[0])]
        assert len(kept) and 2 not in seen
        qtbot.waitUntil(lambda: 2 in seen)
    finally:
        gc.callbacks.pop()
        collector.closing()
        assert gc.get_threshold() == before
        other.closing()
        frames.closing()
        assert gc.get_threshold() == before

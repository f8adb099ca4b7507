"""What is there when the dock opens is no work for the collector; layers that go are freed all the same."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from segexplorer.frontends.napari.garbage import FrozenImports

pytestmark = pytest.mark.gui


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

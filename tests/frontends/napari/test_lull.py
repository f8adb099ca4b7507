"""What can wait waits for slices that are on their way to the screen, and not for ever."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject, Signal

from segexplorer.frontends.napari.lull import LOOK_MS, MOST_LOOKS, Frames, PatientTimer

pytestmark = pytest.mark.gui


class Canvas(QObject):  # type: ignore[misc, unused-ignore]
    """What of a canvas says that it has drawn."""

    frameSwapped = Signal()


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 4, 4)))
    return viewer


def test_it_is_called_once_after_the_slice_has_been_drawn(qtbot: Any, viewer: ViewerModel) -> None:
    canvas, calls = Canvas(), []
    frames = Frames(viewer, canvas)
    timer = PatientTimer(lambda: calls.append(1), LOOK_MS, frames, repeats=False)
    other = PatientTimer(lambda: calls.append(2), LOOK_MS, frames, repeats=False)
    timer.ask()
    timer.ask()
    other.ask()
    for step in (0, 2, 0, 2):  # somebody scrolls, and nothing has been drawn
        viewer.dims.set_current_step(0, step)
        qtbot.wait(LOOK_MS)
    assert not calls
    canvas.frameSwapped.emit()
    qtbot.waitUntil(lambda: calls == [1], timeout=LOOK_MS // 2)
    viewer.dims.set_current_step(0, 0)
    canvas.frameSwapped.emit()
    qtbot.waitUntil(lambda: calls == [1, 2], timeout=LOOK_MS // 2)
    calls.remove(2)
    qtbot.wait(4 * LOOK_MS)
    assert len(calls) == 1
    timer.ask()
    end = time.monotonic() + 0.003 * LOOK_MS * MOST_LOOKS
    while len(calls) == 1 and time.monotonic() < end:  # nothing is drawn of a window that cannot be seen
        viewer.dims.set_current_step(0, 2 - viewer.dims.current_step[0])
        qtbot.wait(LOOK_MS)
    assert len(calls) == 2
    viewer.dims.set_current_step(0, 0)
    frames.closing()
    timer.ask()
    qtbot.waitUntil(lambda: len(calls) == 3, timeout=10 * LOOK_MS)
    viewer.dims.set_current_step(0, 2)
    assert not frames.scrolling, "it has let go of the viewer"


def test_it_goes_on_at_its_own_interval(qtbot: Any, viewer: ViewerModel) -> None:
    canvas, calls = Canvas(), []
    frames = Frames(viewer, canvas)
    timer = PatientTimer(lambda: calls.append(1), 5, frames)
    timer.start()
    qtbot.waitUntil(lambda: len(calls) >= 3)
    viewer.dims.set_current_step(0, 0)
    known = len(calls)
    qtbot.wait(40)
    assert len(calls) == known
    canvas.frameSwapped.emit()
    qtbot.waitUntil(lambda: len(calls) == known + 1)
    qtbot.waitUntil(lambda: len(calls) >= known + 4)  # once nobody scrolls any more
    timer.stop()
    known = len(calls)
    qtbot.wait(40)
    assert len(calls) == known

"""Caption and colour bar: over a large picture, above and below the views where they would hide a small one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.canvas_notes import CanvasCaption, CanvasColourBar, CanvasNotes
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.linked_views import canvas_in
from segexplorer.frontends.napari.lull import Frames
from segexplorer.frontends.napari.workbench import Workbench
from segexplorer.viewmodels import layer_images
from segexplorer.viewmodels.caption import Caption
from segexplorer.viewmodels.regions import Scale
from segexplorer.viewmodels.surfaces import SurfacePicture

pytestmark = pytest.mark.gui
CAPTION = Caption(
    "s0011", "training case, not held out", "left upper lobe", "step 40", "radiological (R on the left)"
)
SCALE = Scale("balance", "FP-FN balance, liver", "whole case, step 40", full_ml=2.0)


@pytest.fixture
def notes(viewer: Any, qtbot: Any) -> Iterator[tuple[Any, Workbench, CanvasCaption, CanvasColourBar]]:
    viewer.window.resize(1280, 800)
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(Volume.from_array(np.zeros((20, 24, 28), np.int16)), "scan"))
    workbench = Workbench(viewer, layers, lambda _: None)
    workbench.attach(viewer.window._qt_window)
    canvas = canvas_in(viewer.window._qt_window)
    caption, bar = CanvasCaption(viewer, canvas), CanvasColourBar(viewer, canvas)
    workbench.put_above(caption.strip)
    workbench.put_below(bar.strip)
    qtbot.wait(50)
    yield viewer, workbench, caption, bar
    caption.closing()
    bar.closing()
    workbench.closing()
    layers.close()


def test_notes_leave_a_small_canvas_and_come_back_to_a_large_one(notes: Any, qtbot: Any) -> None:
    viewer, workbench, caption, bar = notes
    caption.draw(CAPTION)
    bar.draw(SCALE)
    qtbot.wait(50)
    assert caption.label.isVisible() and bar.bar.isVisible()
    assert not caption.strip.isVisible() and not bar.strip.isVisible()
    workbench.arrange("four")
    viewer.window.resize(820, 640)
    qtbot.waitUntil(lambda: caption.strip.isVisible() and bar.strip.isVisible())
    qtbot.wait(50)
    assert not caption.label.isVisible() and not bar.bar.isVisible()
    for fact in (CAPTION.held, CAPTION.step, "radiological"):
        assert fact in caption.text.replace("\n", " ")
    measure = caption.strip.fontMetrics().horizontalAdvance
    assert all(measure(line) <= caption.strip.width() for line in caption.text.split("\n")), "nothing clipped"
    assert bar.texts[0] == SCALE.title
    number, top = workbench.number.label, workbench.letters.labels["top"]
    assert number.isVisible() and not number.geometry().intersects(top.geometry()), (number, top)
    workbench.arrange("one")
    viewer.window.resize(1280, 800)
    qtbot.waitUntil(lambda: caption.label.isVisible() and bar.bar.isVisible())
    assert not caption.strip.isVisible() and not bar.strip.isVisible()


def test_words_about_a_map_are_written_on_two_lines_where_one_is_too_short(notes: Any) -> None:
    _, _, _, bar = notes
    bar.draw(SCALE)
    line = bar.bar.fontMetrics().height()
    short = bar.bar.height()
    title = "penalty for false positives (alpha), left upper lobe"
    long = Scale("alpha", title, "whole case, evaluation mode, step 300 of a run that goes on")
    bar.draw(long)
    assert bar.bar.height() == short + 2 * line
    assert bar.bar.geometry().bottom() < bar.canvas.height(), "it is over the canvas still"
    bar.draw(Scale("alpha", "n" * 60, long.scope))
    assert bar.bar.height() == short + line, "a name that cannot be broken is shortened"
    bar.draw(SCALE)
    assert bar.bar.height() == short


def test_a_caption_that_is_written_larger_elsewhere_is_not_repeated(notes: Any) -> None:
    _, _, caption, _ = notes
    caption.draw(CAPTION)
    assert caption.text
    caption.elsewhere = True
    caption.follow()
    assert caption.text == ""


def test_notes_of_several_views_are_above_and_below_them_at_any_size(notes: Any) -> None:
    _, _, caption, bar = notes
    caption.shared = bar.shared = True
    caption.draw(CAPTION)
    bar.draw(SCALE)
    assert caption.strip.isVisible() and not caption.label.isVisible()
    assert bar.strip.isVisible() and not bar.bar.isVisible()
    caption.draw(Caption())
    bar.draw(None)
    assert not caption.strip.isVisible() and caption.text == "" and bar.texts == ()


def test_views_do_not_move_while_the_next_note_is_on_its_way(notes: Any, qtbot: Any) -> None:
    viewer, workbench, caption, bar = notes
    workbench.arrange("four")
    viewer.window.resize(820, 640)
    caption.draw(CAPTION)
    bar.draw(SCALE)
    qtbot.waitUntil(lambda: caption.strip.isVisible() and bar.strip.isVisible())
    qtbot.wait(50)
    before = caption.canvas.size()
    caption.waiting = bar.waiting = True
    caption.draw(Caption())
    bar.draw(None)
    qtbot.wait(50)
    assert caption.canvas.size() == before
    assert caption.text == "" and bar.texts == (), "nothing of the old is read meanwhile"
    caption.waiting = bar.waiting = False
    caption.draw(Caption())
    bar.draw(None)
    qtbot.waitUntil(lambda: caption.canvas.height() > before.height())


def surface(count: int) -> SurfacePicture:
    corners = np.array([[0, 0, 0], [0, 0, 20], [0, 20, 0], [20, 0, 0], [20, 20, 20]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 2, 3], [2, 3, 4]], np.int32)
    ink = np.ones((count, 4), np.float32)
    return SurfacePicture("surface/errors", "errors", "errors", corners[:count], faces[: count - 1], ink)


def test_each_view_says_what_is_there_of_its_slice(viewer: Any, qtbot: Any) -> None:
    layers, bridge = CaseLayers(viewer), RunBridge()
    display = Display(viewer, bridge, layers)
    layers.show(layer_images.image_picture(Volume.from_array(np.zeros((20, 24, 28), np.int16)), "scan"))
    workbench = Workbench(viewer, layers, lambda _: None)
    workbench.attach(viewer.window._qt_window)
    canvas = canvas_in(viewer.window._qt_window)
    assert canvas is not None
    notes = CanvasNotes(display, workbench, canvas, Frames(display.viewer, canvas))
    workbench.arrange("four")
    assert display.reality.planes == (1, 2), "slices of all views are asked for"
    assert [axis for axis, _ in display.reality.slices] == [0, 1, 2], "the main view's first"
    coronal, sagittal = (notes.slice_notes[workbench.views[key]] for key in ("coronal", "sagittal"))
    asked = {0: "this slice; the rest follows", 1: "this slice follows"}
    display.changed.emit(replace(display.screen, slice_notes=asked), frozenset({"slice_notes"}))
    assert (notes.slice_note.text, coronal.text, sagittal.text) == (asked[0], asked[1], "")
    assert coronal.label.x() + coronal.label.width() < coronal.canvas.width()
    workbench.views["coronal"].model.dims.set_point(1, 7.0)
    assert (1, 7.0) in display.reality.slices, "a scroll in any view is known"
    display.changed.emit(display.screen, frozenset({"slice_notes"}))
    assert not any(note.text for note in (notes.slice_note, coronal, sagittal))
    solid = workbench.views["volume"]
    old, new = surface(4), surface(5)
    for displayed in ({"errors": old}, {"errors": new}):
        viewer.dims.set_current_step(0, len(displayed["errors"].faces))  # somebody scrolls
        display.screen = replace(display.screen, surfaces=displayed)
        display.changed.emit(display.screen, frozenset({"surfaces"}))
        assert not any(layer.visible for layer in solid.model.layers), "nothing of the old remains meanwhile"
        qtbot.waitUntil(lambda: any(layer.visible for layer in solid.model.layers), timeout=10_000)
        (layer,) = (layer for layer in solid.model.layers if layer.visible)
        assert len(layer.vertices) == len(displayed["errors"].vertices)
    workbench.arrange("one")
    assert display.reality.planes == () and not notes.slice_notes
    notes.closing()
    workbench.closing()
    display.closing()
    bridge.close()
    layers.close()

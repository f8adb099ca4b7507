"""Orientation letters, conventions, CT windows, dragging, linked planes: in a real window with real events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QWidget

from segexplorer.data.volume import Volume
from segexplorer.frontends.napari import view_menu
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments
from segexplorer.frontends.napari.linked_views import EdgeLetters, LinkedViews, MapCaptions, canvas_in
from segexplorer.frontends.napari.view_menu import ViewMenu
from segexplorer.viewmodels import displayed, layer_images
from tests.frontends.napari.scripted import snapshot


def ct() -> Volume:
    """A CT with a label's worth of bright voxels near its top."""
    array = np.full((20, 24, 28), -50, np.int16)
    array[4:9, 4:9, 20:24] = 300
    return Volume.from_array(array, affine=np.diag([2.0, 2.0, 3.0, 1.0]), modality="CT")


def label() -> Volume:
    return ct().with_array((ct().array > 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("right", "up", "expected"),
    [(0, 0, (-160, 240)), (0, 300, (240, 640)), (0, -150, (-360, 40)), (150, 0, None)],
)
def test_dragging_moves_level_and_width(right: float, up: float, expected: Any) -> None:
    low, high = view_menu.dragged((-160.0, 240.0), right, up)
    if expected is None:
        assert (low + high) / 2 == pytest.approx(40) and high - low == pytest.approx(400 * np.e)
    else:
        assert (low, high) == pytest.approx(expected)


def test_windows_by_name_widen_the_range() -> None:
    viewer = ViewerModel()
    layers = CaseLayers(viewer)
    layer = layers.show(layer_images.image_picture(ct(), "scan"))
    view_menu.apply_window(layer, "lung")
    assert tuple(layer.contrast_limits) == (-1350, 150)
    layers.show(layer_images.label_picture(label(), "label"))
    assert view_menu.image_to_window(viewer) == layer
    viewer.layers.clear()
    assert view_menu.image_to_window(viewer) is None


def test_a_label_of_the_reader_opens_at_its_fullest_slice() -> None:
    viewer = ViewerModel()
    layers = CaseLayers(viewer)
    picture = layer_images.label_picture(label(), "label")
    viewer.add_labels(picture.data, **layer_arguments(picture))
    assert viewer.dims.point[0] == pytest.approx(60.0)  # slices 20 to 23 of 3 mm hold the same: the first
    layers.close()


def test_letters_follow_view_order_and_convention(qtbot: Any) -> None:
    viewer, canvas = ViewerModel(), QWidget()
    qtbot.addWidget(canvas)
    canvas.resize(300, 200)
    canvas.show()
    layers = CaseLayers(viewer)
    letters = EdgeLetters(viewer, canvas, layers)
    assert letters.shown == {}
    layers.show(layer_images.image_picture(ct(), "scan"))
    letters.follow()
    assert letters.shown == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    layers.set_convention("neurological")
    assert letters.shown["left"] == "L"
    viewer.dims.order = (2, 0, 1)
    assert letters.shown == {"left": "P", "right": "A", "top": "S", "bottom": "I"}
    canvas.resize(500, 400)
    assert letters.labels["right"].x() > 450 and letters.labels["bottom"].y() > 350
    viewer.dims.ndisplay = 3
    assert letters.shown == {}
    letters.closing()


def test_captions_say_what_visible_maps_show(qtbot: Any) -> None:
    viewer, canvas = ViewerModel(), QWidget()
    qtbot.addWidget(canvas)
    canvas.resize(300, 200)
    canvas.show()
    layers = CaseLayers(viewer)
    captions = MapCaptions(viewer, canvas)
    layers.show(layer_images.image_picture(ct(), "scan"))
    assert captions.text == ""
    balance = displayed.balance_picture(snapshot(4), 1, key="balance")
    layer = layers.show(replace(balance, caption="liver: case 1, whole case, evaluation mode, step 4"))
    assert captions.text == "liver: case 1, whole case, evaluation mode, step 4"
    layer.name = "renamed by the user"
    layers.show(replace(balance, caption="liver: case 1, whole case, evaluation mode, step 5"))
    assert captions.text.endswith("step 5")
    other = replace(balance, key="patch", caption="liver: case 1, this patch, step 6")
    layers.show(other)
    assert captions.text.splitlines()[1] == "liver: case 1, this patch, step 6"
    layer.visible = False
    assert captions.text == "liver: case 1, this patch, step 6"
    layers.remove("patch")
    assert captions.text == ""
    layer.visible = True
    assert captions.text.endswith("step 5")
    canvas.resize(160, 200)
    captions.follow()
    label = captions.label
    assert label.wordWrap() and label.x() >= 0 and label.x() + label.width() <= canvas.width()
    assert label.height() >= label.heightForWidth(label.width()) > label.fontMetrics().height()
    canvas.resize(900, 200)
    captions.follow()
    assert not label.wordWrap()
    captions.closing()


@pytest.fixture
def shown(viewer: Any) -> Iterator[tuple[Any, CaseLayers, ViewMenu]]:
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(ct(), "scan"))
    menu = ViewMenu(viewer, layers, QWidget())
    menu.attach(viewer.window._qt_window)
    yield viewer, layers, menu
    menu.closing()
    layers.close()


@pytest.mark.gui
def test_the_right_button_drags_level_and_width(shown: Any, qtbot: Any) -> None:
    viewer, layers, _ = shown
    canvas = canvas_in(viewer.window._qt_window)
    assert canvas is not None
    layer, zoom = layers.layer("image"), viewer.scene.camera.zoom
    before = tuple(layer.contrast_limits)
    qtbot.mousePress(canvas, Qt.MouseButton.RightButton, pos=QPoint(100, 100))
    qtbot.mouseMove(canvas, QPoint(130, 100))
    qtbot.mouseMove(canvas, QPoint(160, 100))
    qtbot.mouseRelease(canvas, Qt.MouseButton.RightButton, pos=QPoint(160, 100))
    low, high = layer.contrast_limits
    assert high - low > before[1] - before[0]
    assert (high + low) / 2 == pytest.approx(sum(before) / 2, abs=1)
    assert viewer.scene.camera.zoom == zoom and viewer.scene.camera.mouse_pan


@pytest.mark.gui
def test_the_menu_switches_conventions_windows_and_planes(shown: Any, qtbot: Any) -> None:
    viewer, layers, menu = shown
    assert menu.letters is not None and menu.letters.shown["left"] == "R"
    menu.conventions["neurological"].trigger()
    assert menu.letters.shown["left"] == "L"
    menu.windows["bone"].trigger()
    assert tuple(layers.layer("image").contrast_limits) == (-500, 1300)
    menu.views_action.trigger()
    views = menu.views
    assert isinstance(views, LinkedViews)
    coronal, sagittal = views.panes
    assert coronal.letters is not None and coronal.letters.shown["top"] == "S"
    viewer.dims.set_point(1, 20.0)
    assert coronal.model.dims.point[1] == pytest.approx(20.0)
    sagittal.model.dims.set_point(2, 10.0)
    assert viewer.dims.point[2] == pytest.approx(10.0)
    for where in ((1, 12.0), (2, 22.0), (0, 6.0)):
        viewer.dims.set_point(*where)
    qtbot.wait(50)  # the panes fit their slices into view
    for model, crosshair in (
        (viewer, views.crosshair),
        (coronal.model, coronal.crosshair),
        (sagittal.model, sagittal.crosshair),
    ):
        window = viewer.window._qt_viewer if model is viewer else None
        view = window or next(pane.view for pane in views.panes if pane.model is model)
        assert crosshair is not None and crosshair.position is not None
        crossed = view.canvas._map_canvas2world(crosshair.position, view.canvas.view)
        within = 1.0 / model.scene.camera.zoom
        for axis in model.dims.displayed:
            assert crossed[axis] == pytest.approx(viewer.dims.point[axis], abs=within)
    copy = coronal.model.layers[0]
    assert np.shares_memory(copy.data, layers.layer("image").data)
    layers.layer("image").contrast_limits = (0, 100)
    assert tuple(copy.contrast_limits) == (0, 100)
    painted = layers.show(layer_images.label_picture(label(), "label"))
    assert [len(pane.model.layers) for pane in views.panes] == [2, 2]
    painted.visible = False
    assert not coronal.model.layers[1].visible
    viewer.layers.remove(painted)
    assert len(coronal.model.layers) == 1
    menu.views_action.trigger()
    assert menu.views is None


@pytest.mark.gui
def test_linked_planes_refit_to_other_images_keep_a_zoom_and_remember_their_sizes(
    shown: Any, qtbot: Any
) -> None:
    viewer, layers, menu = shown
    menu.show_views(True)
    coronal = menu.views.panes[0]
    camera = coronal.model.scene.camera
    qtbot.wait(500)  # the docks take their sizes
    fitted = camera.zoom
    camera.zoom = 2 * fitted
    image = layers.layer("image")
    viewer.add_labels(np.zeros(image.data.shape, int), scale=image.scale, translate=image.translate)
    qtbot.wait(80)
    assert camera.zoom == pytest.approx(2 * fitted)
    drawn = [layer.blending for layer in coronal.model.layers]
    assert "translucent" not in drawn  # tests depth, by which layers of one plane hide each other
    viewer.add_image(np.zeros((40, 40, 40)), scale=(10, 10, 10))
    qtbot.wait(80)
    assert camera.zoom < fitted
    menu.views.splitter.setSizes([300, 100])
    kept = menu.views.splitter.sizes()
    assert kept[0] > kept[1]
    menu.show_views(False)
    menu.show_views(True)
    qtbot.wait(80)
    qtbot.wait(300)
    now = menu.views.splitter.sizes()
    assert now[0] / sum(now) == pytest.approx(kept[0] / sum(kept), abs=0.1)
    menu.show_views(False)

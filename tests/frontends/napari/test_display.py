"""Orientation letters, conventions, CT windows, captions, the menu of views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QWidget

from segexplorer.data.volume import Volume
from segexplorer.frontends.napari import mouse, view_menu
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments
from segexplorer.frontends.napari.linked_views import EdgeLetters
from segexplorer.frontends.napari.presenter import Presenter
from segexplorer.frontends.napari.view_menu import ViewMenu
from segexplorer.frontends.napari.workbench import Workbench
from segexplorer.viewmodels import layer_images


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
    low, high = mouse.dragged((-160.0, 240.0), right, up)
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
    assert mouse.image_to_window(viewer) == layer
    viewer.layers.clear()
    assert mouse.image_to_window(viewer) is None


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


@pytest.fixture
def shown(viewer: Any) -> Iterator[tuple[Any, CaseLayers, ViewMenu, Workbench]]:
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(ct(), "scan"))
    workbench = Workbench(viewer, layers, lambda point: None)
    bridge = RunBridge()
    display = Display(viewer, bridge, layers)
    presenter = Presenter(workbench, display, bridge)
    menu = ViewMenu(viewer, layers, QWidget(), workbench, presenter)
    workbench.attach(viewer.window._qt_window)
    yield viewer, layers, menu, workbench
    presenter.closing()
    display.closing()
    workbench.closing()
    layers.close()


@pytest.mark.gui
def test_the_menu_switches_views_conventions_windows_and_panels(shown: Any, qtbot: Any) -> None:
    _, layers, menu, workbench = shown
    assert workbench.letters.shown["left"] == "R"
    menu.conventions["neurological"].trigger()
    assert workbench.letters.shown["left"] == "L"
    menu.windows["bone"].trigger()
    assert tuple(layers.layer("image").contrast_limits) == (-500, 1300)
    menu.layouts["coronal"].trigger()
    assert set(workbench.views) == {"coronal"}
    menu.menu().aboutToShow.emit()
    assert menu.layouts["coronal"].isChecked() and menu.panels_action.isChecked()
    menu.panels_action.trigger()
    assert workbench.folded

"""One, two and four equal views, the mouse over them, and the window around them: with real events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QOpenGLContext, QWheelEvent
from qtpy.QtWidgets import QApplication, QDockWidget

from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.layers import METADATA, CaseLayers
from segexplorer.frontends.napari.linked_views import PlaneView, canvas_in
from segexplorer.frontends.napari.workbench import NAPARI_PANELS, Workbench
from segexplorer.viewmodels import layer_images
from segexplorer.viewmodels.surfaces import SurfacePicture

pytestmark = pytest.mark.gui
SHIFT, LEFT, RIGHT = Qt.KeyboardModifier.ShiftModifier, Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton


def ct() -> Volume:
    array = np.full((20, 24, 28), -50, np.int16)
    array[4:9, 4:9, 20:24] = 300
    return Volume.from_array(array, affine=np.diag([2.0, 2.0, 3.0, 1.0]), modality="CT")


def label() -> Volume:
    return ct().with_array((ct().array > 0).astype(np.uint8))


Shown = tuple[Any, CaseLayers, Workbench, list[Any]]


@pytest.fixture
def shown(viewer: Any, qtbot: Any) -> Iterator[Shown]:
    viewer.window.resize(1000, 700)
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(ct(), "scan"))
    pointed: list[Any] = []
    workbench = Workbench(viewer, layers, pointed.append)
    workbench.attach(viewer.window._qt_window)
    qtbot.wait(50)
    yield viewer, layers, workbench, pointed
    workbench.closing()
    layers.close()


def panels(viewer: Any) -> list[QDockWidget]:
    docks = viewer.window._qt_window.findChildren(QDockWidget)
    return [dock for dock in docks if dock.objectName() in NAPARI_PANELS]


def wheel(canvas: Any, turns: int, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    at = QPointF(canvas.rect().center())
    event = QWheelEvent(
        at,
        QPointF(canvas.mapToGlobal(at.toPoint())),
        QPoint(0, 0),
        QPoint(0, 120 * turns),
        Qt.MouseButton.NoButton,
        modifiers,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def settle(qtbot: Any, window: Any) -> None:
    """Wait until Qt has laid out a window: for half a second nothing of its size has changed."""
    still, before = 0, None
    while still < 10:
        qtbot.wait(50)
        now = (window.size(), window.minimumSizeHint())
        still, before = (still + 1 if now == before else 0), now


def drag(qtbot: Any, canvas: Any, button: Any, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    qtbot.mousePress(canvas, button, modifier, QPoint(60, 60))
    for way in (75, 90, 105):
        # qtbot's move carries no button, by which a drag is known
        _move(canvas, QPointF(way, way), button, modifier)
    qtbot.mouseRelease(canvas, button, modifier, QPoint(105, 105))


def _move(canvas: Any, at: QPointF, button: Any, modifier: Any) -> None:
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QMouseEvent

    where = QPointF(canvas.mapToGlobal(at.toPoint()))
    QApplication.sendEvent(
        canvas, QMouseEvent(QEvent.Type.MouseMove, at, where, Qt.MouseButton.NoButton, button, modifier)
    )


def test_four_views_are_equal_and_never_make_the_window_grow(shown: Shown, qtbot: Any) -> None:
    viewer, layers, workbench, _ = shown
    layers.show(layer_images.label_picture(label(), "label"))
    window = viewer.window._qt_window
    settle(qtbot, window)
    before, size = window.minimumSizeHint(), window.size()
    workbench.arrange("four")
    settle(qtbot, window)
    cells = [view.parentWidget().size() for view in workbench.views.values()]
    cells.append(workbench.letters.canvas.parentWidget().parentWidget().parentWidget().size())
    assert len(cells) == 4
    assert max(c.width() for c in cells) - min(c.width() for c in cells) <= 1
    assert max(c.height() for c in cells) - min(c.height() for c in cells) <= 1
    assert workbench.views["volume"].model.dims.ndisplay == 3
    assert len(workbench.views["volume"].model.layers) == 1, "the label alone"
    workbench.arrange("one")
    settle(qtbot, window)
    after = window.minimumSizeHint()
    assert after.height() <= before.height() and after.width() <= before.width()
    assert window.size() == size


def test_another_surface_in_the_3d_view_keeps_its_layer_and_where_it_is_seen_from(
    shown: Shown, qtbot: Any
) -> None:
    workbench = shown[2]
    workbench.arrange("volume")
    volume = workbench.views["volume"]
    corners = np.array([[0, 0, 0], [0, 0, 20], [0, 20, 0], [20, 0, 0], [20, 20, 20]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 2, 3], [2, 3, 4]], np.int32)

    def surface(count: int) -> SurfacePicture:
        colours = np.full((count, 4), count / 5, np.float32)
        return SurfacePicture(
            "surface/errors", "errors", "errors", corners[:count], faces[: count - 1], colours
        )

    volume.show_surfaces([surface(4)])
    qtbot.wait(100)
    (layer,) = volume.model.layers
    volume.model.scene.camera.angles = (10, 20, 30)
    volume.model.scene.camera.zoom = 5.0
    volume.show_surfaces([surface(5)])
    qtbot.wait(50)
    assert list(volume.model.layers) == [layer] and len(layer.vertices) == len(layer.vertex_colors) == 5
    assert np.allclose(volume.model.scene.camera.angles, (10, 20, 30)) and volume.model.scene.camera.zoom == 5
    volume.show_surfaces([])
    assert list(volume.model.layers) == [layer] and not layer.visible, "another class's comes in a moment"
    # until the surfaces of another class are there, errors do not come as labels, which takes far longer
    errors = np.zeros((6, 6, 6), np.uint8)
    shown[0].add_labels(errors, metadata={METADATA: {"key": "errors"}})
    shown[0].add_labels(errors, metadata={METADATA: {"key": "balance", "colours": "map"}})
    assert list(volume.model.layers) == [layer] and not layer.visible
    shown[0].add_labels(errors, name="of the user")
    assert [seen.name for seen in volume.model.layers if seen.visible] == ["of the user"]
    volume.show_surfaces([surface(4)])
    assert list(volume.model.layers) == [layer] and layer.visible


@pytest.mark.parametrize("where", ["main", "volume"])
def test_labels_may_come_while_the_mouse_rests_over_a_view_in_3d(
    shown: Shown, qtbot: Any, where: str
) -> None:
    viewer, layers, workbench, _ = shown
    workbench.arrange("volume")
    model = viewer if where == "main" else workbench.views["volume"].model
    viewer.layers.selection.clear()
    model.mouse_over_canvas = True
    model.dims.ndisplay = 3  # by a key: the mouse has not moved since
    layers.show(layer_images.label_picture(label(), "label"))
    qtbot.wait(50)
    names = [layer.name for layer in model.layers]
    assert any("label" in name for name in names)
    layers.remove(next(iter(layers.keys)))
    assert len(viewer.layers) == 1


def test_what_a_layer_had_on_the_gpu_is_freed_in_the_context_of_its_canvas(shown: Shown, qtbot: Any) -> None:
    viewer, layers, workbench, _ = shown
    workbench.arrange("four")
    layers.show(layer_images.label_picture(label(), "label"))
    qtbot.wait(200)  # until all is drawn
    main = canvas_in(viewer.window._qt_window.centralWidget())
    views = {"main": (viewer, main)}
    views |= {name: (view.model, view.canvas) for name, view in workbench.views.items()}
    current: dict[str, bool] = {}
    for name, (model, canvas) in views.items():

        def look(_: Any = None, name: str = name, canvas: Any = canvas) -> None:
            current[name] = QOpenGLContext.currentContext() == canvas.context()

        model.layers.events.removing.connect(look)
    layers.remove("label")
    assert current == dict.fromkeys(views, True)


def test_views_share_one_point_and_say_where_they_are(shown: Shown, qtbot: Any) -> None:
    viewer, layers, workbench, _ = shown
    assert workbench.number.text == f"Axial {viewer.dims.current_step[0]} / 27"
    workbench.arrange("four")
    qtbot.wait(100)
    coronal, sagittal = workbench.views["coronal"], workbench.views["sagittal"]
    assert coronal.letters.shown["top"] == "S" and sagittal.letters.shown["left"] == "A"
    viewer.dims.set_point(1, 20.0)
    assert coronal.model.dims.point[1] == pytest.approx(20.0)
    assert coronal.number.text.endswith("10 / 23")
    sagittal.model.dims.set_point(2, 10.0)
    assert viewer.dims.point[2] == pytest.approx(10.0)
    viewer.dims.set_point(range(3), (6.0, 12.0, 22.0))
    main = viewer.window._qt_viewer
    for model, view, crosshair in (
        (viewer, main, workbench.crosshair),
        (coronal.model, coronal.view, coronal.crosshair),
        (sagittal.model, sagittal.view, sagittal.crosshair),
    ):
        assert crosshair.position is not None
        crossed = view.canvas._map_canvas2world(crosshair.position, view.canvas.view)
        for axis in model.dims.displayed:
            assert crossed[axis] == pytest.approx(viewer.dims.point[axis], abs=1.0 / model.scene.camera.zoom)
    copy = coronal.model.layers[0]
    assert np.shares_memory(copy.data, layers.layer("image").data)
    layers.layer("image").contrast_limits = (0, 100)
    assert tuple(copy.contrast_limits) == (0, 100)
    painted = layers.show(layer_images.label_picture(label(), "label"))
    assert len(coronal.model.layers) == len(sagittal.model.layers) == 2
    painted.visible = False
    assert not coronal.model.layers[1].visible
    viewer.layers.move(1, 0)
    assert type(coronal.model.layers[0]).__name__ == "Labels"
    viewer.layers.remove(painted)
    assert len(coronal.model.layers) == 1 and coronal.model.layers[0] is copy
    workbench.arrange("one")
    assert workbench.views == {} and workbench.crosshair is None


def test_slices_are_those_of_the_case_though_a_scan_of_another_is_hidden(shown: Shown, qtbot: Any) -> None:
    viewer, _, workbench, _ = shown
    other = viewer.add_image(np.zeros((200, 9, 9)), scale=(1, 1, 1), translate=(-90, 0, 0))
    other.visible = False
    assert viewer.dims.nsteps[0] > 100, "napari's own slider goes through all layers"
    assert workbench.number.text.endswith("/ 27")
    main = canvas_in(viewer.window._qt_window.centralWidget())
    viewer.dims.set_point(0, 30.0)
    assert workbench.number.text == "Axial 10 / 27"
    wheel(main, 1)
    assert viewer.dims.point[0] == pytest.approx(33.0) and workbench.number.text == "Axial 11 / 27"
    workbench.arrange("coronal")
    assert workbench.views["coronal"].number.text.endswith("/ 23")
    workbench.arrange("one")
    viewer.dims.set_point(0, -60.0)
    assert workbench.number.text == "Axial: outside the image"
    other.visible, viewer.layers[0].visible = True, False
    assert workbench.number.text == "Axial 30 / 199"


def test_each_view_fits_at_once_and_keeps_its_zoom(shown: Shown, qtbot: Any) -> None:
    viewer, layers, workbench, _ = shown
    workbench.arrange("coronal")
    qtbot.wait(100)
    coronal = workbench.views["coronal"]
    camera, main = coronal.model.scene.camera, viewer.scene.camera
    assert coronal.fit.ratio == pytest.approx(1)
    wide = main.zoom
    camera.zoom *= 2
    viewer.add_labels(
        np.zeros(layers.layer("image").data.shape, int),
        scale=layers.layer("image").scale,
        translate=layers.layer("image").translate,
    )
    qtbot.wait(80)
    assert coronal.fit.ratio == pytest.approx(2)
    workbench.arrange("four")
    qtbot.wait(150)
    assert coronal.fit.ratio == pytest.approx(2)
    assert main.zoom < wide, "napari's own view fits its smaller canvas"
    fitted = camera.zoom
    viewer.add_image(np.zeros((40, 40, 40)), scale=(10, 10, 10))
    qtbot.wait(80)
    assert camera.zoom < fitted
    drawn = [layer.blending for layer in coronal.model.layers]
    assert "translucent" not in drawn  # tests depth, by which layers of one plane hide each other


def test_the_mouse_works_as_in_slicers_and_keeps_naparis_gestures(shown: Shown, qtbot: Any) -> None:
    viewer, layers, workbench, pointed = shown
    workbench.arrange("four")
    qtbot.wait(100)
    main = canvas_in(viewer.window._qt_window.centralWidget())
    coronal = workbench.views["coronal"]
    assert isinstance(coronal, PlaneView) and main is not None
    viewer.dims.set_point(range(3), (30.0, 20.0, 20.0))
    zoom = viewer.scene.camera.zoom
    wheel(main, 1)
    assert viewer.dims.current_step[0] == 11 and viewer.scene.camera.zoom == zoom
    wheel(coronal.canvas, -1)
    assert viewer.dims.current_step[1] == 9 and coronal.fit.ratio == pytest.approx(1)
    before = viewer.dims.current_step[0]
    wheel(main, 1, Qt.KeyboardModifier.ControlModifier)  # napari's own
    assert abs(viewer.dims.current_step[0] - before) == 1
    qtbot.mouseClick(coronal.canvas, LEFT, pos=coronal.canvas.rect().center() + QPoint(20, 10))
    moved = viewer.dims.point
    zoomed = coronal.model.scene.camera.zoom
    centre = coronal.model.scene.camera.center
    assert moved[2] == pytest.approx(centre[2] - 20 / zoomed, abs=2)
    assert moved[0] == pytest.approx(centre[1] - 10 / zoomed, abs=3)
    image = layers.layer("image")
    limits, point, centre = tuple(image.contrast_limits), viewer.dims.point, viewer.scene.camera.center
    drag(qtbot, main, LEFT, SHIFT)
    low, high = image.contrast_limits
    assert high - low > limits[1] - limits[0] and viewer.scene.camera.center == centre

    def moves() -> bool:
        drag(qtbot, main, LEFT)
        return bool(viewer.scene.camera.center != centre)

    qtbot.waitUntil(moves)
    assert viewer.dims.point == point
    limits, zoom = tuple(image.contrast_limits), viewer.scene.camera.zoom

    def zooms() -> bool:
        drag(qtbot, main, RIGHT)
        return bool(viewer.scene.camera.zoom != zoom)

    qtbot.waitUntil(zooms)
    assert tuple(image.contrast_limits) == limits
    qtbot.mouseMove(coronal.canvas, QPoint(50, 50))
    assert pointed and len(pointed[-1]) == 3


def test_the_mouse_is_naparis_where_a_tool_has_it_or_no_case_is_shown(shown: Shown, qtbot: Any) -> None:
    viewer, layers, _, _ = shown
    main = canvas_in(viewer.window._qt_window.centralWidget())
    painted = layers.show(layer_images.label_picture(label(), "label"))
    viewer.layers.selection.active = painted
    painted.mode = "pick"
    point = viewer.dims.point
    qtbot.mouseClick(main, LEFT, pos=QPoint(100, 100))
    assert viewer.dims.point == point
    layers.clear()
    viewer.add_image(np.zeros((8, 9, 10)))
    qtbot.wait(200)  # until it is drawn
    zoom, step = viewer.scene.camera.zoom, viewer.dims.current_step
    wheel(main, 1)
    qtbot.waitUntil(lambda: viewer.scene.camera.zoom != zoom)
    assert viewer.dims.current_step == step


def test_panels_of_napari_fold_and_come_back_as_they_were(shown: Shown, qtbot: Any) -> None:
    viewer, _, workbench, _ = shown
    docks = panels(viewer)
    assert len(docks) == len(NAPARI_PANELS)
    docks[0].hide()  # the user's own choice
    qtbot.wait(50)
    widths = [dock.width() for dock in docks if dock.isVisible()]
    workbench.fold(True)
    assert workbench.folded and not any(dock.isVisible() for dock in docks)
    workbench.fold(False)
    qtbot.wait(50)
    assert [dock.isVisible() for dock in docks] == [False, True]
    assert [dock.width() for dock in docks if dock.isVisible()] == widths


def test_closing_gives_the_window_back(viewer: Any, qtbot: Any) -> None:
    window = viewer.window._qt_window
    corner = window.corner(Qt.Corner.BottomRightCorner)
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(ct(), "scan"))
    workbench = Workbench(viewer, layers, lambda point: None)
    workbench.attach(window)
    assert window.corner(Qt.Corner.BottomRightCorner) == Qt.DockWidgetArea.RightDockWidgetArea
    workbench.arrange("four")
    workbench.fold(True)
    callbacks = len(viewer.mouse_drag_callbacks)
    workbench.closing()
    qtbot.wait(100)
    assert window.corner(Qt.Corner.BottomRightCorner) == corner
    assert window.centralWidget().layout().count() == 1
    assert viewer.window._qt_viewer.parentWidget() is window.centralWidget()
    assert viewer.window._qt_viewer.isVisible() and all(dock.isVisible() for dock in panels(viewer))
    assert len(viewer.mouse_drag_callbacks) < callbacks
    layers.close()

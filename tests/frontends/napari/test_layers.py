"""The picture of a case: where things lie, what they are called, and that the user's viewer is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments, volume_from_layer
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import layer_images, watched_case

LPS = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 40], [0, 0, 4.0, -50], [0, 0, 0, 1]])


def scan(modality: str = "CT") -> Volume:
    array = np.random.default_rng(0).normal(0, 300, (5, 6, 7)).astype(np.float32)
    return Volume.from_array(array, affine=LPS, modality=modality)  # type: ignore[arg-type]


def snapshot(step: int = 10, **changes: Any) -> WatchedSnapshot:
    truth = np.zeros((5, 6, 7), np.uint8)
    truth[1:3, 1:4, 4] = 1
    truth[4, 4, 2] = 2
    prediction = np.roll(truth, 1, axis=0)
    values = {
        "alpha": np.array([[0.5, 0.5], [0.7, np.nan], [0.5, 0.5]], np.float32),
        "beta": np.array([[0.5, 0.5], [0.3, np.nan], [0.5, 0.5]], np.float32),
        "fp": np.array([[0, 0], [9, np.nan], [1, 0]], np.float32),
        "fn": np.array([[0, 0], [3, np.nan], [1, 0]], np.float32),
    }
    report = RegionReport(values, ((0, 3, 5), (0, 6), (0, 7)))
    canonical = np.diag([2.0, 3.0, 4.0, 1.0])
    given: dict[str, Any] = {
        "case": "case 1", "role": "validation", "step": step, "index": 0, "class_names": ("liver", "lesion"),
        "affine": LPS, "prediction": prediction, "truth": truth, "regions": report,
        "regions_affine": canonical,
    }  # fmt: skip
    return WatchedSnapshot(**(given | changes))


@pytest.fixture
def model() -> ViewerModel:
    return ViewerModel()


def test_a_voxel_lies_where_the_scanner_put_it(model: ViewerModel) -> None:
    volume = scan()
    layer = CaseLayers(model).show(layer_images.image_picture(volume, "scan"))
    voxel = (1, 2, 3)
    right, anterior, superior = (volume.affine @ [*voxel, 1])[:3]
    assert layer.get_value((superior, anterior, right), world=True) == pytest.approx(volume.array[voxel])


def test_every_layer_has_the_same_units_and_axes(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    shown = snapshot()
    for picture in (
        layer_images.image_picture(scan(), "scan"),
        watched_case.prediction_picture(shown),
        watched_case.errors_picture(shown),
        watched_case.balance_picture(shown, 1),
    ):
        layers.show(picture)
    assert {tuple(map(str, layer.units)) for layer in model.layers} == {("millimeter",) * 3}
    assert {tuple(layer.axis_labels) for layer in model.layers} == {("z", "y", "x")}
    assert layers.keys == ("image", "prediction", "errors", "balance/liver")


def test_ct_opens_in_a_window_and_mr_by_percentiles() -> None:
    assert layer_images.display_limits(scan("CT"))[0] == (-160.0, 240.0)
    assert layer_images.display_limits(scan("CT"), "lung")[0] == (-1350.0, 150.0)
    low, high = layer_images.display_limits(scan("MR"))[0]
    assert low == pytest.approx(np.percentile(scan().array, 0.5)) and high > low
    with pytest.raises(DataError, match="no display window 'liver'"):
        layer_images.display_limits(scan(), "liver")


def test_labels_name_their_classes_and_keep_their_colours(model: ViewerModel) -> None:
    array = np.zeros((5, 6, 7), np.int16)
    array[:2] = 5
    picture = layer_images.label_picture(Volume.from_array(array, affine=LPS), "label", {5: "liver"})
    layer = CaseLayers(model).show(picture)
    assert dict(zip(layer.features["index"], layer.features["class"], strict=True)) == {
        0: "background",
        5: "liver",
    }
    assert layer.get_color(5)[:3] == pytest.approx(
        colours.rgba(colours.ClassColours().colour(1))[:3], abs=0.01
    )


def test_opens_at_the_slice_with_most_label(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    picture = watched_case.prediction_picture(snapshot())
    layers.show(picture)
    layers.open_at(picture)
    assert picture.open_at == 4
    assert model.dims.current_step[0] == 4


def test_a_chosen_class_opens_where_it_was_predicted_or_where_it_was_missed() -> None:
    shown = snapshot()
    assert watched_case.prediction_picture(shown, 2).open_at == 2
    missed = replace(shown, prediction=np.where(shown.prediction == 2, 0, shown.prediction).astype(np.uint8))
    assert watched_case.prediction_picture(missed, 2).open_at == 2
    unknown = replace(missed, truth=None)
    assert watched_case.prediction_picture(unknown, 2).open_at is None


def test_updates_assign_and_never_make_a_second_layer(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    layer = layers.show(watched_case.prediction_picture(snapshot(10)))
    layer.opacity = 0.2
    later = watched_case.prediction_picture(snapshot(20, prediction=np.full((5, 6, 7), 2, np.uint8)))
    assert layers.offer(later) is layer
    assert len(model.layers) == 1 and (layer.data == 2).all()
    assert layer.opacity == 0.2
    assert layer.name == "prediction (case 1, not trained on, step 20)"


def test_a_name_that_the_user_gave_stays(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    layer = layers.show(watched_case.prediction_picture(snapshot(10)))
    layer.name = "mine"
    layers.offer(watched_case.prediction_picture(snapshot(20)))
    assert layer.name == "mine"


def test_a_deleted_layer_stays_deleted_until_it_is_asked_for(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    layers.show(watched_case.prediction_picture(snapshot(10)))
    model.layers.clear()
    assert layers.offer(watched_case.prediction_picture(snapshot(20))) is None
    layers.set_visible("prediction", False)
    layers.remove("nothing")
    assert len(model.layers) == 0
    layers.show(watched_case.prediction_picture(snapshot(30)))
    assert layers.keys == ("prediction",)


def test_orientation_is_radiological_and_goes_back(model: ViewerModel) -> None:
    before = model.scene.camera.orientation
    layers = CaseLayers(model)
    layers.show(layer_images.image_picture(scan(), "scan"))
    assert tuple(map(str, model.scene.camera.orientation)) == ("away", "up", "left")
    layers.set_convention("neurological")
    assert tuple(map(str, model.scene.camera.orientation)) == ("towards", "up", "right")
    model.layers.clear()
    assert model.scene.camera.orientation == before


def test_errors_have_their_codes_and_balance_hides_what_the_loss_skips(model: ViewerModel) -> None:
    layers = CaseLayers(model)
    errors = layers.show(watched_case.errors_picture(snapshot()))
    assert set(np.unique(errors.data)) == {0, 2, 3}
    assert errors.get_color(2)[:3] == pytest.approx(colours.rgba("#D55E00")[:3], abs=0.01)
    picture = watched_case.balance_picture(snapshot(), 1)
    assert picture.open_at is not None and picture.data[picture.open_at].any()
    balance = layers.show(picture)
    assert isinstance(balance, Labels), "labels are never interpolated"
    shown = balance.data[0, 0]
    assert (shown[:3] == shown[0]).all() and (shown[3:] == 0).all()
    assert (
        dict(zip(balance.features["index"], balance.features["class"], strict=True))[shown[0]]
        == "balance 0.47"
    )
    drawn = balance.get_color(int(shown[0]))
    between = (colours.rgba(colours.NEUTRAL)[0] + colours.rgba(colours.EXTRA_PREVAILS)[0]) / 2
    assert drawn[0] == pytest.approx(between, abs=0.02) and drawn[3] == 1
    assert balance.get_color(0) is None or balance.get_color(0)[3] == 0
    layers.show(watched_case.balance_picture(snapshot(), 1, "alpha"))
    assert len(model.layers) == 2


def test_a_patch_is_shown_where_it_was() -> None:
    report = snapshot().regions
    assert report is not None
    patch = PatchSnapshot(
        case="case 1",
        step=3,
        origin=(2, 0, 1),
        shape=(5, 6, 7),
        affine=np.diag([2.0, 3, 4, 1]),
        case_shape=(20, 20, 20),
        case_affine=np.diag([2.0, 3, 4, 1]),
        regions=report,
        class_names=("liver", "lesion"),
    )
    picture = watched_case.patch_picture(patch, 2)
    assert picture.translate == (4.0, 0.0, 4.0)
    assert "lesion" in picture.name and "step 3" in picture.name


def test_what_cannot_be_shown_is_said() -> None:
    with pytest.raises(DataError, match="no label"):
        watched_case.errors_picture(snapshot(truth=None))
    with pytest.raises(DataError, match="no regions"):
        watched_case.balance_picture(snapshot(regions=None), 1)


@pytest.mark.parametrize("sort", ["image", "labels"])
def test_a_volume_comes_back_from_its_layer_unchanged(sort: str) -> None:
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    oblique = LPS.copy()
    oblique[:3, :3] = oblique[:3, :3] @ np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    volume = Volume.from_array(array, affine=oblique)
    make = layer_images.image_picture if sort == "image" else layer_images.label_picture
    picture = make(volume, "v")
    cls = Image if sort == "image" else Labels
    back = volume_from_layer(cls(picture.data, **layer_arguments(picture)))
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, oblique)


def test_a_foreign_layer_gives_its_affine_by_four_points() -> None:
    layer = Image(
        np.zeros((3, 4, 5)), scale=(4, 3, 2), translate=(-50, 40, 30), rotate=(0, 0, 90), name="foreign"
    )
    volume = volume_from_layer(layer)
    for index in ((0, 0, 0), (2, 3, 4)):
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], layer.data_to_world(index)[::-1])
    micrometres = volume_from_layer(Image(np.zeros((3, 4, 5)), scale=(500,) * 3, units="um"))
    assert micrometres.spacing == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Image(np.zeros((4, 5)), name="a"), "single slice"),
        (Image(np.zeros((2, 3, 4, 5)), name="a"), "4D"),
        (Image(np.zeros((3, 4, 5, 3)), rgb=True, name="a"), "colour"),
        (Points(np.zeros((1, 3)), name="a"), "points"),
    ],
)
def test_what_is_no_volume_is_refused_with_a_remedy(layer: Any, text: str) -> None:
    with pytest.raises(DataError, match=text) as told:
        volume_from_layer(layer)
    assert told.value.remedy


@pytest.mark.gui
def test_the_screen_shows_right_on_the_left_anterior_up_and_nothing_where_the_loss_skips(
    viewer: Any, qapp: Any
) -> None:
    layers = CaseLayers(viewer)
    layers.show(layer_images.image_picture(Volume.from_array(np.zeros((20, 20, 20), np.float32)), "black"))
    report = RegionReport(
        {
            "fp": np.array([[0, 0, 0, 0], [np.nan, np.nan, np.nan, 1000]], np.float32),
            "fn": np.array([[0, 0, 0, 0], [np.nan, np.nan, np.nan, 0]], np.float32),
        },
        ((0, 10, 20), (0, 10, 20), (0, 20)),
    )
    shown = snapshot(
        affine=np.eye(4), regions=report, regions_affine=np.eye(4), prediction=np.zeros((20,) * 3, np.uint8)
    )
    layers.show(watched_case.balance_picture(shown, 1)).opacity = 1.0  # the right anterior quarter, extra
    viewer.reset_view()
    qapp.processEvents()
    picture = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    red = np.argwhere((picture[..., 0] > 150) & (picture[..., 2] < 80))  # gold
    height, width = picture.shape[:2]
    assert red.size and red[:, 0].max() <= height / 2 + 2 and red[:, 1].max() <= width / 2 + 2
    assert (picture[height * 3 // 4, width // 2 + 20, :3] == 0).all()


def test_one_volume_of_a_layer_with_several_is_taken_where_it_is() -> None:
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    layer = Image(frames, scale=(1, 3, 2, 2), translate=(0, 10, 20, 30), units=("pixel", "mm", "mm", "mm"))
    volume = volume_from_layer(layer, frame=1)
    assert np.array_equal(volume.array, frames[1])
    corner = volume.affine @ [2, 0, 0, 1]  # the array is (z, y, x): two slices up
    assert corner[:3] == pytest.approx([30, 20, 16])
    with pytest.raises(DataError, match="4D"):
        volume_from_layer(layer)


@pytest.mark.gui
def test_errors_are_seen_over_a_label_of_the_users_own(viewer: Any, qtbot: Any) -> None:
    truth = np.zeros((16, 16, 16), np.uint8)
    truth[2:6, 2:14, 2:14] = 1
    surplus = np.zeros_like(truth)
    surplus[8:14, 2:14, 2:14] = 1
    shown = snapshot(prediction=surplus, truth=truth, class_names=("liver",), regions=None)
    layers = CaseLayers(viewer)
    own = Volume.from_array(truth, affine=shown.affine)
    layers.show(layer_images.image_picture(own.with_array(np.zeros(own.shape, np.int16)), "scan"))
    label = layer_images.label_picture(own, "label of the user")
    viewer.add_labels(label.data, **layer_arguments(label))
    layers.show(watched_case.errors_picture(shown, key="errors"))
    # with depth, whether they are seen hangs on rounding: a CT with 61 labels hid them all
    assert layers.layer("errors").blending == "translucent_no_depth"
    viewer.dims.set_current_step(0, 8)
    viewer.reset_view()
    qtbot.wait(200)
    canvas = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    vermillion = (canvas[..., 0] > canvas[..., 2] + 60) & (canvas[..., 1] < canvas[..., 0] - 30)
    blue = canvas[..., 2] > canvas[..., 0] + 60
    assert vermillion.mean() > 0.05, "what is surplus is seen where the label has nothing"
    assert blue.mean() > 0.05, "and what was missed over the label"

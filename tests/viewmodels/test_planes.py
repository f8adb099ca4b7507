"""Scenes of planes: the colours of the window at the right place, whatever was cut away before sending."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.data.volume import Volume
from segexplorer.viewmodels.errors import Code
from segexplorer.viewmodels.layer_images import Picture, image_picture, label_picture, picture_of
from segexplorer.viewmodels.outlines import Outlines
from segexplorer.viewmodels.planes import (
    PlaneLayer,
    PlaneLines,
    Scene,
    View,
    compact,
    image_layer,
    outline_lines,
    overlay,
    render,
    segments,
)

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def image(array: NDArray[np.float32], affine: NDArray[np.float64] = AFFINE) -> Picture:
    made = image_picture(Volume.from_array(array, affine=affine), "image")
    return replace(made, contrast_limits=(0.0, 255.0))


def red_green_blue(colour: str) -> list[int]:
    return [round(255 * c) for c in colours.rgba(colour)[:3]]


def test_the_patients_right_is_on_the_left_unless_neurological() -> None:
    array = np.zeros((6, 5, 4), np.float32)
    array[-1] = 255  # x grows to the patient's right
    scene = Scene((image_layer(image(array)),))
    view = View.of(scene, "axial", most=12)
    drawn = render(scene, view, scene.middle)
    assert drawn[:, 0].min() == 255 and drawn[:, -1].max() == 0
    assert scene.letters("axial").left == "R"
    other = replace(scene, neurological=True)
    drawn = render(other, View.of(other, "axial", most=12), scene.middle)
    assert drawn[:, -1].min() == 255 and other.letters("axial").left == "L"


def test_head_is_up_and_slices_are_where_their_millimetres_are() -> None:
    array = np.zeros((6, 5, 4), np.float32)
    array[:, :, -1] = 255
    scene = Scene((image_layer(image(array)),))
    coronal = render(scene, View.of(scene, "coronal", most=12), scene.middle)
    assert coronal[0].min() == 255 and coronal[-1].max() == 0
    axial = View.of(scene, "axial", most=12)
    assert render(scene, axial, (12.0, 0, 0)).max() == 255 and render(scene, axial, (8.0, 0, 0)).max() == 0
    assert axial.size[0] / axial.size[1] == pytest.approx(15 / 12, abs=0.1)


def test_limits_of_grey_are_black_and_white_and_what_is_no_number_is_black() -> None:
    array = np.array([-50.0, 0, 100, 200, 900, np.nan], np.float32).reshape(1, 1, 6)
    layer = image_layer(replace(image(array), contrast_limits=(0.0, 200.0)))
    assert layer.data.ravel().tolist() == [0, 0, 127, 255, 255, 0]


def test_overlays_are_cut_to_what_is_in_them_and_drawn_where_they_were() -> None:
    codes = np.zeros((8, 8, 8), np.uint8)
    codes[5, 2, 3] = Code.FALSE_POSITIVE
    errors = picture_of(
        "errors",
        "labels",
        "errors",
        Volume.from_array(codes, affine=AFFINE),
        values={2: "extra"},
        colours="errors",
    )
    layer = overlay(errors)
    assert isinstance(layer, PlaneLayer) and layer.data.size == 1
    scene = Scene((image_layer(image(np.zeros((8, 8, 8), np.float32))), layer))
    view = View.of(scene, "axial", most=240)
    drawn = render(scene, view, (12.0, 6.0, 10.0))
    row, column = view.pixel((12.0, 6.0, 10.0))
    wanted = [round(0.75 * c) for c in red_green_blue(colours.FALSE_POSITIVE)]
    assert np.abs(drawn[int(row), int(column)].astype(int) - wanted).max() <= 1
    covered = (drawn.sum(axis=2) > 0).mean()
    assert covered == pytest.approx(1 / 64, rel=0.1)
    assert render(scene, view, (16.0, 6.0, 10.0)).max() == 0


def test_labels_have_the_colours_of_their_classes_also_beyond_a_byte() -> None:
    array = np.zeros((3, 3, 3), np.int32)
    array[0], array[2] = 7, 900
    picture = label_picture(Volume.from_array(array, affine=np.eye(4)), "label", {7: "liver", 900: "kidney"})
    layer = overlay(compact(picture))
    assert isinstance(layer, PlaneLayer)
    drawn = {tuple(layer.table[value, :3]) for value in np.unique(layer.data) if layer.table[value, 3]}
    assert drawn == {tuple(red_green_blue(colours.CLASSES[i])) for i in (0, 1)}


def test_a_map_of_the_loss_has_its_colours_and_nothing_where_nothing_is_asked() -> None:
    values = np.zeros((4, 4, 4), np.float32)
    values[0, 0, 0], values[3, 3, 3] = 2.0, -1.0
    pull = picture_of(
        "pull",
        "image",
        "pull",
        Volume.from_array(values, affine=np.eye(4)),
        contrast_limits=(-2.0, 2.0),
        colours="pull",
    )
    layer = overlay(pull)
    assert isinstance(layer, PlaneLayer)
    more, less, none = (layer.table[layer.data[p, p, p]] for p in (0, 3, 1))
    assert none[3] == 0 and more[3] == 255 and more[1] > more[0] and less[0] > less[2]


def test_lines_lie_on_the_same_faces_as_those_of_the_window() -> None:
    random = np.random.default_rng(0)
    truth, prediction = (random.integers(0, 2, (4, 5, 6)).astype(np.uint8) for _ in range(2))
    outlines = Outlines(truth, prediction, None, (4.0, 3.0, 2.0), (1.0, 2.0, 3.0))
    lines = outline_lines(outlines)
    base = PlaneLayer(
        "image", np.zeros_like(truth), np.zeros((256, 4), np.uint8), (4.0, 3.0, 2.0), (1.0, 2.0, 3.0)
    )
    scene = Scene((base,), (lines,))
    for plane, axis in (("axial", 0), ("coronal", 1), ("sagittal", 2)):
        view = View.of(scene, plane, most=60)  # type: ignore[arg-type]
        place = [1.0 + 4 * 1, 2.0 + 3 * 1, 3.0 + 2 * 1]
        found = segments(lines, view, place)
        wanted = outlines.lines(axis, 1)
        for name, ends in wanted.items():
            long = np.abs(np.diff(ends, axis=1)).sum()
            ink = {"correct": colours.TRUE_POSITIVE, "truth": "#FFFFFF", "prediction": "#1A1A1A"}[name]
            pixels = np.abs(np.diff(found[ink], axis=1)) * [abs(view.right), abs(view.down)]
            assert pixels.sum() == pytest.approx(long, rel=1e-4)


def test_over_a_map_a_prediction_is_its_rims() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    picture = picture_of(
        "prediction",
        "labels",
        "prediction",
        Volume.from_array(labels, affine=np.eye(4)),
        values={1: "liver"},
        colours="classes",
    )
    lines = overlay(replace(picture, form="outline"))
    assert isinstance(lines, PlaneLines)
    scene = Scene((image_layer(image(np.zeros((5, 5, 5), np.float32), np.eye(4))),), (lines,))
    found = segments(lines, View.of(scene, "axial", most=50), (1.0, 0, 0))
    assert list(found) == [colours.CLASSES[0]] and len(found[colours.CLASSES[0]]) == 8
    assert segments(lines, View.of(scene, "axial", most=50), (4.0, 0, 0)) == {}

"""Elastic deformation, and slices that stay in their plane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import SpecError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.transforms import Augmentation, Variation, draw
from segexplorer.data.transforms.distance_maps import SIGNED, as_numbers, stored_map
from segexplorer.data.transforms.elastic import DrawnElastic, Elastic

SHAPE = (28, 24, 20)
ELASTIC_ALONE = {"placement": {"probability": 0}, "shading": {"probability": 0}}


def spec(**elastic: float) -> Augmentation:
    return Augmentation.of({**ELASTIC_ALONE, "elastic": {"probability": 1, **elastic}})


def ball(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    centre = (np.asarray(shape) - 1) / 2
    away = np.linalg.norm(np.indices(shape).T - centre, axis=-1).T
    return (away <= 6).astype(np.uint8)


def test_it_is_off_unless_asked_for_and_then_draws_nothing() -> None:
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    variation = draw(Augmentation(), one, SHAPE)
    assert variation.elastic is None
    assert Elastic().draw(two, SHAPE, (1, 1, 1)) is None
    assert two.random() == np.random.default_rng(0).random(), "numbers were drawn that others count on"


def test_no_displacement_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    image, label = rng.normal(size=(2, *SHAPE)).astype(np.float32), rng.integers(0, 4, SHAPE, np.uint8)
    drawn = draw(spec(displacement=0), rng, (10, 12, 8))
    assert drawn.elastic is not None
    pixels, indices = drawn.patch(image, label, (3, -2, 4), (10, 12, 8))
    still = Variation((False, False, False), None, None)
    expected = still.patch(image, label, (3, -2, 4), (10, 12, 8))
    assert np.array_equal(pixels, expected[0]) and np.array_equal(indices, expected[1])


def test_equal_generators_give_equal_deformations() -> None:
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    first, again, other = (
        draw(spec(), np.random.default_rng(s), SHAPE).patch(image, ball(), (0, 0, 0), SHAPE)[0]
        for s in (5, 5, 6)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("turned", [False, True])
def test_image_label_and_maps_move_together(turned: bool) -> None:
    label = ball()
    asked = spec(displacement=4, distance=10)
    if turned:
        asked = Augmentation.of(
            {**asked.plain(), "placement": {"probability": 1}, "flips": {"left_right": 1}}
        )
    distances = stored_map(SIGNED, label, 2, (1, 1, 1))
    shape = tuple(n - 4 for n in SHAPE)
    moved = 0
    for seed in range(4):
        drawn = draw(asked, np.random.default_rng(seed), shape)
        pixels, indices = drawn.patch(label[np.newaxis].astype(np.float32), label, (2, 2, 2), shape)
        cut = drawn.map(SIGNED, distances, (2, 2, 2), shape)[1]
        inside, outside = indices == 1, indices == 0
        assert inside.any() and outside.any()
        # linear and nearest agree but where a voxel is read within half a voxel of the edge along every axis
        assert pixels[0][inside].min() >= 0.125 and pixels[0][outside].max() <= 0.875
        assert (inside == (pixels[0] > 0.5))[indices != IGNORED].mean() > 0.98
        # the nearest voxel is within a cube's half diagonal of where the map is read
        assert cut[inside].max() < 3**0.5 and cut[outside].min() > -(3**0.5)
        moved += int((inside != label[2:-2, 2:-2, 2:-2]).sum())
    assert moved > 100, "nothing moved"


def test_maps_are_read_in_their_own_unit() -> None:
    distances = stored_map(SIGNED, ball(), 2, (1, 1, 1))
    drawn = draw(spec(displacement=0), np.random.default_rng(0), SHAPE)
    assert drawn.map(SIGNED, distances, (0, 0, 0), SHAPE) == pytest.approx(as_numbers(SIGNED, distances))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.floats(3, 12), st.sampled_from([(1, 1, 1), (0.7, 0.7, 3.0), (2, 1, 1)]))
def test_it_folds_nowhere_and_keeps_its_limit(
    seed: int, distance: float, spacing: tuple[float, float, float]
) -> None:
    asked = Elastic(probability=1, displacement=0.4 * distance, distance=distance)
    drawn = asked.draw(np.random.default_rng(seed), SHAPE, spacing)
    assert drawn is not None
    field = drawn.field(SHAPE)
    assert field.shape == (3, *SHAPE)
    mm = np.abs(field).max(axis=(1, 2, 3)) * spacing
    assert (mm <= 0.4 * distance * min(spacing) + 1e-9).all()
    gradients = np.stack([np.stack(np.gradient(component)) for component in field])
    jacobian = np.moveaxis(gradients, (0, 1), (-2, -1)) + np.eye(3)
    assert np.linalg.det(jacobian).min() > 0
    with pytest.raises(SpecError, match="fold"):
        Elastic.of({"displacement": 0.5 * distance, "distance": distance})


def test_a_field_is_that_of_cubic_b_splines() -> None:
    """One pushed point moves its own voxel by 2/3 and the voxels of the next points by 1/6, along each axis."""
    pushes = np.zeros((3, 5, 1, 1))
    pushes[0, 2] = 6.0
    field = DrawnElastic(pushes, (4.0, 4.0, 4.0)).field((8, 1, 1))
    assert field[0, ::4, 0, 0] == pytest.approx([1.0, 4.0])
    assert not field[1:].any()


@pytest.mark.parametrize("axis", range(3))
def test_a_slice_stays_in_its_plane(axis: int) -> None:
    """Every plane of the volume has its own number, which no other may bring in."""
    shape = [20, 22, 24]
    planes = np.indices(shape)[axis].astype(np.float32)
    asked = Augmentation.of(
        {
            "placement": {"probability": 1, "rotation": 90, "scaling": 0.3, "translation": 3},
            "elastic": {"probability": 1},
            "shading": {"probability": 0},
        }
    )
    origin, patch = [2, 2, 2], [12, 12, 12]
    origin[axis], patch[axis] = 7, 1
    turned = 0
    for seed in range(8):
        drawn = draw(asked, np.random.default_rng(seed), patch, (0.7, 1.3, 4.0))
        texture = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        pixels, indices = drawn.patch(np.stack([planes, texture]), planes.astype(np.uint8), origin, patch)
        known = indices != IGNORED
        assert known.any()
        assert (indices[known] == 7).all() and pixels[0][known] == pytest.approx(7)
        still = texture[tuple(slice(o, o + n) for o, n in zip(origin, patch, strict=True))]
        turned += not np.allclose(pixels[1], still)
    assert turned == 8

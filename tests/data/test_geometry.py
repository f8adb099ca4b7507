"""Geometry: orientations, the display grid, verdicts and resampling, against nibabel and plain arithmetic."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer.data import geometry
from segexplorer.data.geometry import DisplayGrid, Grid

SHAPE = (4, 5, 6)
CODES = [
    "".join(c) for order in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*order)
]
Array = NDArray[np.float64]


def turned(degrees: float, axis: int) -> Array:
    """A rotation about a world axis, by its textbook matrix."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def affine_of(codes: str, size: tuple[float, ...] = (1.0, 2.0, 3.0), oblique: Array | None = None) -> Array:
    """Affine whose index axes grow towards the letters of `codes`."""
    affine = np.eye(4)
    for column, letter in enumerate(codes):
        axis = next(k for k, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[:3, column] = 0
        affine[axis, column] = size[column] * (1 if letter in "RAS" else -1)
    affine[:3, :3] = (np.eye(3) if oblique is None else oblique) @ affine[:3, :3]
    affine[:3, 3] = 10, -20, 30
    return affine


def world_of_every_voxel(shape: tuple[int, ...], affine: Array) -> Array:
    """(3, *shape) positions, mm."""
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


affines = st.builds(
    lambda codes, size, a, b: affine_of(codes, size, turned(a, 0) @ turned(b, 2)),
    st.sampled_from(CODES),
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.floats(-25, 25),
    st.floats(-25, 25),
)


def test_there_are_48_orientations() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("codes", CODES)
def test_canonical_keeps_every_voxel_where_it_is_and_is_undone_exactly(codes: str) -> None:
    affine = affine_of(codes)
    assert geometry.orientation(affine) == codes
    assert geometry.spacing(affine) == (1, 2, 3)
    # the array holds its own world positions, so that a wrong flip cannot hide
    array = world_of_every_voxel(SHAPE, affine)
    moved, new = geometry.canonical(array, affine)
    assert geometry.orientation(new) == "RAS"
    np.testing.assert_allclose(moved, world_of_every_voxel(moved.shape[1:], new))
    assert np.array_equal(geometry.from_canonical(moved, affine), array)
    reference = nib.as_closest_canonical(nib.Nifti1Image(array[0], affine))
    np.testing.assert_array_equal(moved[0], np.asarray(reference.dataobj))
    np.testing.assert_allclose(new, reference.affine)


@settings(max_examples=40, deadline=None)
@given(affines)
def test_the_canonical_grid_of_an_oblique_volume_holds_the_same_places(affine: Array) -> None:
    grid = geometry.canonical_grid(SHAPE, affine)
    moved, new = geometry.canonical(world_of_every_voxel(SHAPE, affine), affine)
    assert grid.shape == moved.shape[1:]
    np.testing.assert_allclose(grid.affine, new)
    np.testing.assert_allclose(moved, world_of_every_voxel(grid.shape, grid.affine), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(affines, st.tuples(*[st.floats(-3, 9)] * 3))
def test_display_grid_is_undone_and_knows_the_true_world(affine: Array, index: tuple[float, ...]) -> None:
    grid = DisplayGrid.of(Grid(SHAPE, affine))
    places = world_of_every_voxel(SHAPE, affine)
    shown = grid.to_display(places)
    assert shown.shape[1:] == grid.shape
    assert np.array_equal(grid.from_display(shown), places)
    np.testing.assert_allclose(grid.world_to_display(grid.display_to_world(index)), index, atol=1e-9)
    corner = tuple(n - 1 for n in grid.shape)
    np.testing.assert_allclose(grid.display_to_world(corner), shown[(slice(None), *corner)], atol=1e-9)


@pytest.mark.parametrize("codes", CODES)
def test_scale_and_translate_are_exact_where_nothing_is_oblique(codes: str) -> None:
    grid = DisplayGrid.of(Grid(SHAPE, affine_of(codes)))
    index = np.array([1, 0, 2])
    np.testing.assert_allclose(
        np.array(grid.translate) + index * np.array(grid.scale), grid.display_to_world(index)[::-1], atol=1e-9
    )


def test_an_oblique_volume_is_shown_about_its_true_centre() -> None:
    affine = affine_of("LPS", oblique=turned(20, 0))
    grid = DisplayGrid.of(Grid(SHAPE, affine))
    middle = (np.array(grid.shape) - 1) / 2
    true_centre = affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + affine[:3, 3]
    np.testing.assert_allclose(np.array(grid.translate) + middle * grid.scale, true_centre[::-1])


def test_display_puts_head_and_left_of_patient_last_and_first() -> None:
    array = np.zeros((3, 3, 3))
    array[0, 1, 2] = 1  # in an LPS grid: the patient's right, middle, head
    shown = DisplayGrid.of(Grid(array.shape, affine_of("LPS", (1, 1, 1)))).to_display(array)
    assert np.argwhere(shown).tolist() == [[2, 1, 2]]  # z head, y middle, x right


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_a_part_of_an_oblique_volume_is_shown_at_its_place_in_it(codes: str) -> None:
    own = geometry.Grid((30, 40, 50), affine_of(codes, oblique=turned(20, 0)))
    whole = geometry.DisplayGrid.of(own)
    canonical = geometry.canonical_grid(own.shape, own.affine)
    first = np.array([4, 7, 11])  # x, y, z
    corner = canonical.affine.copy()
    corner[:3, 3] += canonical.affine[:3, :3] @ first
    part = geometry.DisplayGrid.of(geometry.Grid((8, 9, 10), corner), within=own)
    assert part.scale == pytest.approx(whole.scale)
    expected = np.asarray(whole.translate) + first[::-1] * np.asarray(whole.scale)
    assert part.translate == pytest.approx(tuple(expected))
    alone = geometry.DisplayGrid.of(geometry.Grid((8, 9, 10), corner))
    assert np.abs(np.subtract(alone.translate, part.translate)).max() > 1  # which is why it is asked for
    assert geometry.DisplayGrid.of(own, within=own).translate == pytest.approx(whole.translate)


def test_obliqueness_and_shear() -> None:
    assert geometry.obliqueness(affine_of("RAS")) == pytest.approx(0, abs=1e-6)
    assert geometry.obliqueness(affine_of("PIR", oblique=turned(17, 1))) == pytest.approx(17)
    assert not geometry.is_sheared(affine_of("PIR", oblique=turned(17, 1)))
    leaning = affine_of("RAS")
    leaning[1, 2] = np.tan(np.radians(15)) * 3
    assert geometry.is_sheared(leaning)
    assert geometry.obliqueness(leaning) == pytest.approx(15)


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.diag([1.0, 1, 0, 1]),
        np.full((4, 4), np.nan),
        np.diag([1.0, np.inf, 1, 1]),
        np.eye(3),
    ],
)
def test_singular_affines_are_found(affine: Array) -> None:
    assert geometry.is_singular(affine)


def test_small_voxels_are_not_singular() -> None:
    assert not geometry.is_singular(np.diag([1e-3, 1e-3, 1e-3, 1]))


def moved_by(mm: float, axis: int = 0) -> Grid:
    affine = affine_of("LPS")
    affine[axis, 3] += mm
    return Grid(SHAPE, affine)


def test_verdict_same_within_a_hundredth_of_a_voxel() -> None:
    size = geometry.spacing(affine_of("LPS"))[0]
    verdict = geometry.compare(moved_by(0), moved_by(0.0099 * size))
    assert verdict.same and verdict.kind == "same"
    assert not geometry.compare(moved_by(0), moved_by(0.0101 * size)).same


def test_verdict_shifted_tells_how_far() -> None:
    verdict = geometry.compare(moved_by(0), moved_by(4.5, axis=2))
    assert (verdict.same, verdict.kind) == (False, "shifted")
    assert verdict.distance_mm == pytest.approx(4.5) and "4.5 mm" in verdict.text


def test_verdict_measures_at_the_corners_not_at_the_origin() -> None:
    stretched = affine_of("LPS")
    stretched[0, 0] *= 1 + 1e-4  # 1e-4 mm per voxel, which is 0.05 mm after 512
    big = (512, 5, 6)
    verdict = geometry.compare(Grid(big, affine_of("LPS")), Grid(big, stretched))
    assert verdict.kind == "different" and verdict.distance_mm == pytest.approx(0.0511)


def test_verdict_shape_names_both() -> None:
    verdict = geometry.compare(Grid((4, 5, 6), np.eye(4)), Grid((4, 5, 7), np.diag([1, 1, 0.9, 1])))
    assert verdict.kind == "shape" and "4 × 5 × 6" in verdict.text and "4 × 5 × 7" in verdict.text


@pytest.mark.parametrize("codes", ["LPS", "RPS", "ILA"])
def test_verdict_tells_that_only_the_axis_order_differs(codes: str) -> None:
    grid = Grid(SHAPE, affine_of(codes))
    verdict = geometry.compare(grid, geometry.canonical_grid(grid.shape, grid.affine))
    assert not verdict.same and "another order" in verdict.text and codes in verdict.text


def test_verdict_turned() -> None:
    verdict = geometry.compare(
        Grid(SHAPE, affine_of("RAS")), Grid(SHAPE, affine_of("RAS", oblique=turned(9, 2)))
    )
    assert verdict.kind == "different" and f"{verdict.distance_mm:.3g} mm" in verdict.text


@settings(max_examples=30, deadline=None)
@given(affines, affines)
def test_comparing_is_symmetric(a: Array, b: Array) -> None:
    one, other = (
        geometry.compare(*pair)
        for pair in [(Grid(SHAPE, a), Grid(SHAPE, b)), (Grid(SHAPE, b), Grid(SHAPE, a))]
    )
    assert (one.same, one.kind) == (other.same, other.kind)
    assert one.distance_mm == pytest.approx(other.distance_mm)


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("fill", [None, -7.0])
def test_resampling_to_another_axis_order_moves_no_voxel(codes: str, fill: float | None) -> None:
    source = affine_of(codes, (0.7, 0.9, 1.3))
    labels = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)
    expected, affine = geometry.canonical(labels, source)
    target = Grid(expected.shape, affine)
    nearest = geometry.resample(labels, source, target, 0, fill=fill)
    assert nearest.dtype == np.uint8
    assert np.array_equal(nearest, expected)
    np.testing.assert_allclose(geometry.resample(labels, source, target, 1, fill=fill), expected, atol=1e-3)


def test_linear_resampling_of_a_linear_field_is_exact_inside() -> None:
    source = affine_of("LPS", (2, 2, 3), turned(10, 0))
    shape = (20, 22, 18)
    field = np.tensordot([0.5, -1.0, 2.0], world_of_every_voxel(shape, source), 1)
    middle = world_of_every_voxel(shape, source).mean(axis=(1, 2, 3))
    target = Grid((8, 9, 7), np.block([[turned(25, 2) * 1.1, (middle - 4)[:, None]], [0, 0, 0, 1]]))
    got = geometry.resample(field, source, target, 1)
    expected = np.tensordot([0.5, -1.0, 2.0], world_of_every_voxel(target.shape, target.affine), 1)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_outside_is_the_fill_value_or_the_edge() -> None:
    array = np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)
    far = Grid((8, 1, 1), np.array([[1.0, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert geometry.resample(array, np.eye(4), far, 0, fill=9)[:, 0, 0].tolist() == [9, 9, 1, 2, 3, 4, 9, 9]
    assert geometry.resample(array, np.eye(4), far, 1)[:, 0, 0].tolist() == [1, 1, 1, 2, 3, 4, 4, 4]


def test_leading_axes_are_resampled_one_by_one() -> None:
    stack = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    target = Grid((3, 4, 5), np.diag([1.3, 1.1, 1.2, 1]))
    got = geometry.resample(stack, np.eye(4), target, 1)
    assert got.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(got[1], geometry.resample(stack[1], np.eye(4), target, 1))


@settings(max_examples=40, deadline=None)
@given(affines, st.tuples(*[st.floats(0.4, 6)] * 3))
def test_resampled_grid_covers_the_same_field_of_view(affine: Array, size: tuple[float, ...]) -> None:
    grid = geometry.resampled_grid(SHAPE, affine, size)
    for end in (-0.5, 0.5):
        # outer faces: half a voxel beyond the first and the last
        first = np.full(3, -0.5) if end < 0 else np.array(SHAPE) - 0.5
        second = np.full(3, -0.5) if end < 0 else np.array(grid.shape) - 0.5
        np.testing.assert_allclose(
            affine[:3, :3] @ first + affine[:3, 3],
            grid.affine[:3, :3] @ second + grid.affine[:3, 3],
            atol=1e-6,
        )
    wanted = np.array(SHAPE) * geometry.spacing(affine) / np.array(size)
    assert all(abs(n - w) <= 0.5 + 1e-9 or n == 1 for n, w in zip(grid.shape, wanted, strict=True))

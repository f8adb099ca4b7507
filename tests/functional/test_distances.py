"""Distances within an object's box are those of the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segexplorer.functional.boundary import signed_distance, unsigned_distance


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(0, 2**31),
    st.sampled_from([0.02, 0.3, 0.9]),
    st.booleans(),
)
def test_distances_are_scipys_to_the_bit(shape: list[int], seed: int, share: float, stretched: bool) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < share
    spacing = rng.uniform(0.3, 4, len(shape)).tolist() if stretched else None
    unsigned, signed = unsigned_distance(mask, spacing), signed_distance(mask, spacing)
    if mask.all() or not mask.any():
        assert not unsigned.any() and not signed.any()
        return
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    step = min(spacing) if spacing else 1.0
    np.testing.assert_array_equal(unsigned, inside + outside)
    np.testing.assert_array_equal(signed, outside - (inside - step) * mask)


@pytest.mark.parametrize(
    "corner", [(slice(0, 3),) * 3, (slice(5, 8),) * 3, (slice(0, 8), slice(2, 4), slice(7, 8))]
)
def test_an_object_at_the_edge_of_the_volume(corner: tuple[slice, ...]) -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[corner] = True
    expected = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    np.testing.assert_array_equal(unsigned_distance(mask), expected)

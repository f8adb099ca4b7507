"""Sliding windows: equal to MONAI's, one at a time, and only where asked."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference

from segexplorer.training.compute import Runtime
from segexplorer.training.sliding_window import (
    TILE_BYTES,
    Tile,
    WindowPlan,
    importance_map,
    likeliest,
    predict_logits,
    stream_logits,
    window_count,
    window_slices,
)

CPU = Runtime("cpu", "CPU", "float32", 1, channels_last=False)


class Affine(torch.nn.Module):
    """Two channels that depend on the place within the window, so that positions and weights show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(0, 1, x.shape[2])[None, None, :, None, None]
        return torch.cat([x * ramp, 1 - x], 1)


def result(
    source: Generator[tuple[int, int], None, torch.Tensor],
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    told = []
    while True:
        try:
            told.append(next(source))
        except StopIteration as end:
            return end.value, told


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=3),
    st.floats(0, 0.95),
)
@settings(max_examples=200, deadline=None)
def test_positions_and_weights_are_those_of_monai(axes: list[tuple[int, int]], overlap: float) -> None:
    patch, shape = [min(pair) for pair in axes], [max(pair) for pair in axes]
    interval = [max(1, int(p * (1 - overlap))) if p < s else p for p, s in zip(patch, shape, strict=True)]
    assert window_slices(shape, patch, overlap) == dense_patch_slices(shape, patch, interval)
    theirs = compute_importance_map(tuple(patch), mode="gaussian", sigma_scale=0.125)
    assert torch.equal(importance_map(patch), theirs)


@pytest.mark.parametrize("shape", [(20, 17, 24), (8, 30, 9), (16, 16, 16)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_equal_to_monai(shape: tuple[int, ...], overlap: float) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, *shape)
    ours, told = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=overlap, runtime=CPU)
    )
    theirs: Any = sliding_window_inference(
        image,
        (16, 16, 16),
        1,
        Affine(),
        overlap,
        "gaussian",
        padding_mode="constant",
        cval=float(image.min()),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert told == [(n + 1, len(told)) for n in range(len(told))]


def test_mirrored_windows_of_a_symmetric_network_change_nothing() -> None:
    image = torch.rand(1, 1, 16, 16, 16)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, -x], 1)

    arguments: dict[str, Any] = {"classes": 2, "patch": (16, 16, 16), "overlap": 0.0, "runtime": CPU}
    plain, _ = result(predict_logits(network, image, **arguments))  # type: ignore[arg-type]
    mirrored, _ = result(predict_logits(network, image, mirror=True, **arguments))  # type: ignore[arg-type]
    torch.testing.assert_close(plain, mirrored)


def test_only_windows_that_touch_the_part_are_predicted() -> None:
    image = torch.rand(1, 1, 48, 16, 16)
    whole, every = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=0.0, runtime=CPU)
    )
    part = (slice(20, 21), slice(0, 16), slice(0, 16))
    slab, some = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=0.0, runtime=CPU, only=part)
    )
    assert (len(every), len(some)) == (3, 1)
    torch.testing.assert_close(slab[:, :, 20:21], whole[:, :, 20:21])
    assert not slab[:, :, :20].any()
    assert not slab[:, :, 21:].any()


def test_windows_cover_every_voxel() -> None:
    covered = torch.zeros(21, 16, 33)
    for window in window_slices((21, 16, 33), (16, 16, 16), 0.25):
        covered[window] += 1
    assert covered.min() >= 1


# ---- streaming


class Mixing(torch.nn.Module):
    """Classes that depend on the place within the window and on neighbours, in either memory format."""

    def __init__(self, classes: int, *, last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(classes)
        self.convolution = torch.nn.Conv3d(1, classes, 3, padding=1)
        self.last, self.windows = last, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.windows += 1
        found = self.convolution(x)
        return found.contiguous(memory_format=torch.channels_last_3d) if self.last else found


def streamed(
    network: torch.nn.Module, image: torch.Tensor, classes: int, **more: Any
) -> tuple[torch.Tensor, list[Any]]:
    """Return logits put together from the cores of tiles, each voxel of which was given once; and all items."""
    found = torch.full((1, classes, *image.shape[2:]), torch.nan)
    items = list(stream_logits(network, image, classes=classes, runtime=CPU, **more))
    for item in items:
        if isinstance(item, Tile):
            every: Any = (slice(None), slice(None), *item.place)
            assert found[every].isnan().all()
            found[every] = item.core_logits
    return found, items


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, 26),) * 3),
    patch=st.tuples(*(st.integers(1, 12),) * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    memory=st.sampled_from([None, 1, 40_000, 200_000]),
    halo=st.integers(0, 1),
    last=st.booleans(),
)
def test_tiles_are_the_logits_of_moving_windows(
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    overlap: float,
    memory: int | None,
    halo: int,
    last: bool,
) -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 1, *shape)
    network = Mixing(3, last=last)
    theirs: Any = sliding_window_inference(
        image, patch, 1, network, overlap, "gaussian", padding_mode="constant", cval=float(image.min())
    )
    own = 12 * 3 * math.prod(patch) + 2 * TILE_BYTES
    more = None if memory is None else memory + own
    found, items = streamed(network, image, 3, patch=patch, overlap=overlap, memory=more, halo=halo)
    torch.testing.assert_close(found, theirs.detach(), rtol=1e-5, atol=1e-5)
    two = found.topk(2, dim=1).values
    clear = (two[:, 0] - two[:, 1] > 1e-4)[0]
    for item in stream_logits(
        network, image, classes=3, patch=patch, overlap=overlap, runtime=CPU, memory=more, means=False
    ):
        if isinstance(item, Tile):  # sums have the same largest class
            own = item.core_logits.argmax(1)[0]
            same = own == found.argmax(1)[0][item.place]
            assert same[clear[item.place]].all()
    numbers = [item for item in items if not isinstance(item, Tile)]
    assert numbers == [(n + 1, len(numbers)) for n in range(len(numbers))]
    for tile in items:
        if isinstance(tile, Tile):  # what reaches beyond the core is the same as in the next tile
            place = tuple(slice(s, s + n) for s, n in zip(tile.start, tile.logits.shape[2:], strict=True))
            every: Any = (slice(None), slice(None), *place)
            torch.testing.assert_close(tile.logits, found[every], rtol=1e-5, atol=1e-5)
            reach = [min(c + halo, n - s) for c, n, s in zip(tile.core, shape, tile.start, strict=True)]
            assert list(tile.logits.shape[3:]) == reach[1:]


def test_less_memory_takes_more_windows_and_smaller_buffers() -> None:
    shape, patch = (64, 64, 96), (16, 16, 16)
    wanted = [(0, n) for n in shape]
    free, whole = 10**9, 4 * 11 * 16 * 64 * 96
    assert WindowPlan.of(shape, patch, 0.5, wanted, 10, free) == WindowPlan.of(
        shape, patch, 0.5, wanted, 10, None
    )
    before = WindowPlan.of(shape, patch, 0.5, wanted, 10, None).count
    for part in (2, 4, 9):
        plan = WindowPlan.of(shape, patch, 0.5, wanted, 10, whole // part)
        assert plan.count > before
        before = plan.count
        for column in plan.columns:
            area = math.prod(b - a for _, (a, b) in column)
            assert 4 * 11 * 16 * area <= whole // part
    held = whole // 9 + 12 * 10 * math.prod(patch) + 2 * TILE_BYTES
    assert window_count(shape, patch, 0.5, classes=10, memory=held) == before


def test_windows_of_one_value_are_predicted_once() -> None:
    image = torch.zeros(1, 1, 64, 16, 16)
    image[:, :, 24:40] = torch.rand(16, 16, 16)
    network = Mixing(2)
    found, items = streamed(network, image, 2, patch=(16, 16, 16), overlap=0.0)
    assert network.windows == 3  # air, and the two windows that meet the rest
    assert len([item for item in items if not isinstance(item, Tile)]) == 4
    again, _ = streamed(Mixing(2), image + 1e-6 * torch.rand_like(image), 2, patch=(16, 16, 16), overlap=0.0)
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7, 40, 60, 70), (3, 1, 400, 500)])
@pytest.mark.parametrize("last", [False, True])
def test_the_likeliest_class_is_the_first_of_the_largest(shape: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randint(0, 4, shape).float()  # many are equal
    if last:
        logits = logits.movedim(0, -1).contiguous().movedim(-1, 0)
    found = likeliest(logits)
    assert found.dtype == torch.uint8
    assert (logits.gather(0, found[None].long())[0] == logits.amax(0)).all()
    if not last:
        first = (logits == logits.amax(0)).float().argmax(0)
        assert (found == first).all()

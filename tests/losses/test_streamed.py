"""Losses over whole cases: part by part, every loss is what it is of all voxels at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer import losses
from segexplorer.core.errors import LossInputError
from segexplorer.core.regions import PatchRegions
from segexplorer.data.transforms.distance_maps import MAPS, as_numbers, stored_map
from segexplorer.functional.inputs import LossContext, regional_errors
from segexplorer.functional.regions import BatchRegions, partition
from segexplorer.losses.base import losses_in, partitions_in, region_reports
from segexplorer.losses.streamed import StreamedLoss

SHAPE = (14, 11, 13)
ALL_AT_ONCE = {
    "lovasz_softmax",
    "cl_dice",
    "dice_cl_dice",
    "hausdorff",
    "region_mutual_information",
}
"""Losses that sort voxels, follow centre lines, or measure distances in the prediction."""


def case(
    seed: int, classes: int, *, ignored: bool = True, shape: tuple[int, ...] = SHAPE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, C, x, y, z) logits and (x, y, z) labels that are not random throughout."""
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, [n // 4 + 1 for n in shape]).to(torch.uint8)
    for axis, n in enumerate(shape):
        labels = labels.repeat_interleave(5, axis).narrow(axis, 0, n)
    if ignored:
        labels = torch.where(torch.rand(shape) < 0.1, 255, labels)
    logits = 3 * torch.randn(1, classes, *shape)
    return logits, labels.to(torch.uint8)


def whole_context(spec: Any, labels: torch.Tensor, classes: int) -> LossContext:
    """Return the context of a whole case as a run makes it: maps, regions, the volume's shape."""
    array, spacing = labels.numpy(), (1.0, 1.5, 2.0)
    maps = {
        name: torch.from_numpy(as_numbers(name, stored_map(name, array, classes, spacing))[np.newaxis])
        for name in spec.needs()
        if name in MAPS
    }
    regions = {}
    for kind in partitions_in(spec):
        if kind.follows_truth:
            whole = kind.divide(tuple(labels.shape), array, spacing)
            regions[kind] = BatchRegions([PatchRegions(whole, whole)])
    return LossContext(
        distance_maps=maps or None,
        regions=regions or None,
        spacing=np.asarray([spacing]),
        origin=np.zeros((1, 3), np.int64),
        volume_shape=np.asarray([labels.shape]),
        epoch=1,
    )


def parts_of(shape: tuple[int, ...], cuts: list[list[int]]) -> Any:
    """Yield the parts of a volume that is cut at these places of each axis."""
    edges = [sorted({0, n, *(c % n for c in own)}) for n, own in zip(shape, cuts, strict=True)]
    for corner in np.ndindex(*(len(e) - 1 for e in edges)):
        yield tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, corner, strict=True))


def streamed(
    loss: Any,
    logits: torch.Tensor,
    labels: torch.Tensor,
    context: LossContext,
    cuts: list[list[int]],
    boxes: Any = None,
) -> StreamedLoss:
    found = StreamedLoss(loss, labels, logits.shape[1], context, boxes=boxes)
    for place in parts_of(tuple(labels.shape), cuts):
        found.add([s.start for s in place], logits[(slice(None), slice(None), *place)])
    return found


CUTS = [[3, 8], [6], [5, 6, 11]]
PRESETS = sorted({*losses.names(), *losses.presets()})


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("kind", PRESETS)
def test_every_loss_part_by_part_is_that_of_all_voxels(kind: str, classes: int) -> None:
    logits, labels = case(len(kind) + classes, classes)
    loss = losses.create(kind)
    context = whole_context(loss.spec, labels, classes)
    with torch.no_grad():
        whole = loss.eval().evaluate(logits.double(), labels[None, None].long(), context)
        single = loss.evaluate(logits, labels[None, None].long(), context)
    found = streamed(loss, logits, labels, context, CUTS)
    needing = {part.kind for part in losses_in(loss.spec)} & ALL_AT_ONCE
    if needing:
        assert found.whole_needed_by is not None and found.whole_needed_by.kind in needing
        return
    assert found.whole_needed_by is None
    output = found.output()
    assert float(output.value) == pytest.approx(float(whole.value), rel=1e-6, abs=1e-6)
    assert output.terms.keys() == whole.terms.keys()
    for name, (value, weight) in whole.terms.items():
        assert float(output.terms[name][0]) == pytest.approx(float(value), rel=1e-6, abs=1e-6)
        assert float(output.terms[name][1]) == pytest.approx(float(weight))
    expected, own = region_reports(single), region_reports(output)
    assert len(expected) == len(own)
    for theirs, ours in zip(expected, own, strict=True):
        assert ours.regions == theirs.regions or ours.edges == theirs.edges
        for name, values in theirs.values.items():
            np.testing.assert_allclose(ours.values[name], values, rtol=2e-5, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(2, 4),
    st.tuples(*(st.integers(1, 12),) * 3),
    st.lists(st.lists(st.integers(0, 40), max_size=3), min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from(["dice_cross_entropy", "adaptive_region_tversky", "top_k", "combo", "ws_dice", "t_loss"]),
)
def test_however_a_case_is_cut(
    seed: int, classes: int, shape: tuple[int, ...], cuts: list[list[int]], ignored: bool, kind: str
) -> None:
    logits, labels = case(seed, classes, ignored=ignored, shape=shape)
    loss = losses.create(kind).eval()
    context = whole_context(loss.spec, labels, classes)
    with torch.no_grad():
        whole = loss.evaluate(logits.double(), labels[None, None].long(), context)
    value = float(streamed(loss, logits, labels, context, cuts).output().value)
    assert value == pytest.approx(float(whole.value), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in PRESETS if kind not in ALL_AT_ONCE])
def test_the_gradient_of_a_part_is_that_of_the_whole(kind: str) -> None:
    spec = losses.parse(kind)
    logits, labels = case(3, 3)
    context = replace(whole_context(spec, labels, 3), ignore_index=255)
    loss = losses.create(kind).eval()
    leaf = logits.clone().requires_grad_()
    loss.evaluate(leaf, labels[None, None].long(), context).value.backward()
    assert leaf.grad is not None
    streamed = StreamedLoss(loss, labels, 3, context)
    if streamed.whole_needed_by is not None:
        pytest.skip("needs all voxels at once")
    for place in parts_of(SHAPE, [[5], [], [4]]):
        streamed.add([part.start for part in place], logits[(..., *place)])
    value = streamed.differentiate()
    assert float(value) == pytest.approx(float(streamed.output().value), rel=1e-5)
    top = float(leaf.grad.abs().max())
    for start, place in (
        ((0, 0, 6), (..., slice(6, 7))),
        ((3, 2, 0), (..., slice(3, 5), slice(2, 9), slice(0, 13))),
    ):
        found = streamed.gradient(start, logits[place])
        np.testing.assert_allclose(found, leaf.grad[place], rtol=1e-3, atol=3e-5 * top)


def test_sums_of_one_loss_serve_another() -> None:
    logits, labels = case(3, 3)
    first, second, third = (
        StreamedLoss(losses.create(kind), labels, 3, LossContext(ignore_index=255))
        for kind in ("dice", "tversky", "cross_entropy")
    )
    first.add((0, 0, 0), logits)
    assert second.know(first.known) and not third.know(first.known)
    plain = losses.create("tversky").evaluate(
        logits, labels[None, None].long(), LossContext(ignore_index=255)
    )
    assert float(second.differentiate()) == pytest.approx(float(plain.value), rel=1e-5)


@pytest.mark.parametrize("kind", ["dice", "dice_cross_entropy", "lovasz_softmax"])
def test_errors_per_box_where_the_loss_has_no_regions(kind: str) -> None:
    logits, labels = case(1, 4)
    boxes = partition(SHAPE, box_size=4)
    loss = losses.create(kind)
    found = streamed(loss, logits, labels, LossContext(), CUTS, boxes).errors()
    expected = regional_errors(logits, labels[None, None].long(), boxes, ignore_index=255)
    assert found is not None
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    if kind == "dice":  # the sums of whole samples, taken from those of the boxes
        whole = loss.evaluate(logits, labels[None, None].long(), LossContext()).value
        made = streamed(loss, logits, labels, LossContext(), CUTS, boxes).output().value
        assert float(made) == pytest.approx(float(whole), rel=1e-6)


def test_adaptive_weights_are_those_of_the_module() -> None:
    loss = losses.create("adaptive_tversky_cross_entropy")
    loss.step_end({"tversky": 0.9, "cross_entropy": 0.1})
    logits, labels = case(2, 3)
    whole = loss.eval().evaluate(logits, labels[None, None].long(), LossContext())
    output = streamed(loss, logits, labels, LossContext(), CUTS).output()
    assert float(output.value) == pytest.approx(float(whole.value), rel=1e-6)


def test_a_part_that_is_not_finite_is_refused() -> None:
    logits, labels = case(3, 3)
    logits[0, 1, 12, 10, 12] = float("nan")
    with pytest.raises(LossInputError, match="NaN"):
        streamed(losses.create("dice"), logits, labels, LossContext(), CUTS)


def test_a_case_in_which_nothing_counts() -> None:
    logits, labels = case(4, 3)
    labels = torch.full_like(labels, 255)
    for kind in ("dice_cross_entropy", "focal", "region_dice"):
        loss = losses.create(kind).eval()
        whole = loss.evaluate(logits, labels[None, None].long(), LossContext())
        value = streamed(loss, logits, labels, LossContext(), CUTS).output().value
        assert float(value) == pytest.approx(float(whole.value), abs=1e-6)

"""Regions travel with the patches: what a patch trains on is what a map of the whole volume shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer import losses
from segexplorer.core.errors import LossInputError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.core.regions import BoxRegions, MapRegions, PatchRegions, Regions
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.sampler import Batch, Sampler, Sampling
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import Augmentation, Preprocessing, fit
from segexplorer.data.volume import Volume
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.regions import BatchRegions, Boxes
from segexplorer.losses.base import partitions_in, region_reports
from segexplorer.losses.partitions import registry as partitions
from segexplorer.training.learner import context_of
from segexplorer.training.slices import Layout

SHAPE = (18, 13, 11)
VARIATIONS: dict[str, dict[str, Any]] = {
    "none": {"enabled": False},
    "mirrored": {
        "flips": {"left_right": 0.5, "front_back": 0.5, "head_foot": 0.5},
        "placement": {"probability": 0},
        "elastic": {"probability": 0},
    },
    "rotated": {
        "placement": {"probability": 1, "rotation": 40, "scaling": 0, "translation": 0},
        "elastic": {"probability": 0},
    },
    "scaled and shifted": {
        "placement": {"probability": 1, "rotation": 0, "scaling": 0.4, "translation": 3},
        "elastic": {"probability": 0},
    },
    "deformed": {"placement": {"probability": 0}, "elastic": {"probability": 1}},
    "all": {
        "flips": {"left_right": 0.5, "front_back": 0.5, "head_foot": 0.5},
        "placement": {"probability": 1, "rotation": 25, "scaling": 0.2, "translation": 2},
        "elastic": {"probability": 1},
    },
}
PARTITIONS = [
    {"kind": "grid", "count": 3},
    {"kind": "grid", "count": [5, 2, 4]},
    {"kind": "box_size", "size": 5},
    {"kind": "box_size", "size": [4, 30, 7]},
]


def store(label: NDArray[np.uint8], classes: int) -> PreprocessedCache:
    rng = np.random.default_rng(0)
    image = Volume.from_array(rng.normal(size=label.shape).astype(np.float32))
    refs = [CaseRef("one", (image,), Volume.from_array(label), "one")]
    named = ClassMap.from_classes({f"region {value}": value for value in range(1, classes)})
    return PreprocessedCache(refs, fit(Preprocessing(), refs), named)


def labelled_by_region(partition: Any) -> tuple[PreprocessedCache, NDArray[np.int32]]:
    """A case whose label is the number of the region, so that region and label can be compared voxel by voxel."""
    numbers = partition.divide(SHAPE).numbers()
    return store(numbers.astype(np.uint8), max(2, int(numbers.max()) + 1)), numbers


def numbers_of(regions: Regions) -> NDArray[np.int64]:
    """The number of each voxel's region in the volume, 255 where there is none, as labels have it."""
    places = regions.numbers()
    return np.where(places < 0, IGNORED, regions.ids[places] if len(regions.ids) else 0)


def sampled(made: PreprocessedCache, patch: Any, variation: Any, partition: Any, **rest: Any) -> Batch:
    sampling = Sampling(patch_size=patch, batch_size=rest.pop("batch_size", 3), foreground_ratio=0.5)
    spec = Augmentation.of(variation)
    return Sampler(made, ["one"], sampling, spec, rest.pop("seed", 1), [partition]).batch(0, 0)


@pytest.mark.parametrize("variation", VARIATIONS)
@pytest.mark.parametrize("given_partition", PARTITIONS, ids=str)
def test_every_voxel_of_a_patch_keeps_the_region_it_has_in_the_volume(
    given_partition: dict[str, Any], variation: str
) -> None:
    partition = partitions.parse(given_partition)
    made, _ = labelled_by_region(partition)
    for patch in ((8, 8, 8), (6, 16, 16), None):  # inside the volume, larger than it along two axes, whole
        batch = sampled(made, patch, VARIATIONS[variation], partition)
        for label, seen in zip(batch.labels[:, 0], batch.regions[partition], strict=True):
            np.testing.assert_array_equal(numbers_of(seen.patch), label)
            assert len(seen.volume.ids) == len(partition.divide(SHAPE).ids)


@settings(max_examples=40, deadline=None)
@given(
    size=st.one_of(st.integers(2, 9), st.tuples(*[st.integers(3, 20)] * 3)),
    patch=st.tuples(*[st.integers(1, 20)] * 3),
    variation=st.sampled_from(sorted(VARIATIONS)),
    seed=st.integers(0, 10_000),
)
def test_region_numbers_travel_like_the_label(size: Any, patch: Any, variation: str, seed: int) -> None:
    partition = partitions.parse({"kind": "box_size", "size": size})
    if len(partition.divide(SHAPE).ids) > 250:
        partition = partitions.parse({"kind": "grid", "count": 6})
    made, _ = labelled_by_region(partition)
    batch = sampled(made, patch, VARIATIONS[variation], partition, seed=seed, batch_size=2)
    for label, seen in zip(batch.labels[:, 0], batch.regions[partition], strict=True):
        np.testing.assert_array_equal(numbers_of(seen.patch), label)
        assert len(np.unique(seen.patch.ids)) == len(seen.patch.ids)


def test_boxes_stay_boxes_until_a_patch_is_turned_or_deformed() -> None:
    partition = partitions.parse(PARTITIONS[0])
    made, _ = labelled_by_region(partition)
    for name, kind in (("none", BoxRegions), ("mirrored", BoxRegions), ("rotated", MapRegions)):
        batch = sampled(made, (8, 8, 8), VARIATIONS[name], partition)
        assert all(isinstance(seen.patch, kind) for seen in batch.regions[partition])
        assert batch.moved == (name != "none")


def as_map(seen: PatchRegions) -> PatchRegions:
    """The same regions, not as boxes but as a map."""
    return PatchRegions(MapRegions.of(seen.patch.numbers(), seen.patch.ids), seen.volume)


@pytest.mark.parametrize("kind", ["region_dice", "adaptive_region_tversky"])
@pytest.mark.parametrize("patch", [(8, 8, 8), (6, 16, 16)])
@pytest.mark.parametrize("variation", ["none", "mirrored"])
def test_boxes_and_maps_give_equal_losses_gradients_and_region_maps(
    kind: str, patch: tuple[int, int, int], variation: str
) -> None:
    rng = np.random.default_rng(3)
    made = store(rng.integers(0, 3, SHAPE).astype(np.uint8), 3)
    loss = losses.create(kind, grid=4)
    (partition,) = partitions_in(loss.spec)
    batch = sampled(made, patch, VARIATIONS[variation], partition)
    labels, values = torch.from_numpy(batch.labels), rng.normal(size=(3, 3, *patch))
    results = []
    for seen in (batch.regions[partition], tuple(map(as_map, batch.regions[partition]))):
        logits = torch.from_numpy(values).requires_grad_()
        output = loss.evaluate(logits, labels, LossContext(regions={partition: BatchRegions(seen)}))
        output.value.backward()
        results.append((output, logits.grad))
    (boxes, of_boxes), (mapped, of_maps) = results
    assert boxes.value.item() == pytest.approx(mapped.value.item(), rel=1e-12)
    torch.testing.assert_close(of_boxes, of_maps, rtol=1e-10, atol=1e-14)
    for one, other in zip(region_reports(boxes), region_reports(mapped), strict=True):
        ids = {int(number): place for place, number in enumerate(other.regions.ids)}
        order = [ids[int(number)] for number in one.regions.ids]
        for name, numbers in one.values.items():
            np.testing.assert_allclose(numbers, other.values[name][:, order], rtol=1e-6)


def reference_counts(
    probs: NDArray[np.float64], labels: NDArray[np.int64], numbers: NDArray[np.int64]
) -> dict[int, NDArray[np.float64]]:
    """FP, FN and volume of each class per region number, voxel by voxel."""
    found: dict[int, NDArray[np.float64]] = {}
    for place in np.ndindex(*labels.shape):
        if labels[place] == IGNORED or numbers[place] == IGNORED:
            continue
        row = found.setdefault(int(numbers[place]), np.zeros((3, len(probs))))
        for c in range(len(probs)):
            own = labels[place] == c
            row[:, c] += (0 if own else probs[(c, *place)], 1 - probs[(c, *place)] if own else 0, own)
    return found


@pytest.mark.parametrize("variation", VARIATIONS)
def test_the_map_of_a_batch_is_counted_in_the_regions_of_the_volume(variation: str) -> None:
    """Counts of regions differ within a batch; the places beyond a sample's own are NaN."""
    rng = np.random.default_rng(5)
    made = store(rng.integers(0, 3, SHAPE).astype(np.uint8), 3)
    loss = losses.create("region_dice", box_size=5)
    (partition,) = partitions_in(loss.spec)
    batch = sampled(made, (9, 7, 6), VARIATIONS[variation], partition, batch_size=4, seed=2)
    logits = torch.from_numpy(rng.normal(size=(4, 3, 9, 7, 6)))
    output = loss.evaluate(logits, torch.from_numpy(batch.labels), context_of(batch, 1))
    probs, maps = torch.softmax(logits, 1).numpy(), output.maps
    counts = [len(seen.patch.ids) for seen in batch.regions[partition]]
    assert maps["fp"].values.shape == (4, 3, max(counts)) and len(set(counts)) > 1
    for b, seen in enumerate(batch.regions[partition]):
        expected = reference_counts(probs[b], batch.labels[b, 0], numbers_of(seen.patch))
        assert np.isnan(maps["fp"].values[b, :, counts[b] :].numpy()).all()
        for place, number in enumerate(seen.patch.ids):
            fp, fn, volume = expected.get(int(number), np.zeros((3, 3)))
            for name, values in (("fp", fp), ("fn", fn)):
                found = maps[name].values[b, :, place].numpy()
                np.testing.assert_allclose(found, np.where(volume > 0, values, np.nan), atol=1e-12)


def test_unvaried_patches_of_a_loop_of_ones_own_are_anchored_by_their_origin() -> None:
    """Without the sampler's regions, origin and volume shape are enough; without both, the patch is divided."""
    loss = losses.create("region_dice", box_size=5)
    rng = np.random.default_rng(8)
    logits = torch.from_numpy(rng.normal(size=(2, 2, 6, 6, 6)))
    labels = torch.from_numpy(rng.integers(0, 2, (2, 1, 6, 6, 6)))
    place = {"origin": np.array([[3, 0, 5], [10, 10, 12]]), "volume_shape": np.array([[18, 18, 18]] * 2)}
    here = loss.evaluate(logits, labels, LossContext(**place)).maps["fp"].regions
    assert isinstance(here, BatchRegions)
    assert here.samples[0].patch.edges == ((0, 2, 6), (0, 5, 6), (0, 5, 6))  # type: ignore[union-attr]
    alone = loss.evaluate(logits, labels, LossContext()).maps["fp"].regions
    assert isinstance(alone, Boxes) and alone.edges == ((0, 5, 6),) * 3
    whole = {"origin": np.zeros((2, 3), int), "volume_shape": np.array([[6, 6, 6]] * 2)}
    assert loss.evaluate(logits, labels, LossContext(**whole)).maps["fp"].regions == alone


def test_positions_of_varied_patches_are_not_taken_for_their_places() -> None:
    partition = partitions.parse(PARTITIONS[0])
    made, _ = labelled_by_region(partition)
    still = context_of(sampled(made, (8, 8, 8), VARIATIONS["none"], partition), 1)
    turned = context_of(sampled(made, (8, 8, 8), VARIATIONS["rotated"], partition), 1)
    assert still.origin is not None and turned.origin is None
    assert still.regions is not None and turned.regions is not None


def test_regions_of_another_shape_are_refused() -> None:
    loss = losses.create("region_dice", grid=2)
    (partition,) = partitions_in(loss.spec)
    whole = partition.divide((4, 4, 4))
    context = LossContext(regions={partition: BatchRegions([PatchRegions(whole, whole)])})
    with pytest.raises(LossInputError, match="regions are of 1 samples"):
        loss.evaluate(torch.zeros(1, 2, 4, 4, 5), torch.zeros(1, 1, 4, 4, 5, dtype=torch.long), context)


def test_whole_samples_are_not_added_up_from_regions_that_leave_voxels_out() -> None:
    """Half of the volume belongs to no region: the Dice term of the compound must still see it."""
    numbers = np.zeros((4, 4, 4), np.int32)
    numbers[2:] = -1
    half = MapRegions.of(numbers)
    compound = losses.create(
        "weighted_sum", terms=[{"loss": {"kind": "region_dice", "grid": 1}}, {"loss": "dice"}]
    )
    (partition,) = partitions_in(compound.spec)
    logits, labels = torch.randn(1, 2, 4, 4, 4), torch.randint(0, 2, (1, 1, 4, 4, 4))
    context = LossContext(regions={partition: BatchRegions([PatchRegions(half, half)])})
    terms = compound.evaluate(logits, labels, context).terms
    dice = losses.create("dice").evaluate(logits, labels).value
    assert terms["dice"][0].item() == pytest.approx(dice.item(), rel=1e-6)
    part = losses.create("region_dice", grid=1).evaluate(logits[:, :, :2], labels[:, :, :2]).value
    assert terms["region_dice"][0].item() == pytest.approx(part.item(), rel=1e-6)


@pytest.mark.parametrize("variation", ["none", "all"])
def test_slices_see_the_boxes_of_the_volume(variation: str) -> None:
    partition = partitions.parse({"kind": "box_size", "size": [5, 4, 3]})
    made, _ = labelled_by_region(partition)
    batch = sampled(made, (9, 9, 1), VARIATIONS[variation], partition)
    context = Layout.of((9, 9, 1)).drop_context(context_of(batch, 1))
    assert context.regions is not None
    for seen, label in zip(context.regions[partition].samples, batch.labels[:, 0, :, :, 0], strict=True):
        np.testing.assert_array_equal(numbers_of(seen.patch), label)


def test_a_region_of_more_than_2_to_the_24_voxels_is_counted_exactly() -> None:
    """Both ways of summing; a float32 counter would stay at 16777216."""
    voxels = 2**24 + 4096
    ones = torch.ones(1, voxels)
    numbers = np.zeros(voxels, np.int32)
    numbers[-4:] = 1
    regions: Sequence[Regions] = (MapRegions.of(numbers), BoxRegions.of(((0, voxels - 4, voxels),)))
    for whole in regions:
        found = BatchRegions([PatchRegions(whole, whole)]).sum(ones)
        assert found.tolist() == [[voxels - 4, 4]]


@pytest.mark.parametrize("mapped", [False, True])
def test_sums_over_regions_pass_gradcheck(mapped: bool) -> None:
    whole = partitions.parse(PARTITIONS[0]).divide((7, 5))
    seen = PatchRegions(whole.patch((-1, 2), (5, 4)), whole)
    regions = BatchRegions([as_map(seen) if mapped else seen])
    labels = torch.randint(0, 3, (1, 1, 5, 4))
    loss = losses.create("adaptive_region_tversky", partition=PARTITIONS[0], detach=False, a=0.5)
    (partition,) = partitions_in(loss.spec)

    def value(logits: torch.Tensor) -> torch.Tensor:
        return loss.evaluate(logits, labels, LossContext(regions={partition: regions})).value

    assert torch.autograd.gradcheck(value, torch.randn(1, 3, 5, 4, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("kind", ["structures", "equal_foreground"])
@pytest.mark.parametrize("variation", VARIATIONS)
def test_regions_that_follow_the_truth_travel_with_the_patches(kind: str, variation: str) -> None:
    """The label holds the numbers of the regions, which are found on another label of the same case."""
    rng = np.random.default_rng(4)
    truth = (rng.random(SHAPE) > 0.93).astype(np.uint8)
    partition = partitions.parse(
        {"kind": kind, **({"margin": 1.5, "smallest": 1} if kind == "structures" else {"count": 9})}
    )
    whole = partition.divide(SHAPE, truth, (1.0, 1.0, 1.0))
    made = store(whole.ids[whole.numbers()].astype(np.uint8), int(whole.ids.max()) + 1)

    class Given(type(partition)):  # type: ignore[misc]
        def divide(self, shape: Any, labels: Any = None, spacing: Any = None) -> Regions:
            assert labels is not None and tuple(spacing) == (1.0, 1.0, 1.0)
            return whole

    batch = sampled(made, (9, 14, 6), VARIATIONS[variation], Given.of(partition.plain()))
    ((_, samples),) = batch.regions.items()
    for label, seen in zip(batch.labels[:, 0], samples, strict=True):
        np.testing.assert_array_equal(numbers_of(seen.patch), label)
        assert seen.volume is whole

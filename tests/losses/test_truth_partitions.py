"""Regions that follow the truth: structures with a margin, and boxes of equal foreground."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.regions import BoxRegions, MapRegions
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.partitions import registry
from segexplorer.losses.truth_partitions import TruthPartition

TRUTH_KINDS = [kind for kind in registry.names() if registry.spec(kind).follows_truth]


def label(*shape: int) -> NDArray[np.uint8]:
    """Two pieces of class 1, one of class 2 and a speck."""
    found = np.zeros(shape, np.uint8)
    found[1:4, 1:4] = 1
    found[1:4, 9:12] = 1
    found[9:12, 4:8] = 2
    found[13, 13] = 2
    return found


def numbers(partition: Any, labels: NDArray[np.uint8], spacing: Any = None) -> NDArray[np.int64]:
    regions = partition.divide(labels.shape, labels, spacing)
    return regions.ids[regions.numbers()]


def test_structures_and_their_margins_by_hand() -> None:
    partition = registry.parse({"kind": "structures", "margin": 1, "smallest": 2})
    found = numbers(partition, label(14, 14))
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    assert (found[1:4, 1:4] == 1).all() and (found[1:4, 9:12] == 2).all() and (found[9:12, 4:8] == 3).all()
    assert found[0, 1] == 1 and found[0, 0] == 0, "the margin of 1 mm reaches faces, not corners"
    assert found[13, 13] == 0, "a speck below the smallest size has no region"
    thin = numbers(partition, label(14, 14), spacing=(2.0, 0.5))
    assert thin[0, 2] == 0 and thin[2, 5] == 1 and thin[2, 6] == 0, "margins are in mm"


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    spacing=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
    margin=st.one_of(st.none(), st.floats(0, 6)),
)
def test_every_voxel_belongs_to_the_nearest_structure(seed: int, spacing: Any, margin: float | None) -> None:
    """Against distances from every voxel to every structure, one by one."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((11, 9), np.uint8)
    for _ in range(3):
        x, y = rng.integers(0, 9), rng.integers(0, 7)
        labels[x : x + 2, y : y + 2] = rng.integers(1, 3)
    partition = registry.parse({"kind": "structures", "margin": margin, "smallest": 1})
    found = numbers(partition, labels, spacing)
    seeds = {n: np.argwhere((found == n) & (labels != 0)) for n in np.unique(found[labels != 0])}
    for place in product(range(11), range(9)):
        distances = {
            n: np.sqrt((((own - place) * np.asarray(spacing)) ** 2).sum(1)).min() for n, own in seeds.items()
        }
        nearest = min(distances.values())
        if margin is not None and nearest > margin + 1e-9:
            assert found[place] == 0
        elif margin is None or nearest < margin - 1e-9:
            assert distances[int(found[place])] == pytest.approx(nearest)


def test_structures_of_one_number_are_connected_and_of_one_class() -> None:
    labels = label(14, 14)
    labels[4, 4] = 1  # touches the first piece by a corner: one structure
    found = numbers(registry.parse({"kind": "structures", "margin": 0, "smallest": 1}), labels)
    assert found[4, 4] == found[3, 3] and len(np.unique(found)) == 5
    most = numbers(registry.parse({"kind": "structures", "margin": 0, "smallest": 1, "most": 2}), labels)
    assert set(np.unique(most)) == {0, 1, 2} and most[10, 5] == 2, "the largest ones are kept"


def test_boxes_of_equal_foreground() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[4:20, 4:20, 4:20] = rng.integers(0, 3, (16, 16, 16))
    partition = registry.parse({"kind": "equal_foreground", "count": 16, "smallest": 2})
    found = numbers(partition, labels)
    foreground = np.bincount(found[labels != 0], minlength=16)
    assert len(foreground) == 16 and foreground.min() > 0.4 * foreground.max()
    for number in range(16):
        places = np.argwhere(found == number)
        assert np.prod(places.max(0) - places.min(0) + 1) == len(places), "each region is a box"
        assert (places.max(0) - places.min(0) + 1).min() >= 2
    assert (numbers(partition, labels) == found).all()


@pytest.mark.parametrize("kind", TRUTH_KINDS)
def test_without_foreground_or_label_a_volume_is_one_region(kind: str) -> None:
    partition = registry.parse(kind)
    empty = np.zeros((5, 6, 7), np.uint8)
    empty[0] = 255
    assert len(partition.divide(empty.shape, empty).ids) == 1
    alone = partition.divide((5, 6, 7))
    assert isinstance(alone, BoxRegions) and alone.complete and len(alone.ids) == 1
    assert isinstance(partition, TruthPartition)
    with pytest.raises(SpecError, match="needs the truth"):
        partition.boxes((5, 6, 7))


@pytest.mark.parametrize("kind", TRUTH_KINDS)
@pytest.mark.parametrize("soft", [False, True])
def test_a_loss_without_context_divides_by_the_target_that_it_is_given(kind: str, soft: bool) -> None:
    labels = np.stack([label(14, 14), np.flip(label(14, 14), 0)])
    labels[0, 0, 0] = 255
    partition = registry.parse({"kind": kind, "smallest": 2})
    loss = losses.create("region_dice", partition=partition)
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 14, 14)))
    target: torch.Tensor = torch.from_numpy(labels.astype(np.int64))[:, None]
    if soft:
        target = torch.nn.functional.one_hot(target[:, 0] % 255, 3).movedim(-1, 1).double()
    output = loss.evaluate(logits, target, LossContext())
    reports = losses.region_reports(output)
    for report, own in zip(reports, labels, strict=True):
        assert isinstance(report.regions, MapRegions)
        expected = partition.divide(own.shape, own)
        np.testing.assert_array_equal(report.regions.numbers(), expected.numbers())
    probs = torch.softmax(logits, 1).numpy()
    wrong = probs[1, 1] * (labels[1] != 1)
    regions = reports[1].regions
    for place in range(len(regions.ids)):
        inside = regions.numbers() == place
        if (labels[1][inside] == 1).any():
            assert reports[1].values["fp"][1, place] == pytest.approx(wrong[inside].sum(), rel=1e-5)


def test_the_partition_of_the_explanation_works() -> None:
    """The code of docs/explanation/regions.md, as it is printed there."""
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "regions.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    try:
        space: dict[str, Any] = {"__name__": "explained"}
        exec(compile(code, "regions.md", "exec", dont_inherit=True), space)
        partition = registry.parse("halves")
        assert sorted(np.unique(numbers(partition, label(14, 14)))) == [0, 1]
        target = torch.from_numpy(label(14, 14).astype(np.int64))[None, None]
        output = losses.create("region_dice", partition="halves").evaluate(torch.zeros(1, 3, 14, 14), target)
        assert output.maps["fp"].values.shape == (1, 3, 2)
    finally:
        if "halves" in registry.names():
            registry.unregister("halves")

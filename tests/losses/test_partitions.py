"""Partitions: the built-in ones agree with the losses' own parameters, and another package's works like them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import yaml

from segexplorer import losses
from segexplorer.core.errors import SpecError, UnknownKindError
from segexplorer.core.fields import parameter
from segexplorer.core.registry import families
from segexplorer.core.schema import json_schema
from segexplorer.losses.partitions import BoxSize, Edges, Grid, PartitionSpec, registry

REGIONAL = [kind for kind in losses.names() if losses.spec(kind).regional]


class Slabs(PartitionSpec):
    """Slabs of one thickness along one axis, as another package might register them."""

    display_name: ClassVar[str] = "Slabs"
    kind: Literal["slabs"] = "slabs"
    axis: int = parameter(0, title="Axis", description="Axis that is cut.", ge=0, le=2)
    thickness: int = parameter(2, title="Thickness", description="Of a slab.", unit="voxels", ge=1)

    def edges(self, shape: Sequence[int]) -> Edges:
        return tuple(
            (*range(0, n, self.thickness), n) if axis == self.axis else (0, n) for axis, n in enumerate(shape)
        )


class Overhanging(PartitionSpec):
    """A faulty one: its boxes reach beyond the volume."""

    display_name: ClassVar[str] = "Overhanging"
    kind: Literal["overhanging"] = "overhanging"

    def edges(self, shape: Sequence[int]) -> Edges:
        return tuple((0, n + 1) for n in shape)


@pytest.fixture
def registered() -> Iterator[None]:
    for spec in (Slabs, Overhanging):
        registry.register(spec)
    yield
    for kind in ("slabs", "overhanging"):
        registry.unregister(kind)


def case(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(0, 3, (2, 1, *shape), generator=generator)
    for axis in range(2, labels.ndim):  # whichever axis is cut, classes 1 and 2 are absent from a slab
        labels[1].narrow(axis - 1, 0, 2).zero_()
    return torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("kind", REGIONAL)
@pytest.mark.parametrize(
    ("own", "chosen"),
    [
        ({"grid": 3}, Grid(count=3)),
        ({"grid": (2, 3)}, {"kind": "grid", "count": [2, 3]}),
        ({"box_size": 4}, BoxSize(size=4)),
        ({"box_size": (2, 5)}, {"kind": "box_size", "size": [2, 5]}),
        ({}, "box_size"),
        ({"grid": 16}, "grid"),
    ],
)
def test_grid_and_box_size_are_partitions(kind: str, own: dict[str, Any], chosen: Any) -> None:
    logits, labels = case(9, 7)
    one = losses.create(kind, **own).evaluate(logits, labels)
    other = losses.create(kind, partition=chosen).evaluate(logits, labels)
    assert torch.equal(one.value, other.value)
    for name, region_map in one.maps.items():
        assert region_map.regions == other.maps[name].regions
        assert torch.equal(region_map.values.nan_to_num(-1), other.maps[name].values.nan_to_num(-1))


@pytest.mark.parametrize("kind", REGIONAL)
def test_a_given_partition_replaces_grid_and_box_size(kind: str) -> None:
    logits, labels = case(9, 7)
    output = losses.create(kind, grid=2, box_size=3, partition="grid").evaluate(logits, labels)
    assert output.maps["fp"].regions == Grid().boxes((9, 7))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", REGIONAL)
@pytest.mark.parametrize(("shape", "axis"), [((7, 5), 0), ((4, 5, 6), 1), ((4, 5, 6), 2)])
def test_a_registered_partition_gives_the_maps_of_its_regions(
    kind: str, shape: tuple[int, ...], axis: int
) -> None:
    logits, labels = case(*shape)
    loss = losses.create(kind, partition={"kind": "slabs", "axis": axis, "thickness": 2})
    output = loss.evaluate(logits, labels)
    starts = range(0, shape[axis], 2)
    probs = torch.softmax(logits, 1).numpy()
    truth = np.stack([labels[:, 0].numpy() == c for c in range(3)], 1)
    others = tuple(a for a in range(2, probs.ndim) if a != axis + 2)

    def per_slab(voxels: np.ndarray) -> np.ndarray:
        return np.add.reduceat(voxels.sum(others), starts, axis=2)

    expected = {"fp": per_slab(probs * ~truth), "fn": per_slab((1 - probs) * truth)}
    absent = per_slab(truth.astype(float)) == 0
    assert absent.any() and not absent.all()
    for name, values in expected.items():
        found = output.maps[name].values.numpy()
        assert np.isnan(found[absent]).all()
        assert np.allclose(found[~absent], values[~absent], atol=1e-12)
    reports = losses.region_reports(output)
    assert reports[0].edges[axis] == (*starts, shape[axis]) and len(reports) == 2


@pytest.mark.usefixtures("registered")
def test_a_registered_partition_can_be_written_in_a_file() -> None:
    text = "{kind: region_dice, partition: {kind: slabs, thickness: 3}}"
    spec = losses.parse(yaml.safe_load(text))
    assert spec.plain()["partition"] == {"kind": "slabs", "axis": 0, "thickness": 3}
    assert losses.parse(spec.plain()) == spec
    assert "partitions.slabs" in json_schema(type(spec))["$defs"]


@pytest.mark.usefixtures("registered")
def test_boxes_that_do_not_cover_the_volume_are_refused() -> None:
    logits, labels = case(4, 5)
    with pytest.raises(SpecError, match="Overhanging does not cover 4 x 5 voxels"):
        losses.create("region_dice", partition="overhanging")(logits, labels)


def test_partitions_are_a_family_whose_unknown_kinds_are_refused() -> None:
    assert families()["partitions"] is registry and {"grid", "box_size"} <= set(registry.names())
    with pytest.raises(SpecError, match="slices"):
        losses.parse({"kind": "region_dice", "partition": "slices"})
    with pytest.raises(UnknownKindError, match="no partition 'gird'"):
        registry.parse("gird")


@pytest.mark.parametrize("wrong", [0, (2, 0), (1, 2, 3, 4), ()])
def test_numbers_below_one_and_too_many_axes_are_refused(wrong: Any) -> None:
    for data in ({"kind": "grid", "count": wrong}, {"kind": "box_size", "size": wrong}):
        with pytest.raises(SpecError, match="at least 1, or one per axis"):
            registry.parse(data)

"""How regional losses divide a volume into boxes: the family "partitions".

A partition divides a whole prepared volume. A training patch sees parts of the volume's regions, wherever it was
cut and however it was mirrored, rotated or deformed, so that what trains is what a map of the volume shows. `grid`
and `box_size` cut each axis. Another package adds a partition by registering a `PartitionSpec` whose `edges`
returns its cuts; every regional loss then takes it as `partition`, for example
`loss: {kind: region_dice, partition: {kind: slabs, thickness: 4}}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.regions import BoxRegions, Edges, Regions
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from segexplorer.functional.regions import Boxes

__all__ = ["AnyPartition", "BoxSize", "Edges", "Grid", "PartitionSpec", "registry"]

Sizes = int | tuple[int, ...]


def checked_sizes(value: Sizes | None) -> Sizes | None:
    """Return numbers of boxes or voxels as they are; a number below 1, or more than three axes, is refused."""
    numbers = (value,) if isinstance(value, int) else (1,) if value is None else value
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise ValueError("must be a whole number of at least 1, or one per axis")
    return value


class PartitionSpec(Spec):
    """Base of all partitions; a kind implements `edges`."""

    reference: ClassVar[str] = ""
    follows_truth: ClassVar[bool] = False
    """Whether the regions depend on a case's label, and not on its shape alone."""

    def edges(self, shape: Sequence[int]) -> Edges:
        """Return the box edges along each axis of a spatial shape in voxels: increasing, from 0 to its length.

        Raises
        ------
        SpecError
            When these parameters do not fit that many axes.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def divide(
        self,
        shape: Sequence[int],
        labels: NDArray[np.uint8] | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Regions:
        """Return the regions of a whole volume: the boxes between the edges (`core.regions.Partition.divide`)."""
        return BoxRegions.of(self._checked_edges(shape))

    def boxes(self, shape: Sequence[int]) -> Boxes:
        """Return the boxes of a spatial shape, which sum over regions and paint them.

        Raises
        ------
        SpecError
            When the edges do not cover the shape, as those of a faulty plug-in may.
        """
        from segexplorer.functional.regions import Boxes

        return Boxes(self._checked_edges(shape))

    def _checked_edges(self, shape: Sequence[int]) -> Edges:
        edges = tuple(tuple(int(edge) for edge in axis) for axis in self.edges(shape))
        if len(edges) != len(shape) or not all(map(_covers, edges, shape)):
            raise SpecError(
                f"The partition {self.display_name} does not cover {' x '.join(map(str, shape))} voxels: "
                f"its edges are {[list(axis) for axis in edges]}.",
                "Choose another partition, or report this to its author.",
            )
        return edges


def _covers(edges: tuple[int, ...], length: int) -> bool:
    return edges[:1] == (0,) and edges[-1] == length and all(a < b for a, b in pairwise(edges))


registry: Registry[PartitionSpec] = Registry("partitions", PartitionSpec, "partition")
AnyPartition = Annotated[PartitionSpec, registry.late_bound]


@registry.register
class Grid(PartitionSpec):
    """A number of boxes along each axis of the volume, whose lengths differ by at most one voxel."""

    display_name: ClassVar[str] = "Grid"
    reference: ClassVar[str] = "Chen 2023: 16 boxes along each axis"
    kind: Literal["grid"] = "grid"
    count: Sizes = parameter(
        16,
        title="Boxes per axis",
        description="One number, or one per axis. An axis with fewer voxels is cut into single voxels.",
    )
    _count = field_validator("count")(checked_sizes)

    def edges(self, shape: Sequence[int]) -> Edges:
        """Return cuts like those of `numpy.array_split`."""
        from segexplorer.functional.regions import partition

        return partition(shape, grid=self.count).edges


@registry.register
class BoxSize(PartitionSpec):
    """Boxes of a fixed size from the first voxel of the volume; the last along an axis may be smaller."""

    display_name: ClassVar[str] = "Box size"
    kind: Literal["box_size"] = "box_size"
    size: Sizes = parameter(
        8, title="Box size", description="Edge of a box: one number, or one per axis.", unit="voxels"
    )
    _size = field_validator("size")(checked_sizes)

    def edges(self, shape: Sequence[int]) -> Edges:
        """Return a cut every `size` voxels."""
        from segexplorer.functional.regions import partition

        return partition(shape, box_size=self.size).edges

"""Slice-wise training: a 2D network on patches that are one voxel thick, in a pipeline of volumes.

Everything but network and loss keeps three axes: a patch is (224, 224, 1), a prediction a whole volume. The thin
axis is dropped where the network and the loss begin and put back where they end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import SpecError
from segexplorer.core.events import RegionReport
from segexplorer.core.regions import BoxRegions, MapRegions, Regions
from segexplorer.networks.base import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from segexplorer.functional.inputs import LossContext

PRIOR = 0.01
"""Probability of each of several overlapping classes before training (Lin et al. 2017, section 4.1)."""


@dataclass(frozen=True)
class Layout:
    """How a network sees a patch: whole, or as a slice across `thin`, the axis of one voxel."""

    thin: int | None = None

    @classmethod
    def of(cls, patch: Sequence[int] | None) -> Layout:
        """Return the layout of patches of a size; None, for whole volumes, is 3D.

        Raises
        ------
        SpecError
            When the patch is one voxel thick along more than one axis.
        """
        thin = [axis for axis, n in enumerate(patch or ()) if n == 1]
        if len(thin) > 1:
            raise SpecError(
                f"The patch {' × '.join(map(str, patch or ()))} is a line, not a volume or a slice.",
                "Set sampling.patch_size to at most one 1, e.g. [224, 224, 1] for slices.",
            )
        return cls(thin[0] if thin else None)

    @property
    def dimensions(self) -> int:
        """Spatial axes of the network, 2 or 3."""
        return 3 if self.thin is None else 2

    def divisor(self, network: NetworkSpec) -> tuple[int, ...]:
        """Return, per axis of the volume, what a patch must be a multiple of."""
        own = list(network.divisor(self.dimensions))
        if self.thin is not None:
            own.insert(self.thin, 1)
        return tuple(own)

    def flat(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial shape that the network sees."""
        return tuple(n for axis, n in enumerate(shape) if axis != self.thin)

    def build(
        self, network: NetworkSpec, in_channels: int, out_channels: int, *, overlapping: bool = False
    ) -> nn.Module:
        """Return the network, taking (B, channels, x, y, z) and giving logits of that shape.

        Parameters
        ----------
        out_channels
            Channels of the logits, that of the background included.
        overlapping
            Whether classes overlap: the network itself has no output for the background then.
        """
        outputs = out_channels - 1 if overlapping else out_channels
        built = network.build(dimensions=self.dimensions, in_channels=in_channels, out_channels=outputs)
        if self.thin is not None:
            built.register_forward_pre_hook(_Drop(self.thin))
            built.register_forward_hook(_PutBack(self.thin))
        if overlapping:
            built.register_forward_hook(_AddBackground())
        return built

    def drop(self, tensor: Tensor) -> Tensor:
        """Return a (B, C, x, y, z) tensor as the loss is to see it."""
        return tensor if self.thin is None else tensor.squeeze(2 + self.thin)

    def drop_context(self, context: LossContext) -> LossContext:
        """Return the context of patches without the thin axis."""
        if self.thin is None:
            return context
        import numpy as np

        maps = context.distance_maps
        columns: dict[str, Any] = {
            name: None if getattr(context, name) is None else np.delete(getattr(context, name), self.thin, 1)
            for name in ("spacing", "origin", "volume_shape")
        }
        regions = context.regions
        return replace(
            context,
            regions=None if regions is None else {k: r.without_axis(self.thin) for k, r in regions.items()},
            distance_maps=None if maps is None else {k: self.drop(v) for k, v in maps.items()},
            voxel_weights=None if context.voxel_weights is None else self.drop(context.voxel_weights),
            **columns,
        )

    def lift(self, report: RegionReport) -> RegionReport:
        """Return the report of a patch's boxes with the thin axis put back."""
        if self.thin is None:
            return report
        import numpy as np

        flat = report.regions
        lifted: Regions
        if isinstance(flat, MapRegions):
            lifted = MapRegions(np.expand_dims(flat.labels, self.thin), flat.ids)
        else:
            shape, edges = list(flat.shape), list(flat.edges)
            shape.insert(self.thin, 1)
            edges.insert(self.thin, (0, 1))
            lifted = BoxRegions(tuple(shape), tuple(edges), flat.ids)
        return RegionReport.of(report.values, lifted, report.scope)


@dataclass(frozen=True)
class _Drop:
    axis: int

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        image, *rest = arguments
        return (image.squeeze(2 + self.axis), *rest)


@dataclass(frozen=True)
class _AddBackground:
    """Gives the outputs of overlapping classes a channel for the background, and lets them begin at `PRIOR`.

    A sigmoid of outputs near 0 predicts every class everywhere. Where the classes are small, the first epochs are
    then spent on unlearning that, and a short training never sees them.
    """

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> Any:
        from segexplorer.functional.softmax import with_background

        return with_background(self._lowered(outputs))

    def _lowered(self, outputs: Any) -> Any:
        if isinstance(outputs, (tuple, list)):  # of deep supervision
            return type(outputs)(map(self._lowered, outputs))
        return outputs - math.log((1 - PRIOR) / PRIOR)


@dataclass(frozen=True)
class _PutBack:
    axis: int

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], logits: Any) -> Any:
        if isinstance(logits, (tuple, list)):
            return type(logits)(level.unsqueeze(2 + self.axis) for level in logits)
        return logits.unsqueeze(2 + self.axis)

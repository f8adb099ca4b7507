"""`top_k`: cross entropy of the worst voxels alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class TopK(LossSpec):
    """Mean of the largest k percent of the voxels' cross entropies."""

    display_name: ClassVar[str] = "Top-k cross entropy"
    formula: ClassVar[str] = (
        r"L=\frac1n\sum_{i\in\mathrm{top}\,n}-\log p_{i,y_i},\quad n=\max(1,\lfloor kM/100\rfloor)"
    )
    reference: ClassVar[str] = "Wu 2016, arXiv:1605.06885; as in nnU-Net"
    punishes: ClassVar[str] = "The worst voxels; all others do not count."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "distribution"
    kind: Literal["top_k"] = "top_k"
    k_percent: float = parameter(
        10.0,
        title="Worst voxels",
        meaning="Part of the kept voxels that counts. 100: cross entropy.",
        unit="%",
        gt=0,
        le=100,
        live=True,
    )
    scope: Literal["batch", "sample"] = parameter(
        "batch", title="Worst of", meaning="Whether they are looked for in the batch or in each sample."
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Look for the worst voxels and average them."""
        import torch

        voxel, keep = scene.cross_entropies, scene.keep
        if self.scope == "batch":
            return single(self.kind, self._worst(voxel if keep is None else voxel[keep]))
        samples = [v if keep is None else v[keep[b]] for b, v in enumerate(voxel)]
        counted = [self._worst(v) for v in samples if v.numel()]
        value = torch.stack(counted).mean() if counted else voxel.sum() * 0
        return single(self.kind, value)

    def _worst(self, voxels: Tensor) -> Tensor:
        if not voxels.numel():
            return voxels.sum()
        count = max(1, math.floor(self.k_percent / 100 * voxels.numel()))
        return voxels.flatten().topk(count, sorted=False).values.mean()

"""`balanced_cross_entropy`: cross entropy in which rare classes weigh more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class BalancedCrossEntropy(LossSpec):
    """Mean over voxels of -w_y log p_y, w_c = 1 - frequency of class c, without gradient."""

    display_name: ClassVar[str] = "Balanced cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i(1-f_{y_i})\log p_{i,y_i}"
    reference: ClassVar[str] = "Xie 2015, arXiv:1504.06375"
    punishes: ClassVar[str] = "Wrong voxels, those of a rare class more."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "distribution"
    voxelwise: ClassVar[bool] = True
    kind: Literal["balanced_cross_entropy"] = "balanced_cross_entropy"
    scope: Literal["batch", "sample"] = parameter(
        "batch",
        title="Frequencies of",
        meaning="Whether classes are counted over the batch or in each sample.",
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh each voxel by its class."""
        from segexplorer.functional.focal import focal_sum

        volumes = scene.volumes if self.scope == "sample" else scene.volumes.sum(0, keepdim=True)
        weights = (1 - volumes / volumes.sum(1, keepdim=True).clamp(min=1)).expand(len(scene.logits), -1)
        if scene.labels is not None:
            own = weights.gather(1, scene.labels.flatten(1)).view_as(scene.labels)
            total = focal_sum(scene, 0, None, factor=own)
        else:
            assert scene.soft is not None
            column = weights.reshape(*weights.shape, *(1,) * len(scene.spatial))
            total = scene.kept_only(-(column * scene.soft * scene.log_probs).sum(1)).sum()
        return single(self.kind, total / scene.kept)

"""`distance_cross_entropy`: cross entropy that weighs voxels near a boundary more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class DistanceCrossEntropy(LossSpec):
    """Mean of (1 + strength Phi) CE, Phi 1 at the boundary of each class and 0 deepest inside."""

    display_name: ClassVar[str] = "Distance-penalised cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i(1+\lambda\Phi_i)\sum_c g_{ic}\log p_{ic}"
    reference: ClassVar[str] = "Calivá 2019, arXiv:1908.03679"
    punishes: ClassVar[str] = "Every wrong voxel, up to twice as much at the boundaries of classes."
    papers: ClassVar[tuple[str, ...]] = ("003",)
    family: ClassVar[str] = "distribution"
    requires: ClassVar[tuple[str, ...]] = ("distance maps",)
    kind: Literal["distance_cross_entropy"] = "distance_cross_entropy"
    strength: float = parameter(
        1.0,
        title="Strength",
        meaning="Extra weight at the boundary; 0 is plain cross entropy.",
        ge=0,
        live=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Weigh by the distances of the labels; those of a soft target are its largest classes."""
        import torch

        from segexplorer.functional.boundary import nearness
        from segexplorer.functional.masked import spacing_of

        if scene.labels is not None:
            labels = scene.labels
            voxel = -scene.log_probs.gather(1, labels.unsqueeze(1)).squeeze(1)
        else:
            assert scene.soft is not None
            labels = scene.soft.argmax(1)
            voxel = -(scene.soft * scene.log_probs).sum(1)
        voxel = voxel * (1 + self.strength * nearness(labels, spacing_of(scene)).to(voxel.dtype))
        if scene.keep is not None:
            voxel = torch.where(scene.keep, voxel, voxel.new_zeros(()))
        return single(self.kind, voxel.sum() / scene.kept)

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
    """Mean of (1 + strength Phi) CE, Phi 1 at the boundary of each class and 0 deepest inside.

    In training Phi is that of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Distance-penalised cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i(1+\lambda\Phi_i)\sum_c g_{ic}\log p_{ic}"
    reference: ClassVar[str] = "Calivá 2019, arXiv:1908.03679"
    punishes: ClassVar[str] = "Every wrong voxel, up to twice as much at the boundaries of classes."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "distribution"
    requires: ClassVar[tuple[str, ...]] = ("nearness",)
    voxelwise: ClassVar[bool] = True
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
        from segexplorer.functional.boundary import nearness
        from segexplorer.functional.masked import spacing_of

        given = (scene.context.distance_maps or {}).get("nearness")
        if given is not None:
            near = given[:, 0]
        else:
            labels = scene.labels
            if labels is None:
                assert scene.soft is not None
                labels = scene.soft.argmax(1)
            near = nearness(labels, spacing_of(scene))
        voxel = scene.cross_entropies * (1 + self.strength * near.to(scene.logits.dtype))
        return single(self.kind, scene.kept_only(voxel).sum() / scene.kept)

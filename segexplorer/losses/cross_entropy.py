"""`cross_entropy`: the mean negative log-probability of the true class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single
from segexplorer.losses.ratio import checked_weights, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class CrossEntropy(LossSpec):
    """Mean over kept voxels of -sum_c g_c log p_c."""

    display_name: ClassVar[str] = "Cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i\sum_c w_c\,g_{ic}\log p_{ic}"
    reference: ClassVar[str] = "Ronneberger 2015, arXiv:1505.04597 (weighted by voxel)"
    punishes: ClassVar[str] = "Every voxel alike, the more the less probability its true class gets."
    family: ClassVar[str] = "distribution"
    papers: ClassVar[tuple[str, ...]] = ("000", "001", "002", "003", "004")
    voxelwise: ClassVar[bool] = True
    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: tuple[float, ...] | None = parameter(
        None, title="Class weights", meaning="One factor per class, background first.", advanced=True
    )
    weight_norm: Literal["weights", "voxels"] = parameter(
        "weights",
        title="Divide by",
        meaning="With class weights: the sum of the voxels' weights (as torch does), or their number.",
        advanced=True,
    )
    label_smoothing: float = parameter(
        0.0,
        title="Label smoothing",
        meaning="Part of each target that is spread evenly over all classes.",
        ge=0,
        lt=1,
        step=0.05,
        live=True,
    )

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return checked_weights(value)

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Gather the log-probabilities of the labels; the soft form is used for soft targets."""
        weights = weights_of(self.class_weights, scene)
        column = weights.view(-1, *(1,) * len(scene.spatial))
        own: Tensor | None = None
        if self.class_weights is None:
            voxel = scene.cross_entropies
        elif scene.labels is not None:
            own = weights[scene.labels]
            voxel = scene.cross_entropies * own
        else:
            assert scene.soft is not None
            voxel = -(scene.soft * scene.log_probs * column).sum(1)
            own = (scene.soft * column).sum(1)
        if self.label_smoothing:
            even = -(scene.log_probs * column).mean(1)
            voxel = (1 - self.label_smoothing) * voxel + self.label_smoothing * even
        if scene.context.voxel_weights is not None:
            voxel = voxel * scene.context.voxel_weights[:, 0].to(voxel.dtype)
        total = scene.kept
        if scene.keep is not None:
            voxel = scene.kept_only(voxel)
            own = None if own is None else own * scene.keep
        if own is not None and self.weight_norm == "weights":
            total = own.sum()
            total = total.where(total > 0, total.new_ones(()))
        return single(self.kind, voxel.sum() / total)

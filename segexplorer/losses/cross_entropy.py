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
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
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
        """Sum over voxels; label smoothing adds the even share of each class."""
        from segexplorer.functional.focal import focal_sum

        weights = None if self.class_weights is None else weights_of(self.class_weights, scene)
        given = scene.context.voxel_weights
        voxels = None if given is None else given[:, 0].to(scene.logits.dtype)
        value = focal_sum(scene, 0, weights, factor=voxels)
        if self.label_smoothing:
            value = (1 - self.label_smoothing) * value + self.label_smoothing * _even(scene, weights, voxels)
        total = scene.kept
        if weights is not None and self.weight_norm == "weights":
            total = (scene.volumes * weights).sum()
            total = total.where(total > 0, total.new_ones(()))
        return single(self.kind, value / total)


def _even(scene: Scene, weights: Tensor | None, voxels: Tensor | None) -> Tensor:
    """Return the sum over kept voxels of the mean of -w_c log p_c over all classes."""
    logs = scene.log_probs
    if weights is not None:
        logs = logs * weights.view(-1, *(1,) * len(scene.spatial))
    even = scene.kept_only(-logs.mean(1))
    return (even if voxels is None else even * voxels).sum()

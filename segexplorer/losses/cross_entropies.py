"""Cross entropies: what the probability of each voxel's true class costs.

- `cross_entropy`: the mean negative log-probability of the true class.
- `balanced_cross_entropy`: rare classes count more.
- `focal`: voxels that are already classified well count less.
- `top_k`: only the worst voxels count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, checked_weights, registry, single, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


@registry.register
class CrossEntropy(LossSpec):
    """Mean over kept voxels of -sum_c g_c log p_c."""

    display_name: ClassVar[str] = "Cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i\sum_c w_c\,g_{ic}\log p_{ic}"
    reference: ClassVar[str] = "Ronneberger 2015, arXiv:1505.04597 (weighted by voxel)"
    penalises: ClassVar[str] = "Every voxel equally; the lower the probability of its true class, the more."
    family: ClassVar[str] = "distribution"
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("general", "calibration")
    kind: Literal["cross_entropy"] = "cross_entropy"
    class_weights: tuple[float, ...] | None = parameter(
        None, title="Class weights", description="One factor per class, background first.", advanced=True
    )
    weight_norm: Literal["weights", "voxels"] = parameter(
        "weights",
        title="Divide by",
        description="With class weights: the sum of the voxels' weights (as torch does), or their number.",
        advanced=True,
    )
    label_smoothing: float = parameter(
        0.0,
        title="Label smoothing",
        description="Part of each target that is spread evenly over all classes.",
        ge=0,
        lt=1,
        step=0.05,
        live=True,
    )

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return checked_weights(value)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the cost of the true classes; where they are needed, that of all, and volumes."""
        from segexplorer.functional.class_sums import Volumes
        from segexplorer.functional.entropies import AllLogs, FocalCosts

        factor = inputs.voxel_factor
        found: list[Sums] = [FocalCosts(factor=factor)]
        if self.label_smoothing:
            found.append(AllLogs(factor))
        if self.class_weights is not None and self.weight_norm == "weights":
            found.append(Volumes())
        return tuple(found)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Sum over voxels; label smoothing adds the even share of each class."""
        from segexplorer.functional.entropies import AllLogs, FocalCosts

        weights = None if self.class_weights is None else weights_of(self.class_weights, inputs)
        costs = _voxel_sum(inputs, FocalCosts)
        value = (costs if weights is None else costs * weights).sum()
        if self.label_smoothing:
            logs = _voxel_sum(inputs, AllLogs)
            even = (logs if weights is None else logs * weights).mean(1).sum()
            value = (1 - self.label_smoothing) * value + self.label_smoothing * even
        total = inputs.kept
        if weights is not None and self.weight_norm == "weights":
            total = (inputs.volumes * weights).sum()
            total = total.where(total > 0, total.new_ones(()))
        return single(self.kind, value / total)


def _voxel_sum(inputs: LossInputs, kind: Callable[..., Sums]) -> Tensor:
    """Return (B, C) sums with the context's weights of voxels, of which each part of a volume has its own."""
    if inputs.context.voxel_weights is None:
        return inputs.sums(kind())[0]
    return inputs.total(lambda part: part.sums(kind(factor=part.voxel_factor))[0])


@registry.register
class BalancedCrossEntropy(LossSpec):
    """Mean over voxels of -w_y log p_y, w_c = 1 - frequency of class c, without gradient."""

    display_name: ClassVar[str] = "Balanced cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i(1-f_{y_i})\log p_{i,y_i}"
    reference: ClassVar[str] = "Xie 2015, arXiv:1504.06375"
    penalises: ClassVar[str] = "Wrong voxels, more strongly those of rare classes."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "distribution"
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance",)
    kind: Literal["balanced_cross_entropy"] = "balanced_cross_entropy"
    scope: Literal["batch", "sample"] = parameter(
        "batch",
        title="Frequencies of",
        description="Whether classes are counted over the batch or in each sample.",
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the cost of the true classes, and their volumes."""
        from segexplorer.functional.class_sums import Volumes
        from segexplorer.functional.entropies import FocalCosts

        return FocalCosts(), Volumes()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh each class."""
        from segexplorer.functional.entropies import FocalCosts

        volumes = (
            inputs.exact_volumes
        )  # a common class's weight is near 0: the difference of two large volumes
        if self.scope != "sample":
            volumes = volumes.sum(0, keepdim=True)
        shares = volumes / volumes.sum(1, keepdim=True).clamp(min=1)
        (costs,) = inputs.sums(FocalCosts())
        return single(self.kind, ((1 - shares).to(inputs.dtype) * costs).sum() / inputs.kept)


@registry.register
class Focal(LossSpec):
    """Mean over voxels of -w_y (1 - p_y)^gamma log p_y."""

    display_name: ClassVar[str] = "Focal"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i w_{y_i}(1-p_{i,y_i})^\gamma\log p_{i,y_i}"
    reference: ClassVar[str] = "Lin 2017, arXiv:1708.02002"
    penalises: ClassVar[str] = (
        "Wrong and uncertain voxels; voxels that are right with confidence hardly count."
    )
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "distribution"
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("hard_voxels", "class_imbalance")
    kind: Literal["focal"] = "focal"
    gamma: float = parameter(
        2.0,
        title="Focus gamma",
        description="The higher, the less those voxels count that are nearly right. 0: cross entropy.",
        ge=0,
        le=10,
        step=0.1,
        live=True,
    )
    foreground_weight: float | tuple[float, ...] | None = parameter(
        None,
        title="Weight of foreground",
        description="One number from 0 to 1 for foreground, while background gets one minus it; "
        "or one number per class, background first. Empty: all alike.",
        called="alpha in Lin 2017",
    )

    @field_validator("foreground_weight")
    @classmethod
    def _weights(cls, value: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        if isinstance(value, float) and not 0 <= value <= 1:
            raise ValueError("a single number must be from 0 to 1; or give one weight per class")
        return checked_weights(value) if isinstance(value, tuple) else value

    def class_column(self, inputs: LossInputs) -> Tensor | None:
        """Return (C,) weights of the classes, None where all count alike."""
        if isinstance(self.foreground_weight, float):
            inside = self.foreground_weight
            return inputs.tensor([1 - inside, *(inside,) * (inputs.classes - 1)])
        return None if self.foreground_weight is None else weights_of(self.foreground_weight, inputs)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the focal cost of the true classes."""
        from segexplorer.functional.entropies import FocalCosts

        return (FocalCosts(self.gamma),)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh each voxel by its class and by how wrong it is."""
        from segexplorer.functional.entropies import FocalCosts

        (costs,), weights = inputs.sums(FocalCosts(self.gamma)), self.class_column(inputs)
        return single(self.kind, (costs if weights is None else costs * weights).sum() / inputs.kept)


@registry.register
class TopK(LossSpec):
    """Mean of the largest k percent of the voxels' cross entropies."""

    display_name: ClassVar[str] = "Top-k cross entropy"
    formula: ClassVar[str] = (
        r"L=-\frac1n\sum_{i\in\mathrm{top}\,n}\log p_{i,y_i},\quad n=\max(1,\lfloor kM/100\rfloor)"
    )
    reference: ClassVar[str] = "Wu 2016, arXiv:1605.06885; as in nnU-Net"
    penalises: ClassVar[str] = "The worst voxels; all others do not count."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "distribution"
    purposes: ClassVar[tuple[str, ...]] = ("hard_voxels",)
    kind: Literal["top_k"] = "top_k"
    k_percent: float = parameter(
        10.0,
        title="Worst voxels",
        description="Part of the kept voxels that counts. 100: cross entropy.",
        unit="%",
        gt=0,
        le=100,
        live=True,
    )
    scope: Literal["batch", "sample"] = parameter(
        "batch", title="Worst of", description="Whether they are sought in the batch or in each sample."
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Find the worst voxels and average them."""
        import torch

        voxel, keep = inputs.cross_entropies, inputs.keep
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

"""`region_dice` and `adaptive_region_tversky`: overlap box by box (Chen 2023).

A box is one of the whole volume, of which a training patch may see a part.

Only those (class, box) pairs count in which the class is present. Elsewhere the loss of a box is about 1 whatever
the prediction, and its gradient is almost zero or, where the predicted volume is near eps, a spike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, RegionMap, registry, single
from segexplorer.losses.partitions import AnyPartition, BoxSize, Grid, PartitionSpec, checked_sizes
from segexplorer.losses.penalties import AnyPenalty

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.overlap import Overlap
    from segexplorer.functional.regions import Divided
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


class RegionLoss(LossSpec):
    """Base of the losses that are computed box by box, for all classes."""

    family: ClassVar[str] = "region"
    papers: ClassVar[tuple[str, ...]] = ("Chen 2023",)
    regional: ClassVar[bool] = True
    grid: int | tuple[int, ...] | None = parameter(
        None,
        title="Grid",
        description="Boxes along each axis of the whole volume (the paper: 16). "
        "Where given, it replaces the box size.",
    )
    box_size: int | tuple[int, ...] = parameter(
        8,
        title="Box size",
        description="Edge of a box; the first box begins at the first voxel of the volume.",
        unit="voxels",
    )
    partition: AnyPartition | None = parameter(
        None,
        title="Partition",
        description="Another way to divide the volume, e.g. one that a plug-in brings. "
        "Where given, it replaces grid and box size.",
        advanced=True,
    )
    reduction: Literal["present_mean", "sum"] = parameter(
        "present_mean",
        title="Reduction",
        description="Mean over the (class, box) pairs that are present, or their sum per sample (the paper).",
    )
    eps: float = parameter(
        1e-7,
        title="Smoothing",
        description="Added to numerator and denominator.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        unit="voxels",
        advanced=True,
    )

    _sizes = field_validator("grid", "box_size")(checked_sizes)

    def chosen_partition(self) -> PartitionSpec:
        """Return the partition itself where one is given, else that of the grid or of the box size."""
        if self.partition is not None:
            return self.partition
        return BoxSize(size=self.box_size) if self.grid is None else Grid(count=self.grid)

    def partitions(self) -> tuple[PartitionSpec, ...]:
        """Return the chosen partition."""
        return (self.chosen_partition(),)

    def boxes(self, inputs: LossInputs) -> Divided:
        """Return the regions: those of the whole volumes where the context knows them, else of what is given."""
        return inputs.regions(self.chosen_partition())

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the overlap of the regions, and the sums of p^2 where denominators are squared."""
        from segexplorer.functional.class_sums import Counts, Squares

        boxes = self.boxes(inputs)
        return (Counts(boxes), Squares(boxes)) if getattr(self, "squared", False) else (Counts(boxes),)

    def bounds(self) -> tuple[float, float]:
        """Return 0 to 1; a sum has no upper end."""
        return (0.0, math.inf) if self.reduction == "sum" else (0.0, 1.0)

    def reduced(self, losses: Tensor, present: Tensor) -> Tensor:
        """Return the mean or sum of (B, C, R) losses over present pairs; 0 where there are none."""
        total = losses.where(present, losses.new_zeros(())).sum()
        if self.reduction == "sum":
            return total / losses.shape[0]
        return total / present.sum().clamp(min=1)

    def maps(self, losses: Tensor, counts: Overlap, boxes: Divided, **more: Tensor) -> dict[str, RegionMap]:
        """Return the region maps, NaN where the class is absent from the box."""
        present = counts.truth > 0
        whole = losses.detach().where(present, losses.new_zeros(()))
        share = whole / whole.sum((1, 2), keepdim=True).clamp(min=1e-12)
        values = {**more, "fp": counts.fp, "fn": counts.fn, "loss": losses, "share": share}
        return {
            name: RegionMap(v.detach().where(present, v.new_full((), math.nan)), boxes)
            for name, v in values.items()
        }


@registry.register
class RegionDice(RegionLoss):
    """1 - Dice in each box, over the boxes where the class is present."""

    display_name: ClassVar[str] = "Region Dice"
    formula: ClassVar[str] = (
        r"L=1-\frac1{|\mathcal P|}\sum_{(c,k)\in\mathcal P}"
        r"\frac{2\sum_{V_k}pg+\epsilon}{\sum_{V_k}p^2+\sum_{V_k}g^2+\epsilon}"
    )
    reference: ClassVar[str] = "Chen 2023, eq. 4: region-specific loss"
    penalises: ClassVar[str] = "Lack of overlap box by box, so that small parts count as much as large ones."
    purposes: ClassVar[tuple[str, ...]] = ("small_structures", "local_errors")
    kind: Literal["region_dice"] = "region_dice"
    squared: bool = parameter(
        True,
        title="Squared denominator",
        description="Sums p^2 and g^2 in the denominator, as the paper does.",
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Divide overlap by volumes in each box."""
        boxes = self.boxes(inputs)
        counts = inputs.overlap(boxes, squared=self.squared)
        if self.squared:
            assert counts.predicted_square is not None
            size = counts.predicted_square + counts.truth_square
            losses = 1 - (2 * counts.product + self.eps) / (size + self.eps)
        else:
            wrong = counts.fp + counts.fn
            losses = wrong / (2 * counts.tp + wrong + self.eps)
        value = self.reduced(losses, counts.truth > 0)
        return single(self.kind, value, self.maps(losses, counts, boxes))


@registry.register
class AdaptiveRegionTversky(RegionLoss):
    """Tversky in each box, alpha and beta following the box's own FP and FN, without gradient."""

    display_name: ClassVar[str] = "Adaptive region Tversky"
    formula: ClassVar[str] = (
        r"\alpha_{ck}=A+B\,f\left(\frac{FP}{FP+FN}\right),\ \beta_{ck}=A+B\,f\left(\frac{FN}{FP+FN}\right),\quad "
        r"L_{ck}=1-\frac{TP+\epsilon}{TP+\alpha_{ck}FP+\beta_{ck}FN+\epsilon}"
    )
    reference: ClassVar[str] = "Chen 2023, eq. 6-8: adaptive region-specific loss"
    penalises: ClassVar[str] = "In each box, whichever error dominates there: surplus or missed voxels."
    purposes: ClassVar[tuple[str, ...]] = ("local_errors", "false_negatives", "false_positives")
    kind: Literal["adaptive_region_tversky"] = "adaptive_region_tversky"
    a: float = parameter(
        0.3,
        title="Base penalty A",
        description="Smallest weight of false positives and of false negatives in a box.",
        gt=0,
        le=10,
        step=0.05,
        live=True,
        called="A in Chen 2023",
    )
    b: float = parameter(
        0.4,
        title="Adaptive penalty B",
        description="How much the penalty of a box's dominating error rises: penalties go from A to A + B.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
        called="B in Chen 2023",
    )
    penalty_rule: AnyPenalty = parameter(
        "linear",
        title="Penalty rule",
        description="How the penalties between A and A + B follow the shares of false positives and false "
        "negatives in the box's error; the paper's rule is linear, f(x) = x.",
        advanced=True,
    )
    detach: bool = parameter(
        True,
        title="Hold penalties fixed",
        description="No gradient through alpha and beta. When off, A must be at least B, or the loss may "
        "reward errors.",
        advanced=True,
    )
    smoothing: Literal["symmetric", "paper"] = parameter(
        "symmetric",
        title="Smoothing of the penalties",
        description="symmetric: alpha + beta = 2A + B in every box; paper: as printed, which differs in boxes "
        "without errors.",
        advanced=True,
    )

    def warning_message(self) -> str:
        """Warn where errors may be rewarded.

        Undetached, surplus voxels weigh A + B (x^2 + 2x - 1) / (1 + x)^2 with x = FP / FN under the linear rule:
        A - B where x is near 0. `PenaltySpec.lowest_pull` is this factor of B under any rule.
        """
        if self.detach:
            return ""
        lowest = self.penalty_rule.lowest_pull()
        if self.a + self.b * lowest >= 0:
            return ""
        factor = "" if lowest == -1 else f"{-lowest:.3g} "
        return (
            f"{self.display_name} without detach rewards surplus voxels in boxes where nearly all errors are "
            f"missed ones, and the reverse, for A = {self.a:g} is below {factor}B = {-lowest * self.b:.3g}; "
            f"set detach: true, or A of at least {factor}B."
        )

    def penalty_range(self) -> tuple[float, float]:
        """Return A and A + B."""
        return self.a, self.a + self.b

    def penalties(self, fp: Tensor, fn: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and beta of each box, from its FP and FN."""
        if self.detach:
            fp, fn = fp.detach(), fn.detach()
        add = self.eps / 2 if self.smoothing == "symmetric" else self.eps
        both, rule = fp + fn + self.eps, self.penalty_rule.scaled
        return self.a + self.b * rule((fp + add) / both), self.a + self.b * rule((fn + add) / both)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh the errors of each box by its own penalties."""
        boxes = self.boxes(inputs)
        counts = inputs.overlap(boxes)
        alpha, beta = self.penalties(counts.fp, counts.fn)
        wrong = alpha * counts.fp + beta * counts.fn
        losses = wrong / (counts.tp + wrong + self.eps)
        value = self.reduced(losses, counts.truth > 0)
        return single(self.kind, value, self.maps(losses, counts, boxes, alpha=alpha, beta=beta))

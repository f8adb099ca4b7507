"""Dice, Jaccard and their relatives, and what all overlap losses share.

`RatioLoss` decides which classes count, what a class does that is absent from the target, and how the ratios of
samples and classes are averaged; Tversky and its relatives (`losses.tversky`) build on it too.

- `dice`: one minus the soft Dice coefficient.
- `jaccard`: one minus the soft Jaccard index (intersection over union).
- `lovasz_softmax`: the convex extension of the Jaccard loss.
- `focal_dice`: one minus a root of Dice.
- `log_cosh_dice`: the logarithm of the hyperbolic cosine of the Dice loss.
- `dice_plus_plus`: Dice with an exponent on its errors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, checked_weights, registry, single, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.overlap import Overlap
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


ClassReduction = Literal["mean", "sum"]


def class_reduction() -> Any:
    """Declare how the ratios of the classes become one number, for the kinds that offer both ways."""
    return parameter(
        "mean",
        title="Classes",
        description="Mean over the classes, or their sum, as the equations of some papers have it "
        "(Yeung 2022, eq. 11, 12 and 19; Chen 2023, eq. 9).",
        advanced=True,
    )


class RatioLoss(LossSpec):
    """Base of global ratio losses; the ratio is taken per sample and class, then averaged."""

    include_background: bool = parameter(
        True, title="Include background", description="Whether class 0 counts like the others."
    )
    batch: bool = parameter(
        False,
        title="Sum over batch first",
        description="One ratio per class over the whole batch, instead of one per sample.",
        advanced=True,
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Added to numerator and denominator.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        unit="voxels",
        advanced=True,
    )
    class_weights: tuple[float, ...] | None = parameter(
        None,
        title="Class weights",
        description="One per class, background first; divided by their sum.",
        advanced=True,
    )
    absent: Literal["penalise", "skip", "fp"] = parameter(
        "penalise",
        title="Absent classes",
        description="penalise: plain formula, nearly without gradient; skip: left out of the mean; "
        "fp: penalised by their predicted volume, with a gradient.",
        advanced=True,
    )

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return checked_weights(value)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the overlap, and the sums of p^2 where denominators are squared."""
        from segexplorer.functional.class_sums import Counts, Squares

        return (Counts(), Squares()) if getattr(self, "squared", False) else (Counts(),)

    def counts(self, inputs: LossInputs, *, squared: bool = False) -> Overlap:
        """Return the overlap over the chosen scope, all classes."""
        counts = inputs.overlap(squared=squared)
        return counts.over_batch() if self.batch else counts

    def scoped(self, sums: Tensor) -> Tensor:
        """Return (B, C) sums as they are, or summed over the batch where it counts as one sample."""
        return sums.sum(0, keepdim=True) if self.batch else sums

    def adds_classes_up(self) -> bool:
        """Whether classes are summed and samples averaged, instead of a mean over both."""
        return False

    def averaged(self, losses: Tensor, counts: Overlap, inputs: LossInputs) -> Tensor:
        """Return the weighted mean of (B, C) losses over the pairs that count; 0 where none does.

        Where classes are added up: the mean over samples of the weighted sum over the classes that count.
        """
        import torch

        if self.absent == "fp":
            # smoothing of a thousandth of the sample keeps a gradient at any predicted volume
            smooth = (1e-3 * inputs.kept / len(inputs.given)).clamp(min=1)
            losses = torch.where(counts.truth > 0, losses, counts.predicted / (counts.predicted + smooth))
        weights = weights_of(self.class_weights, inputs).expand_as(losses)
        if self.absent == "skip":
            weights = weights * (counts.truth > 0)
        if not self.include_background:
            losses, weights = losses[:, 1:], weights[:, 1:]
        if self.adds_classes_up():
            return (weights * losses).sum() / len(losses)
        total = weights.sum()
        return (weights * losses).sum() / torch.where(total > 0, total, torch.ones_like(total))


def dice_losses(counts: Overlap, eps: float, *, squared: bool = False) -> Tensor:
    """Return 1 - Dice per sample and class; written as errors over sum, exact near a perfect overlap."""
    if squared:
        assert counts.predicted_square is not None
        size = counts.predicted_square + counts.truth_square
        return 1 - (2 * counts.product + eps) / (size + eps)
    wrong = counts.fp + counts.fn
    return wrong / (2 * counts.tp + wrong + eps)


def tversky_losses(counts: Overlap, alpha: float, beta: float, eps: float) -> Tensor:
    """Return 1 - (TP + eps) / (TP + alpha FP + beta FN + eps) per sample and class, or per box."""
    wrong = alpha * counts.fp + beta * counts.fn
    return wrong / (counts.tp + wrong + eps)


def log_cosh(x: Tensor) -> Tensor:
    """Return ln cosh x, stable at any x."""
    import torch

    return x + torch.nn.functional.softplus(-2 * x) - math.log(2)


@registry.register
class Dice(RatioLoss):
    """Mean over samples and classes of 1 - (2 TP + eps) / (P + G + eps), or with squares."""

    display_name: ClassVar[str] = "Dice"
    formula: ClassVar[str] = r"L=1-\frac{2\sum pg+\epsilon}{\sum p+\sum g+\epsilon}"
    reference: ClassVar[str] = "Milletari 2016, arXiv:1606.04797 (squared); Drozdzal 2016, arXiv:1608.04117"
    penalises: ClassVar[str] = "Lack of overlap, equally for all classes whatever their size."
    family: ClassVar[str] = "region"
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("overlap", "class_imbalance")
    kind: Literal["dice"] = "dice"
    squared: bool = parameter(
        False,
        title="Squared denominator",
        description="Sums p^2 and g^2 in the denominator, as V-Net does; favours decided probabilities.",
    )
    class_reduction: ClassReduction = class_reduction()

    def adds_classes_up(self) -> bool:
        """Whether classes are summed."""
        return self.class_reduction == "sum"

    def bounds(self) -> tuple[float, float]:
        """Return 0 to 1; a sum over classes has no upper end."""
        return (0.0, math.inf) if self.adds_classes_up() else self.value_range

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Divide overlap by volumes."""
        counts = self.counts(inputs, squared=self.squared)
        losses = dice_losses(counts, self.eps, squared=self.squared)
        return single(self.kind, self.averaged(losses, counts, inputs))


@registry.register
class Jaccard(RatioLoss):
    """Mean over samples and classes of 1 - (TP + eps) / (TP + FP + FN + eps), or with squares."""

    display_name: ClassVar[str] = "Jaccard (IoU)"
    formula: ClassVar[str] = r"L=1-\frac{\sum pg+\epsilon}{\sum p+\sum g-\sum pg+\epsilon}"
    reference: ClassVar[str] = "Rahman 2016, doi:10.1007/978-3-319-50835-1_22"
    penalises: ClassVar[str] = "Lack of overlap, more strongly than Dice while the overlap is poor."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("overlap",)
    kind: Literal["jaccard"] = "jaccard"
    squared: bool = parameter(
        False, title="Squared denominator", description="Sums p^2 and g^2 in the denominator."
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(inputs, squared=self.squared)
        if self.squared:
            assert counts.predicted_square is not None
            union = counts.predicted_square + counts.truth_square - counts.product
            losses = 1 - (counts.product + self.eps) / (union + self.eps)
        else:
            losses = tversky_losses(counts, 1.0, 1.0, self.eps)
        return single(self.kind, self.averaged(losses, counts, inputs))


@registry.register
class LovaszSoftmax(LossSpec):
    """Errors |g - p|, sorted, times the growth of the Jaccard loss; batch scope by default.

    With a class's voxels in the order of falling errors e, J_i is the Jaccard loss (1 - intersection over union) if
    the first i were wrong and all others right.
    """

    display_name: ClassVar[str] = "Lovasz softmax"
    formula: ClassVar[str] = r"L=\frac1{|K|}\sum_c\sum_i e_{(i)}(J_i-J_{i-1})"
    reference: ClassVar[str] = "Berman 2018, arXiv:1705.08790"
    penalises: ClassVar[str] = "Lack of overlap as the Jaccard index counts it, the largest errors first."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("overlap",)
    kind: Literal["lovasz_softmax"] = "lovasz_softmax"
    classes: Literal["present", "all"] = parameter(
        "present", title="Classes", description="Mean over the classes present in the target, or over all."
    )
    per_image: bool = parameter(
        False,
        title="Per sample",
        description="One index per sample, instead of one over the batch.",
        advanced=True,
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Sort the errors of each class; ignored voxels have none and belong to no class."""
        import torch

        from segexplorer.functional.inputs import mean_over, pair

        p, g = pair(inputs)
        p, g = p.flatten(2), g.flatten(2)
        if not self.per_image:
            p, g = (x.transpose(0, 1).flatten(1).unsqueeze(0) for x in (p, g))
        errors, order = (g - p).abs().sort(dim=-1, descending=True)
        truth = g.detach().gather(-1, order)
        # float64: a running count in float32 stays at 2^24 voxels, and from one voxel to the next the Jaccard index
        # grows by about one over the number of voxels, which a difference of float32 numbers near 1 loses
        ranked = truth.cumsum(-1, dtype=torch.float64)
        size = ranked[..., -1:]
        rank = torch.arange(1, ranked.shape[-1] + 1, dtype=torch.float64, device=ranked.device)
        union = (size + rank - ranked).clamp(min=1e-12)
        jaccard = 1 - (size - ranked) / union
        growth = torch.diff(jaccard, dim=-1, prepend=torch.zeros_like(jaccard[..., :1])).to(errors.dtype)
        losses = (errors * growth).sum(-1)
        counted = (
            (size[..., 0] > 0) if self.classes == "present" else torch.ones_like(losses, dtype=torch.bool)
        )
        if self.per_image:
            samples = torch.stack([mean_over(x, c) for x, c in zip(losses, counted, strict=True)])
            return single(self.kind, samples.mean())
        return single(self.kind, mean_over(losses, counted))


@registry.register
class FocalDice(RatioLoss):
    """Mean over samples and classes of 1 - Dice^(1 / exponent) (Wang and Chung)."""

    display_name: ClassVar[str] = "Focal Dice"
    formula: ClassVar[str] = r"L=1-D^{1/\beta}"
    reference: ClassVar[str] = "Wang and Chung 2018, doi:10.1007/978-3-030-00919-9_19"
    penalises: ClassVar[str] = "Lack of overlap, classes with a poor Dice more than others."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance",)
    kind: Literal["focal_dice"] = "focal_dice"
    exponent: float = parameter(
        2.0,
        title="Exponent",
        description="The root that is taken of Dice; the higher, the more poor classes count. 1: Dice.",
        ge=1,
        le=10,
        step=0.5,
        live=True,
        called="beta in Wang and Chung 2018",
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(inputs)
        dice = 1 - dice_losses(counts, self.eps)
        # never exactly 0 by its formula, but 1 - x rounds; a root has no slope at 0
        losses = 1 - dice.clamp(min=1e-12) ** (1 / self.exponent)
        return single(self.kind, self.averaged(losses, counts, inputs))


@registry.register
class LogCoshDice(RatioLoss):
    """Mean over samples and classes of ln cosh(1 - Dice)."""

    display_name: ClassVar[str] = "Log-cosh Dice"
    formula: ClassVar[str] = r"L=\ln\cosh(1-D)"
    reference: ClassVar[str] = "Jadon 2020, arXiv:2006.14822"
    penalises: ClassVar[str] = "Lack of overlap, gently where it is nearly perfect."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, math.log(math.cosh(1.0)))
    purposes: ClassVar[tuple[str, ...]] = ("overlap",)
    kind: Literal["log_cosh_dice"] = "log_cosh_dice"

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(inputs)
        losses = log_cosh(dice_losses(counts, self.eps))
        return single(self.kind, self.averaged(losses, counts, inputs))


@registry.register
class DicePlusPlus(RatioLoss):
    """Mean over samples and classes of 1 - (2 TP + eps) / (2 TP + sum (g(1-p))^gamma + sum ((1-g)p)^gamma + eps).

    For hard labels gamma = 1 is linear Dice and gamma = 2 squared Dice.
    """

    display_name: ClassVar[str] = "Dice++"
    formula: ClassVar[str] = (
        r"L=1-\frac{2\sum pg+\epsilon}{2\sum pg+\sum(g(1-p))^\gamma+\sum((1-g)p)^\gamma+\epsilon}"
    )
    reference: ClassVar[str] = (
        "Yeung 2022, Journal of Digital Imaging 36(2):739-752 (calibrating the Dice loss)"
    )
    penalises: ClassVar[str] = "Lack of overlap, hesitant errors less than confident ones."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("calibration", "overlap")
    kind: Literal["dice_plus_plus"] = "dice_plus_plus"
    gamma: float = parameter(
        2.0,
        title="Exponent of errors",
        description="Above 1, small errors weigh little: probabilities become better calibrated. 1: Dice.",
        ge=1,
        le=6,
        step=0.5,
        live=True,
    )
    eps: float = parameter(
        1e-7,
        title="Smoothing",
        description="Added to numerator and denominator.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )

    def is_dice(self, inputs: LossInputs) -> bool:
        """Whether it is plain Dice, linear or squared."""
        return inputs.soft is None and self.gamma in (1.0, 2.0)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the overlap, and sums of squares or of powers of the errors."""
        from segexplorer.functional.class_sums import Counts, ErrorPowers, Squares

        if self.is_dice(inputs):
            return (Counts(), Squares()) if self.gamma == 2 else (Counts(),)
        return Counts(), ErrorPowers(self.gamma)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        from segexplorer.functional.class_sums import ErrorPowers

        if self.is_dice(inputs):
            counts = self.counts(inputs, squared=self.gamma == 2)
            losses = dice_losses(counts, self.eps, squared=self.gamma == 2)
            return single(self.kind, self.averaged(losses, counts, inputs))
        counts = self.counts(inputs)
        errors = self.scoped(inputs.sums(ErrorPowers(self.gamma))[0])
        losses = errors / (2 * counts.product + errors + self.eps)
        return single(self.kind, self.averaged(losses, counts, inputs))

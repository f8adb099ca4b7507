"""Losses that add an overlap and a cross entropy whose parameters are tied together.

Unlike the compounds of `losses.combined`, they are not weighted sums of losses that exist by themselves.

- `combo`: modified cross entropy minus Dice.
- `hytver`: modified cross entropy and Tversky.
- `unified_focal`: focal cross entropy and focal Tversky with shared parameters.
- `exponential_logarithmic`: powers of the logarithms of Dice and of the voxels' probabilities.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, weighted_sum_of
from segexplorer.losses.overlap import ClassReduction, class_reduction, dice_losses, tversky_losses
from segexplorer.losses.tversky import TverskyRatio

if TYPE_CHECKING:
    from segexplorer.functional.entropies import FocalCosts
    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


@registry.register
class Combo(LossSpec):
    """lam mCE - (1 - lam) Dice over foreground classes; its best value is lam - 1."""

    display_name: ClassVar[str] = "Combo"
    formula: ClassVar[str] = (
        r"L=-\frac{\lambda}{M|K|}\sum_{i,c\in K}[\beta g\log p+(1-\beta)(1-g)\log(1-p)]"
        r"-(1-\lambda)\,\frac1{|K|}\sum_{c\in K}D_c"
    )
    reference: ClassVar[str] = "Taghanaki 2019, arXiv:1805.02798; Yeung 2022, eq. 13-14, misprints resolved"
    penalises: ClassVar[str] = "Missed voxels by beta and surplus ones by 1 - beta, and lack of overlap."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "false_negatives", "false_positives")
    kind: Literal["combo"] = "combo"
    lam: float = parameter(
        0.5,
        title="Weight of cross entropy",
        description="Factor of the modified cross entropy; Dice gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="alpha in Taghanaki 2019 and Yeung 2022",
    )
    positive_weight: float = parameter(
        0.5,
        title="Weight of a class's own voxels",
        description="Above 1/2 missed voxels cost more than surplus ones.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="beta in Taghanaki 2019 and Yeung 2022",
    )
    cross_entropy: Literal["each_class", "categorical"] = parameter(
        "each_class",
        title="Cross entropy",
        description="each_class: of every foreground class against the rest, averaged; categorical: of all classes "
        "together, background weighted by one minus the weight of foreground. Alike for two classes.",
        advanced=True,
    )
    include_background: bool = parameter(
        False,
        title="Include background",
        description="Whether class 0 counts in the Dice term.",
        advanced=True,
    )
    class_reduction: ClassReduction = class_reduction()
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Of the Dice term.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )

    def bounds(self) -> tuple[float, float]:
        """Return lam - 1 to infinity; the lower end of a sum over classes depends on their number."""
        return self.best(), math.inf

    def best(self) -> float:
        """Return lam - 1: no cross entropy, and a Dice of 1; of a sum over classes, -inf."""
        return self.lam - 1 if self.class_reduction == "mean" or self.lam == 1 else -math.inf

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the costs and the overlap."""
        from segexplorer.functional.class_sums import Counts
        from segexplorer.functional.entropies import FocalCosts, modified_costs

        each = self.cross_entropy == "each_class"
        return modified_costs(inputs, self.positive_weight) if each else FocalCosts(), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Add up both terms; the Dice coefficient counts negatively."""
        from segexplorer.functional.entropies import FocalCosts, modified_cross_entropy

        if self.cross_entropy == "each_class":
            entropy = modified_cross_entropy(inputs, self.positive_weight)
        else:
            own = self.positive_weight
            weights = inputs.tensor([1 - own, *(own,) * (inputs.classes - 1)])
            entropy = (inputs.sums(FocalCosts())[0] * weights).sum() / inputs.kept
        some = (inputs.kept > 0) & (inputs.volumes.sum() > 0)
        coefficients = 1 - dice_losses(inputs.overlap(), self.eps)[:, 0 if self.include_background else 1 :]
        dice = coefficients.mean() if self.class_reduction == "mean" else coefficients.sum(1).mean()
        dice = dice * some
        return weighted_sum_of(
            {"modified_cross_entropy": (entropy, self.lam), "dice_coefficient": (dice, self.lam - 1)}
        )


@registry.register
class HyTver(TverskyRatio):
    """gamma mCE + (1 - gamma) Tversky over foreground classes, in the form that the paper describes.

    The authors' code swaps the sign of a term and the order of the arguments.
    """

    display_name: ClassVar[str] = "HyTver"
    formula: ClassVar[str] = (
        r"L=-\frac{\gamma}{M|K|}\sum_{i,c\in K}[b\,g\log p+(1-b)(1-g)\log(1-p)]+(1-\gamma)(1-TI)"
    )
    reference: ClassVar[str] = "Perera 2025: HyTver (modified cross entropy and Tversky)"
    penalises: ClassVar[str] = "Wrong voxels and lack of overlap; missed voxels more than surplus ones."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("small_structures", "false_negatives", "class_imbalance")
    kind: Literal["hytver"] = "hytver"
    gamma: float = parameter(
        0.5,
        title="Weight of cross entropy",
        description="Factor of the modified cross entropy; Tversky gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
    )
    positive_weight: float = parameter(
        0.7,
        title="Weight of a class's own voxels",
        description="In the cross entropy; above 1/2 missed voxels cost more than surplus ones.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="beta in Perera 2025",
    )

    def bounds(self) -> tuple[float, float]:
        """Return 0 to infinity; without cross entropy, 0 to 1."""
        return 0.0, math.inf if self.gamma > 0 else 1.0

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the costs and the overlap."""
        from segexplorer.functional.class_sums import Counts
        from segexplorer.functional.entropies import modified_costs

        return modified_costs(inputs, self.positive_weight), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Add up both terms."""
        from segexplorer.functional.entropies import modified_cross_entropy

        entropy = modified_cross_entropy(inputs, self.positive_weight)
        losses, counts = self.ratios(inputs)
        tversky = self.averaged(losses, counts, inputs)
        return weighted_sum_of(
            {"modified_cross_entropy": (entropy, self.gamma), "tversky": (tversky, 1 - self.gamma)}
        )


@registry.register
class UnifiedFocal(LossSpec):
    """lam F + (1 - lam) T, symmetric or asymmetric (Yeung 2022, its misprints resolved).

    F is the focal cross entropy with weight delta for foreground and 1 - delta for background; T the focal
    Tversky with delta on false negatives and 1 - delta on false positives, mean over all classes as in the authors'
    code (eq. 19 has their sum, which the presets of the paper set). Asymmetric: the factor (1-p)^gamma acts on
    background alone, the exponent 1 - gamma on foreground alone.
    """

    display_name: ClassVar[str] = "Unified focal"
    formula: ClassVar[str] = (
        r"L=\lambda F+(1-\lambda)T,\quad F=-\frac1M\sum_{i,c}\delta_c\,g\,(1-p)^{\gamma_c}\log p,\quad "
        r"T=\frac1C\sum_c(1-mTI_c)^{e_c}"
    )
    reference: ClassVar[str] = "Yeung 2022, eq. 15-20: unified focal loss"
    penalises: ClassVar[str] = "Uncertain and wrong voxels and lack of overlap, missed foreground by delta."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "hard_voxels", "false_negatives")
    kind: Literal["unified_focal"] = "unified_focal"
    symmetric: bool = parameter(
        False,
        title="Symmetric",
        description="Off: easy background counts less, foreground keeps its full cross entropy. On: all alike.",
    )
    lam: float = parameter(
        0.5,
        title="Weight of the focal term",
        description="Factor of the focal cross entropy; the Tversky term gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Yeung 2022; the authors' code gives its `weight` to the other term",
    )
    delta: float = parameter(
        0.6,
        title="Penalty for false negatives",
        description="Weight of missed foreground; false positives get one minus it.",
        gt=0,
        lt=1,
        step=0.05,
        live=True,
    )
    gamma: float = parameter(
        0.2,
        title="Focus gamma",
        description="How much less easy background counts, and rare classes gain. 0: cross entropy and Tversky.",
        ge=0,
        lt=1,
        step=0.05,
        live=True,
    )
    class_reduction: ClassReduction = class_reduction()
    eps: float = parameter(
        1e-7,
        title="Smoothing",
        description="Of the Tversky term.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )

    def bounds(self) -> tuple[float, float]:
        """Return 0 to infinity; without the focal term, and classes averaged, 0 to 1."""
        return 0.0, math.inf if self.lam > 0 or self.class_reduction == "sum" else 1.0

    def costs(self) -> FocalCosts:
        """Return the sums of the focal cross entropy."""
        from segexplorer.functional.entropies import FocalCosts

        return FocalCosts(self.gamma, background_only=not self.symmetric)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the focal costs and the overlap."""
        from segexplorer.functional.class_sums import Counts

        return self.costs(), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Add up both terms."""
        import torch

        from segexplorer.functional.softmax import root_free_power

        weights = inputs.tensor([1 - self.delta, *(self.delta,) * (inputs.classes - 1)])
        focal = (inputs.sums(self.costs())[0] * weights).sum() / inputs.kept
        losses = tversky_losses(inputs.overlap(), 1 - self.delta, self.delta, self.eps)
        powers = root_free_power(losses, 1 - self.gamma)
        if not self.symmetric:
            powers = torch.cat([losses[:, :1], powers[:, 1:]], 1)
        tversky = powers.mean() if self.class_reduction == "mean" else powers.sum(1).mean()
        return weighted_sum_of({"focal": (focal, self.lam), "focal_tversky": (tversky, 1 - self.lam)})


@registry.register
class ExponentialLogarithmic(LossSpec):
    """w_D mean_c (-ln D_c)^gamma + w_X mean_i w_y (-ln p_y)^gamma, classes weighted by their rarity.

    Dice is taken over the whole batch; w_c is the root of all voxels over those of the class, 0 where it is
    absent, without gradient.
    """

    display_name: ClassVar[str] = "Exponential logarithmic"
    formula: ClassVar[str] = (
        r"L=w_D\frac1C\sum_c(-\ln D_c)^\gamma+w_X\frac1M\sum_i w_{y_i}(-\ln p_{i,y_i})^\gamma,\quad "
        r"w_c=\sqrt{\textstyle\sum_k f_k/f_c}"
    )
    reference: ClassVar[str] = "Wong 2018, arXiv:1809.00076"
    penalises: ClassVar[str] = "Lack of overlap and wrong voxels, small errors nearly as much as large ones."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "small_structures")
    kind: Literal["exponential_logarithmic"] = "exponential_logarithmic"
    dice_weight: float = parameter(
        0.8, title="Weight of Dice", description="Factor of Dice.", typical=(0, 2), ge=0, live=True
    )
    cross_entropy_weight: float = parameter(
        0.2,
        title="Weight of cross entropy",
        description="Factor of the cross entropy.",
        typical=(0, 2),
        ge=0,
        live=True,
    )
    gamma: float = parameter(
        0.3,
        title="Exponent",
        description="Of both logarithms. Below 1 what is nearly right keeps a strong gradient.",
        gt=0,
        le=4,
        step=0.1,
        live=True,
    )
    eps: float = parameter(
        1.0,
        title="Smoothing",
        description="Of Dice.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        unit="voxels",
        advanced=True,
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the powers and the overlap."""
        from segexplorer.functional.class_sums import Counts
        from segexplorer.functional.entropies import LogPowers

        return LogPowers(self.gamma), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Take the powers; they have no gradient where they are 0."""
        import torch

        from segexplorer.functional.entropies import LogPowers
        from segexplorer.functional.softmax import root_free_power

        volumes = inputs.volumes.sum(0)
        rarity = torch.where(volumes > 0, (volumes.sum() / volumes.clamp(min=1e-12)).sqrt(), 0 * volumes)
        entropy = (inputs.sums(LogPowers(self.gamma))[0] * rarity).sum() / inputs.kept
        missing = dice_losses(inputs.overlap().over_batch(), self.eps)
        dice = root_free_power(-torch.log1p(-missing), self.gamma).mean()
        return weighted_sum_of(
            {"dice": (dice, self.dice_weight), "cross_entropy": (entropy, self.cross_entropy_weight)}
        )

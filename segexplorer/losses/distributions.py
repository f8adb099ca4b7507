"""Losses derived from heavy-tailed distributions.

- `t_loss`: errors as noise of a Student's t-distribution, so that wrong labels pull less.
- `t_vmf_dice`: Dice as a cosine, sharpened like the t-distribution of von Mises and Fisher.
- `adaptive_t_vmf_dice`: the same, sharper class by class as the validation's Dice rises.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.events import EpochSummary
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


LOG_NU = "log_nu"


@registry.register
class TLoss(LossSpec):
    """Mean over samples and classes of -log t_nu(p - g), scale identity, D the kept voxels.

    nu = exp(a) + 1e-8 with a learned. The gradient on an error is (nu + D)(p - g) / (nu + s): it falls again once
    the sum s of a sample's squared errors exceeds nu, so a sample whose label disagrees throughout pulls little.
    The paper's form; the authors' code scales the errors by e besides.
    """

    display_name: ClassVar[str] = "T-Loss"
    formula: ClassVar[str] = (
        r"L=-\log\Gamma\tfrac{\nu+D}2+\log\Gamma\tfrac\nu2+\tfrac D2\log(\pi\nu)"
        r"+\tfrac{\nu+D}2\log\Big(1+\tfrac1\nu\sum_i(p_i-g_i)^2\Big)"
    )
    reference: ClassVar[str] = "Gonzalez-Jimenez 2023, arXiv:2306.00753"
    penalises: ClassVar[str] = (
        "Wrong voxels, but less and less where a whole sample disagrees with its label."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    purposes: ClassVar[tuple[str, ...]] = ("noisy_labels",)
    kind: Literal["t_loss"] = "t_loss"
    nu: float = parameter(
        math.e,
        title="Degrees of freedom nu",
        description="Start value. The smaller, the sooner a sample counts as an outlier; very large: squared "
        "errors without any tolerance.",
        scale="log",
        typical=(0.1, 1000),
        gt=0,
        le=1e9,
    )
    learn_nu: bool = parameter(
        True,
        title="Learn nu",
        description="Lets the optimiser learn nu along with the network, without weight decay.",
    )
    normalise: bool = parameter(
        True,
        title="Per voxel",
        description="Divides by the number of kept voxels, so that the loss has the size of others. Off: the "
        "paper's sum, some 1e5 for a patch, which needs a small learning rate.",
    )

    def learned(self) -> Numbers:
        """Return the logarithm of nu where it is learned."""
        return {LOG_NU: (math.log(self.nu),)} if self.learn_nu else {}

    def degrees(self, state: Loss) -> Tensor:
        """Return nu, a float64 scalar, with its graph where it is learned."""
        import torch

        fixed = torch.tensor([math.log(self.nu)], dtype=torch.float64)
        raw: Tensor = state.learned[LOG_NU] if self.learn_nu else fixed
        return raw[0].exp() + 1e-8

    def reported(self, state: Loss) -> dict[str, float]:
        """Return nu where it is learned."""
        return {"nu": self.degrees(state).detach().item()} if self.learn_nu else {}

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return squared errors."""
        from segexplorer.functional.class_sums import SquaredErrors

        return (SquaredErrors(),)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Sum the squared errors of each sample and class; samples without a kept voxel do not count."""

        from segexplorer.functional.distributions import student_t_nll
        from segexplorer.functional.inputs import mean_over

        inside, outside = inputs.squared_errors
        squared, voxels = inside + outside, inputs.kept_of_samples
        losses = student_t_nll(squared, voxels, self.degrees(state).to(squared.device))
        if self.normalise:
            losses = losses / voxels.clamp(min=1)
        value = mean_over(losses, (voxels > 0).expand_as(losses))
        return single(self.kind, value.to(inputs.dtype))


@registry.register
class TvMFDice(LossSpec):
    """Mean over classes of (1 - phi(cos))^2, statistics over the batch as in the authors' code.

    cos = sum pg / sqrt(sum p^2 sum g^2), 1 where prediction and truth agree; phi(cos) falls from 1 the faster the
    larger kappa.
    """

    display_name: ClassVar[str] = "t-vMF Dice"
    formula: ClassVar[str] = r"L=\frac1C\sum_c\Big(2-\frac{1+\cos_c}{1+\kappa(1-\cos_c)}\Big)^2"
    reference: ClassVar[str] = "Kato and Hotta 2022, arXiv:2207.07842"
    penalises: ClassVar[str] = "Lack of overlap; with a large kappa, everything but a nearly exact overlap."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 4.0)
    purposes: ClassVar[tuple[str, ...]] = ("overlap",)
    kind: Literal["t_vmf_dice"] = "t_vmf_dice"
    kappa: float = parameter(
        32.0,
        title="Kappa",
        description="0 gives (1 - cos)^2; the larger, the sharper the peak.",
        scale="log",
        typical=(1, 1024),
        ge=0,
        live=True,
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        description="skip: left out of the mean; penalise: a constant without gradient, as the authors' code has.",
        advanced=True,
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return products and squares."""
        from segexplorer.functional.class_sums import Counts, Squares

        return Counts(), Squares()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Divide by the norms, kept off zero."""
        from segexplorer.functional.distributions import t_vmf_losses

        losses, present = t_vmf_losses(inputs, self.kappa)
        return single(self.kind, mean_of_classes(losses, present, self.absent))


def mean_of_classes(losses: Tensor, present: Tensor, absent: Literal["skip", "penalise"]) -> Tensor:
    """Return the mean of (C,) losses over present classes or, penalising absence, over all; 0 where none is."""
    from segexplorer.functional.inputs import mean_over

    return mean_over(losses, present if absent == "skip" else present.any().expand_as(present))


DICE = "class_dice"


@registry.register
class AdaptiveTvMFDice(LossSpec):
    """t-vMF Dice with kappa_c = scale Dice_c, Dice_c that of the last validation.

    Dice_c is hard, from one confusion matrix over the validation set, background included; 0 until the first
    validation, so that training starts with (1 - cos)^2. Between validations kappa stays.
    """

    display_name: ClassVar[str] = "Adaptive t-vMF Dice"
    formula: ClassVar[str] = (
        r"L=\frac1C\sum_c\Big(2-\frac{1+\cos_c}{1+\kappa_c(1-\cos_c)}\Big)^2,\quad "
        r"\kappa_c=\lambda\,\mathrm{Dice}_c^{\mathrm{val}}"
    )
    reference: ClassVar[str] = "Kato and Hotta 2022, arXiv:2207.07842"
    penalises: ClassVar[str] = (
        "Lack of overlap; the better a class was in the last validation, the more strongly its remaining errors."
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 4.0)
    follows_validation: ClassVar[bool] = True
    multi_label: ClassVar[bool] = False
    purposes: ClassVar[tuple[str, ...]] = ("overlap",)
    kind: Literal["adaptive_t_vmf_dice"] = "adaptive_t_vmf_dice"
    scale: float = parameter(
        32.0,
        title="Scale",
        description="Kappa of a class whose validation Dice is 1; the larger, the sharper the peak. "
        "0: (1 - cos)^2 throughout.",
        scale="log",
        typical=(1, 1024),
        ge=0,
        live=True,
        called="lambda in Kato 2022",
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        description="skip: left out of the mean; penalise: a constant without gradient, as the authors' code has.",
        advanced=True,
    )

    def state_buffers(self) -> Numbers:
        """Return that no class was validated."""
        return {DICE: ()}

    def after_epoch(self, state: Loss, summary: EpochSummary) -> Numbers:
        """Return the Dice of every class, background first, where the epoch ended with a validation."""
        dice = summary.class_dice
        return {DICE: tuple(dice.get(c, 0.0) for c in range(max(dice) + 1))} if dice else {}

    def kappas(self, state: Loss, classes: int) -> Tensor:
        """Return (C,) concentrations in float64; 0 for classes that were not validated."""
        import torch

        dice = state.state_buffers[DICE][:classes]
        return self.scale * torch.nn.functional.pad(dice, (0, classes - len(dice)))

    def reported(self, state: Loss) -> dict[str, float]:
        """Return kappa class by class, once there was a validation."""
        return {f"kappa of class {c}": self.scale * dice for c, dice in enumerate(state.numbers(DICE))}

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return products and squares."""
        from segexplorer.functional.class_sums import Counts, Squares

        return Counts(), Squares()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """As t-vMF Dice, each class with its own kappa."""
        from segexplorer.functional.distributions import t_vmf_losses

        kappa = self.kappas(state, inputs.classes).to(inputs.given.device, inputs.dtype)
        losses, present = t_vmf_losses(inputs, kappa)
        return single(self.kind, mean_of_classes(losses, present, self.absent))

"""`adaptive_t_vmf_dice`: t-vMF Dice that grows sharper, class by class, as the validation gets better."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.core.types import EpochSummary
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, registry, single
from segexplorer.losses.t_vmf_dice import mean_of_classes

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss

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
    punishes: ClassVar[str] = (
        "Lack of overlap; the better a class was in the last validation, the more what is left of it."
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 4.0)
    follows_validation: ClassVar[bool] = True
    kind: Literal["adaptive_t_vmf_dice"] = "adaptive_t_vmf_dice"
    scale: float = parameter(
        32.0,
        title="Scale",
        meaning="Kappa of a class whose validation Dice is 1; the larger, the sharper the peak. "
        "0: (1 - cos)^2 throughout.",
        ge=0,
        live=True,
        called="lambda in Kato 2022",
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        meaning="skip: left out of the mean; penalise: a constant without gradient, as the authors' code has.",
        advanced=True,
    )

    def remembered(self) -> Numbers:
        """Return that no class was validated."""
        return {DICE: ()}

    def after_epoch(self, state: Loss, summary: EpochSummary) -> Numbers:
        """Return the Dice of every class, background first, where the epoch ended with a validation."""
        dice = summary.class_dice
        return {DICE: tuple(dice.get(c, 0.0) for c in range(max(dice) + 1))} if dice else {}

    def kappas(self, state: Loss, classes: int) -> Tensor:
        """Return (C,) concentrations in float64; 0 for classes that were not validated."""
        import torch

        dice = state.memory[DICE][:classes]
        return self.scale * torch.nn.functional.pad(dice, (0, classes - len(dice)))

    def reported(self, state: Loss) -> dict[str, float]:
        """Return kappa class by class, once there was a validation."""
        return {f"kappa of class {c}": self.scale * dice for c, dice in enumerate(state.numbers(DICE))}

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """As t-vMF Dice, each class with its own kappa."""
        from segexplorer.functional.cosine import t_vmf_losses

        kappa = self.kappas(state, scene.classes).to(scene.logits)
        losses, present = t_vmf_losses(scene, kappa)
        return single(self.kind, mean_of_classes(losses, present, self.absent))

"""`exponential_logarithmic`: powers of the logarithms of Dice and of the voxels' probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry
from segexplorer.losses.ratio import dice_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class ExponentialLogarithmic(LossSpec):
    """w_D mean_c (-ln D_c)^gamma + w_X mean_i w_y (-ln p_y)^gamma, classes weighed by their rarity.

    Dice is taken over the whole batch; w_c is the root of all voxels over those of the class, 0 where it is
    absent, without gradient.
    """

    display_name: ClassVar[str] = "Exponential logarithmic"
    formula: ClassVar[str] = (
        r"L=w_D\frac1C\sum_c(-\ln D_c)^\gamma+w_X\frac1M\sum_i w_{y_i}(-\ln p_{i,y_i})^\gamma,\quad "
        r"w_c=\sqrt{\textstyle\sum_k f_k/f_c}"
    )
    reference: ClassVar[str] = "Wong 2018, arXiv:1809.00076"
    punishes: ClassVar[str] = "Lack of overlap and wrong voxels, small errors nearly as much as large ones."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    voxelwise: ClassVar[bool] = True
    kind: Literal["exponential_logarithmic"] = "exponential_logarithmic"
    dice_weight: float = parameter(0.8, title="Weight of Dice", meaning="Factor of Dice.", ge=0, live=True)
    cross_entropy_weight: float = parameter(
        0.2, title="Weight of cross entropy", meaning="Factor of the cross entropy.", ge=0, live=True
    )
    gamma: float = parameter(
        0.3,
        title="Exponent",
        meaning="Of both logarithms. Below 1 what is nearly right keeps a strong gradient.",
        gt=0,
        le=4,
        step=0.1,
        live=True,
    )
    eps: float = parameter(1.0, title="Smoothing", meaning="Of Dice.", gt=0, unit="voxels", advanced=True)

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Take the powers; they have no gradient where they are 0."""
        import torch

        from segexplorer.functional.entropy import root_free_power

        volumes = scene.volumes.sum(0)
        rarity = torch.where(volumes > 0, (volumes.sum() / volumes.clamp(min=1e-12)).sqrt(), 0 * volumes)
        if scene.labels is not None:
            powers = root_free_power(scene.cross_entropies, self.gamma) * rarity[scene.labels]
        else:
            assert scene.soft is not None
            column = rarity.view(-1, *(1,) * len(scene.spatial))
            powers = (scene.soft * column * root_free_power(-scene.log_probs, self.gamma)).sum(1)
        entropy = scene.kept_only(powers).sum() / scene.kept
        missing = dice_losses(scene.overlap().over_batch(), self.eps)
        dice = root_free_power(-torch.log1p(-missing), self.gamma).mean()
        terms = {
            "dice": (dice.detach(), self.dice_weight),
            "cross_entropy": (entropy.detach(), self.cross_entropy_weight),
        }
        return LossOutput(self.dice_weight * dice + self.cross_entropy_weight * entropy, terms)

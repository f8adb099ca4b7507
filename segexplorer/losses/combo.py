"""`combo`: modified cross entropy minus Dice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry
from segexplorer.losses.ratio import dice_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
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
    punishes: ClassVar[str] = "Missed voxels by beta and surplus ones by 1 - beta, and lack of overlap."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    voxelwise: ClassVar[bool] = True
    kind: Literal["combo"] = "combo"
    lam: float = parameter(
        0.5,
        title="Weight of cross entropy",
        meaning="Factor of the modified cross entropy; Dice gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="alpha in Taghanaki 2019 and Yeung 2022",
    )
    positive_weight: float = parameter(
        0.5,
        title="Weight of a class's own voxels",
        meaning="Above 1/2 missed voxels cost more than surplus ones.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="beta in Taghanaki 2019 and Yeung 2022",
    )
    eps: float = parameter(1e-5, title="Smoothing", meaning="Of the Dice term.", gt=0, advanced=True)

    def bounds(self) -> tuple[float, float]:
        """Return lam - 1 to infinity."""
        return self.lam - 1, math.inf

    def best(self) -> float:
        """Return lam - 1: no cross entropy, and a Dice of 1."""
        return self.lam - 1

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Add up both terms; the Dice coefficient counts negatively."""
        from segexplorer.functional.modified_entropy import modified_cross_entropy

        entropy = modified_cross_entropy(scene, self.positive_weight)
        some = (scene.kept > 0) & (scene.volumes.sum() > 0)
        dice = (1 - dice_losses(scene.overlap(), self.eps)[:, 1:].mean()) * some
        terms = {
            "modified_cross_entropy": (entropy.detach(), self.lam),
            "dice_coefficient": (dice.detach(), self.lam - 1),
        }
        return LossOutput(self.lam * entropy + (self.lam - 1) * dice, terms)

"""`dice_cl_dice`: Dice of volumes and of centre lines, mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry
from segexplorer.losses.cl_dice import CentreLines

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class DiceClDice(CentreLines):
    """(1 - a) Dice + a clDice over the foreground."""

    display_name: ClassVar[str] = "Dice + clDice"
    formula: ClassVar[str] = r"L=(1-a)\,L_{Dice}+a\,L_{clDice}"
    reference: ClassVar[str] = "Shit 2021, arXiv:2003.07311, eq. 3"
    punishes: ClassVar[str] = "Lack of overlap, and breaks of tubular structures, together."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "compound"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["dice_cl_dice"] = "dice_cl_dice"
    cl_dice_weight: float = parameter(
        0.5, title="Weight of clDice", meaning="The rest is that of Dice.", ge=0, le=1, live=True
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Both terms sum over the same scope with the same smoothing."""
        from segexplorer.functional.masked import pair

        p, g = (x[:, 1:] for x in pair(scene))
        cl_dice, axes = self.centre_loss(p, g), self.axes(p.ndim)
        sizes = p.sum(axes) + g.sum(axes)
        dice = ((sizes - 2 * (p * g).sum(axes)) / (sizes + self.smooth)).mean()
        a = self.cl_dice_weight
        value = (1 - a) * dice + a * cl_dice
        return LossOutput(value, {"dice": (dice.detach(), 1 - a), "cl_dice": (cl_dice.detach(), a)})

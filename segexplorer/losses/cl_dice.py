"""`cl_dice`: Dice of centre lines, for tubes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


class CentreLines(LossSpec):
    """Base of the losses that compare centre lines."""

    iterations: int = parameter(
        3, title="Iterations", meaning="At least the largest radius.", ge=1, le=50, unit="voxels"
    )
    smooth: float = parameter(
        1.0,
        title="Smoothing",
        meaning="Added to numerator and denominator.",
        gt=0,
        unit="voxels",
        advanced=True,
    )
    joint: bool = parameter(
        False,
        title="Joint sums",
        meaning="Sums over batch and classes together, as its authors do.",
        advanced=True,
    )

    def axes(self, dimensions: int) -> tuple[int, ...]:
        """Return the axes of a (B, C, *spatial) tensor that are summed over."""
        return tuple(range(0 if self.joint else 2, dimensions))

    def centre_loss(self, p: Tensor, g: Tensor) -> Tensor:
        """Return 1 - clDice, mean over what is not summed over; 0 where nothing is there.

        Parameters
        ----------
        p, g
            (B, C, *spatial) probabilities and truth of the foreground, 0 on ignored voxels.
        """
        from segexplorer.functional.skeleton import soft_skeleton

        skeleton_p, skeleton_g = (soft_skeleton(x, self.iterations) for x in (p, g))
        axes, smooth = self.axes(p.ndim), self.smooth
        precision = ((skeleton_p * g).sum(axes) + smooth) / (skeleton_p.sum(axes) + smooth)
        sensitivity = ((skeleton_g * p).sum(axes) + smooth) / (skeleton_g.sum(axes) + smooth)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


@registry.register
class ClDice(CentreLines):
    """One minus the harmonic mean of topological precision and sensitivity.

    T_prec is the part of the prediction's centre line that lies in the truth, T_sens that of the truth's centre
    line that lies in the prediction. Centre lines are soft: what repeated erosion leaves over.
    """

    display_name: ClassVar[str] = "clDice"
    formula: ClassVar[str] = r"L=1-\frac{2\,T_{prec}T_{sens}}{T_{prec}+T_{sens}}"
    reference: ClassVar[str] = "Shit 2021, arXiv:2003.07311"
    punishes: ClassVar[str] = "Breaks and false branches of tubular structures, whatever their thickness."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["cl_dice"] = "cl_dice"

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Skeletonise what is kept of the foreground; a sample without kept voxels gives 0."""
        from segexplorer.functional.masked import pair

        p, g = (x[:, 1:] for x in pair(scene))
        return single(self.kind, self.centre_loss(p, g))

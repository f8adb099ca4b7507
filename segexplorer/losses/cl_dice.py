"""`cl_dice`: Dice of centre lines, for tubes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class ClDice(LossSpec):
    """One minus the harmonic mean of topological precision and sensitivity."""

    display_name: ClassVar[str] = "clDice"
    formula: ClassVar[str] = r"L=1-\frac{2\,T_{prec}T_{sens}}{T_{prec}+T_{sens}}"
    reference: ClassVar[str] = "Shit 2021, arXiv:2003.07311"
    punishes: ClassVar[str] = "Breaks and false branches of tubular structures, whatever their thickness."
    papers: ClassVar[tuple[str, ...]] = ("003",)
    family: ClassVar[str] = "boundary"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["cl_dice"] = "cl_dice"
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

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Skeletonise what is kept of the foreground; a sample without kept voxels gives 0."""
        from segexplorer.functional.masked import pair
        from segexplorer.functional.skeleton import soft_skeleton

        p, g = (x[:, 1:] for x in pair(scene))
        skeleton_p, skeleton_g = (soft_skeleton(x, self.iterations) for x in (p, g))
        axes = tuple(range(p.ndim)) if self.joint else tuple(range(2, p.ndim))
        smooth = self.smooth
        precision = ((skeleton_p * g).sum(axes) + smooth) / (skeleton_p.sum(axes) + smooth)
        sensitivity = ((skeleton_g * p).sum(axes) + smooth) / (skeleton_g.sum(axes) + smooth)
        return single(self.kind, (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean())

"""`sensitivity_specificity`: squared errors inside and outside each class, weighed against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class SensitivitySpecificity(RatioLoss):
    """Mean over samples and foreground classes of r E_in / (G + eps) + (1 - r) E_out / (N - G + eps).

    E_in and E_out are the sums of (g - p)^2 inside and outside the class. With two classes and
    both counted r would cancel exactly.
    """

    display_name: ClassVar[str] = "Sensitivity-specificity"
    formula: ClassVar[str] = (
        r"L=r\frac{\sum(g-p)^2g}{\sum g+\epsilon}+(1-r)\frac{\sum(g-p)^2(1-g)}{\sum(1-g)+\epsilon}"
    )
    reference: ClassVar[str] = "Brosch 2015, doi:10.1007/978-3-319-24574-4_1"
    punishes: ClassVar[str] = (
        "Missed voxels by r, surplus ones by 1 - r, each relative to how many there could be."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["sensitivity_specificity"] = "sensitivity_specificity"
    include_background: bool = parameter(
        False, title="Include background", meaning="With two classes, counting it cancels r."
    )
    r: float = parameter(
        0.05,
        title="Weight of sensitivity",
        meaning="Weight of missed voxels; surplus ones get one minus it.",
        ge=0,
        le=1,
        step=0.01,
        live=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        inside, outside = (self.scoped(sums) for sums in scene.squared_errors)
        counts = self.counts(scene)
        others = self.scoped(scene.volumes.sum(1, keepdim=True)) - counts.truth
        losses = self.r * inside / (counts.truth + self.eps) + (1 - self.r) * outside / (others + self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))

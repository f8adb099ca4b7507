"""`hytver`: modified cross entropy and Tversky."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry
from segexplorer.losses.tversky import TverskyRatio

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


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
    punishes: ClassVar[str] = "Wrong voxels and lack of overlap; missed voxels more than surplus ones."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    voxelwise: ClassVar[bool] = True
    kind: Literal["hytver"] = "hytver"
    gamma: float = parameter(
        0.5,
        title="Weight of cross entropy",
        meaning="Factor of the modified cross entropy; Tversky gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
    )
    positive_weight: float = parameter(
        0.7,
        title="Weight of a class's own voxels",
        meaning="In the cross entropy; above 1/2 missed voxels cost more than surplus ones.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="beta in Perera 2025",
    )

    def bounds(self) -> tuple[float, float]:
        """Return 0 to infinity; without cross entropy, 0 to 1."""
        return 0.0, math.inf if self.gamma > 0 else 1.0

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Add up both terms."""
        from segexplorer.functional.modified_entropy import modified_cross_entropy

        entropy = modified_cross_entropy(scene, self.positive_weight)
        losses, counts = self.ratios(scene)
        tversky = self.averaged(losses, counts, scene)
        terms = {
            "modified_cross_entropy": (entropy.detach(), self.gamma),
            "tversky": (tversky.detach(), 1 - self.gamma),
        }
        return LossOutput(self.gamma * entropy + (1 - self.gamma) * tversky, terms)

"""`log_cosh_tversky`: the logarithm of the hyperbolic cosine of Tversky."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import log_cosh
from segexplorer.losses.tversky import TverskyRatio

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class LogCoshTversky(TverskyRatio):
    """Mean over samples and foreground classes of ln cosh(1 - TI)."""

    display_name: ClassVar[str] = "Log-cosh Tversky"
    formula: ClassVar[str] = r"L=\ln\cosh(1-TI)"
    reference: ClassVar[str] = (
        "Nasalwai 2021 (accelerated Tversky loss), in the most direct reading of its abstract"
    )
    punishes: ClassVar[str] = (
        "Lack of overlap, gently where it is nearly perfect; surplus by alpha, missed by beta."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.log(math.cosh(1.0)))
    kind: Literal["log_cosh_tversky"] = "log_cosh_tversky"

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        losses, counts = self.ratios(scene)
        return single(self.kind, self.averaged(log_cosh(losses), counts, scene))

"""`focal_tversky`: Tversky with an exponent per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.tversky import TverskyRatio

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class FocalTversky(TverskyRatio):
    """Mean over samples and foreground classes of (1 - TI)^exponent, power before mean."""

    display_name: ClassVar[str] = "Focal Tversky"
    formula: ClassVar[str] = (
        r"L=\frac1{|K|}\sum_c(1-TI_c)^{e},\quad TI=\frac{TP+\epsilon}{TP+\alpha FP+\beta FN+\epsilon}"
    )
    reference: ClassVar[str] = "Abraham 2019, arXiv:1810.07842; Yeung 2022, eq. 12"
    punishes: ClassVar[str] = "Lack of overlap; below an exponent of 1, small remaining errors the more."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    kind: Literal["focal_tversky"] = "focal_tversky"
    exponent: float = parameter(
        0.75,
        title="Exponent",
        meaning="Below 1 nearly perfect classes keep a strong gradient; above 1 poor ones count more. 1: Tversky.",
        gt=0,
        le=4,
        step=0.05,
        live=True,
        called="1 / gamma in Abraham 2019 and Yeung 2022 (gamma 4/3)",
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        from segexplorer.functional.entropy import root_free_power

        losses, counts = self.ratios(scene)
        powers = root_free_power(losses, self.exponent)
        return single(self.kind, self.averaged(powers, counts, scene))

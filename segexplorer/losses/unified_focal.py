"""`unified_focal`: focal cross entropy and focal Tversky with shared parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry
from segexplorer.losses.ratio import tversky_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class UnifiedFocal(LossSpec):
    """lam F + (1 - lam) T, symmetric or asymmetric (Yeung 2022, its misprints resolved).

    F is the focal cross entropy with weight delta for foreground and 1 - delta for background; T the focal
    Tversky with delta on false negatives and 1 - delta on false positives, mean over all classes. Asymmetric: the
    factor (1-p)^gamma acts on background alone, the exponent 1 - gamma on foreground alone.
    """

    display_name: ClassVar[str] = "Unified focal"
    formula: ClassVar[str] = (
        r"L=\lambda F+(1-\lambda)T,\quad F=-\frac1M\sum_{i,c}\delta_c\,g\,(1-p)^{\gamma_c}\log p,\quad "
        r"T=\frac1C\sum_c(1-mTI_c)^{e_c}"
    )
    reference: ClassVar[str] = "Yeung 2022, eq. 15-20: unified focal loss"
    punishes: ClassVar[str] = "Uncertain and wrong voxels and lack of overlap, missed foreground by delta."
    family: ClassVar[str] = "compound"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Yeung 2022", "Oshah 2025")
    voxelwise: ClassVar[bool] = True
    kind: Literal["unified_focal"] = "unified_focal"
    symmetric: bool = parameter(
        False,
        title="Symmetric",
        meaning="Off: easy background is set aside, foreground keeps its full cross entropy. On: all alike.",
    )
    lam: float = parameter(
        0.5,
        title="Weight of the focal term",
        meaning="Factor of the focal cross entropy; the Tversky term gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Yeung 2022; the authors' code gives its `weight` to the other term",
    )
    delta: float = parameter(
        0.6,
        title="Penalty for false negatives",
        meaning="Weight of missed foreground; false positives get one minus it.",
        gt=0,
        lt=1,
        step=0.05,
        live=True,
    )
    gamma: float = parameter(
        0.2,
        title="Focus gamma",
        meaning="How much easy background is set aside, and rare classes gain. 0: cross entropy and Tversky.",
        ge=0,
        lt=1,
        step=0.05,
        live=True,
    )
    eps: float = parameter(1e-7, title="Smoothing", meaning="Of the Tversky term.", gt=0, advanced=True)

    def bounds(self) -> tuple[float, float]:
        """Return 0 to infinity; without the focal term, 0 to 1."""
        return 0.0, math.inf if self.lam > 0 else 1.0

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Add up both terms."""
        import torch

        from segexplorer.functional.entropy import root_free_power
        from segexplorer.functional.focal import focal_sum

        weights = scene.logits.new_tensor([1 - self.delta, *(self.delta,) * (scene.classes - 1)])
        total = focal_sum(scene, self.gamma, weights, background_only=not self.symmetric)
        focal = total / scene.kept
        losses = tversky_losses(scene.overlap(), 1 - self.delta, self.delta, self.eps)
        powers = root_free_power(losses, 1 - self.gamma)
        if not self.symmetric:
            powers = torch.cat([losses[:, :1], powers[:, 1:]], 1)
        tversky = powers.mean()
        terms = {
            "focal": (focal.detach(), self.lam),
            "focal_tversky": (tversky.detach(), 1 - self.lam),
        }
        return LossOutput(self.lam * focal + (1 - self.lam) * tversky, terms)

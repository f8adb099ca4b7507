"""`dilated_vnet`: the Dilated V-Net that Zhang 2025 compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.networks.base import registry
from segexplorer.networks.dilated import DilatedNetwork
from segexplorer.networks.vnet import VNetFamily

if TYPE_CHECKING:
    from torch import nn


@registry.register
class DilatedVNet(DilatedNetwork, VNetFamily):
    """V-Net whose coarsest level sees further through convolutions of several dilations.

    Zhang 2025 compares with "a multi-rate deep dilated network in V-Net" (its reference 12) and says no more of
    it; the dilations lie side by side behind the coarsest stage here, as in `dilated_unet`.
    """

    display_name: ClassVar[str] = "Dilated V-Net"
    reference: ClassVar[str] = "Giddwani et al. 2020, doi:10.1109/SPIN48934.2020.9071339; Zhang 2025, table 1"
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    kind: Literal["dilated_vnet"] = "dilated_vnet"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        bottleneck = self.dilated(
            dimensions, self.features()[-1], normalisation="batch", activation=self.activation
        )
        return self.with_bottleneck(dimensions, in_channels, out_channels, bottleneck)

"""`dilated_unet`: the Dilated UNet-3D of Zhang 2025, dilated convolutions at the bottleneck."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.networks.base import registry
from segexplorer.networks.dilated import DilatedNetwork
from segexplorer.networks.unet import UNetFamily

if TYPE_CHECKING:
    from torch import nn


@registry.register
class DilatedUNet(DilatedNetwork, UNetFamily):
    """U-Net whose coarsest level sees further through convolutions of several dilations.

    Zhang 2025, section 3.1 and figure 2: dilated convolutions "at the bottleneck layer", after the dilated V-Net
    of Giddwani et al. The text gives neither the dilations nor whether they lie side by side or in a row, nor
    how they are joined; both arrangements are here, and 1, 2, 4, 8 is the usual doubling.
    """

    display_name: ClassVar[str] = "Dilated U-Net"
    reference: ClassVar[str] = (
        "Zhang 2025, figure 2; Giddwani et al. 2020, doi:10.1109/SPIN48934.2020.9071339"
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    kind: Literal["dilated_unet"] = "dilated_unet"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        bottleneck = self.dilated(dimensions, self.features()[-1], normalisation=self.normalisation)
        return self.with_bottleneck(dimensions, in_channels, out_channels, bottleneck)

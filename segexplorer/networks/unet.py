"""U-Nets of our own.

- `unet`: the U-Net of Zhang 2025 and Yeung 2022, the default network.
- `dilated_unet`: the Dilated UNet-3D of Zhang 2025, with dilated convolutions at the bottleneck.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import (
    DilatedNetwork,
    LevelledNetwork,
    doubled,
    dropout,
    maximum_features,
    registry,
)

if TYPE_CHECKING:
    from torch import nn


class UNetFamily(LevelledNetwork):
    """What the U-Nets share: widths, normalisation, dropout and down-sampling."""

    family: ClassVar[str] = "U-Net"
    maximum_features: int = maximum_features()
    normalisation: Literal["none", "batch", "instance"] = parameter(
        "instance",
        title="Normalisation",
        description="After each convolution. Batch needs several patches a batch; Zhang 2025 names none.",
    )
    dropout: float = dropout()
    downsampling: Literal["max_pool", "convolution"] = parameter(
        "max_pool",
        title="Down-sampling",
        description="Largest of 2 voxels along each axis, or a learned convolution of stride 2.",
        advanced=True,
    )
    doubling: Literal["by_level", "before_pooling"] = parameter(
        "by_level",
        title="Doubling",
        description=(
            "Where channels double: in the first convolution of a level (Ronneberger 2015), or already in the "
            "last one before down-sampling (Çiçek 2016), which makes every level twice as wide."
        ),
        advanced=True,
    )

    def features(self) -> tuple[int, ...]:
        """Return the channels with which each level ends, the finest first."""
        if self.doubling == "before_pooling":
            return doubled(2 * self.base_features, self.levels, self.maximum_features)
        return doubled(self.base_features, self.levels, self.maximum_features)

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.with_bottleneck(dimensions, in_channels, out_channels, None)

    def with_bottleneck(
        self, dimensions: int, in_channels: int, out_channels: int, bottleneck: nn.Module | None
    ) -> nn.Module:
        """Build the network with a bottleneck after the coarsest convolutions, or with none."""
        from segexplorer.networks.architectures import unet

        return unet.UNet(
            dimensions,
            in_channels,
            out_channels,
            self.features(),
            self.normalisation,
            self.dropout,
            strided=self.downsampling == "convolution",
            early_doubling=self.doubling == "before_pooling",
            bottleneck=bottleneck,
            supervised=self.supervised,
        )


@registry.register
class UNet(UNetFamily):
    """U-Net: padded 3x3x3 convolutions with ReLU, factor-2 down-sampling, transposed convolution up, skips.

    Zhang 2025 (section 3.1 and figure 1: max pooling, features doubled at each level), Yeung 2022 (the 2D and 3D
    originals, presets `yeung2022_unet_2d` and `yeung2022_unet_3d`). Zhang 2025 names no normalisation; instance
    normalisation is the default here because it trains with small batches. Deep supervision adds logits to every
    level of the decoder, as section 3.3 of Yeung 2022 supervises "all layers".
    """

    display_name: ClassVar[str] = "U-Net"
    reference: ClassVar[str] = (
        "Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28; "
        "Çiçek et al. 2016, doi:10.1007/978-3-319-46723-8_49; Zhang 2025 and Yeung 2022"
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Yeung 2022")
    purposes: ClassVar[tuple[str, ...]] = ("general",)
    kind: Literal["unet"] = "unet"


@registry.register
class DilatedUNet(DilatedNetwork, UNetFamily):
    """U-Net with a larger receptive field at the coarsest level, through convolutions of several dilations.

    Zhang 2025, section 3.1 and figure 2: dilated convolutions "at the bottleneck layer", after the dilated V-Net
    of Giddwani et al. The text gives neither the dilations nor whether they are parallel or in sequence, nor
    how they are joined; both arrangements are here, and 1, 2, 4, 8 is the usual doubling.
    """

    display_name: ClassVar[str] = "Dilated U-Net"
    reference: ClassVar[str] = (
        "Zhang 2025, figure 2; Giddwani et al. 2020, doi:10.1109/SPIN48934.2020.9071339"
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    purposes: ClassVar[tuple[str, ...]] = ("context",)
    kind: Literal["dilated_unet"] = "dilated_unet"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        bottleneck = self.dilated(dimensions, self.features()[-1], normalisation=self.normalisation)
        return self.with_bottleneck(dimensions, in_channels, out_channels, bottleneck)

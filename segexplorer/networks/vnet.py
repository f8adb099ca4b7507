"""V-Nets of our own.

- `vnet`: the V-Net of Chen 2023, with batch normalisation and dropout.
- `dilated_vnet`: the Dilated V-Net that Zhang 2025 compares with.
- `longitudinal_vnet`: the V-Net of Perera 2025 for two time points and their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import (
    DilatedNetwork,
    LevelledNetwork,
    base_features,
    dropout,
    levels,
    registry,
)

if TYPE_CHECKING:
    from torch import nn


_ENCODER = (2, 3, 3, 3, 3, 3)
"""Convolutions of the levels below the first, as Milletari et al. draw them; the first level has one."""

Activation = Literal["prelu", "elu", "relu", "leaky_relu"]


def kernel(default: int) -> Any:
    """Declare the length of the convolutions."""
    return parameter(
        default,
        title="Kernel",
        description="Length of the convolutions along each axis. 5 is the original's; 3 costs a fifth in 3D.",
        unit="voxels",
    )


def activation(default: Activation) -> Any:
    """Declare what follows each convolution."""
    return parameter(
        default,
        title="Activation",
        description="After each convolution; all but ReLU let negative values through in part.",
        advanced=True,
    )


class VNetFamily(LevelledNetwork):
    """What the V-Nets share: widths, levels, kernels, activation and dropout."""

    family: ClassVar[str] = "V-Net"
    residual: ClassVar[bool] = True
    """Whether a stage adds its input to its output."""

    base_features: int = base_features(16, most=64)
    levels: int = levels(5, fewest=3)
    kernel: Literal[3, 5] = kernel(5)
    activation: Activation = activation("prelu")
    dropout: float = dropout(0.5)

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.with_bottleneck(dimensions, in_channels, out_channels, None)

    def with_bottleneck(
        self, dimensions: int, in_channels: int, out_channels: int, bottleneck: nn.Module | None
    ) -> nn.Module:
        """Build the network with a bottleneck after the coarsest stage, or with none."""
        from segexplorer.networks.architectures import vnet

        encoder = _ENCODER[: self.levels - 1]
        return vnet.VNet(
            vnet.Style(dimensions, self.kernel, self.activation, self.residual),
            in_channels,
            out_channels,
            self.features(),
            encoder,
            (*reversed(encoder[:-1]), 1),
            self.dropout,
            bottleneck=bottleneck,
            supervised=self.supervised,
        )


@registry.register
class VNet(VNetFamily):
    """V-Net: residual stages of 5x5x5 convolutions, strided convolutions down, transposed ones up.

    Milletari et al.'s network (one, two, three, three and three convolutions from the finest level to the
    coarsest, PReLU), with batch normalisation and dropout as section 3.4 of Chen 2023 says. The paper gives
    neither the rate nor the place of the dropout: 0.5, on the skips and the two coarsest levels, as MONAI's.
    """

    display_name: ClassVar[str] = "V-Net"
    reference: ClassVar[str] = "Milletari et al. 2016, doi:10.1109/3DV.2016.79; Chen 2023, section 3.4"
    papers: ClassVar[tuple[str, ...]] = ("Chen 2023",)
    purposes: ClassVar[tuple[str, ...]] = ("general",)
    kind: Literal["vnet"] = "vnet"


@registry.register
class DilatedVNet(DilatedNetwork, VNetFamily):
    """V-Net with a larger receptive field at the coarsest level, through convolutions of several dilations.

    Zhang 2025 compares with "a multi-rate deep dilated network in V-Net" (its reference 12) and says nothing
    more about it; the dilations are parallel behind the coarsest stage here, as in `dilated_unet`.
    """

    display_name: ClassVar[str] = "Dilated V-Net"
    reference: ClassVar[str] = "Giddwani et al. 2020, doi:10.1109/SPIN48934.2020.9071339; Zhang 2025, table 1"
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    purposes: ClassVar[tuple[str, ...]] = ("context",)
    kind: Literal["dilated_vnet"] = "dilated_vnet"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        bottleneck = self.dilated(
            dimensions, self.features()[-1], normalisation="batch", activation=self.activation
        )
        return self.with_bottleneck(dimensions, in_channels, out_channels, bottleneck)


@registry.register
class LongitudinalVNet(VNetFamily):
    """V-Net without residual sums: convolution, batch normalisation and leaky ReLU, five levels.

    Perera 2025, section II.B and figure 2: baseline, follow-up and their difference come in as three channels; the
    convolutional, down-sampling and up-sampling blocks are all convolution, batch normalisation and leaky ReLU.
    Five blocks make a path in the text, while the figure states no number: five levels here. The text names neither
    channels, kernels, convolutions per level, slope nor dropout, nor whether skips are added or concatenated:
    those of the V-Net, kernels of 3, a slope of 0.01, no dropout and concatenation here. The paper starts from the
    weights of CoactSeg (its reference 21), which are not part of this package.
    """

    display_name: ClassVar[str] = "V-Net, longitudinal"
    reference: ClassVar[str] = "Perera 2025, section II.B and figure 2; Milletari et al. 2016"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025",)
    residual: ClassVar[bool] = False
    purposes: ClassVar[tuple[str, ...]] = ("follow_up", "small_structures")
    kind: Literal["longitudinal_vnet"] = "longitudinal_vnet"
    kernel: Literal[3, 5] = kernel(3)
    activation: Activation = activation("leaky_relu")
    dropout: float = dropout()

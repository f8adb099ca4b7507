"""`vnet`: the V-Net of Chen 2023, with batch normalisation and dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.levels import LevelledNetwork, base_features, dropout, levels

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
        meaning="Length of the convolutions along each axis. 5 is the original's; 3 costs a fifth in 3D.",
        unit="voxels",
    )


def activation(default: Activation) -> Any:
    """Declare what follows each convolution."""
    return parameter(
        default,
        title="Activation",
        meaning="After each convolution; all but ReLU let negative values through in part.",
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
        """Build the network around what lies behind the coarsest stage."""
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
    kind: Literal["vnet"] = "vnet"

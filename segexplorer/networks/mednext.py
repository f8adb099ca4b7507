"""`mednext`: MONAI's MedNeXt, a U-Net of ConvNeXt blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.levels import base_features

if TYPE_CHECKING:
    from torch import nn

_LEVELS = 5
_SIZES: dict[str, dict[str, Any]] = {
    "S": {"blocks": (2, 2, 2, 2), "bottleneck": 2, "ratios": (2, 2, 2, 2), "bottleneck_ratio": 2},
    "B": {"blocks": (2, 2, 2, 2), "bottleneck": 2, "ratios": (2, 3, 4, 4), "bottleneck_ratio": 4},
    "M": {"blocks": (3, 4, 4, 4), "bottleneck": 4, "ratios": (2, 3, 4, 4), "bottleneck_ratio": 4},
    "L": {"blocks": (3, 4, 8, 8), "bottleneck": 8, "ratios": (3, 4, 8, 8), "bottleneck_ratio": 8},
}
"""Table 1 of Roy et al., from the finest level down; the decoder mirrors the encoder."""


@registry.register
class MedNeXt(SupervisedNetwork):
    """Residual blocks of a depthwise convolution, an expansion and a compression, on every level and between them.

    As MONAI builds it. Weights trained with kernels of 3 can start a network with kernels of 5 (Roy et al.'s
    UpKern): name the file in `network_weights.path`. Deep supervision puts logits on every level, the coarsest
    included.
    """

    display_name: ClassVar[str] = "MedNeXt"
    reference: ClassVar[str] = "Roy et al. 2023, arXiv:2303.09975; MONAI MedNeXt"
    family: ClassVar[str] = "residual"
    kind: Literal["mednext"] = "mednext"
    size: Literal["S", "B", "M", "L"] = parameter(
        "S",
        title="Size",
        meaning="Small, base, medium or large, as in the paper: more blocks, wider inside; more time and memory.",
    )
    kernel: Literal[3, 5, 7] = parameter(
        3, title="Kernel", meaning="Length of the depthwise convolutions along each axis.", unit="voxels"
    )
    base_features: int = base_features(
        32,
        least=4,
        meaning="Channels at full resolution, doubled at each level. The paper's is 32.",
        advanced=True,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from monai.networks.nets import MedNeXt as Network

        size = _SIZES[self.size]
        network: nn.Module = Network(
            spatial_dims=dimensions,
            init_filters=self.base_features,
            in_channels=in_channels,
            out_channels=out_channels,
            encoder_expansion_ratio=size["ratios"],
            decoder_expansion_ratio=size["ratios"][::-1],
            bottleneck_expansion_ratio=size["bottleneck_ratio"],
            kernel_size=self.kernel,
            deep_supervision=self.supervised,
            use_residual_connection=True,
            blocks_down=size["blocks"],
            blocks_bottleneck=size["bottleneck"],
            blocks_up=size["blocks"][::-1],
        )
        return network

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (_LEVELS - 1),) * dimensions

"""Convolutional networks as MONAI builds them, with this package's parameters and deep supervision.

- `attention_unet`: Attention U-Net.
- `dynunet`: DynUNet, the plain U-Net of nnU-Net.
- `segresnet`: SegResNet, a residual encoder with a light decoder.
- `unet_plus_plus`: UNet++.
- `mednext`: MedNeXt, a U-Net of ConvNeXt blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import (
    LevelledNetwork,
    SupervisedNetwork,
    base_features,
    doubled,
    dropout,
    levels,
    maximum_features,
    registry,
)

if TYPE_CHECKING:
    from torch import nn


@registry.register
class AttentionUNet(LevelledNetwork):
    """U-Net whose skips pass a gate: the coarser level decides which of their features count.

    As MONAI builds it: batch norm, ReLU, strided convolutions down and transposed ones up. Oktay et al. showed
    it on the pancreas. Deep supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "Attention U-Net"
    reference: ClassVar[str] = "Oktay et al. 2018, arXiv:1804.03999; MONAI AttentionUnet"
    family: ClassVar[str] = "U-Net"
    purposes: ClassVar[tuple[str, ...]] = ("small_structures",)
    kind: Literal["attention_unet"] = "attention_unet"
    dropout: float = dropout(of="number")

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.monai_networks import AttentionUNet as Network

        return Network(
            supervised=self.supervised,
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=self.features(),
            strides=(2,) * (self.levels - 1),
            dropout=self.dropout,
        )


@registry.register
class DynUNet(LevelledNetwork):
    """nnU-Net's architecture as MONAI builds it: strided convolutions, instance norm, leaky ReLU.

    Isotropic: kernels of 3 and strides of 2 on every level below the first. Deep supervision puts logits on
    every level of the decoder, as many as MONAI allows, each at its own resolution.
    """

    display_name: ClassVar[str] = "DynUNet (nnU-Net)"
    reference: ClassVar[str] = "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; MONAI DynUNet"
    family: ClassVar[str] = "U-Net"
    purposes: ClassVar[tuple[str, ...]] = ("general",)
    kind: Literal["dynunet"] = "dynunet"
    base_features: int = base_features(32)
    levels: int = levels(4, fewest=3)
    maximum_features: int = maximum_features()
    normalisation: Literal["batch", "instance"] = parameter(
        "instance",
        title="Normalisation",
        description="After each convolution. Batch needs several patches a batch.",
        advanced=True,
    )
    residual: bool = parameter(
        False,
        title="Residual blocks",
        description="Adds each block's input to its output; eases deep networks.",
    )
    dropout: float = dropout(of="number")

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.monai_networks import DynUNet as Network

        strides = [1] + [2] * (self.levels - 1)
        return Network(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=[3] * self.levels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=self.features(),
            dropout=self.dropout if self.dropout > 0 else None,
            norm_name=(self.normalisation, {"affine": True}),
            deep_supervision=self.supervised,
            deep_supr_num=self.levels - 2,
            res_block=self.residual,
        )

    def features(self) -> tuple[int, ...]:
        """Return the channels with which each level ends, the finest first."""
        return doubled(self.base_features, self.levels, self.maximum_features)


_DEPTHS = (1, 2, 2, 4, 4, 4)
"""Residual blocks per encoder level: the paper's 1, 2, 2, 4, and 4 on every level below."""


@registry.register
class SegResNet(LevelledNetwork):
    """Residual blocks with group norm; addition in place of concatenation at the skips; linear up-sampling.

    The segmentation part of Myronenko's winning network of BraTS 2018, without its auto-encoder branch. Deep
    supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "SegResNet"
    reference: ClassVar[str] = "Myronenko 2018, arXiv:1810.11654; MONAI SegResNet"
    family: ClassVar[str] = "residual"
    purposes: ClassVar[tuple[str, ...]] = ("general",)
    kind: Literal["segresnet"] = "segresnet"
    base_features: int = base_features(
        16,
        least=8,
        description="Channels at full resolution, doubled at each level; a multiple of 8, for the group norm.",
    )
    levels: int = levels(4, most=6)
    dropout: float = dropout(of="channel of the first level", trade=False)
    upsampling: Literal["linear", "transposed"] = parameter(
        "linear",
        title="Up-sampling",
        description="Linear interpolation, or learned transposed convolution.",
        advanced=True,
    )

    @field_validator("base_features")
    @classmethod
    def _whole_groups(cls, value: int) -> int:
        if value % 8:
            raise ValueError("must be a multiple of 8, for the groups of the group norm")
        return value

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.monai_networks import SegResNet as Network

        return Network(
            spatial_dims=dimensions,
            init_filters=self.base_features,
            in_channels=in_channels,
            out_channels=out_channels,
            dropout_prob=self.dropout if self.dropout > 0 else None,
            blocks_down=_DEPTHS[: self.levels],
            blocks_up=(1,) * (self.levels - 1),
            upsample_mode="nontrainable" if self.upsampling == "linear" else "deconv",
            supervised=self.supervised,
        )


_LEVELS = 5


@registry.register
class UNetPlusPlus(SupervisedNetwork):
    """Nested U-Nets of depth 1 to 4 that share one encoder, with skips through all nodes between.

    As MONAI builds it: five levels, instance norm, leaky ReLU. Deep supervision trains the logits of all four
    depths, each at full resolution, as Zhou et al. do; the deepest one predicts.
    """

    display_name: ClassVar[str] = "UNet++"
    reference: ClassVar[str] = "Zhou et al. 2018, arXiv:1807.10165; MONAI BasicUNetPlusPlus"
    family: ClassVar[str] = "U-Net"
    purposes: ClassVar[tuple[str, ...]] = ("general",)
    kind: Literal["unet_plus_plus"] = "unet_plus_plus"
    base_features: int = base_features(
        32,
        least=4,
        description="Channels of the first two levels, then doubled at each. More learns more and costs more time.",
    )
    dropout: float = dropout()
    upsampling: Literal["transposed", "linear"] = parameter(
        "transposed",
        title="Up-sampling",
        description="Learned transposed convolution, or linear interpolation.",
        advanced=True,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.monai_networks import UNetPlusPlus as Network

        n = self.base_features
        return Network(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            features=(n, n, 2 * n, 4 * n, 8 * n, n),
            deep_supervision=self.supervised,
            dropout=self.dropout,
            upsample="deconv" if self.upsampling == "transposed" else "nontrainable",
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (_LEVELS - 1),) * dimensions


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
    purposes: ClassVar[tuple[str, ...]] = ("general", "context")
    kind: Literal["mednext"] = "mednext"
    size: Literal["S", "B", "M", "L"] = parameter(
        "S",
        title="Size",
        description="Small, base, medium or large, as in the paper: more blocks, wider inside; more "
        "time and memory.",
    )
    kernel: Literal[3, 5, 7] = parameter(
        3, title="Kernel", description="Length of the depthwise convolutions along each axis.", unit="voxels"
    )
    base_features: int = base_features(
        32,
        least=4,
        description="Channels at full resolution, doubled at each level. The paper's is 32.",
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

"""`dynunet`: MONAI's DynUNet, the plain U-Net of nnU-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.levels import (
    LevelledNetwork,
    base_features,
    doubled,
    dropout,
    levels,
    maximum_features,
)

if TYPE_CHECKING:
    from torch import nn


@registry.register
class DynUNet(LevelledNetwork):
    """nnU-Net's architecture as MONAI builds it: strided convolutions, instance norm, leaky ReLU.

    Isotropic: kernels of 3 and strides of 2 on every level below the first. Deep supervision puts logits on
    every level of the decoder, as many as MONAI allows, each at its own resolution.
    """

    display_name: ClassVar[str] = "DynUNet (nnU-Net)"
    reference: ClassVar[str] = "Isensee et al. 2021, doi:10.1038/s41592-020-01008-z; MONAI DynUNet"
    family: ClassVar[str] = "U-Net"
    kind: Literal["dynunet"] = "dynunet"
    base_features: int = base_features(32)
    levels: int = levels(4, fewest=3)
    maximum_features: int = maximum_features()
    normalisation: Literal["batch", "instance"] = parameter(
        "instance",
        title="Normalisation",
        meaning="After each convolution. Batch needs several patches a batch.",
        advanced=True,
    )
    residual: bool = parameter(
        False, title="Residual blocks", meaning="Adds each block's input to its output; eases deep networks."
    )
    dropout: float = dropout(of="number")

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import DynUNet as Network

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

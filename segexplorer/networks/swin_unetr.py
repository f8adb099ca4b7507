"""`swin_unetr`: MONAI's Swin UNETR, a shifted-window transformer with a convolutional decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.levels import base_features, dropout

if TYPE_CHECKING:
    from torch import nn

_DIVISOR = 32
_HEADS = (3, 6, 12, 24)


@registry.register
class SwinUNETR(SupervisedNetwork):
    """Attention inside windows of 7 voxels that shift from block to block, on four levels; convolutions decode.

    As MONAI builds it. Needs much memory and data; its published self-supervised weights can be loaded through
    `network_weights.path`. Deep supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "Swin UNETR"
    reference: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2201.01266; MONAI SwinUNETR"
    family: ClassVar[str] = "transformer"
    kind: Literal["swin_unetr"] = "swin_unetr"
    base_features: int = base_features(
        24, least=12, most=96, meaning="Channels, doubled at each level; a multiple of 12. The paper's is 48."
    )
    depths: tuple[int, int, int, int] = parameter(
        (2, 2, 2, 2),
        title="Blocks per level",
        meaning="Transformer blocks, fine to coarse; even numbers, for windows shift in every other one.",
        advanced=True,
    )
    residual: bool = parameter(
        False,
        title="Version 2",
        meaning="A residual convolution before each level's blocks (Swin UNETR-V2).",
        advanced=True,
    )
    recompute: bool = parameter(
        False,
        title="Recompute activations",
        meaning="Saves memory in training by computing the transformer's activations twice.",
        advanced=True,
    )
    dropout: float = dropout(of="number")

    @field_validator("base_features")
    @classmethod
    def _whole_heads(cls, value: int) -> int:
        if value % 12:
            raise ValueError("must be a multiple of 12, for the attention heads")
        return value

    @field_validator("depths")
    @classmethod
    def _even(cls, value: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        if any(n < 2 or n % 2 for n in value):
            raise ValueError("must be even numbers of blocks, at least 2 each")
        return value

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import SwinUNETR as Network

        return Network(
            supervised=self.supervised,
            in_channels=in_channels,
            out_channels=out_channels,
            depths=self.depths,
            num_heads=_HEADS,
            feature_size=self.base_features,
            drop_rate=self.dropout,
            use_checkpoint=self.recompute,
            spatial_dims=dimensions,
            use_v2=self.residual,
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (_DIVISOR,) * dimensions

    def smallest_patch(self, dimensions: int) -> tuple[int, ...]:
        # two voxels on the coarsest level are enough for its normalisation
        return (2 * _DIVISOR,) + (_DIVISOR,) * (dimensions - 1)

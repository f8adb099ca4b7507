"""Transformer encoders with a convolutional decoder, as MONAI builds them.

- `unetr`: a vision transformer on tokens of 16 voxels along each axis.
- `swin_unetr`: a transformer whose attention is limited to shifted windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import SupervisedNetwork, base_features, dropout, registry

if TYPE_CHECKING:
    from torch import nn


_TOKEN = 16


@registry.register
class UNETR(SupervisedNetwork):
    """Twelve transformer blocks on tokens of 16 voxels along each axis; their outputs go to a U-Net's decoder.

    As MONAI builds it; MONAI's takes one image size only, here the position embeddings are interpolated to the
    image's, so that whole volumes and patches of any multiple of 16 can be used. Needs much data. Deep supervision
    puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "UNETR"
    reference: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2103.10504; MONAI UNETR"
    family: ClassVar[str] = "transformer"
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    purposes: ClassVar[tuple[str, ...]] = ("context",)
    kind: Literal["unetr"] = "unetr"
    base_features: int = base_features(
        16,
        least=4,
        most=64,
        description="Channels of the decoder at full resolution, doubled at each level.",
    )
    image_size: int = parameter(
        96,
        title="Image size",
        description="Length of the patch for which positions are learned; those of other lengths are interpolated. "
        "Best the length of the training patches.",
        unit="voxels",
        ge=_TOKEN,
        le=512,
        step=_TOKEN,
    )
    hidden: int = parameter(
        768,
        title="Token features",
        description="Numbers that describe a token.",
        ge=12,
        le=1536,
        advanced=True,
    )
    feed_forward: int = parameter(
        3072,
        title="Feed-forward features",
        description="Width of the layers between the attentions.",
        ge=12,
        le=6144,
        advanced=True,
    )
    heads: int = parameter(
        12, title="Attention heads", description="They divide the token features.", ge=1, le=32, advanced=True
    )
    dropout: float = dropout(of="number")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.image_size % _TOKEN:
            raise ValueError(f"image_size must be a multiple of {_TOKEN}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures import monai_networks

        return monai_networks.UNETR(
            image_size=self.image_size,
            supervised=self.supervised,
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=self.base_features,
            hidden_size=self.hidden,
            mlp_dim=self.feed_forward,
            num_heads=self.heads,
            dropout_rate=self.dropout,
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (_TOKEN,) * dimensions


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
    purposes: ClassVar[tuple[str, ...]] = ("context",)
    kind: Literal["swin_unetr"] = "swin_unetr"
    base_features: int = base_features(
        24,
        least=12,
        most=96,
        description="Channels, doubled at each level; a multiple of 12. The paper's is 48.",
    )
    depths: tuple[int, int, int, int] = parameter(
        (2, 2, 2, 2),
        title="Blocks per level",
        description="Transformer blocks, fine to coarse; even numbers, for windows shift in every other one.",
        advanced=True,
    )
    residual: bool = parameter(
        False,
        title="Version 2",
        description="A residual convolution before each level's blocks (Swin UNETR-V2).",
        advanced=True,
    )
    recompute: bool = parameter(
        False,
        title="Recompute activations",
        description="Saves memory in training by computing the transformer's activations twice.",
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
        from segexplorer.networks.architectures.monai_networks import SwinUNETR as Network

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

"""The networks of the five papers, by name; notes say what a paper leaves open."""

from __future__ import annotations

from segexplorer.networks.base import registry
from segexplorer.networks.dilated_unet import DilatedUNet
from segexplorer.networks.dilated_vnet import DilatedVNet
from segexplorer.networks.longitudinal_vnet import LongitudinalVNet
from segexplorer.networks.unet import UNet
from segexplorer.networks.vnet import VNet

_000 = (
    "Section 4.2 puts convolutions of 2 x 2 x 2 in the place of the max pooling of section 3.1. "
    "Levels, channels and normalisation are not given: 4 levels from 32 channels as in Çiçek 2016, "
    "instance normalisation."
)
registry.register_preset(
    "paper000_unet_3d",
    "Paper 000: UNet-3D",
    UNet(base_features=32, downsampling="convolution"),
    group="Paper 000",
    note=_000,
)
registry.register_preset(
    "paper000_dilated_unet_3d",
    "Paper 000: Dilated UNet-3D",
    DilatedUNet(base_features=32, downsampling="convolution"),
    group="Paper 000",
    note=f"{_000} Dilations 1, 2, 4, 8 side by side; figure 2 is not told in the text.",
)
registry.register_preset(
    "paper000_dilated_vnet",
    "Paper 000: Dilated V-Net (compared)",
    DilatedVNet(),
    group="Paper 000",
    note="Reference 12 of the paper; its dilations are not told there.",
)
registry.register_preset(
    "paper001_longitudinal_vnet",
    "Paper 001: V-Net for two time points",
    LongitudinalVNet(),
    group="Paper 001",
    note="Baseline, follow-up and difference as channels. Starts from the weights of CoactSeg in the paper.",
)
registry.register_preset(
    "paper002_unet_2d",
    "Paper 002: U-Net 2D (original)",
    UNet(base_features=64, levels=5, maximum_features=1024, normalisation="none"),
    group="Paper 002",
    note="Padded, for logits of the image's shape. The dropout of Ronneberger 2015 has no rate there: none here.",
)
registry.register_preset(
    "paper002_unet_3d",
    "Paper 002: U-Net 3D (Çiçek)",
    UNet(base_features=32, maximum_features=1024, normalisation="batch", doubling="before_pooling"),
    group="Paper 002",
    note="Padded, for logits of the image's shape.",
)
registry.register_preset(
    "paper002_unet_2d_deep",
    "Paper 002: U-Net 2D, deep supervision",
    UNet(
        base_features=64,
        levels=5,
        maximum_features=1024,
        normalisation="none",
        deep_supervision="stride",
    ),
    group="Paper 002",
    note="Levels weigh 2^-(stride x stride), eq. 22; every level of the decoder is supervised.",
)
registry.register_preset(
    "paper002_unet_3d_deep",
    "Paper 002: U-Net 3D, deep supervision",
    UNet(
        base_features=32,
        maximum_features=1024,
        normalisation="batch",
        doubling="before_pooling",
        deep_supervision="stride",
    ),
    group="Paper 002",
    note="Levels weigh 2^-(stride x stride), eq. 22; every level of the decoder is supervised.",
)
registry.register_preset(
    "paper004_vnet",
    "Paper 004: V-Net with batch norm and dropout",
    VNet(),
    group="Paper 004",
    note="Whole volumes come in. The dropout's rate and place are MONAI's; the paper gives none.",
)

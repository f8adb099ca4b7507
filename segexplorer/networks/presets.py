"""The networks of the five papers, by name; notes say what a paper leaves open."""

from __future__ import annotations

from segexplorer.networks.base import registry
from segexplorer.networks.unet import DilatedUNet, UNet
from segexplorer.networks.vnet import DilatedVNet, LongitudinalVNet, VNet

_ZHANG = (
    "Section 4.2 puts convolutions of 2 x 2 x 2 in the place of the max pooling of section 3.1. "
    "Levels, channels and normalisation are not given: 4 levels from 32 channels as in Çiçek 2016, "
    "instance normalisation."
)
registry.register_preset(
    "zhang2025_unet_3d",
    "UNet-3D (Zhang 2025)",
    UNet(base_features=32, downsampling="convolution"),
    group="Zhang 2025",
    note=_ZHANG,
)
registry.register_preset(
    "zhang2025_dilated_unet_3d",
    "Dilated UNet-3D (Zhang 2025)",
    DilatedUNet(base_features=32, downsampling="convolution"),
    group="Zhang 2025",
    note=f"{_ZHANG} Dilations 1, 2, 4, 8 side by side; the text does not describe figure 2.",
)
registry.register_preset(
    "zhang2025_dilated_vnet",
    "Dilated V-Net, compared (Zhang 2025)",
    DilatedVNet(),
    group="Zhang 2025",
    note="Reference 12 of the paper; it does not state the dilations.",
)
registry.register_preset(
    "perera2025_longitudinal_vnet",
    "V-Net for two time points (Perera 2025)",
    LongitudinalVNet(),
    group="Perera 2025",
    note="Baseline, follow-up and difference as channels. Starts from the weights of CoactSeg in the paper.",
)
registry.register_preset(
    "yeung2022_unet_2d",
    "U-Net 2D of Ronneberger (Yeung 2022)",
    UNet(base_features=64, levels=5, maximum_features=1024, normalisation="none"),
    group="Yeung 2022",
    note="Padded, for logits of the image's shape. The dropout of Ronneberger 2015 has no rate there: none here.",
)
registry.register_preset(
    "yeung2022_unet_3d",
    "U-Net 3D of Çiçek (Yeung 2022)",
    UNet(base_features=32, maximum_features=1024, normalisation="batch", doubling="before_pooling"),
    group="Yeung 2022",
    note="Padded, for logits of the image's shape.",
)
registry.register_preset(
    "yeung2022_unet_2d_deep",
    "U-Net 2D, deep supervision (Yeung 2022)",
    UNet(
        base_features=64,
        levels=5,
        maximum_features=1024,
        normalisation="none",
        deep_supervision="stride",
    ),
    group="Yeung 2022",
    note="Levels weigh 2^-(stride x stride), eq. 22; every level of the decoder is supervised.",
)
registry.register_preset(
    "yeung2022_unet_3d_deep",
    "U-Net 3D, deep supervision (Yeung 2022)",
    UNet(
        base_features=32,
        maximum_features=1024,
        normalisation="batch",
        doubling="before_pooling",
        deep_supervision="stride",
    ),
    group="Yeung 2022",
    note="Levels weigh 2^-(stride x stride), eq. 22; every level of the decoder is supervised.",
)
registry.register_preset(
    "chen2023_vnet",
    "V-Net with batch norm and dropout (Chen 2023)",
    VNet(),
    group="Chen 2023",
    note="Whole volumes come in. The dropout's rate and place are MONAI's; the paper gives none.",
)

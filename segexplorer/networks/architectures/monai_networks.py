"""MONAI's networks, changed where they break the promises of `networks.base`.

Logits of several resolutions: MONAI brings every level of its DynUNet to full resolution and stacks them; its
UNet++ lists them from the shallowest to the deepest, in evaluation too; its SegResNet, Attention U-Net and Swin
UNETR have none. Here all return one tuple in training, the full resolution first, and one tensor in evaluation.

Image sizes: MONAI's UNETR takes one size only. Here its learned position embeddings are interpolated to the grid
of the image.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks import nets
from torch import nn
from torch.nn import functional

from segexplorer.networks.architectures.blocks import logit_heads, with_coarse_logits

Logits = torch.Tensor | tuple[torch.Tensor, ...]


class DynUNet(nets.DynUNet):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's DynUNet, each level at its own resolution.

    MONAI holds every layer a second time, nested in its skip layers, for TorchScript. Without them no weight has
    two names, which safetensors cannot save in the channels-last formats.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self.skip_layers, self.heads

    def forward(self, x: torch.Tensor) -> Logits:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level."""
        skips = [self.input_block(x)]
        for down in self.downsamples:
            skips.append(down(skips[-1]))
        x = self.bottleneck(skips[-1])
        levels = []
        for up, skip in zip(self.upsamples, reversed(skips), strict=True):
            x = up(x, skip)
            levels.append(x)
        logits: torch.Tensor = self.output_block(x)
        if not (self.training and self.deep_supervision):
            return logits
        finer = levels[-2::-1]  # from half the resolution down, the order of MONAI's heads
        coarse = [head(level) for head, level in zip(self.deep_supervision_heads, finer, strict=False)]
        return (logits, *coarse)


class SegResNet(nets.SegResNet):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's SegResNet with a 1^D convolution to logits on every level of the decoder."""

    def __init__(
        self, spatial_dims: int, init_filters: int, in_channels: int, out_channels: int, **settings: Any
    ) -> None:
        supervised = settings.pop("supervised")
        super().__init__(spatial_dims, init_filters, in_channels, out_channels, **settings)
        count = len(self.up_layers) - 1 if supervised else 0
        coarse = [init_filters * 2 ** (level + 1) for level in reversed(range(count))]
        self.coarse_heads = logit_heads(spatial_dims, coarse, out_channels)

    def decode(self, x: torch.Tensor, down_x: list[torch.Tensor]) -> Logits:
        """Bring the coarsest features up, with the encoder's from coarse to fine."""
        levels = []
        for up, layer, skip in zip(self.up_samples, self.up_layers, down_x[1:], strict=True):
            x = layer(up(x) + skip)
            levels.append(x)
        logits: torch.Tensor = self.conv_final(x)
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, levels[:-1])


class UNetPlusPlus(nets.BasicUNetPlusPlus):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's UNet++: the deepest node's logits, or those of all nodes of the first row in training."""

    def __init__(self, *, deep_supervision: bool, **settings: Any) -> None:
        super().__init__(deep_supervision=deep_supervision, **settings)
        if (
            not deep_supervision
        ):  # heads that are never used would learn nothing, but be saved with the weights
            self.final_conv_0_1 = self.final_conv_0_2 = self.final_conv_0_3 = nn.Identity()

    def forward(self, x: torch.Tensor) -> Logits:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every node."""
        outputs: list[torch.Tensor] = super().forward(x)
        return tuple(reversed(outputs)) if self.training and self.deep_supervision else outputs[-1]


class AttentionUNet(nets.AttentionUnet):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's Attention U-Net with a 1^D convolution to logits on every level of the decoder."""

    def __init__(self, *, supervised: bool, **settings: Any) -> None:
        super().__init__(**settings)
        coarse = settings["channels"][-2:0:-1] if supervised else ()
        self.coarse_heads = logit_heads(settings["spatial_dims"], coarse, settings["out_channels"])

    def forward(self, x: torch.Tensor) -> Logits:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level."""
        head, levels, to_logits = self.model
        found: list[torch.Tensor] = []
        logits: torch.Tensor = to_logits(self._level(levels, head(x), found))
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, found[:-1])

    def _level(self, layer: Any, x: torch.Tensor, found: list[torch.Tensor]) -> torch.Tensor:
        """Go down to the bottom and up again; MONAI nests each level inside the next finer one."""
        below = layer.submodule
        # [convolutions, next level], or at the bottom the convolutions alone
        deeper = isinstance(below, nn.Sequential)
        risen = layer.upconv(self._level(below[1], below[0](x), found) if deeper else below(x))
        merged: torch.Tensor = layer.merge(torch.cat((layer.attention(g=risen, x=x), risen), dim=1))
        found.append(merged)
        return merged


class SwinUNETR(nets.SwinUNETR):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's Swin UNETR with a 1^D convolution to logits on every level of the decoder."""

    def __init__(self, *, supervised: bool, **settings: Any) -> None:
        super().__init__(**settings)
        coarse = [settings["feature_size"] * n for n in (8, 4, 2, 1)] if supervised else []
        self.coarse_heads = logit_heads(settings["spatial_dims"], coarse, settings["out_channels"])

    def forward(self, x_in: torch.Tensor) -> Logits:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level."""
        self._check_input_size(x_in.shape[2:])
        half, quarter, eighth, sixteenth, bottom = self.swinViT(x_in, self.normalize)
        x = self.decoder5(self.encoder10(bottom), sixteenth)
        levels = [x]
        for decoder, encoder, skip in (
            (self.decoder4, self.encoder4, eighth),
            (self.decoder3, self.encoder3, quarter),
            (self.decoder2, self.encoder2, half),
        ):
            x = decoder(x, encoder(skip))
            levels.append(x)
        logits: torch.Tensor = self.out(self.decoder1(x, self.encoder1(x_in)))
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, levels)


TOKEN = 16
"""Voxels of a token along each axis."""
_SKIPS = (3, 6, 9)
"""Transformer blocks, counted from 0, whose outputs go to the decoder."""
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class UNETR(nets.UNETR):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's UNETR; at the image size that it is built for it gives MONAI's numbers."""

    def __init__(self, *, image_size: int, supervised: bool, spatial_dims: int, **settings: Any) -> None:
        super().__init__(img_size=image_size, spatial_dims=spatial_dims, **settings)
        # MONAI's blocks hold a layer for cross-attention, which a vision transformer never uses
        for block in self.vit.blocks:
            block.norm_cross_attn = nn.Identity()
        coarse = [settings["feature_size"] * n for n in (8, 4, 2)] if supervised else []
        self.coarse_heads = logit_heads(spatial_dims, coarse, settings["out_channels"])

    def forward(self, x_in: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level.

        Axes are multiples of 16.
        """
        embedding = self.vit.patch_embedding
        patches = embedding.patch_embeddings(x_in)
        grid = tuple(patches.shape[2:])
        tokens = embedding.dropout(patches.flatten(2).transpose(1, 2) + self._positions(grid))
        hidden = []
        for block in self.vit.blocks:
            tokens = block(tokens)
            hidden.append(_as_image(tokens, grid))
        features = _as_image(self.vit.norm(tokens), grid)
        second, third, fourth = (hidden[i] for i in _SKIPS)
        eighth = self.decoder5(features, self.encoder4(fourth))
        quarter = self.decoder4(eighth, self.encoder3(third))
        half = self.decoder3(quarter, self.encoder2(second))
        logits: torch.Tensor = self.out(self.decoder2(half, self.encoder1(x_in)))
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, (eighth, quarter, half))

    def _positions(self, grid: tuple[int, ...]) -> torch.Tensor:
        """Return the position embeddings (1, tokens, hidden) of a grid of tokens."""
        learned: torch.Tensor = self.vit.patch_embedding.position_embeddings
        if grid == self.feat_size:
            return learned
        image = _as_image(learned, self.feat_size)
        mode = _INTERPOLATION[len(grid)]
        resized: torch.Tensor = functional.interpolate(image, grid, mode=mode, align_corners=False)
        return resized.flatten(2).transpose(1, 2)


def _as_image(tokens: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """Bring tokens (B, N, C) back to (B, C, *grid)."""
    batch, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(batch, channels, *grid)

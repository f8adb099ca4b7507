"""MONAI's UNETR for images of any size: the learned position embeddings are interpolated to the image's grid."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks import nets
from torch import nn
from torch.nn import functional

from segexplorer.networks.architectures.blocks import logit_heads, with_coarse_logits

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

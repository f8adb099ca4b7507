"""MONAI's UNETR for images of any size: the learned position embeddings are interpolated to the image's grid."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks import nets
from torch import nn
from torch.nn import functional

TOKEN = 16
"""Voxels of a token along each axis."""
_SKIPS = (3, 6, 9)
"""Transformer blocks, counted from 0, whose outputs go to the decoder."""
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class UNETR(nets.UNETR):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's UNETR; at the image size that it is built for it gives MONAI's numbers."""

    def __init__(self, *, image_size: int, spatial_dims: int, **settings: Any) -> None:
        super().__init__(img_size=image_size, spatial_dims=spatial_dims, **settings)
        # MONAI's blocks hold a layer for cross-attention, which a vision transformer never uses
        for block in self.vit.blocks:
            block.norm_cross_attn = nn.Identity()

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial); axes are multiples of 16."""
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
        features = self.decoder5(features, self.encoder4(fourth))
        features = self.decoder4(features, self.encoder3(third))
        features = self.decoder3(features, self.encoder2(second))
        logits: torch.Tensor = self.out(self.decoder2(features, self.encoder1(x_in)))
        return logits

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

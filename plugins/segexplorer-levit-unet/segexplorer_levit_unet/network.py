"""LeViT-UNet as torch modules, on the LeViT encoder of `transformers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import LevitConfig, LevitModel
from transformers.models.levit.modeling_levit import LevitAttention, LevitAttentionSubsample

RGB = 3


@dataclass(frozen=True)
class Size:
    """A LeViT of Graham et al., table 2: per stage features, heads and layers; the length of keys."""

    features: tuple[int, int, int]
    heads: tuple[int, int, int]
    depths: tuple[int, int, int]
    keys: int


SIZES = {
    "128s": Size((128, 256, 384), (4, 6, 8), (2, 3, 4), 16),
    "192": Size((192, 288, 384), (3, 5, 6), (4, 4, 4), 32),
    "384": Size((384, 512, 768), (6, 9, 12), (4, 4, 4), 32),
}


class LeViTUNet(nn.Module):
    """Slices (B, C_in, H, W) to logits (B, C_out, H, W), through a square of `image_size`.

    Parameters
    ----------
    in_channels
        1 is repeated to 3; 3 and others go in as they are.
    size
        "128s", "192" or "384".
    decoder_features
        Channels of the decoder's first block, halved at each further one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: str,
        image_size: int,
        decoder_features: int,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        features = SIZES[size].features
        # called as in the files of weights of transformers, so that their names fit
        self.levit = _levit(size, image_size, RGB if in_channels == 1 else in_channels)
        first = features[0]
        below = first + sum(features)
        skips = (first // 2, first // 4, first // 8, 0)
        widths = tuple(decoder_features // 2**i for i in range(len(skips)))
        self.decoder = nn.ModuleList(
            _double_convolution(above + skip, width)
            for above, skip, width in zip((below, *widths[:-1]), skips, widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map slices (B, C_in, H, W) to logits (B, C_out, H, W)."""
        shape = image.shape[2:]
        x = _resized(image, (self.image_size, self.image_size))
        if x.shape[1] == 1:
            x = x.expand(-1, RGB, -1, -1)
        x, skips = self._encode(x)
        for block, skip in zip(self.decoder, (*reversed(skips), None), strict=True):
            x = _resized(x, (2 * x.shape[2], 2 * x.shape[3]))
            x = block(x if skip is None else torch.cat((x, skip), dim=1))
        return _resized(self.head(x), shape)

    def _encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return all deep features at 1/16, and the convolutions' features at 1/2, 1/4 and 1/8."""
        convolutions = self.levit.patch_embeddings
        skips = []
        for number in (1, 2, 3):
            x = getattr(convolutions, f"embedding_layer_{number}")(x)
            x = getattr(convolutions, f"activation_layer_{number}")(x)
            skips.append(x)
        x = convolutions.embedding_layer_4(x)
        grid = x.shape[2:]
        deep = [x]
        tokens = x.flatten(2).transpose(1, 2)
        for stage in self.levit.encoder.stages:
            # a stage ends with the down-sampling to the next one: its own features are those before it
            for layer in stage.layers:
                if isinstance(layer, LevitAttentionSubsample):
                    deep.append(_resized(_as_image(tokens), grid))
                tokens = layer(tokens)
        deep.append(_resized(_as_image(tokens), grid))
        self._forget_biases()
        return torch.cat(deep, dim=1), skips

    def _forget_biases(self) -> None:
        """Empty the encoder's cache of attention biases, which outlives a change of the weights in evaluation."""
        for module in self.levit.modules():
            if isinstance(module, (LevitAttention, LevitAttentionSubsample)):
                module.attention_bias_cache = {}


class SliceWise(nn.Module):
    """A network for slices, applied to every slice of a volume.

    Parameters
    ----------
    axis
        0, 1 or 2: the spatial axis across the slices.
    """

    def __init__(self, network: nn.Module, axis: int) -> None:
        super().__init__()
        self.network, self.axis = network, axis

    def to(self, *args: Any, **settings: Any) -> SliceWise:
        """Move as any module; the memory format of volumes becomes that of slices."""
        if settings.get("memory_format") is torch.channels_last_3d:
            settings["memory_format"] = torch.channels_last
        return super().to(*args, **settings)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map volumes (B, C_in, x, y, z) to logits (B, C_out, x, y, z)."""
        slices = image.movedim(2 + self.axis, 1)
        logits: torch.Tensor = self.network(slices.flatten(0, 1))
        volumes = logits.reshape(*slices.shape[:2], *logits.shape[1:])
        return volumes.movedim(1, 2 + self.axis).contiguous()


def _levit(size: str, image_size: int, in_channels: int) -> Any:
    chosen = SIZES[size]
    return LevitModel(
        LevitConfig(
            image_size=image_size,
            num_channels=in_channels,
            hidden_sizes=list(chosen.features),
            num_attention_heads=list(chosen.heads),
            depths=list(chosen.depths),
            key_dim=[chosen.keys] * 3,
        )
    )


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _resized(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if tuple(x.shape[2:]) == tuple(shape):
        return x
    return functional.interpolate(x, tuple(shape), mode="bilinear", align_corners=False)


def _as_image(tokens: torch.Tensor) -> torch.Tensor:
    """Bring the tokens (B, N, C) of a square back to (B, C, side, side)."""
    batch, count, channels = tokens.shape
    side = round(count**0.5)
    return tokens.transpose(1, 2).reshape(batch, channels, side, side)

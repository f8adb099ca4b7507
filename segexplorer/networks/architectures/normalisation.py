"""Instance and group normalisation that stay fast in the channels-last formats on the CPU.

torch's `InstanceNorm3d` copies a channels-last tensor to the plain format and hands a plain one on, and its
group norm is slow there under bfloat16: on (1, 16, 64, 64, 64), forward and backward on one core, 7.5 ms and
99 ms against 4.8 ms for batch normalisation of one sample, which is the same function.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class InstanceNorm(nn.Module):
    """Each channel of each sample to zero mean and unit variance over space, then scaled and shifted.

    Ulyanov et al. 2016, arXiv:1607.08022. Parameters are called as in `nn.InstanceNorm3d`. A single voxel is its
    own mean: in evaluation it becomes the shift, in training, where the level would learn nothing, it is refused.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, *spatial) in 2D or 3D.

        Raises
        ------
        ValueError
            In training on a single voxel.
        """
        if x.shape[2:].numel() == 1:
            return _single(x, self.bias, self.training)
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=_LAST[x.ndim]):
            return functional.group_norm(x, self.channels, self.weight, self.bias, self.eps)
        samples = [self._one(sample) for sample in torch.split(x, 1)]
        return samples[0] if len(samples) == 1 else torch.cat(samples)

    def _one(self, sample: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            sample, None, None, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps
        )


class GroupNorm(nn.GroupNorm):
    """The group norm of torch, computed in the plain format on the CPU and brought back."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, *spatial) in 2D or 3D; a single value as instance normalisation does."""
        if input.shape[1:].numel() == self.num_groups:
            return _single(input, self.bias, self.training)
        layout = _LAST[input.ndim]
        if input.device.type != "cpu" or not input.is_contiguous(memory_format=layout):
            return super().forward(input)
        return super().forward(input.contiguous()).contiguous(memory_format=layout)


def _single(x: torch.Tensor, bias: torch.Tensor | None, training: bool) -> torch.Tensor:
    if training:
        raise ValueError(f"a normalisation over space cannot train on one voxel, {tuple(x.shape)}")
    zero = torch.zeros_like(x)
    return zero if bias is None else zero + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))

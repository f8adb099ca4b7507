"""Replacements, in any network, for layers of torch that are wrong or slow on the CPU.

Wrong: oneDNN in torch 2.13 leaves part of the weight gradient of a padded bfloat16 `conv3d` unwritten where the
image is shorter than the kernel, and writes past its memory with large kernels or strides. Then whatever the
memory held before, NaN included, becomes gradient, or the process aborts. Seen for kernels of 3 at a length of 2
along the first axis, and at 1 along the second with stride 2; for kernels of 5 at 2 to 4 along the first and 1
along the second; for kernels of 7 at still more. The third axis, dilated and transposed kernels, 2D and float32
are right (`tests/networks/test_layers.py`).

Slow: torch's `InstanceNorm3d` copies a channels-last tensor to the plain format and passes a plain one on, and
its group norm is slow there under bfloat16. On (1, 16, 64, 64, 64), forward and backward on one core, they take
7.5 ms and 99 ms, against 4.8 ms for batch normalisation of one sample, which is the same function.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Convolution3d(nn.Conv3d):
    """torch's `Conv3d`, in float32 where its bfloat16 gradient would be wrong."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, x, y, z)."""
        if input.device.type != "cpu" or not _in_bfloat16() or not self._is_unsound(input.shape):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))

    def _is_unsound(self, shape: torch.Size) -> bool:
        return shape[2] < self.kernel_size[0] or shape[3] < self.kernel_size[1]


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu")


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


def with_own_layers(network: nn.Module) -> nn.Module:
    """Replace torch's 3D convolutions and instance and group norms, in place.

    Functions, weights and their names in the state dict stay; subclasses of torch's layers and layers with
    hooks are left alone.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            own = _own(child)
            if own is not None:
                own.train(child.training)
                setattr(module, name, own)
    own = _own(network)
    return network if own is None else own


def _own(layer: nn.Module) -> nn.Module | None:
    if layer._forward_hooks or layer._forward_pre_hooks:
        return None
    own: Convolution3d | InstanceNorm | GroupNorm
    if type(layer) is nn.Conv3d:
        own = Convolution3d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
    elif isinstance(layer, (nn.InstanceNorm2d, nn.InstanceNorm3d)) and _plain(layer):
        own = InstanceNorm(layer.num_features, layer.eps, affine=layer.affine)
    elif type(layer) is nn.GroupNorm:
        own = GroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    else:
        return None
    own.weight, own.bias = layer.weight, layer.bias
    return own


def _plain(norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> bool:
    """Whether an instance norm is torch's own and keeps no running statistics."""
    return type(norm).__module__ == nn.InstanceNorm3d.__module__ and not norm.track_running_stats

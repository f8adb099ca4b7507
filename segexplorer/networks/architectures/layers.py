"""Our layers put in the place of torch's, in any network, MONAI's and plug-ins' included."""

from __future__ import annotations

from torch import nn

from segexplorer.networks.architectures.convolution import Convolution3d
from segexplorer.networks.architectures.normalisation import GroupNorm, InstanceNorm


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

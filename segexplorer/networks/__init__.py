"""Networks by kind: `names()`, `spec(kind)`, `create(kind, dimensions=3, in_channels=1, out_channels=2)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.networks.base import AnyNetwork, NetworkSpec, registry
from segexplorer.networks.dynunet import DynUNet
from segexplorer.networks.segresnet import SegResNet
from segexplorer.networks.unet import UNet

if TYPE_CHECKING:
    from torch import nn

names = registry.names
spec = registry.spec
parse = registry.parse


def create(
    kind: str | NetworkSpec,
    *,
    dimensions: int = 3,
    in_channels: int = 1,
    out_channels: int = 2,
    **parameters: Any,
) -> nn.Module:
    """Build a network: `create("unet", in_channels=1, out_channels=3, base_features=16)`.

    Raises
    ------
    UnknownKindError
        When no network has that kind; the remedy names the nearest ones.
    SpecError
        When a parameter is not allowed, or the channels or dimensions make no sense.
    """
    chosen = kind if isinstance(kind, NetworkSpec) else registry.parse({"kind": kind, **parameters})
    return chosen.build(dimensions=dimensions, in_channels=in_channels, out_channels=out_channels)


__all__ = [
    "AnyNetwork",
    "DynUNet",
    "NetworkSpec",
    "SegResNet",
    "UNet",
    "create",
    "names",
    "parse",
    "registry",
    "spec",
]

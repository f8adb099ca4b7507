"""Networks by kind: `names()`, `spec(kind)`, `create(kind, dimensions=3, in_channels=1, out_channels=2)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.core.plugins import discover
from segexplorer.core.spec import replace_values
from segexplorer.networks.base import AnyNetwork, NetworkSpec, SupervisedNetwork, registry

if TYPE_CHECKING:
    from torch import nn

# Every file of this folder may register kinds, so a new network is a new file (docs/how-to/add-a-network.md).
# Code that needs torch is in the package `architectures`, of which only the empty `__init__` is imported here.
discover(__name__, __path__)

names = registry.names
spec = registry.spec
parse = registry.parse
presets = registry.presets


def create(
    kind: str | NetworkSpec,
    *,
    dimensions: int = 3,
    in_channels: int = 1,
    out_channels: int = 2,
    **parameters: Any,
) -> nn.Module:
    """Build a network: `create("unet", in_channels=1, out_channels=3, base_features=16)`.

    A preset's name does too: `create("yeung2022_unet_3d", out_channels=4)`.

    Raises
    ------
    UnknownKindError
        When no network has that kind; the remedy names the nearest ones.
    SpecError
        When a parameter is not allowed, or the channels or dimensions make no sense.
    """
    if isinstance(kind, str) and kind in registry.presets():
        chosen = replace_values(registry.presets()[kind].spec, parameters)
    else:
        chosen = kind if isinstance(kind, NetworkSpec) else registry.parse({"kind": kind, **parameters})
    return chosen.build(dimensions=dimensions, in_channels=in_channels, out_channels=out_channels)


__all__ = [
    "AnyNetwork",
    "NetworkSpec",
    "SupervisedNetwork",
    "create",
    "names",
    "parse",
    "presets",
    "registry",
    "spec",
]

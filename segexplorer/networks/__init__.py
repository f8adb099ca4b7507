"""Networks by kind: `names()`, `spec(kind)`, `create(kind, dimensions=3, in_channels=1, out_channels=2)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.core.spec import replace_values
from segexplorer.networks import paper_presets as _presets  # noqa: F401  registers them
from segexplorer.networks.attention_unet import AttentionUNet
from segexplorer.networks.base import AnyNetwork, NetworkSpec, registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.dilated_unet import DilatedUNet
from segexplorer.networks.dilated_vnet import DilatedVNet
from segexplorer.networks.dynunet import DynUNet
from segexplorer.networks.longitudinal_vnet import LongitudinalVNet
from segexplorer.networks.mednext import MedNeXt
from segexplorer.networks.segresnet import SegResNet
from segexplorer.networks.swin_unetr import SwinUNETR
from segexplorer.networks.unet import UNet
from segexplorer.networks.unet_plus_plus import UNetPlusPlus
from segexplorer.networks.unetr import UNETR
from segexplorer.networks.vnet import VNet

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
    "UNETR",
    "AnyNetwork",
    "AttentionUNet",
    "DilatedUNet",
    "DilatedVNet",
    "DynUNet",
    "LongitudinalVNet",
    "MedNeXt",
    "NetworkSpec",
    "SegResNet",
    "SupervisedNetwork",
    "SwinUNETR",
    "UNet",
    "UNetPlusPlus",
    "VNet",
    "create",
    "names",
    "parse",
    "registry",
    "spec",
]

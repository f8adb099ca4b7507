"""Losses by kind: `names()`, `spec(kind)`, `create("tversky", alpha=0.7)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.core.plugins import discover
from segexplorer.losses import base
from segexplorer.losses.base import (
    AnyLoss,
    AnyWeighting,
    LossOutput,
    LossSpec,
    RegionMap,
    WeightingSpec,
    WeightingState,
    region_reports,
    registry,
)

if TYPE_CHECKING:
    from segexplorer.losses.module import Loss

# Every file of this folder may register kinds, so a new loss is a new file (docs/how-to/add-a-loss.md).
# `module` holds none and subclasses torch's Module; listing losses must not wait for torch.
discover(__name__, __path__, leave_out=("module",))

# after the discovery, whose import of the files `weightings` and `presets` takes these names for the modules
weightings = base.weightings
names = registry.names
spec = registry.spec
parse = registry.parse
presets = registry.presets


def create(kind: str | LossSpec, **parameters: Any) -> Loss:
    """Build a loss module from a kind, a preset's name or a spec.

    Raises
    ------
    UnknownKindError
        When no loss has that kind; the remedy names the nearest ones.
    SpecError
        When a parameter is not allowed.
    """
    loss: Loss = registry.create(kind, **parameters)
    return loss


__all__ = [
    "AnyLoss",
    "AnyWeighting",
    "LossOutput",
    "LossSpec",
    "RegionMap",
    "WeightingSpec",
    "WeightingState",
    "create",
    "names",
    "parse",
    "presets",
    "region_reports",
    "registry",
    "spec",
    "weightings",
]

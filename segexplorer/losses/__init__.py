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
    from segexplorer.losses.multilabel import MultiLabelLoss

# Every file of this folder may register kinds, so a new loss is a new file (docs/how-to/add-a-loss.md).
# `module`, `multilabel` and `pull` hold none and work with torch; listing losses must not wait for it.
discover(__name__, __path__, leave_out=("module", "multilabel", "pull", "references", "streamed"))

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


def multi_label(kind: str | LossSpec, **parameters: Any) -> MultiLabelLoss:
    """Build a loss for classes that overlap: logits and target (B, C, *spatial), a sigmoid per class.

    It is the mean over the classes of the loss of each class alone; see `losses.multilabel`.

    Raises
    ------
    UnknownKindError
        When no loss has that kind.
    SpecError
        When a parameter is not allowed, or the loss has no such form.
    """
    from segexplorer.losses.multilabel import MultiLabelLoss

    if isinstance(kind, str) and (parameters or kind not in registry.presets()):
        return MultiLabelLoss(registry.spec(kind).of(parameters, f"loss {kind}"))
    return MultiLabelLoss(registry.parse(kind))


__all__ = [
    "AnyLoss",
    "AnyWeighting",
    "LossOutput",
    "LossSpec",
    "RegionMap",
    "WeightingSpec",
    "WeightingState",
    "create",
    "multi_label",
    "names",
    "parse",
    "presets",
    "region_reports",
    "registry",
    "spec",
    "weightings",
]

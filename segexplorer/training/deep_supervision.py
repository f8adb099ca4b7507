"""Deep supervision in training: one loss on the logits of several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from segexplorer.losses.base import LossSpec, losses_in
from segexplorer.networks.base import Mode, NetworkSpec, SupervisedNetwork, level_weights

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossContext
    from segexplorer.losses.module import Loss, LossOutput


def mode_of(network: NetworkSpec) -> Mode:
    """Return how a network is supervised."""
    return network.deep_supervision if isinstance(network, SupervisedNetwork) else "none"


def incompatibility(network: NetworkSpec, loss: LossSpec) -> str:
    """Return why a loss cannot be asked at coarser resolutions, as a sentence, or ""."""
    if mode_of(network) == "none":
        return ""
    for part in losses_in(loss):
        reason = (
            "counts boxes of the full resolution"
            if part.regional
            else f"needs {' and '.join(part.requires)} of the full resolution"
            if part.requires
            else ""
        )
        if reason:
            return (
                f"Deep supervision asks the loss at coarser resolutions too, and {part.display_name} {reason}; "
                "set network.deep_supervision: none, or choose another loss"
            )
    return ""


def supervise(
    loss: Loss, levels: Tensor | Sequence[Tensor], labels: Tensor, context: LossContext, mode: Mode
) -> tuple[LossOutput, Tensor]:
    """Evaluate a loss on every level.

    Parameters
    ----------
    levels
        Logits (B, C, *spatial); several under deep supervision, the full resolution first.
    labels
        Integer (B, 1, *spatial) at full resolution. A coarser level gets the label nearest to the middle of each
        of its voxels (`nearest-exact`), so that small structures may vanish there.
    mode
        How much each level counts.

    Returns
    -------
    The loss's output at full resolution, for curves and maps, and the scalar to be made small: the same, or the
    weighted sum over the levels.
    """
    import torch

    if isinstance(levels, torch.Tensor):
        output = loss.evaluate(levels, labels, context)
        return output, output.value
    strides = [
        tuple(n // m for n, m in zip(labels.shape[2:], level.shape[2:], strict=True)) for level in levels
    ]
    outputs = [
        loss.evaluate(level, _coarser(labels, stride), _coarser_context(context, stride))
        for level, stride in zip(levels, strides, strict=True)
    ]
    total = outputs[0].value.new_zeros(())
    for weight, output in zip(level_weights(mode, strides), outputs, strict=True):
        total = total + weight * output.value
    extremes = [output.extremes for output in outputs if output.extremes is not None]
    first = replace(outputs[0], extremes=torch.stack(extremes)) if extremes else outputs[0]
    return first, total


def _coarser(labels: Tensor, stride: Sequence[int]) -> Tensor:
    """Return the labels at the middle of each voxel of a grid that is coarser by whole strides."""
    if all(s == 1 for s in stride):
        return labels
    return labels[(slice(None), slice(None), *(slice(s // 2, None, s) for s in stride))]


def _coarser_context(context: LossContext, stride: Sequence[int]) -> LossContext:
    """Return the context of a coarser grid: its spacing; what belongs to voxels of the full one is left out."""
    if all(s == 1 for s in stride):
        return context
    import numpy as np

    spacing = None if context.spacing is None else np.asarray(context.spacing) * np.asarray(stride)
    return replace(
        context,
        spacing=spacing,
        distance_maps=None,
        voxel_weights=None,
        origin=None,
        volume_shape=None,
        regions=None,
    )

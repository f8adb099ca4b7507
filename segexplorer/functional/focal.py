"""Focal cross entropies of a scene, voxel by voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from segexplorer.functional.context import Scene
from segexplorer.functional.entropy import focal_modulated, other_mass


def focal_voxels(
    scene: Scene, gamma: float, weights: Tensor | None, *, background_only: bool = False
) -> Tensor:
    """Return sum_c -w_c g_c (1 - p_c)^gamma log p_c of each voxel, 0 on ignored ones.

    Parameters
    ----------
    gamma
        Not below 0.
    weights
        (C,), or None for ones.
    background_only
        Whether foreground classes go without the factor (asymmetric unified focal loss).

    Returns
    -------
    Tensor
        (B, *spatial).
    """
    if scene.labels is None:
        return _soft(scene, gamma, weights, background_only)
    labels, plain = scene.labels, scene.cross_entropies
    voxel = plain
    if gamma != 0:
        with torch.no_grad():
            rest = other_mass(scene.probs, labels)
        voxel = focal_modulated(-plain, rest, gamma)
    if background_only and gamma != 0:
        voxel = torch.where(labels == 0, voxel, plain)
    if weights is not None:
        voxel = voxel * weights[labels]
    return scene.kept_only(voxel)


def _soft(scene: Scene, gamma: float, weights: Tensor | None, background_only: bool) -> Tensor:
    assert scene.soft is not None
    logs = scene.log_probs
    voxel = -logs
    if gamma != 0:
        with torch.no_grad():
            rest = -torch.expm1(logs)
        voxel = focal_modulated(logs, rest, gamma)
    if background_only:
        voxel = torch.cat([voxel[:, :1], -logs[:, 1:]], 1)
    if weights is not None:
        voxel = voxel * weights.view(-1, *(1,) * len(scene.spatial))
    return scene.kept_only((scene.soft * voxel).sum(1))

"""Two-sided cross entropy of each foreground class, false negatives against false positives."""

from __future__ import annotations

import torch
from torch import Tensor

from segexplorer.functional.context import Scene
from segexplorer.functional.entropy import log_complements


def modified_cross_entropy(scene: Scene, positive_weight: float) -> Tensor:
    """Return the mean over foreground classes c of -[b g_c log p_c + (1-b)(1-g_c) log(1-p_c)], per voxel.

    Parameters
    ----------
    positive_weight
        b: weight of a class's own voxels; all others get one minus it.

    Returns
    -------
    Tensor
        (B, *spatial), 0 on ignored voxels. With two classes it is cross entropy with weights (1-b, b).
    """
    inside, outside = positive_weight, 1 - positive_weight
    if scene.labels is not None and scene.classes == 2:
        weights = scene.logits.new_tensor([outside, inside])
        return scene.cross_entropies * weights[scene.labels]
    logs, complements = scene.log_probs[:, 1:], log_complements(scene.logits, scene.log_probs)[:, 1:]
    if scene.labels is None:
        assert scene.soft is not None
        truth = scene.soft[:, 1:]
    else:
        hot = torch.zeros_like(scene.logits).scatter_(1, scene.labels.unsqueeze(1), 1.0)
        truth = hot[:, 1:]
    return scene.kept_only(-(inside * truth * logs + outside * (1 - truth) * complements).mean(1))

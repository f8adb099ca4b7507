"""Probabilities and one-hot truth of a scene with the ignored voxels set to zero."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from segexplorer.functional.context import Scene


def pair(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return p and g, each (B, C, *spatial) in the scene's precision, zero on ignored voxels."""
    if scene.keep is None:
        return scene.probs, scene.truth
    kept = scene.keep.unsqueeze(1)
    return scene.probs * kept, scene.truth * kept


def spacing_of(scene: Scene) -> np.ndarray | None:
    """Return the context's (B, D) spacing in mm as an array, or None."""
    given = scene.context.spacing
    if given is None:
        return None
    found = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    return np.broadcast_to(found, (scene.logits.shape[0], len(scene.spatial)))


def mean_over(losses: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the losses that are counted; 0 with a live graph where none is."""
    weights = counted.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)

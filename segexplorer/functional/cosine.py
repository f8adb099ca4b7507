"""Overlap of classes as a cosine, sharpened as a t-distribution of von Mises and Fisher."""

from __future__ import annotations

from torch import Tensor

from segexplorer.functional.context import Scene
from segexplorer.functional.masked import pair


def t_vmf_losses(scene: Scene, kappa: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return (C,) values of (1 - phi(cos))^2 over the batch, and which classes the target holds.

    phi(cos) = (1 + cos) / (1 + kappa (1 - cos)) - 1 with cos = <p, g> / (|p| |g|)
    (Kato and Hotta, arXiv:2207.07842).

    Parameters
    ----------
    kappa
        At least 0, one number or one per class (C,).
    """
    p, g = (x.transpose(0, 1).flatten(1) for x in pair(scene))
    norms = ((p * p).sum(1) * (g * g).sum(1)).clamp(min=1e-12).sqrt()
    cos = ((p * g).sum(1) / norms).clamp(max=1)
    phi = (1 + cos) / (1 + kappa * (1 - cos)) - 1
    return (1 - phi) ** 2, g.sum(1) > 0

"""Likelihoods and similarities of heavy-tailed distributions.

The negative log-likelihood of segmentation errors under a multivariate Student's t (T-Loss), and the overlap of
classes as a cosine, sharpened like the t-distribution of von Mises and Fisher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segexplorer.functional.inputs import LossInputs


def student_t_nll(squared_errors: Tensor, voxels: Tensor, nu: Tensor) -> Tensor:
    """Return -log t_nu of error vectors of given length, scale matrix identity.

    Gonzalez-Jimenez 2023, arXiv:2306.00753, eq. 4: with D voxels and s the sum of their squared errors,
    -lgamma((nu + D) / 2) + lgamma(nu / 2) + D/2 log(pi nu) + (nu + D)/2 log(1 + s / nu).

    Parameters
    ----------
    squared_errors
        s, any shape, of any floating type.
    voxels
        D, broadcastable to it; 0 gives 0.
    nu
        Degrees of freedom, a float64 scalar above 0.

    Returns
    -------
    Tensor
        float64: the constants reach 1e7 and cancel to a few digits less than float32 has.
    """
    s, size = squared_errors.double(), voxels.double()
    half = (nu + size) / 2
    constants = torch.lgamma(nu / 2) - torch.lgamma(half) + size / 2 * torch.log(math.pi * nu)
    return constants + half * torch.log1p(s / nu)


def t_vmf_losses(inputs: LossInputs, kappa: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return (C,) values of (1 - phi(cos))^2 over the batch, and which classes the target holds.

    phi(cos) = (1 + cos) / (1 + kappa (1 - cos)) - 1 with cos = <p, g> / (|p| |g|)
    (Kato and Hotta, arXiv:2207.07842).

    Parameters
    ----------
    kappa
        At least 0, one number or one per class (C,).
    """
    counts = inputs.overlap(squared=True).over_batch()
    assert counts.predicted_square is not None
    norms = (counts.predicted_square * counts.truth_square)[0].clamp(min=1e-12).sqrt()
    cos = (counts.product[0] / norms).clamp(max=1)
    phi = (1 + cos) / (1 + kappa * (1 - cos)) - 1
    return (1 - phi) ** 2, counts.truth[0] > 0

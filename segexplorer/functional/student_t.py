"""Negative log-likelihood of segmentation errors under a multivariate Student's t (T-Loss)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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

"""Plain numpy references of the distribution losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import (
    distance_transform_edt,
)
from scipy.special import logsumexp

from tests.losses.reference_case import Array, Case


def cross_entropy(
    case: Case,
    weights: Any = None,
    norm: str = "weights",
    smoothing: float = 0.0,
    strength: float | None = None,
) -> float:
    classes = case.p.shape[1]
    w = np.ones(classes) if weights is None else np.asarray(weights, float)
    w = w.reshape(1, -1, *[1] * (case.p.ndim - 2))
    g = (1 - smoothing) * case.g + smoothing / classes
    voxel = -(w * g * case.log_p).sum(1, keepdims=True)
    if strength is not None:
        voxel = voxel * (1 + strength * nearness(case))
    divisor = (case.m * case.g * w).sum() if norm == "weights" else case.kept
    return float((case.m * voxel).sum() / divisor)


def nearness(case: Case) -> Array:
    """One at the border of a class's region, zero at its innermost voxel, zero in a sample of one class."""
    found = np.zeros_like(case.m)
    step = 1.0 if case.spacing is None else min(case.spacing)
    for b, labels in enumerate(case.labels):
        present = np.unique(labels)
        for c in present if len(present) > 1 else ():
            d = distance_transform_edt(labels == c, sampling=case.spacing)
            top = d.max()
            near = np.ones_like(d) if top - step < 1e-9 else np.clip((top - d) / (top - step), 0, 1)
            found[b, 0][labels == c] = near[labels == c]
    return found


def balanced_cross_entropy(case: Case, scope: str = "batch") -> float:
    total = 0.0
    samples = [range(len(case.p))] if scope == "batch" else [[b] for b in range(len(case.p))]
    for which in samples:
        g, m, log_p = case.g[which], case.m[which], case.log_p[which]
        for c in range(g.shape[1]):
            share = (g[:, c] * m[:, 0]).sum() / m.sum()
            total -= (1 - share) * (g[:, c] * m[:, 0] * log_p[:, c]).sum()
    return float(total / case.kept)


def focal(case: Case, gamma: float = 2.0, alpha: Any = None) -> float:
    classes = case.p.shape[1]
    if alpha is None:
        a = np.ones(classes)
    elif np.isscalar(alpha):
        a = np.array([1 - alpha] + [alpha] * (classes - 1))
    else:
        a = np.asarray(alpha, float)
    total = 0.0
    for c in range(classes):
        rest = case.p.sum(1) - case.p[:, c]
        total -= a[c] * (case.m[:, 0] * case.g[:, c] * rest**gamma * case.log_p[:, c]).sum()
    return float(total / case.kept)


def top_k(case: Case, percent: float = 10.0, scope: str = "batch") -> float:
    voxel = -(case.g * case.log_p).sum(1)
    keep = case.m[:, 0] > 0
    groups = [voxel[keep]] if scope == "batch" else [v[k] for v, k in zip(voxel, keep, strict=True)]
    means = []
    for values in groups:
        n = max(1, int(np.floor(percent / 100 * values.size + 1e-12)))
        means.append(np.sort(values)[::-1][:n].mean())
    return float(np.mean(means))


def two_sided(case: Case, beta: float) -> float:
    """The modified cross entropy of combo and HyTver, one class against the rest, mean over foreground."""
    total = 0.0
    classes = range(1, case.p.shape[1])
    for c in classes:
        others = np.delete(case.log_p, c, axis=1)
        log_rest = logsumexp(others, axis=1)
        g = case.g[:, c]
        total -= (case.m[:, 0] * (beta * g * case.log_p[:, c] + (1 - beta) * (1 - g) * log_rest)).sum()
    return float(total / len(classes) / case.kept)

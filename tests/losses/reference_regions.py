"""Plain numpy references of the region losses."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from scipy.special import gammaln

from tests.losses.reference_case import Array, Case, space


def sums(case: Case, batch: bool = False) -> tuple[Array, Array, Array, Array]:
    """TP, P, G and the sum of p squared, (B, C) or (1, C)."""
    p, g = case.p * case.m, case.g * case.m
    axes = space(p)
    big_p, big_g = p.sum(axes), g.sum(axes)
    tp = (big_p + big_g - abs(p - g).sum(axes)) / 2
    found = (tp, big_p, big_g, (p**2).sum(axes))
    return tuple(x.sum(0, keepdims=True) for x in found) if batch else found  # type: ignore[return-value]


def class_mean(
    case: Case,
    losses: Array,
    batch: bool = False,
    background: bool = True,
    weights: Any = None,
    absent: str = "penalise",
) -> float:
    _, big_p, big_g, _ = sums(case, batch)
    if absent == "fp":
        smooth = max(1.0, 1e-3 * case.kept / len(case.p))
        losses = np.where(big_g > 0, losses, 1 - smooth / (big_p + smooth))
    w = np.ones(losses.shape) if weights is None else np.broadcast_to(weights, losses.shape).astype(float)
    if absent == "skip":
        w = w * (big_g > 0)
    if not background:
        losses, w = losses[:, 1:], w[:, 1:]
    return float((w * losses).sum() / w.sum()) if w.sum() > 0 else 0.0


def dice_index(case: Case, squared: bool, eps: float, batch: bool) -> Array:
    tp, big_p, big_g, q = sums(case, batch)
    if squared:
        p, g = case.p * case.m, case.g * case.m
        axes = space(p)
        g2 = (g**2).sum(axes)
        product_sum = (p * g).sum(axes)
        if batch:
            g2, product_sum = g2.sum(0, keepdims=True), product_sum.sum(0, keepdims=True)
        return (2 * product_sum + eps) / (q + g2 + eps)
    return (2 * tp + eps) / (big_p + big_g + eps)


def dice(case: Case, squared: bool = False, eps: float = 1e-5, batch: bool = False, **mean: Any) -> float:
    return class_mean(case, 1 - dice_index(case, squared, eps, batch), batch, **mean)


def log_cosh_dice(case: Case, eps: float = 1e-5, batch: bool = False, **mean: Any) -> float:
    return class_mean(case, np.log(np.cosh(1 - dice_index(case, False, eps, batch))), batch, **mean)


def focal_dice(
    case: Case, exponent: float = 2.0, eps: float = 1e-5, batch: bool = False, **mean: Any
) -> float:
    return class_mean(case, 1 - dice_index(case, False, eps, batch) ** (1 / exponent), batch, **mean)


def jaccard(case: Case, squared: bool = False, eps: float = 1e-5, batch: bool = False, **mean: Any) -> float:
    tp, big_p, big_g, q = sums(case, batch)
    union = (q if squared else big_p) + big_g - tp
    return class_mean(case, 1 - (tp + eps) / (union + eps), batch, **mean)


def tversky_index(case: Case, alpha: float, beta: float, eps: float, batch: bool) -> Array:
    tp, big_p, big_g, _ = sums(case, batch)
    return (tp + eps) / (tp + alpha * (big_p - tp) + beta * (big_g - tp) + eps)


def tversky(
    case: Case,
    alpha: float = 0.3,
    beta: float = 0.7,
    exponent: float = 1.0,
    eps: float = 1e-5,
    batch: bool = False,
    log_cosh: bool = False,
    **mean: Any,
) -> float:
    loss = (1 - tversky_index(case, alpha, beta, eps, batch)) ** exponent
    return class_mean(case, np.log(np.cosh(loss)) if log_cosh else loss, batch, **mean)


def asymmetric_similarity(case: Case, b: float = 1.5, **others: Any) -> float:
    return tversky(case, 1 / (1 + b**2), b**2 / (1 + b**2), **others)


def generalised_dice(
    case: Case, weighting: str = "square", eps: float = 1e-5, batch: bool = False, background: bool = True,
    absent: str = "penalise",
) -> float:  # fmt: skip
    tp, big_p, big_g, _ = sums(case, batch)
    if not background:
        tp, big_p, big_g = tp[:, 1:], big_p[:, 1:], big_g[:, 1:]
    losses = []
    for b in range(len(tp)):
        present = big_g[b] > 0
        power = {"square": 2, "simple": 1, "uniform": 0}[weighting]
        w = np.zeros(big_g.shape[1])
        w[present] = big_g[b][present] ** -float(power)
        if absent == "penalise":
            w[~present] = w.max()
        losses.append(1 - (2 * (w * tp[b]).sum() + eps) / ((w * (big_p[b] + big_g[b])).sum() + eps))
    return float(np.mean(losses))


def sensitivity_specificity(
    case: Case, r: float = 0.05, eps: float = 1e-5, batch: bool = False, **mean: Any
) -> float:
    error = (case.g - case.p) ** 2 * case.m
    axes = space(error)
    parts = [(error * case.g).sum(axes), (case.g * case.m).sum(axes)]
    parts += [(error * (1 - case.g)).sum(axes), ((1 - case.g) * case.m).sum(axes)]
    if batch:
        parts = [x.sum(0, keepdims=True) for x in parts]
    missed, positive, false, negative = parts
    return class_mean(case, r * missed / (positive + eps) + (1 - r) * false / (negative + eps), batch, **mean)


def dice_plus_plus(
    case: Case, gamma: float = 2.0, eps: float = 1e-7, batch: bool = False, **mean: Any
) -> float:
    tp, _, _, _ = sums(case, batch)
    axes = space(case.p)
    fn = (case.m * (case.g * (1 - case.p)) ** gamma).sum(axes)
    fp = (case.m * ((1 - case.g) * case.p) ** gamma).sum(axes)
    if batch:
        fn, fp = fn.sum(0, keepdims=True), fp.sum(0, keepdims=True)
    return class_mean(case, 1 - (2 * tp + eps) / (2 * tp + fn + fp + eps), batch, **mean)


def ws_dice(case: Case, v1: float = 0.15, eps: float = 1e-5, batch: bool = False, **mean: Any) -> float:
    w = v1 + (1 - 2 * v1) * case.g
    x, y = w * (2 * case.p - 1), w * (2 * case.g - 1)
    parts = [(case.m * u).sum(space(x)) for u in (x * y, x**2, y**2)]
    if batch:
        parts = [u.sum(0, keepdims=True) for u in parts]
    return class_mean(case, 1 - (2 * parts[0] + eps) / (parts[1] + parts[2] + eps), batch, **mean)


def lovasz_softmax(case: Case, classes: str = "present", per_image: bool = False) -> float:
    groups = [[b] for b in range(len(case.p))] if per_image else [list(range(len(case.p)))]
    means = []
    for which in groups:
        keep = case.m[which][:, 0] > 0
        found = []
        for c in range(case.p.shape[1]):
            p, g = case.p[which][:, c][keep], case.g[which][:, c][keep]
            if classes == "present" and g.sum() == 0:
                continue
            order = np.argsort(-abs(g - p), kind="stable")
            e, s, before, total = abs(g - p)[order], g[order], 0.0, 0.0
            hits, falses = 0.0, 0.0
            for error, truth in zip(e, s, strict=True):
                hits, falses = hits + truth, falses + 1 - truth
                now = 1 - (g.sum() - hits) / (g.sum() + falses)
                total, before = total + error * (now - before), now
            found.append(total)
        means.append(np.mean(found) if found else 0.0)
    return float(np.mean(means))


def wasserstein_dice(case: Case, a: Any, eps: float = 1e-5) -> float:
    cost = np.asarray(a, float)
    cost = cost / cost.max()
    losses = []
    for b in range(len(case.p)):
        w, hits = 0.0, 0.0
        for at in np.ndindex(case.labels.shape[1:]):
            if case.m[(b, 0, *at)] == 0:
                continue
            y = case.labels[(b, *at)]
            distance = float(cost[y] @ case.p[(b, slice(None), *at)])
            w, hits = w + distance, hits + cost[y, 0] * (cost[y, 0] - distance)
        losses.append(1 - (2 * hits + eps) / (2 * hits + w + eps))
    return float(np.mean(losses))


def t_vmf_dice(case: Case, kappa: float = 32.0, absent: str = "skip") -> float:
    losses = []
    for c in range(case.p.shape[1]):
        p, g = (case.p * case.m)[:, c].ravel(), (case.g * case.m)[:, c].ravel()
        if g.sum() == 0 and absent == "skip":
            continue
        cos = 0.0 if g.sum() == 0 else p @ g / np.linalg.norm(p) / np.linalg.norm(g)
        losses.append((1 - ((1 + cos) / (1 + kappa * (1 - cos)) - 1)) ** 2)
    return float(np.mean(losses)) if losses else 0.0


def mutual_information(case: Case, radius: int = 3) -> float:
    """Region mutual information alone: the mean over samples of the sum over classes."""
    p, g = case.p * case.m + 1e-6, case.g * case.m
    shape = p.shape[2:]
    d = radius ** len(shape)
    total = 0.0
    for b, c in product(range(p.shape[0]), range(p.shape[1])):
        rows: list[list[Array]] = [[], []]
        for shift in product(range(radius), repeat=len(shape)):
            window = tuple(slice(s, n - radius + 1 + s) for s, n in zip(shift, shape, strict=True))
            rows[0].append(g[b, c][window].ravel())
            rows[1].append(p[b, c][window].ravel())
        y, x = (np.array(r) - np.mean(r, axis=1, keepdims=True) for r in rows)
        inverse = np.linalg.inv(x @ x.T + 5e-4 * np.eye(d))
        left = y @ y.T - (y @ x.T) @ inverse @ (y @ x.T).T
        total += 0.5 * np.linalg.slogdet(left + 5e-4 * np.eye(d))[1] / d
    return float(total / p.shape[0])


def t_loss(case: Case, nu: float = float(np.e), normalise: bool = True) -> float:
    found, nu = [], nu + 1e-8
    for b, c in product(range(case.p.shape[0]), range(case.p.shape[1])):
        d = case.m[b].sum()
        s = (case.m[b, 0] * (case.p[b, c] - case.g[b, c]) ** 2).sum()
        loss = -gammaln((nu + d) / 2) + gammaln(nu / 2) + d / 2 * np.log(np.pi * nu)
        loss += (nu + d) / 2 * np.log(1 + s / nu)
        found.append(loss / d if normalise else loss)
    return float(np.mean(found))

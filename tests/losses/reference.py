"""The losses, written anew in plain numpy from their written specification, as a reference for the library.

Nothing here is shared with `segexplorer`. A reference takes a `Case` and its own parameters and returns a
float; derivatives come from differences of these values. What a loss holds fixed (adaptive weights, distance
maps of the prediction) is taken from `case.held`, the probabilities around which the difference is formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_erosion,
    distance_transform_edt,
    generate_binary_structure,
    maximum_filter,
    minimum_filter,
)
from scipy.special import gammaln, logsumexp

Array = NDArray[np.float64]


@dataclass
class Case:
    """One batch: logits (B, C, *spatial), labels (B, *spatial) or a soft target (B, C, *spatial)."""

    logits: Array
    target: NDArray[Any]
    ignored: int = 255
    spacing: tuple[float, ...] | None = None
    held: Array | None = None
    log_p: Array = field(init=False)
    p: Array = field(init=False)
    g: Array = field(init=False)
    m: Array = field(init=False)

    def __post_init__(self) -> None:
        z = self.logits
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        self.log_p = z - logsumexp(z, axis=1, keepdims=True)
        self.p = np.exp(self.log_p)
        if self.target.ndim == z.ndim:
            self.g, self.m = self.target.astype(float), np.ones((z.shape[0], 1, *z.shape[2:]))
        else:
            labels = self.target[:, None]
            self.m = (labels != self.ignored).astype(float)
            self.g = np.concatenate([labels == c for c in range(z.shape[1])], axis=1).astype(float)

    @property
    def soft(self) -> bool:
        return self.target.ndim == self.p.ndim

    @property
    def labels(self) -> NDArray[np.int64]:
        """Ignored voxels are background here, as the distance maps want it."""
        return np.where(self.m[:, 0] > 0, self.target, 0).astype(np.int64)

    @property
    def kept(self) -> float:
        return float(self.m.sum())

    def at(self, logits: Array) -> Case:
        return Case(
            logits, self.target, self.ignored, self.spacing, self.p if self.held is None else self.held
        )

    @property
    def frozen(self) -> Array:
        return self.p if self.held is None else self.held


def space(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


# ---- distribution


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


# ---- region


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


# ---- boxes


Grid = int | tuple[int, ...] | None


def boxes(shape: tuple[int, ...], grid: Grid, edge: Any) -> list[tuple[slice, ...]]:
    """Disjoint boxes by the rule of `array_split`; boxes of a given edge, the last one cut off, without a grid."""
    if grid is None:
        edges = (edge,) * len(shape) if isinstance(edge, int) else edge
        starts = [range(0, size, e) for size, e in zip(shape, edges, strict=True)]
        return [tuple(slice(a, a + e) for a, e in zip(at, edges, strict=True)) for at in product(*starts)]
    counts = (grid,) * len(shape) if isinstance(grid, int) else grid
    cuts = []
    for size, count in zip(shape, counts, strict=True):
        parts = np.array_split(np.arange(size), min(size, count))
        cuts.append([slice(int(x[0]), int(x[-1]) + 1) for x in parts])
    return list(product(*cuts))


def over_boxes(losses: list[list[float]], reduction: str) -> float:
    flat = [x for sample in losses for x in sample]
    if reduction == "sum":
        return float(sum(flat) / len(losses))
    return float(np.mean(flat)) if flat else 0.0


def region_dice(
    case: Case, grid: Grid = None, edge: Any = 8, reduction: str = "present_mean", eps: float = 1e-7,
    squared: bool = True,
) -> float:  # fmt: skip
    losses: list[list[float]] = [[] for _ in case.p]
    p, g, power = case.p * case.m, case.g * case.m, 2 if squared else 1
    for b, c in product(range(p.shape[0]), range(p.shape[1])):
        for box in boxes(p.shape[2:], grid, edge):
            x, y = p[b, c][box], g[b, c][box]
            if y.sum() > 0:
                losses[b].append(1 - (2 * (x * y).sum() + eps) / ((x**power).sum() + y.sum() + eps))
    return over_boxes(losses, reduction)


def adaptive_region_tversky(
    case: Case, grid: Grid = None, edge: Any = 8, reduction: str = "present_mean", eps: float = 1e-7,
    a: float = 0.3, b: float = 0.4, smoothing: str = "symmetric", detach: bool = True,
) -> float:  # fmt: skip
    losses: list[list[float]] = [[] for _ in case.p]
    extra = eps / 2 if smoothing == "symmetric" else eps
    g = case.g * case.m
    for n, c in product(range(g.shape[0]), range(g.shape[1])):
        for box in boxes(g.shape[2:], grid, edge):
            y, keep = g[n, c][box], case.m[n, 0][box]
            if y.sum() == 0:
                continue

            def errors(p: Array, y: Array = y, keep: Array = keep) -> tuple[float, float, float]:
                return (
                    float((keep * p * y).sum()), float((keep * p * (1 - y)).sum()), float((y * (1 - p)).sum())
                )  # fmt: skip

            tp, fp, fn = errors(case.p[n, c][box])
            _, fp0, fn0 = errors(case.frozen[n, c][box]) if detach else (tp, fp, fn)
            alpha = a + b * (fp0 + extra) / (fp0 + fn0 + eps)
            beta = a + b * (fn0 + extra) / (fp0 + fn0 + eps)
            losses[n].append(1 - (tp + eps) / (tp + alpha * fp + beta * fn + eps))
    return over_boxes(losses, reduction)


# ---- boundary


def boundary(case: Case, background: bool = False) -> float:
    first = 0 if background else 1
    step = 1.0 if case.spacing is None else min(case.spacing)
    total, count = 0.0, 0.0
    for b, c in product(range(case.p.shape[0]), range(first, case.p.shape[1])):
        inside = case.labels[b] == c
        phi = np.zeros(inside.shape)
        if inside.any() and not inside.all():
            phi = distance_transform_edt(~inside, sampling=case.spacing)
            d = distance_transform_edt(inside, sampling=case.spacing)
            phi = phi - (d - step) * inside
        total += (case.m[b, 0] * case.p[b, c] * phi).sum()
        count += case.m[b].sum()
    return float(total / count)


def unsigned(mask: NDArray[np.bool_], spacing: tuple[float, ...] | None) -> Array:
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    return np.asarray(
        distance_transform_edt(mask, sampling=spacing) + distance_transform_edt(~mask, sampling=spacing)
    )


def hausdorff(case: Case, exponent: float = 2.0, one_sided: bool = False) -> float:
    total, count = 0.0, 0.0
    for b, c in product(range(case.p.shape[0]), range(1, case.p.shape[1])):
        field_ = unsigned(case.labels[b] == c, case.spacing) ** exponent
        if not one_sided:
            # what is predicted on ignored voxels is background, as the label is: the specification leaves it open
            predicted = case.frozen[b, c] * case.m[b, 0] > 0.5
            field_ = field_ + unsigned(predicted, case.spacing) ** exponent
        total += (case.m[b, 0] * (case.p[b, c] - case.g[b, c]) ** 2 * field_).sum()
        count += case.m[b].sum()
    return float(total / count)


def difference_over_union(
    case: Case, top: float = 0.8, low: float = -1.0, eps: float = 1e-5, absent: str = "skip"
) -> float:
    losses = []
    p, g = case.p * case.m, case.g * case.m
    cross = generate_binary_structure(p.ndim - 2, 1)
    for c in range(p.shape[1]):
        size = g[:, c].sum()
        if size == 0 and absent == "skip":
            continue
        border = sum((x > 0).sum() - binary_erosion(x > 0, cross, border_value=0).sum() for x in g[:, c])
        # the specification's formula has no smoothing here, its reference vector has
        alpha = max(low, min(1 - 2 * (border + eps) / (size + eps), top))
        tp, q = (p[:, c] * g[:, c]).sum(), (p[:, c] ** 2).sum()
        losses.append((q + size - 2 * tp + eps) / (q + size - (1 + alpha) * tp + eps))
    return float(np.mean(losses)) if losses else 0.0


def soft_skeleton(x: Array, iterations: int) -> Array:
    def erode(u: Array) -> Array:
        lines = [np.eye(u.ndim, dtype=int)[axis] * 2 + 1 for axis in range(u.ndim)]
        return np.min([minimum_filter(u, size=tuple(s), mode="nearest") for s in lines], axis=0)

    def rest(u: Array) -> Array:
        return np.maximum(u - maximum_filter(erode(u), size=3, mode="nearest"), 0)

    found = rest(x)
    for _ in range(iterations):
        x = erode(x)
        found = found + np.maximum(rest(x) - found * rest(x), 0)
    return found


def cl_dice(case: Case, iterations: int = 3, smooth: float = 1.0, joint: bool = False) -> float:
    p, g = (case.p * case.m)[:, 1:], (case.g * case.m)[:, 1:]
    parts = []
    for b, c in product(range(p.shape[0]), range(p.shape[1])):
        sp, sg = soft_skeleton(p[b, c], iterations), soft_skeleton(g[b, c], iterations)
        parts.append([(sp * g[b, c]).sum(), sp.sum(), (sg * p[b, c]).sum(), sg.sum()])
    rows = np.array(parts)
    rows = rows.sum(0, keepdims=True) if joint else rows
    precision = (rows[:, 0] + smooth) / (rows[:, 1] + smooth)
    sensitivity = (rows[:, 2] + smooth) / (rows[:, 3] + smooth)
    return float(np.mean(1 - 2 * precision * sensitivity / (precision + sensitivity)))


# ---- compounds


def combo(case: Case, lam: float = 0.5, beta: float = 0.5, eps: float = 1e-5) -> float:
    index = 1 - dice(case, eps=eps, background=False)
    return lam * two_sided(case, beta) - (1 - lam) * index


def hytver(case: Case, gamma: float = 0.5, positive: float = 0.7, **others: Any) -> float:
    return gamma * two_sided(case, positive) + (1 - gamma) * tversky(case, background=False, **others)


def exponential_logarithmic(
    case: Case, dice_weight: float = 0.8, ce_weight: float = 0.2, gamma: float = 0.3, eps: float = 1.0
) -> float:
    counts = (case.g * case.m).sum((0, *space(case.p)))
    overlap = dice_index(case, False, eps, True)
    total = dice_weight * np.mean((-np.log(overlap)) ** gamma)
    for c in np.flatnonzero(counts):
        chosen = case.g[:, c] * case.m[:, 0] > 0
        w = np.sqrt(counts.sum() / counts[c])
        total += ce_weight * w * ((-case.log_p[:, c][chosen]) ** gamma).sum() / case.kept
    return float(total)


def unified_focal(
    case: Case, symmetric: bool = False, lam: float = 0.5, delta: float = 0.6, gamma: float = 0.2,
    eps: float = 1e-7,
) -> float:  # fmt: skip
    index = tversky_index(case, 1 - delta, delta, eps, False)
    entropy, ratio = 0.0, []
    for c in range(case.p.shape[1]):
        w = delta if c else 1 - delta
        q = 1.0 if c and not symmetric else (case.p.sum(1) - case.p[:, c]) ** gamma
        entropy -= w * (case.m[:, 0] * case.g[:, c] * q * case.log_p[:, c]).sum()
        ratio.append((1 - index[:, c]) ** (1.0 if c == 0 and not symmetric else 1 - gamma))
    return float(lam * entropy / case.kept + (1 - lam) * np.mean(ratio))

"""Plain numpy references of the losses of boxes and of boundaries."""

from __future__ import annotations

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

from tests.losses.reference_case import Array, Case

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

"""A brain as contrast-enhanced T1 shows it: arbitrary scale, bias field, Rician noise, exact labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.data.phantom.drawing import Canvas, curve, smooth_noise, union

CLASSES = ("grey matter", "white matter", "ventricles", "vessel", "lesion")
EXTENT = (200.0, 220.0, 200.0)
GREY, WHITE, VENTRICLES, VESSEL, LESION = range(1, 6)


def render_mr(
    shape: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image (float32, own scale) and label (uint8) of one head, axes (right, front, head)."""
    canvas = Canvas(shape, EXTENT, rng, warp=2.0, fill=0.0)
    size = rng.uniform(0.94, 1.04)
    up = rng.uniform(-4, 4)
    _head(canvas, size, up)
    brain_at, radii = (0.0, 0.0, 12 + up), (66 * size, 82 * size, 62 * size)
    _brain(canvas, rng, brain_at, radii)
    _deep(canvas, rng, size, up)
    white = canvas.label == WHITE
    _lesion(canvas, rng, white)
    _artery(canvas, rng, size, up)
    image = ndimage.gaussian_filter(canvas.image, 0.45, truncate=2)
    image *= np.exp(0.13 * smooth_noise(shape, 2, rng))  # coil sensitivity
    sigma = rng.uniform(0.02, 0.035)
    real = image + rng.standard_normal(tuple(shape), np.float32) * np.float32(sigma)
    other = rng.standard_normal(tuple(shape), np.float32) * np.float32(sigma)
    scale = 10 ** rng.uniform(1.8, 3.6)
    return np.asarray(np.hypot(real, other) * scale, np.float32), canvas.label


def _head(canvas: Canvas, size: float, up: float) -> None:
    head = canvas.ellipsoid((0, 0, 6 + up), (79 * size, 96 * size, 84 * size))
    neck = canvas.column((0, -18), (50 * size, 58 * size))
    outline = union(head, np.maximum(neck, canvas.z - np.float32(-20)))
    canvas.paint(outline, 0.45)
    canvas.paint(outline + 1.5, 0.85)  # fat of the scalp
    canvas.paint(outline + 5, 0.4)
    skull = canvas.ellipsoid((0, 0, 11 + up), (72.5 * size, 88.5 * size, 70 * size))
    canvas.paint(skull, 0.08)
    canvas.paint(skull + 4, 0.16)  # cerebrospinal fluid


def _brain(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
) -> None:
    """Cortex with sulci around white matter, the fissure between the halves, cerebellum and brain stem."""
    brain = canvas.ellipsoid(centre, radii)
    brain = np.maximum(brain, np.float32(centre[2] - 34) - canvas.z - 0.15 * np.abs(canvas.x))
    folds = smooth_noise(canvas.shape, 11, rng)
    sulci = np.exp(-((folds / 0.28) ** 2)) * np.clip(1 + brain / 24, 0, 1)
    surface = brain + 6 * sulci
    fissure = 1.8 - np.abs(canvas.x) - np.clip(-(canvas.z - np.float32(centre[2] + 8)), 0, None)
    surface = np.maximum(surface, fissure)
    canvas.paint(np.asarray(surface, np.float32), 0.52 + 0.015 * smooth_noise(canvas.shape, 10, rng), GREY)
    white = brain + 8 + 8 * sulci
    white = np.maximum(
        white, 7.5 - np.abs(canvas.x) - np.clip(-(canvas.z - np.float32(centre[2] + 16)), 0, None)
    )
    canvas.paint(np.asarray(white, np.float32), 0.78 + 0.015 * smooth_noise(canvas.shape, 8, rng), WHITE)
    low = centre[2] - 48
    lobes = [canvas.ellipsoid((s * 22, -46, low), (28, 26, 20)) for s in (-1, 1)]
    cerebellum = union(*lobes)
    folia = 0.6 * np.sin(canvas.z * 1.1 + canvas.y * 0.35)
    canvas.paint(cerebellum, 0.52, GREY)
    canvas.paint(np.asarray(cerebellum + 6 + 2 * folia, np.float32), 0.76, WHITE)
    stem = canvas.tube(np.array([[0, -8, low + 18], [0, -18, low - 18], [0, -24, low - 70]]), 11)
    canvas.paint(stem, 0.76, WHITE)


def _deep(canvas: Canvas, rng: np.random.Generator, size: float, up: float) -> None:
    """Thalami and striata of grey matter, and the ventricles between them."""
    wide = rng.uniform(0.8, 1.35)
    for side in (-1, 1):
        canvas.paint(canvas.ellipsoid((side * 12 * size, -8, 6 + up), (9, 14, 9)), 0.56, GREY)
        canvas.paint(canvas.ellipsoid((side * 25 * size, 6, 8 + up), (7, 17, 11), side * 0.3), 0.55, GREY)
        canvas.paint(canvas.ellipsoid((side * 12 * size, 22, 17 + up), (6, 11, 8)), 0.55, GREY)
    horns = []
    for side in (-1, 1):
        knots = [
            (side * 11, 34, 16 + up),
            (side * 8, 14, 23 + up),
            (side * 11, -14, 24 + up),
            (side * 22, -36, 14 + up),
            (side * 30, -22, -4 + up),
        ]
        horns.append(canvas.tube(curve(knots, 10), 5.0 * wide))
    third = canvas.ellipsoid((0, -6, 6 + up), (2.6 * wide, 14, 9))
    canvas.paint(union(*horns, third), 0.15, VENTRICLES)


def _lesion(canvas: Canvas, rng: np.random.Generator, white: NDArray[np.bool_]) -> None:
    """An enhancing lesion with a darker core, deep in the white matter."""
    deep = ndimage.distance_transform_edt(white, sampling=canvas.spacing)
    deep[canvas.z < 0] = 0
    places = np.argwhere(deep >= min(6.0, float(deep.max())))
    x, y, z = places[int(rng.integers(len(places)))]
    centre = (float(canvas.x[x, y, z]), float(canvas.y[x, y, z]), float(canvas.z[x, y, z]))
    radius = rng.uniform(5.6, 6.8)
    lesion = canvas.ellipsoid(centre, (radius, radius * rng.uniform(0.85, 1.15), radius))
    canvas.paint(lesion, rng.uniform(1.1, 1.2), LESION)
    canvas.paint(lesion + 0.55 * radius, 0.95)


def _artery(canvas: Canvas, rng: np.random.Generator, size: float, up: float) -> None:
    """A bright, thin artery that runs from the base to the side and up along the brain."""
    side = 1 if rng.random() < 0.5 else -1
    knots = np.array(
        [(4, 12, -34), (6, 20, -20), (22, 24, -14), (42, 20, -8), (50, 8, 4), (52, -8, 16), (48, -24, 28)],
        float,
    )
    knots *= (side * size, 1, 1)
    knots += rng.uniform(-3, 3, knots.shape) + np.array([0, 0, up])
    artery = canvas.tube(curve(knots, 22), 2.7)
    canvas.paint(artery - 2.0, 0.2, 0)
    canvas.paint(artery, 1.35, VESSEL)

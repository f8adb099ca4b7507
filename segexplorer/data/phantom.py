"""Phantoms: seeded synthetic volumes with exact labels, for demos, teaching and tests. They show no patient.

An abdomen as in portal-venous CT (Hounsfield units, organs of very different size), and a brain as in
contrast-enhanced T1 (arbitrary scale, bias field, Rician noise). Both are drawn on a `Canvas` with a few
soft-edged solids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.data.volume import Modality

Field = NDArray[np.float32]
Vector = tuple[float, float, float]


# ---- drawing


class Canvas:
    """An image under construction, with its label and gently warped coordinates.

    Parameters
    ----------
    shape
        Voxels along x (to the right), y (to the front), z (to the head).
    extent
        Field of view along each axis, mm; coordinate 0 is its centre.
    rng
        Draws the warp that keeps organs from being perfect ellipsoids.
    warp
        Deviation of the warp, mm.
    """

    def __init__(
        self, shape: Sequence[int], extent: Vector, rng: np.random.Generator, *, warp: float, fill: float
    ) -> None:
        self.shape = tuple(shape)
        self.spacing = np.asarray(extent, float) / np.asarray(shape)
        axes = [((np.arange(n) + 0.5) / n - 0.5) * e for n, e in zip(shape, extent, strict=True)]
        grid = np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij", sparse=True)
        self.x, self.y, self.z = (g + smooth_noise(self.shape, 5, rng) * np.float32(warp) for g in grid)
        self.image: Field = np.full(self.shape, fill, np.float32)
        self.label: NDArray[np.uint8] = np.zeros(self.shape, np.uint8)

    def ellipsoid(self, centre: Vector, radii: Vector, turn: float = 0.0) -> Field:
        """Return the approximate signed distance (mm, negative inside) to an ellipsoid turned about z (radians)."""
        x, y, z = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        if turn:
            c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            x, y = c * x + s * y, c * y - s * x
        scaled = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
        return np.asarray((scaled - 1) * np.float32(min(radii)), np.float32)

    def column(self, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
        """Return the approximate signed distance to an elliptic cylinder along z."""
        scaled = np.sqrt(((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2)
        return np.asarray((scaled - 1) * np.float32(min(radii)), np.float32)

    def tube(self, points: NDArray[np.floating], radius: float) -> Field:
        """Return the signed distance to a tube along a polyline (N, 3), mm."""
        found = np.full(self.shape, np.inf, np.float32)
        for start, end in pairwise(points):
            box = self._box(np.minimum(start, end), np.maximum(start, end), radius + 15)
            step = end - start
            x, y, z = self.x[box] - start[0], self.y[box] - start[1], self.z[box] - start[2]
            along = np.clip((x * step[0] + y * step[1] + z * step[2]) / max(float(step @ step), 1e-6), 0, 1)
            square = (x - along * step[0]) ** 2 + (y - along * step[1]) ** 2 + (z - along * step[2]) ** 2
            found[box] = np.minimum(found[box], np.sqrt(square))
        return np.asarray(found - np.float32(radius), np.float32)

    def _box(self, low: NDArray[np.floating], high: NDArray[np.floating], margin: float) -> tuple[slice, ...]:
        half = self.spacing * self.shape / 2
        first = np.floor((low - margin + half) / self.spacing).astype(int)
        last = np.ceil((high + margin + half) / self.spacing).astype(int)
        return tuple(
            slice(max(a, 0), max(min(b, n), 0)) for a, b, n in zip(first, last, self.shape, strict=True)
        )

    def paint(
        self, distance: Field, value: float | Field, label: int | None = None, within: Field | None = None
    ) -> None:
        """Paint where the distance is negative; the edge mixes over one voxel, as partial volume does.

        `label` None leaves the label as it is; 0 clears it.
        """
        outer = distance if within is None else np.maximum(distance, within)
        share = np.clip(np.float32(0.5) - outer / np.float32(self.spacing.mean()), 0, 1)
        self.image += share * (value - self.image)
        if label is not None:
            self.label[share > 0.5] = label


def smooth_noise(shape: Sequence[int], cells: int, rng: np.random.Generator) -> Field:
    """Return a smooth random field of about unit deviation with `cells` bumps along each axis."""
    coarse = rng.standard_normal((cells + 2,) * 3).astype(np.float32)
    field: Field = coarse
    for axis, size in enumerate(shape):
        places = np.linspace(0.5, cells + 0.5, size)
        field = _along(field, places, axis)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _along(field: Field, places: NDArray[np.float64], axis: int) -> Field:
    """Interpolate by quadratic B-splines along one axis: smooth, and separable so that it is fast."""
    weights = np.zeros((len(places), field.shape[axis]), np.float32)
    for shift in (-1, 0, 1):
        nearest = np.clip(np.round(places).astype(int) + shift, 0, field.shape[axis] - 1)
        t = np.abs(places - (np.round(places) + shift))
        spline = np.where(t < 0.5, 0.75 - t**2, 0.5 * (1.5 - t) ** 2)
        np.add.at(weights, (np.arange(len(places)), nearest), spline.astype(np.float32))
    return np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)


def curve(knots: Sequence[Any] | NDArray[Any], points: int = 14) -> NDArray[np.float64]:
    """Return a smooth polyline (points, 3) through a few knots."""
    places = np.linspace(0, len(knots) - 1, points)
    array = np.asarray(knots, float)
    smooth = ndimage.map_coordinates
    parts = [smooth(array[:, k], [places], order=3, mode="nearest") for k in range(3)]
    return np.stack(parts, axis=1)


def union(*distances: Field) -> Field:
    """Return the signed distance to a union of solids."""
    return np.asarray(np.minimum.reduce(distances), np.float32)


# ---- an abdomen in CT

CT_CLASSES = ("liver", "spleen", "kidneys", "aorta", "spine", "vessel", "lesion")
CT_EXTENT = (288.0, 288.0, 288.0)
LIVER, SPLEEN, KIDNEYS, AORTA, SPINE, VESSEL, LESION = range(1, 8)


def render_ct(shape: Sequence[int], rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return image (HU, int16) and label (uint8) of one patient, axes (right, front, head)."""
    canvas = Canvas(shape, CT_EXTENT, rng, warp=3.0, fill=-1000)
    size = rng.uniform(0.92, 1.06)
    slide = rng.uniform(-12, 12)
    wall = _trunk(canvas, rng, size)
    _lungs(canvas, wall, size, slide)
    _bowel(canvas, rng, wall, size, slide)
    spine_front = _spine(canvas, rng, size)
    _organs(canvas, rng, wall, size, slide)
    _vessels(canvas, rng, size, slide, spine_front)
    blurred = ndimage.gaussian_filter(canvas.image, 0.45, truncate=2)
    grain = smooth_noise(shape, max(8, min(shape) // 4), rng) * 7
    noisy = blurred + grain + rng.standard_normal(tuple(shape), np.float32) * 14
    return np.clip(np.round(noisy), -1024, 3071).astype(np.int16), canvas.label


def _trunk(canvas: Canvas, rng: np.random.Generator, size: float) -> Field:
    """Skin, fat, muscle and ribs; returns the distance to the abdominal cavity."""
    rx, ry = 132 * size, rng.uniform(88, 98) * size
    fat = rng.uniform(10, 20)
    body = canvas.column((0, 0), (rx, ry))
    canvas.paint(body, -20)
    canvas.paint(body + 3, -105 + 8 * smooth_noise(canvas.shape, 9, rng))
    muscle = canvas.column((0, 1), (rx - fat, ry - fat))
    canvas.paint(muscle, 58)
    rib = np.abs(np.mod(canvas.z - 0.55 * canvas.y + rng.uniform(0, 30), 30) - 15) - 4.5
    canvas.paint(np.maximum(rib, np.abs(muscle + 6) - 3.5), 480, within=np.float32(20) - canvas.z)
    cavity = muscle + 11
    canvas.paint(cavity, -95 + 10 * smooth_noise(canvas.shape, 10, rng))
    for side in (-1, 1):
        canvas.paint(canvas.column((side * 34 * size, -66 * size), (25 * size, 19 * size)), 60)
        canvas.paint(
            canvas.column((side * 30 * size, -38 * size), (13 * size, 14 * size)), 62, within=canvas.z - 10
        )
    return cavity


def _lungs(canvas: Canvas, wall: Field, size: float, slide: float) -> None:
    for side in (-1, 1):
        lung = canvas.ellipsoid((side * 66 * size, -4, 168 + slide), (58 * size, 74 * size, 92))
        canvas.paint(lung, -850, within=wall)
    heart = canvas.ellipsoid((-18, 25, 150 + slide), (52, 45, 48))
    canvas.paint(heart, 115, within=wall)


def _bowel(canvas: Canvas, rng: np.random.Generator, wall: Field, size: float, slide: float) -> None:
    """Stomach with its bubble, and loops of gut with contents and gas."""
    folds = smooth_noise(canvas.shape, 8, rng)
    loops = np.maximum(np.abs(folds) * 26 - 15, canvas.z - np.float32(-6 + slide))
    front = np.float32(-14) - canvas.y
    region = np.maximum(wall + 5, front)
    canvas.paint(loops, 45 + 18 * smooth_noise(canvas.shape, 12, rng), within=region)
    gas = np.float32(1.1) - folds - canvas.y / 90
    canvas.paint(np.maximum(gas * 20, canvas.z - np.float32(-12 + slide)), -700, within=region + 6)
    place = (-42 * size, 34 * size, 44 + slide)
    stomach = canvas.ellipsoid(place, (34 * size, 27 * size, 36), 0.4)
    canvas.paint(stomach, 70, within=wall + 3)
    canvas.paint(stomach + 4, 18, within=wall + 3)
    level = np.float32(place[1] + 8) - canvas.y  # gas rises to the front of a patient on the back
    canvas.paint(np.maximum(stomach + 5, level), -900, within=wall + 3)


def _spine(canvas: Canvas, rng: np.random.Generator, size: float) -> float:
    """Vertebral bodies, discs, canal and processes; returns the y of the front of the bodies."""
    y, r = -50 * size, 20 * size
    period, phase = 34 * size, rng.uniform(0, 34)
    body = canvas.column((0, y), (r * 1.15, r * 0.9))
    height = np.abs(np.mod(canvas.z + phase, period) - period / 2)
    vertebra = np.maximum(body, height - np.float32(period / 2 - 4.5))
    canvas.paint(body, 85)
    arch = np.maximum(
        canvas.column((0, y - 30 * size), (17 * size, 12 * size)), height - np.float32(period / 2 - 8)
    )
    spinous = np.maximum(
        canvas.column((0, y - 44 * size), (4.5, 16 * size)), height - np.float32(period / 2 - 10)
    )
    wings = np.maximum(canvas.column((0, y - 22 * size), (36 * size, 5.5)), height - 6)
    bone = union(vertebra, arch, spinous, wings)
    canvas.paint(bone, 480, SPINE)
    canvas.paint(bone + 3.5, 230 + 25 * smooth_noise(canvas.shape, 14, rng))
    canvas.paint(canvas.column((0, y - 25 * size), (8.5, 7.5)), 30, 0)
    return float(y + r * 0.9)


def _organs(canvas: Canvas, rng: np.random.Generator, wall: Field, size: float, slide: float) -> None:
    """Liver with its lesion, spleen, kidneys; in RAS the liver is at positive x, the patient's right."""

    def about(value: float, spread: float) -> float:
        return value + rng.uniform(-spread, spread)

    liver_at = (about(58, 5) * size, about(6, 6) * size, about(42, 6) + slide)
    radii = (about(57, 4) * size, about(62, 5) * size, about(58, 5))
    right = canvas.ellipsoid(liver_at, radii, about(0.15, 0.15))
    left = canvas.ellipsoid(
        (8 * size, 40 * size, liver_at[2] + 16), (52 * size, 30 * size, 27), about(-0.1, 0.1)
    )
    under = (canvas.x - 95 * size) * np.float32(-0.35) - (
        canvas.z - np.float32(liver_at[2] - 34)
    )  # lower edge
    liver = np.maximum(union(right, left), np.asarray(under, np.float32))
    liver_hu = about(108, 8)
    canvas.paint(liver, liver_hu + 4 * smooth_noise(canvas.shape, 16, rng), LIVER, within=wall + 2)
    canvas.paint(
        canvas.ellipsoid((30 * size, 44 * size, liver_at[2] - 28), (12, 15, 17)), 12, 0
    )  # gallbladder

    spleen = canvas.ellipsoid(
        (about(-84, 4) * size, about(-24, 6) * size, about(46, 8) + slide),
        (about(23, 3) * size, about(40, 4) * size, about(42, 5)),
        about(-0.35, 0.15),
    )
    canvas.paint(spleen, about(122, 8), SPLEEN, within=wall + 2)
    cortex = about(175, 12)
    for side in (-1, 1):
        middle = (side * about(60, 4) * size, about(-40, 4) * size, about(-22 - side * 6, 6) + slide)
        r = (about(24, 2) * size, about(22, 2) * size, about(46, 4))
        turn = side * about(0.5, 0.2)
        canvas.paint(canvas.ellipsoid(middle, (r[0] + 7, r[1] + 7, r[2] + 7), turn), -100, 0, within=wall + 2)
        canvas.paint(canvas.ellipsoid(middle, r, turn), cortex, KIDNEYS, within=wall + 2)
        canvas.paint(canvas.ellipsoid(middle, (r[0] - 8, r[1] - 8, r[2] - 10), turn), cortex - 45)
        sinus = (middle[0] - side * 12 * size, middle[1] + 4, middle[2])
        canvas.paint(canvas.ellipsoid(sinus, (10, 7, 18), turn), -50, 0)
    way = rng.standard_normal(3)
    offset = way / np.linalg.norm(way) * rng.uniform(0.1, 0.5) * np.asarray(radii)
    spot = (liver_at[0] + offset[0], liver_at[1] + offset[1], liver_at[2] + 8 + abs(offset[2]))
    radius = rng.uniform(7.5, 9.8)
    lesion = canvas.ellipsoid(
        spot, (radius, radius * rng.uniform(0.85, 1.1), radius * rng.uniform(0.85, 1.1))
    )
    canvas.paint(np.maximum(lesion, liver), liver_hu - rng.uniform(58, 75), LESION)


def _vessels(canvas: Canvas, rng: np.random.Generator, size: float, slide: float, spine_front: float) -> None:
    """Aorta and cava before the spine, and a thin artery that leaves the aorta and winds forward and down."""
    y = spine_front + 12 * size
    blood = rng.uniform(175, 200)
    heights = np.linspace(-150, 150, 6)
    sway = rng.uniform(-5, 5, 6)
    aorta = np.stack([-9 * size + sway, np.full(6, y) + rng.uniform(-2, 2, 6), heights], axis=1)
    cava = np.stack([17 * size + sway, np.full(6, y), heights], axis=1)
    canvas.paint(canvas.tube(curve(cava), 10.5 * size), 135, 0)
    canvas.paint(canvas.tube(curve(aorta), rng.uniform(9.5, 11.5) * size), blood, AORTA)
    top = rng.uniform(4, 16) + slide
    start = np.array([-9 * size, y, top])
    knots = [start, start + np.array([rng.uniform(-4, 4), 24, -6])]
    for _ in range(4):
        knots.append(knots[-1] + (rng.uniform(-16, 16), rng.uniform(-3, 12), rng.uniform(-26, -18)))
    inside_aorta = -canvas.tube(curve(aorta), 9 * size)
    artery = canvas.tube(curve(knots, 18), 3.9)
    canvas.paint(artery - 4, -95, 0, within=inside_aorta - 6)  # the fat that mesenteric arteries run in
    canvas.paint(artery, blood + 25, VESSEL, within=inside_aorta)


# ---- a brain in MR

MR_CLASSES = ("grey matter", "white matter", "ventricles", "vessel", "lesion")
MR_EXTENT = (200.0, 220.0, 200.0)
GREY, WHITE, VENTRICLES, MR_VESSEL, MR_LESION = range(1, 6)
TUMOUR_CLASSES = ("necrotic core", "oedema", "enhancing tumour")
NECROTIC, OEDEMA, ENHANCING = range(1, 4)


def render_mr(
    shape: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image (float32, own scale) and label (uint8) of one head, axes (right, front, head)."""
    canvas = Canvas(shape, MR_EXTENT, rng, warp=2.0, fill=0.0)
    size = rng.uniform(0.94, 1.04)
    up = rng.uniform(-4, 4)
    white = _tissues(canvas, rng, size, up)
    _lesion(canvas, rng, white)
    _artery(canvas, rng, size, up)
    return _as_magnitude(canvas, rng), canvas.label


def render_tumour(
    shape: Sequence[int], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image and label as `render_mr`; of the head, only the parts of its tumour are labelled."""
    canvas = Canvas(shape, MR_EXTENT, rng, warp=2.0, fill=0.0)
    size, up = rng.uniform(0.94, 1.04), rng.uniform(-4, 4)
    white = _tissues(canvas, rng, size, up)
    canvas.label[:] = 0
    _tumour(canvas, rng, white)
    return _as_magnitude(canvas, rng), canvas.label


def _tissues(canvas: Canvas, rng: np.random.Generator, size: float, up: float) -> NDArray[np.bool_]:
    """Draw head and brain, and return where the white matter is."""
    _head(canvas, size, up)
    brain_at, radii = (0.0, 0.0, 12 + up), (66 * size, 82 * size, 62 * size)
    _brain(canvas, rng, brain_at, radii)
    _deep(canvas, rng, size, up)
    return np.asarray(canvas.label == WHITE)


def _as_magnitude(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the image as a scanner gives it: blurred, shaded by the coil, with Rician noise, on any scale."""
    shape = canvas.shape
    image = ndimage.gaussian_filter(canvas.image, 0.45, truncate=2)
    image *= np.exp(0.13 * smooth_noise(shape, 2, rng))  # coil sensitivity
    sigma = rng.uniform(0.02, 0.035)
    real = image + rng.standard_normal(tuple(shape), np.float32) * np.float32(sigma)
    other = rng.standard_normal(tuple(shape), np.float32) * np.float32(sigma)
    scale = 10 ** rng.uniform(1.8, 3.6)
    return np.asarray(np.hypot(real, other) * scale, np.float32)


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
    canvas.paint(lesion, rng.uniform(1.1, 1.2), MR_LESION)
    canvas.paint(lesion + 0.55 * radius, 0.95)


def _tumour(canvas: Canvas, rng: np.random.Generator, white: NDArray[np.bool_]) -> None:
    """Oedema around a tumour that enhances at its rim, with a dark necrotic core; the values are those of BraTS."""
    deep = ndimage.distance_transform_edt(white, sampling=canvas.spacing)
    deep[canvas.z < 0] = 0
    places = np.argwhere(deep >= min(5.0, float(deep.max())))
    x, y, z = places[int(rng.integers(len(places)))]
    centre = (float(canvas.x[x, y, z]), float(canvas.y[x, y, z]), float(canvas.z[x, y, z]))
    radius, rim = rng.uniform(12, 17), rng.uniform(4, 6)
    tumour = canvas.ellipsoid(centre, (radius, radius * rng.uniform(0.85, 1.15), radius))
    ragged = tumour + 2.5 * smooth_noise(canvas.shape, 11, rng)
    canvas.paint(np.asarray(ragged - rng.uniform(9, 13), np.float32), rng.uniform(0.58, 0.64), OEDEMA)
    canvas.paint(tumour, rng.uniform(1.05, 1.2), ENHANCING)
    canvas.paint(np.asarray(tumour + rim, np.float32), rng.uniform(0.3, 0.4), NECROTIC)


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
    canvas.paint(artery, 1.35, MR_VESSEL)


# ---- both

Anatomy = Literal["ct_abdomen", "mr_brain", "mr_tumour"]
CLASSES: Mapping[Anatomy, tuple[str, ...]] = {
    "ct_abdomen": CT_CLASSES,
    "mr_brain": MR_CLASSES,
    "mr_tumour": TUMOUR_CLASSES,
}
MODALITIES: Mapping[Anatomy, Modality] = {"ct_abdomen": "CT", "mr_brain": "MR", "mr_tumour": "MR"}
_EXTENTS = {"ct_abdomen": CT_EXTENT, "mr_brain": MR_EXTENT, "mr_tumour": MR_EXTENT}
_Renderer = Callable[[Sequence[int], np.random.Generator], tuple[NDArray[Any], NDArray[np.uint8]]]
_RENDERERS: Mapping[Anatomy, _Renderer] = {
    "ct_abdomen": render_ct,
    "mr_brain": render_mr,
    "mr_tumour": render_tumour,
}


@dataclass(frozen=True)
class Phantom:
    """Voxels of a phantom: image, and label with value k for `CLASSES[anatomy][k - 1]`."""

    image: NDArray[Any]
    label: NDArray[np.uint8]


def phantom_affine(anatomy: Anatomy, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine (voxel index -> RAS mm); the same field of view is cut into any number of voxels."""
    extent = np.asarray(_EXTENTS[anatomy])
    spacing = extent / np.asarray(shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -extent / 2 + spacing / 2
    return affine


def render(anatomy: Anatomy, shape: Sequence[int], seed: int | Sequence[int]) -> Phantom:
    """Render a phantom; equal arguments give equal voxels.

    Parameters
    ----------
    shape
        Voxels along x, y and z.
    seed
        One number, or several such as (data set, case).
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return Phantom(*_RENDERERS[anatomy](shape, rng))

"""An abdomen as portal-venous CT shows it: Hounsfield units, organs of very different size, exact labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.data.phantom.drawing import Canvas, Field, curve, smooth_noise, union

CLASSES = ("liver", "spleen", "kidneys", "aorta", "spine", "vessel", "lesion")
EXTENT = (288.0, 288.0, 288.0)
LIVER, SPLEEN, KIDNEYS, AORTA, SPINE, VESSEL, LESION = range(1, 8)


def render_ct(shape: Sequence[int], rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return image (HU, int16) and label (uint8) of one patient, axes (right, front, head)."""
    canvas = Canvas(shape, EXTENT, rng, warp=3.0, fill=-1000)
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
    """Liver with its lesion, spleen, kidneys; in RAS the liver lies at positive x, the patient's right."""

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

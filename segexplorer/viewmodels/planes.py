"""A case as uint8 volumes with their colours, for a viewer that composes axial, coronal and sagittal planes itself.

A `Scene` is made of layers (the image, then what is drawn over it) and of lines along the faces of voxels. A viewer
needs no more than this to draw any slice; `render` is the reference for how, and draws stills where there is none.
Layers are the same objects as long as nothing in them changed, so that a viewer elsewhere is sent only what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.viewmodels import errors
from segexplorer.viewmodels.layer_images import LABEL_OPACITIES, EdgeLetters, Picture, edge_letters
from segexplorer.viewmodels.outlines import COLOURS, LINES, Outlines
from segexplorer.viewmodels.regions import map_colours

Plane = Literal["axial", "coronal", "sagittal"]
ORDERS: Mapping[Plane, tuple[int, int, int]] = {
    "axial": (0, 1, 2),
    "coronal": (1, 0, 2),
    "sagittal": (2, 0, 1),
}
"""Plane -> axes of a (z, y, x) array: across the slice, along its height, along its width."""
Triple = tuple[float, float, float]
_PULL_LEVELS = 127
"""Colours on either side of none."""


@dataclass(frozen=True, eq=False)
class PlaneLayer:
    """A volume whose values are places in a table of colours.

    Attributes
    ----------
    key
        What it is: "image", or the key of its picture.
    data
        (z, y, x) uint8.
    table
        (256, 4) uint8 red, green, blue, opacity of each value.
    scale, translate
        mm per voxel and the centre of the first voxel, (z, y, x), RAS.
    smooth
        Whether values between voxels may be interpolated: in an image, never in a label.
    """

    key: str
    data: NDArray[np.uint8]
    table: NDArray[np.uint8]
    scale: Triple
    translate: Triple
    smooth: bool = False


@dataclass(frozen=True, eq=False)
class PlaneLines:
    """Lines along the faces of voxels.

    Attributes
    ----------
    key
        What they are: "outlines", "mark", or the key of the picture whose rims they are.
    faces
        Of each axis (z, y, x) uint8 codes: which line is between a voxel and the next one along it, 0 for none.
    inks
        Code -> "#RRGGBB".
    scale, translate
        As of a layer.
    """

    key: str
    faces: tuple[NDArray[np.uint8], ...]
    inks: Mapping[int, str]
    scale: Triple
    translate: Triple


@dataclass(frozen=True)
class Scene:
    """What is drawn in the planes.

    Attributes
    ----------
    layers
        From the bottom to the top; the image first.
    lines
        Over all of them.
    neurological
        Whether the patient's right is on the right of the screen.
    """

    layers: tuple[PlaneLayer, ...] = ()
    lines: tuple[PlaneLines, ...] = ()
    neurological: bool = False

    @property
    def base(self) -> PlaneLayer | None:
        """The layer whose extent is shown: the lowest."""
        return self.layers[0] if self.layers else None

    @property
    def parts(self) -> tuple[PlaneLayer | PlaneLines, ...]:
        """Layers and lines."""
        found: tuple[PlaneLayer | PlaneLines, ...] = (*self.layers, *self.lines)
        return found

    @property
    def middle(self) -> Triple:
        """(z, y, x) in mm of the middle of the volume."""
        base = self.base
        if base is None:
            return 0.0, 0.0, 0.0
        return _triple(
            t + s * (n - 1) / 2 for t, s, n in zip(base.translate, base.scale, base.data.shape, strict=True)
        )

    def inside(self, place: Sequence[float]) -> Triple:
        """Return the nearest point to a place that is in a voxel of the volume."""
        base = self.base
        if base is None:
            return 0.0, 0.0, 0.0
        ends = zip(place, base.translate, base.scale, base.data.shape, strict=True)
        return _triple(min(max(float(p), t), t + s * (n - 1)) for p, t, s, n in ends)

    def letters(self, plane: Plane) -> EdgeLetters:
        """Return the letters at the edges of a plane."""
        return edge_letters(ORDERS[plane], ("away", "up", "right" if self.neurological else "left"))


def _triple(values: Any) -> Triple:
    z, y, x = values
    return float(z), float(y), float(x)


# ---- from pictures


def image_layer(picture: Picture) -> PlaneLayer:
    """Return an image within its limits of grey."""
    low, high = picture.contrast_limits or (0.0, 1.0)
    data = np.empty(picture.data.shape, np.uint8)
    for place in range(
        len(data)
    ):  # slice by slice: a float copy of the whole would be several times its size
        part = np.nan_to_num(picture.data[place].astype(np.float32), nan=low, posinf=high, neginf=low)
        data[place] = np.clip((part - low) * (255.0 / max(high - low, 1e-9)), 0, 255)
    grey = np.arange(256, dtype=np.uint8)
    table = np.stack([grey, grey, grey, np.full(256, 255, np.uint8)], axis=1)
    return PlaneLayer(picture.key, data, table, picture.scale, picture.translate, smooth=True)


def overlay(picture: Picture) -> PlaneLayer | PlaneLines:
    """Return what is drawn of labels, errors or a map: filled, or as the rims of the labels."""
    if picture.kind == "image" and picture.colours == "pull":
        return _pull_layer(picture)
    data, translate = _cropped(picture.data, picture.scale, picture.translate)
    table = _table(picture)
    if picture.form == "outline":
        inks = {value: _hex(table[value]) for value in picture.values}
        wide, first = _padded(data, picture.scale, translate)
        return PlaneLines(picture.key, _label_faces(wide), inks, picture.scale, first)
    table = table.copy()
    table[:, 3] = np.rint(table[:, 3] * LABEL_OPACITIES[picture.colours])
    return PlaneLayer(picture.key, data, table, picture.scale, translate)


def outline_lines(outlines: Outlines, *, key: str = "outlines", rims: bool = False) -> PlaneLines:
    """Return the lines of truth and prediction, or of the error that is looked at."""
    faces = outlines.faces(rims=rims)
    # a mark is a box that has grown by one voxel on each side
    grown = [(f - n) // 2 for f, n in zip(faces[0].shape, outlines.truth.shape, strict=True)]
    first = _triple(t - g * s for t, g, s in zip(outlines.translate, grown, outlines.scale, strict=True))
    box = _box(faces[0] | faces[1] | faces[2])
    inks = {1 + place: COLOURS[line] for place, line in enumerate(LINES)}
    return PlaneLines(
        key,
        tuple(np.ascontiguousarray(part[box]) for part in faces),
        inks,
        outlines.scale,
        _moved(first, outlines.scale, box),
    )


def _pull_layer(picture: Picture) -> PlaneLayer:
    low, high = picture.contrast_limits or (-1.0, 1.0)
    limit = max(abs(low), abs(high), 1e-12)
    values = np.nan_to_num(np.asarray(picture.data, np.float32) / limit)
    data = np.rint(colours.pull_strength(values) * _PULL_LEVELS + _PULL_LEVELS + 1).astype(np.uint8)
    inks = np.rint(colours.pull(2 * _PULL_LEVELS + 1) * 255).astype(np.uint8)
    table = np.concatenate([np.zeros((1, 4), np.uint8), inks])
    # what is transparent is 0, so that the rest can be cut out
    data[table[data, 3] == 0] = 0
    cut, translate = _cropped(data, picture.scale, picture.translate)
    return PlaneLayer(picture.key, cut, table, picture.scale, translate)


def _table(picture: Picture) -> NDArray[np.uint8]:
    table = np.zeros((256, 4))
    if picture.colours == "map" and picture.colour_scale is not None:
        inks = map_colours(picture.colour_scale.quantity)
        table[: len(inks)] = inks
    elif picture.colours == "errors":
        for code, colour in errors.colour_table().items():
            table[code] = colour
    else:
        for value, ink in ClassColours.of_values(picture.values).values(picture.values).items():
            table[value % 256] = colours.rgba(ink)
    found: NDArray[np.uint8] = np.rint(table * 255).astype(np.uint8)
    return found


def _hex(colour: NDArray[np.uint8]) -> str:
    red, green, blue = (int(c) for c in colour[:3])
    return f"#{red:02X}{green:02X}{blue:02X}"


def compact(picture: Picture) -> Picture:
    """Return labels whose values fit a byte; those above 255 are numbered anew, with their names."""
    if picture.data.dtype == np.uint8:
        return picture
    values = sorted(value for value in picture.values if value)
    if values and values[-1] <= 255 and int(picture.data.max(initial=0)) <= 255:
        return replace(picture, data=picture.data.astype(np.uint8))
    found = np.zeros(picture.data.shape, np.uint8)
    for place, value in enumerate(values[:255], start=1):
        found[picture.data == value] = place
    return replace(picture, data=found, values={i: picture.values[v] for i, v in enumerate(values[:255], 1)})


def _box(data: NDArray[np.uint8]) -> tuple[slice, ...]:
    """Return the smallest box with everything that is not 0; one voxel where there is nothing."""
    there = data != 0
    box = []
    for axis in range(3):
        filled = np.flatnonzero(there.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 1))
    return tuple(box)


def _moved(translate: Triple, scale: Triple, box: tuple[slice, ...]) -> Triple:
    return _triple(t + s * part.start for t, s, part in zip(translate, scale, box, strict=True))


def _cropped(data: NDArray[Any], scale: Triple, translate: Triple) -> tuple[NDArray[np.uint8], Triple]:
    """Return the part with something in it: errors are small beside a body, and so is what a viewer is sent."""
    box = _box(data)
    return np.ascontiguousarray(data[box], dtype=np.uint8), _moved(translate, scale, box)


def _padded(data: NDArray[np.uint8], scale: Triple, translate: Triple) -> tuple[NDArray[np.uint8], Triple]:
    return np.pad(data, 1), _triple(t - s for t, s in zip(translate, scale, strict=True))


def _label_faces(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Return the faces where labels change; between two of them the line has the colour of the higher one."""
    found = []
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        faces = np.zeros(labels.shape, np.uint8)
        drawn = np.moveaxis(faces, axis, 0)[:-1]
        one, other = along[:-1], along[1:]
        drawn[...] = np.where(one != other, np.maximum(one, other), 0)
        found.append(faces)
    return tuple(found)


# ---- drawing


@dataclass(frozen=True)
class View:
    """How a slice of a scene is on a picture: millimetres of its edges, and millimetres per pixel.

    Attributes
    ----------
    plane
        Which one.
    size
        Height and width of the picture, pixels.
    top, left
        Coordinates in mm at the edges of the picture.
    down, right
        mm per pixel downwards and to the right; negative where coordinates fall.
    """

    plane: Plane
    size: tuple[int, int]
    top: float
    left: float
    down: float
    right: float
    order: tuple[int, int, int] = field(default=(0, 1, 2))

    @classmethod
    def of(cls, scene: Scene, plane: Plane, most: int = 320) -> View:
        """Return the view of a whole plane on a picture whose longer side has so many pixels."""
        base = scene.base
        if base is None:
            return cls(plane, (most, most), 0.0, 0.0, 1.0, 1.0, ORDERS[plane])
        order = ORDERS[plane]
        spans = [base.scale[axis] * base.data.shape[axis] for axis in order[1:]]
        each = max(spans) / most
        height, width = (max(1, round(span / each)) for span in spans)
        first = [base.translate[axis] - base.scale[axis] / 2 for axis in order[1:]]
        last = [a + span for a, span in zip(first, spans, strict=True)]
        down, right = -spans[0] / height, spans[1] / width
        left = first[1]
        if not scene.neurological:
            left, right = last[1], -right
        return cls(plane, (height, width), last[0], left, down, right, order)

    def along(self, which: int) -> NDArray[np.float64]:
        """Return the coordinates of the middles of the rows (0) or columns (1), mm."""
        start, step = ((self.top, self.down), (self.left, self.right))[which]
        found: NDArray[np.float64] = start + step * (np.arange(self.size[which], dtype=np.float64) + 0.5)
        return found

    def pixel(self, place: Sequence[float]) -> tuple[float, float]:
        """Return (row, column) of a point, (z, y, x) in mm."""
        return (
            (place[self.order[1]] - self.top) / self.down,
            (place[self.order[2]] - self.left) / self.right,
        )


def render(scene: Scene, view: View, place: Sequence[float]) -> NDArray[np.uint8]:
    """Return the slice through a point as (height, width, 3) colours, without lines.

    Parameters
    ----------
    place
        (z, y, x) in mm.
    """
    picture: NDArray[Any] = np.zeros((*view.size, 3), np.float32)
    for layer in scene.layers:
        table = layer.table.astype(np.float32)
        index = _index(place[view.order[0]], layer, view.order[0])
        if index is None:
            continue
        rows, columns = (_indices(view.along(i), layer, view.order[1 + i]) for i in (0, 1))
        part = np.moveaxis(layer.data, view.order, (0, 1, 2))[index]
        inside = (rows >= 0)[:, None] & (columns >= 0)[None, :]
        inks = table[part[np.maximum(rows, 0)][:, np.maximum(columns, 0)]]
        opacity = np.where(inside, inks[..., 3] / 255, 0)[..., None]
        picture = picture * (1 - opacity) + inks[..., :3] * opacity
    found: NDArray[np.uint8] = np.rint(picture).astype(np.uint8)
    return found


Segments = dict[str, NDArray[np.float64]]


def segments(lines: PlaneLines, view: View, place: Sequence[float]) -> Segments:
    """Return "#RRGGBB" -> (n, 2, 2) ends of segments as (column, row) in pixels, of the slice through a point."""
    across = view.order[0]
    index = round((place[across] - lines.translate[across]) / lines.scale[across])
    if not 0 <= index < lines.faces[0].shape[across]:
        return {}
    found: Segments = {}
    for which in (0, 1):
        axis, other = view.order[1 + which], view.order[2 - which]
        codes = np.moveaxis(lines.faces[axis], (across, axis, other), (0, 1, 2))[index]
        step, run = np.nonzero(codes)
        ends = np.empty((len(step), 2, 2))
        at = lines.translate[axis] + lines.scale[axis] * (step + 0.5)
        for end in (0, 1):
            beside = lines.translate[other] + lines.scale[other] * (run + end - 0.5)
            point = {axis: at, other: beside}
            ends[:, end, 0] = (point[view.order[2]] - view.left) / view.right
            ends[:, end, 1] = (point[view.order[1]] - view.top) / view.down
        for code in np.unique(codes[step, run]):
            ink = lines.inks.get(int(code))
            if ink is not None:
                found.setdefault(ink, np.zeros((0, 2, 2)))
                found[ink] = np.concatenate([found[ink], ends[codes[step, run] == code]])
    return found


def _index(at: float, layer: PlaneLayer, axis: int) -> int | None:
    index = round((at - layer.translate[axis]) / layer.scale[axis])
    return index if 0 <= index < layer.data.shape[axis] else None


def _indices(at: NDArray[np.float64], layer: PlaneLayer, axis: int) -> NDArray[np.int64]:
    """Return the voxels along an axis at coordinates in mm; -1 outside."""
    found = np.rint((at - layer.translate[axis]) / layer.scale[axis]).astype(np.int64)
    return np.where((found >= 0) & (found < layer.data.shape[axis]), found, -1)

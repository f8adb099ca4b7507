"""Volumes out of the viewer's layers, whichever reader made them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.geometry import DisplayGrid, Grid
from segexplorer.data.volume import Provenance, Volume
from segexplorer.faces.napari.layers import METADATA


def volume_from_layer(layer: Any, *, frame: int | None = None) -> Volume:
    """Return the volume that an Image or Labels layer shows, whichever reader made it.

    A layer of ours gives back its own index order and true affine. Of any other, napari's world is taken as
    (z, y, x) in RAS mm, as readers of medical images for napari have it; other lengths are converted.

    Parameters
    ----------
    frame
        Which volume of a layer with four axes, along its first.

    Raises
    ------
    DataError
        When the layer is no image or label, or is not exactly 3D with one channel.
    """
    sort = layer.as_layer_data_tuple()[2]
    if sort not in {"image", "labels"}:
        raise DataError(f"The layer {layer.name!r} is of type {sort}.", "Choose an image or a labels layer.")
    if getattr(layer, "rgb", False):
        raise DataError(f"The layer {layer.name!r} is a colour image.", "Choose an image of one channel.")
    if layer.ndim != 3 and (layer.ndim != 4 or frame is None):
        what = "a single slice" if layer.ndim == 2 else f"{layer.ndim}D (time points or channels)"
        remedy = (
            "Choose a volume." if layer.ndim == 2 else "Split it first: right-click the layer, Split Stack."
        )
        raise DataError(f"The layer {layer.name!r} is {what}; a volume has three axes.", remedy)
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if layer.ndim == 4:
        data = data[frame]
    own = layer.metadata.get(METADATA)
    if own is not None:
        volume = _own_volume(data, own)
        if volume is not None:
            return volume
    return Volume.from_array(data, affine=layer_affine(layer))


def _own_volume(data: NDArray[Any], own: dict[str, Any]) -> Volume | None:
    """Undo what `pictures` did; None when the layer's data no longer have the shape they were shown with."""
    shape, affine = tuple(own["shape"]), np.asarray(own["affine"], dtype=np.float64)
    grid = DisplayGrid.of(Grid(shape, affine))
    if sorted(data.shape) != sorted(shape):
        return None
    array = grid.from_display(data)
    if array.shape != shape:
        return None
    facts = Provenance(None, own.get("format", ""), tuple(own.get("notes", ())), dict(own.get("header", {})))
    return Volume(shape, affine, array=array, provenance=facts)


def layer_affine(layer: Any) -> NDArray[np.float64]:
    """Return (4, 4) data index -> RAS mm of a layer's last three axes, by where their points lie in the world."""

    def world(point: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = (*(0.0,) * (layer.ndim - 3), *point)
        return np.asarray(layer.data_to_world(padded), dtype=np.float64)[-3:]

    origin = world(np.zeros(3))
    steps = [world(row) - origin for row in np.eye(3)]
    millimetres = np.array([_millimetres(unit) for unit in layer.units[-3:]], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, :3] = (np.stack(steps, axis=1) * millimetres[:, np.newaxis])[::-1]
    affine[:3, 3] = (origin * millimetres)[::-1]
    return affine


def _millimetres(unit: Any) -> float:
    """Return how many mm a unit of napari's world is; pixels are taken as mm."""
    quantity = 1.0 * unit
    return float(quantity.to("mm").magnitude) if quantity.check("[length]") else 1.0

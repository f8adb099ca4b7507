"""napari writers: a layer as NIfTI in the grid and orientation of the volume it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer; returns the path written.

    Raises
    ------
    DataError
        When the layer is no 3D volume of one channel, or the file cannot be written.
    """
    return _write(path, data, attributes, "image")


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer with its own values as whole numbers; returns the path written."""
    return _write(path, data, attributes, "labels")


def _write(path: str, data: Any, attributes: dict[str, Any], sort: str) -> list[str]:
    from napari.layers import Layer

    from segexplorer.data.volume import save_volume
    from segexplorer.faces.napari.layers import volume_from_layer

    layer = Layer.create(data, attributes, sort)
    target = Path(path) if path.lower().endswith((".nii", ".nii.gz")) else Path(f"{path}.nii.gz")
    save_volume(volume_from_layer(layer), target, integer=sort == "labels")
    return [str(target)]

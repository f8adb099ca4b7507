"""napari writers: a layer as NIfTI, NRRD or MetaImage in the grid and orientation of the volume it came from."""

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
    """Save a labels layer with its own values as whole numbers, and its class names; returns the path written."""
    return _write(path, data, attributes, "labels")


def _write(path: str, data: Any, attributes: dict[str, Any], sort: str) -> list[str]:
    from napari.layers import Layer

    from segexplorer.data.readers import suffix_of, writable_suffixes
    from segexplorer.data.volume import save_volume
    from segexplorer.faces.napari.layer_volumes import volume_from_layer
    from segexplorer.faces.napari.layers import METADATA

    layer = Layer.create(data, attributes, sort)
    known = suffix_of(Path(path)) in writable_suffixes()
    target = Path(path) if known else Path(f"{path}.nii.gz")
    own = layer.metadata.get(METADATA) or {}
    names = {int(value): str(name) for value, name in own.get("classes", {}).items()}
    save_volume(volume_from_layer(layer), target, integer=sort == "labels", names=names or None)
    return [str(target)]

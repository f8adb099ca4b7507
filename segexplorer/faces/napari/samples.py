"""Sample data of the File menu: seeded phantoms, an image and its label each."""

from __future__ import annotations

from typing import Any

LayerTuple = tuple[Any, dict[str, Any], str]


def ct_phantom() -> list[LayerTuple]:
    """Return the abdominal CT-like phantom: image and label, with the names of its organs."""
    return _phantom("CT phantom", "ct_abdomen")


def mr_phantom() -> list[LayerTuple]:
    """Return the brain-MRI-like phantom: image and label, with the names of its structures."""
    return _phantom("MR phantom", "mr_brain")


def _phantom(title: str, anatomy: str) -> list[LayerTuple]:
    from segexplorer.data.datasets import registry
    from segexplorer.faces.napari.layers import layer_arguments
    from segexplorer.faces.napari.pictures import image_picture, label_picture

    spec = registry.spec("phantom").of({"anatomy": anatomy, "count": 1})
    (reference,) = spec.cases()
    case = reference.open()
    assert case.label is not None
    names = {value: name for name, values in spec.class_values().items() for value in values}
    pictures = (image_picture(case.images[0], title), label_picture(case.label, f"{title} label", names))
    return [(p.data, layer_arguments(p), p.kind) for p in pictures]

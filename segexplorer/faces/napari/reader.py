"""napari reader of NIfTI and Analyze volumes: the closest canonical RAS picture, the true affine remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

LayerTuple = tuple[Any, dict[str, Any], str]
_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz")
_MOST_LABELS = 256
"""A volume of whole numbers with more different values than this is taken for an image."""
_LABEL_WORDS = ("label", "seg", "mask", "truth", "annotation", "prediction", "_gt")


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerTuple]] | None:
    """Return `read`, or None where some path is none of our formats. The file itself is not opened."""
    paths = [path] if isinstance(path, str) else list(path)
    if paths and all(Path(p).name.lower().endswith(_SUFFIXES) for p in paths):
        return read
    return None


def read(path: str | list[str]) -> list[LayerTuple]:
    """Read volumes as napari layers: label maps as labels, everything else as images.

    Raises
    ------
    DataError
        One sentence for a file that is damaged, is not 3D, or holds no volume.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return [read_one(Path(p)) for p in paths]


def read_one(path: Path, *, label: bool | None = None) -> LayerTuple:
    """Read one volume; `label` None looks at name and voxels to tell a label map from an image."""
    from segexplorer.data.volume import open_volume
    from segexplorer.faces.napari.layers import layer_arguments
    from segexplorer.faces.napari.pictures import image_picture, label_picture

    volume = open_volume(path, label=bool(label))
    is_label = looks_like_label(path, volume.array) if label is None else label
    name = stem(path)
    picture = label_picture(volume, name) if is_label else image_picture(volume, name)
    return picture.data, layer_arguments(picture), picture.kind


def looks_like_label(path: Path, array: Any) -> bool:
    """Whether voxels are few different whole numbers from 0 on, and either mostly 0 or named like labels."""
    import numpy as np

    sample = array.reshape(-1)[:: max(1, array.size // 100_000)]
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(sample, np.rint(sample)):
        return False
    values, counts = np.unique(sample, return_counts=True)
    if values[0] < 0 or len(values) > _MOST_LABELS or values[-1] >= 2**16:
        return False
    named = any(word in path.name.lower() or word in path.parent.name.lower() for word in _LABEL_WORDS)
    return named or (len(values) <= 64 and values[0] == 0 and counts[0] > sample.size / 3)


def stem(path: Path) -> str:
    """Return the name of a file without its (possibly double) suffix."""
    name = path.name
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name

"""What `napari.yaml` names: the reader of volumes, the writers of layers, and the sample data of the File menu.

The reader shows a volume on its closest canonical RAS grid and keeps the true affine in the layer's metadata;
the writers use it to save a layer in the grid and orientation of the volume it came from. Pictures (PNG and
the like) are left to napari, so that opening one asks nobody which plug-in to take.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segexplorer.data.formats.voxels import SeveralVolumesError
    from segexplorer.data.volume import Select, Volume


LayerTuple = tuple[Any, ...]
NO_LAYER = (None,)
"""What napari takes as: nothing to show, and nothing wrong."""
_MOST_LABELS = 256
"""A volume of whole numbers with more different values than this is taken for an image."""
_LABEL_WORDS = ("label", "seg", "mask", "truth", "annotation", "prediction", "_gt")
_MOST_BYTES = 2**31
"""A time series beyond this is not shown as a whole."""
_LOOKED_AT = 16
"""How many files of a folder are looked at to decide whether it holds volumes."""


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerTuple]] | None:
    """Return `read`, or None where some path is none of our formats."""
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) == 1 and _is_race(Path(paths[0])):
        return read_race
    return read if paths and all(_is_ours(Path(p)) for p in paths) else None


def _is_race(path: Path) -> bool:
    if not path.is_dir():
        return False
    from segexplorer.study.race import is_race

    return is_race(path)


def _is_ours(path: Path) -> bool:
    """Whether a file's name, or of one of the first files in a folder, is that of a volume."""
    from segexplorer.data.formats import registry

    if path.is_dir():
        inside = itertools.islice((p for p in path.rglob("*") if p.is_file()), _LOOKED_AT)
        found = (registry.format_of(p) for p in inside)
        return any(known is not None and known.folders for known in found)
    known = registry.format_of(path)
    return known is not None and not known.picture


def read(path: str | list[str]) -> list[LayerTuple]:
    """Read volumes as napari layers: label maps as labels, everything else as images.

    Raises
    ------
    DataError
        One sentence for a file that is damaged, is not 3D, or holds no volume.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return [layer for p in paths for layer in _read_asking(Path(p))] or [NO_LAYER]


def read_race(path: str | list[str]) -> list[LayerTuple]:
    """Show the race in a folder in the dock of the current viewer; there is no layer to add.

    Raises
    ------
    DataError
        When the race is damaged.
    """
    import napari

    from segexplorer.frontends.napari.dock import show_race_in
    from segexplorer.study.race import open_race

    folder = Path(path if isinstance(path, str) else path[0])
    open_race(folder)
    viewer = napari.current_viewer()
    if viewer is not None:
        show_race_in(viewer, folder)
    return [NO_LAYER]


def _read_asking(path: Path) -> list[LayerTuple]:
    """Read a path; of several DICOM series those that the user chooses."""
    from segexplorer.data.formats.dicom.series import SeveralSeriesError
    from segexplorer.frontends.napari.series_picker import ask

    try:
        return [read_one(path)]
    except SeveralSeriesError as several:
        chosen = ask(several.series)
        if chosen is None:
            raise
    return [read_one(path, select=number) for number in chosen]


def read_one(path: Path, *, label: bool | None = None, select: Select = None) -> LayerTuple:
    """Read one volume, or all frames of a file with several as one layer with a slider.

    Parameters
    ----------
    label
        None decides by name and voxels whether it is a label map.
    select
        The one frame or series to read.
    """
    from segexplorer.data.formats.voxels import SeveralVolumesError
    from segexplorer.data.io import open_volume

    try:
        volume = open_volume(path, label=bool(label), select=select)
    except SeveralVolumesError as error:
        return _read_frames(path, error, label=label)
    name = stem(path) if select is None else f"{stem(path)} {select}"
    return _layer(path, volume if select is None else _part(volume), name, label=label)


def _part(volume: Volume) -> Volume:
    """Return a volume that forgets its path, for the path alone does not lead back to this part of the file."""
    return volume.with_array(volume.array)


def _layer(path: Path, volume: Volume, name: str, *, label: bool | None) -> LayerTuple:
    from segexplorer.frontends.napari.layers import layer_arguments
    from segexplorer.viewmodels.layer_images import image_picture, label_picture, label_values

    if label or (label is None and looks_like_label(path, volume.array)):
        named = volume.label_names
        values = {value: named.get(value, f"label {value}") for value in label_values(volume.array)}
        picture = label_picture(volume, name, values if named else None)
    else:
        picture = image_picture(volume, name)
    return picture.data, layer_arguments(picture), picture.kind


def _read_frames(path: Path, several: SeveralVolumesError, *, label: bool | None) -> LayerTuple:
    """Return all frames as one layer (frame, z, y, x); Split Stack makes volumes of it that know their place.

    Raises
    ------
    DataError
        The error given, when that would be too much.
    """
    import math

    import numpy as np

    from segexplorer.data.geometry import DisplayGrid
    from segexplorer.data.io import open_volume

    choices = several.choices()
    first = open_volume(path, label=bool(label), select=choices[0])
    if len(choices) * math.prod(first.shape) * first.array.dtype.itemsize > _MOST_BYTES:
        raise several
    data, arguments, sort = _layer(path, _part(first), stem(path), label=label)
    grid = DisplayGrid.of(first)
    rest = [
        grid.to_display(open_volume(path, label=sort == "labels", select=choice).array)
        for choice in choices[1:]
    ]
    arguments |= {
        "scale": (1.0, *arguments["scale"]),
        "translate": (0.0, *arguments["translate"]),
        "units": ("pixel", *arguments["units"]),
        "axis_labels": ("frame", *arguments["axis_labels"]),
    }
    return np.stack([data, *rest]), arguments, sort


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
    from segexplorer.data.formats.registry import readable_suffixes, suffix_of

    suffix = suffix_of(path)
    known = suffix in readable_suffixes() and len(path.name) > len(suffix)
    return path.name[: -len(suffix)] if known else path.name


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

    from segexplorer.data.formats.registry import suffix_of, writable_suffixes
    from segexplorer.data.io import save_volume
    from segexplorer.frontends.napari.layers import METADATA, volume_from_layer

    layer = Layer.create(data, attributes, sort)
    known = suffix_of(Path(path)) in writable_suffixes()
    target = Path(path) if known else Path(f"{path}.nii.gz")
    own = layer.metadata.get(METADATA) or {}
    names = {int(value): str(name) for value, name in own.get("classes", {}).items()}
    save_volume(volume_from_layer(layer), target, integer=sort == "labels", names=names or None)
    return [str(target)]


def ct_phantom() -> list[LayerTuple]:
    """Return the abdominal CT-like phantom: image and label, with the names of its organs."""
    return _phantom("CT phantom", "ct_abdomen")


def mr_phantom() -> list[LayerTuple]:
    """Return the brain-MRI-like phantom: image and label, with the names of its structures."""
    return _phantom("MR phantom", "mr_brain")


def _phantom(title: str, anatomy: str) -> list[LayerTuple]:
    from segexplorer.data.datasets import registry
    from segexplorer.frontends.napari.layers import layer_arguments
    from segexplorer.viewmodels.layer_images import image_picture, label_picture

    spec = registry.spec("phantom").of({"anatomy": anatomy, "count": 1})
    (reference,) = spec.cases()
    case = reference.open()
    assert case.label is not None
    names = {value: name for name, values in spec.class_values().items() for value in values}
    pictures = (image_picture(case.images[0], title), label_picture(case.label, f"{title} label", names))
    return [(p.data, layer_arguments(p), p.kind) for p in pictures]

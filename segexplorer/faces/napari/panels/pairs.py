"""What the Cases tab collects: pairs out of layers or files, and how they become a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.core.types import Role
from segexplorer.data.datasets import registry
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.volume import Volume, open_volume, save_volume
from segexplorer.faces.napari.examination import Examination, examine


@dataclass(frozen=True)
class CasePair:
    """One case: image and label as volumes in memory, with the files they came from where there are any."""

    case: str
    image: Volume
    label: Volume
    image_path: Path | None
    label_path: Path | None
    names: Mapping[int, str]
    role: Role | None = None

    def examined(self) -> Examination:
        """Compare and measure the pair; slow, for a worker."""
        return examine(self.image, self.label)


def stored_dataset(
    pairs: Sequence[CasePair], classes: Mapping[str, tuple[int, ...]], unselected: str, folder: Path
) -> DatasetSpec:
    """Return the data set of these pairs; what has no file, or was painted since, is saved into `folder`.

    File names carry a hash of what is in them, so the same picture is written once. For a worker.

    Raises
    ------
    DataError
        When there is no pair, or a file cannot be written.
    """
    if not pairs:
        raise DataError("No case is chosen yet.", "Add an image and its label in the Cases tab.")
    listed = [
        {
            "case": pair.case,
            "image": str(_stored(pair.image, pair.image_path, folder, f"{pair.case}-image", integer=False)),
            "label": str(_stored(pair.label, pair.label_path, folder, f"{pair.case}-label", integer=True)),
            "role": pair.role,
        }
        for pair in pairs
    ]
    return registry.spec("pairs").of({"pairs": listed, "classes": dict(classes), "unselected": unselected})


def _stored(volume: Volume, path: Path | None, folder: Path, name: str, *, integer: bool) -> Path:
    if path is not None and path.is_file() and _same(volume, path, label=integer):
        return path.resolve()
    digest = hashlib.sha256(np.ascontiguousarray(volume.array).tobytes() + volume.affine.tobytes())
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    target = folder / f"{safe}-{digest.hexdigest()[:12]}.nii.gz"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_volume(volume, target, integer=integer)
    return target.resolve()


def _same(volume: Volume, path: Path, *, label: bool) -> bool:
    stored = open_volume(path, label=label)
    return stored.shape == volume.shape and bool(np.array_equal(stored.array, volume.array))


def case_name(image_name: str, taken: Sequence[str]) -> str:
    """Return a name for a case after its image, never one that is taken."""
    base = "".join(c if c.isalnum() or c in "-_. " else "-" for c in image_name).strip() or "case"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base} {count}"
    return name


def names_in(layer: Any) -> dict[int, str]:
    """Return label value -> class name that a labels layer's feature table tells, background left out."""
    features = layer.features
    if "index" not in features or "class" not in features:
        return {}
    pairs = zip(features["index"], features["class"], strict=True)
    return {int(i): str(name) for i, name in pairs if int(i) != 0}

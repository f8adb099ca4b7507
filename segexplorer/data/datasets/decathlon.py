"""Data sets in the layout of the Medical Segmentation Decathlon (Antonelli 2022), with a `dataset.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import (
    DatasetSpec,
    existing_folder,
    pair_up,
    registry,
    stem,
    volume_files,
)


@registry.register
class Decathlon(DatasetSpec):
    """`imagesTr` and `labelsTr` with a `dataset.json` that names labels and channels; test images are left out.

    Also reads nnU-Net's form of it: one file per channel, `case_0000.nii.gz`, and labels as name -> value.
    """

    display_name = "Decathlon folder"
    kind: Literal["decathlon"] = "decathlon"
    root: str = parameter(title="Folder", meaning="The folder that holds dataset.json.", path="folder")

    def cases(self) -> list[CaseRef]:
        """Return the training cases; files that `dataset.json` lists but the disk lacks are left out."""
        folder = existing_folder(self.root)
        self._description(folder)
        for part in ("imagesTr", "labelsTr"):
            if not (folder / part).is_dir():
                raise DataError(
                    f"{folder} has no folder {part}.", "Is it a Decathlon data set? Else use folder."
                )
        images = _by_case(volume_files(folder / "imagesTr"), set(volume_files(folder / "labelsTr")))
        labels = volume_files(folder / "labelsTr")
        pair_up(images, labels, str(folder))
        return [CaseRef(i, images[i], labels.get(i), patient=i) for i in sorted(images)]

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the labels that `dataset.json` names, without background."""
        folder = existing_folder(self.root)
        labels = self._description(folder).get("labels")
        if not isinstance(labels, dict):
            raise DataError(f"{folder / 'dataset.json'} names no labels.", "Choose them with data.classes.")
        named: dict[str, tuple[int, ...]] = {}
        for key, value in labels.items():
            numbered = str(key).lstrip("-").isdigit()
            name, given = (str(value), key) if numbered else (str(key), value)
            values = tuple(int(v) for v in given) if isinstance(given, list) else (int(given),)
            if values != (0,) and name != "ignore":
                named[name] = values
        return named

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels, e.g. ("MRI",)."""
        described = self._description(existing_folder(self.root))
        names = described.get("channel_names", described.get("modality", {}))
        return tuple(str(names[key]) for key in sorted(names, key=int))

    def _description(self, folder: Path) -> dict[str, Any]:
        path = folder / "dataset.json"
        if not path.is_file():
            raise DataError(
                f"{folder} has no dataset.json.", "Is it a Decathlon data set? Else use kind folder."
            )
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is not valid JSON: {error}.", "Repair or download it again.") from error
        if not isinstance(described, dict):
            raise DataError(f"{path} does not describe a data set.", "It should hold labels and modality.")
        return described


def _by_case(files: dict[str, Path], labels: set[str]) -> dict[str, tuple[Path, ...]]:
    """Group image files by case: one file each, or one per channel with a four-digit ending."""
    grouped: dict[str, list[Path]] = {}
    for name, path in files.items():
        head, _, tail = name.rpartition("_")
        by_channel = name not in labels and head and len(tail) == 4 and tail.isdigit()
        grouped.setdefault(head if by_channel else name, []).append(path)
    for name, paths in grouped.items():
        if len(paths) != len(next(iter(grouped.values()))):
            raise DataError(
                f"The case {name} has {len(paths)} channels, others have more or fewer.",
                f"Complete its files, e.g. beside {stem(paths[0])}.",
            )
    return {name: tuple(sorted(paths)) for name, paths in grouped.items()}

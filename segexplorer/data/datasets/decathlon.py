"""Data sets in the layout of the Medical Segmentation Decathlon (Antonelli 2022), with a `dataset.json`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.described import (
    NAME,
    channel_names,
    description,
    label_values,
    required_folders,
)
from segexplorer.data.datasets.finding import put_together, volume_files, without
from segexplorer.data.datasets.nnunet import CHANNEL, grouped_by_channel
from segexplorer.data.sources import Part


@registry.register
class Decathlon(DatasetSpec):
    """`imagesTr` and `labelsTr` with a `dataset.json` that names labels and channels; test images are left out.

    Several channels (Task01, Task05) are the frames of one 4D file. nnU-Net's form, one file per channel, is read
    too.
    """

    display_name = "Decathlon folder"
    layout: ClassVar[str] = "dataset.json\nimagesTr/la_003.nii.gz\nlabelsTr/la_003.nii.gz"
    kind: Literal["decathlon"] = "decathlon"
    root: str = parameter(title="Folder", meaning="The folder that holds dataset.json.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise dataset.json beside imagesTr and labelsTr, one image file per case."""
        if not (folder / NAME).is_file() or not (folder / "imagesTr").is_dir():
            return None
        if not (folder / "labelsTr").is_dir() or any(
            map(CHANNEL.fullmatch, volume_files(folder / "imagesTr"))
        ):
            return None
        return Recognition("decathlon", folder, "dataset.json beside imagesTr and labelsTr")

    def listing(self) -> Listing:
        """Return the training cases; files that `dataset.json` lists but the disk lacks are left out."""
        folder = existing_folder(self.root)
        described = description(folder)
        required_folders(folder, "imagesTr", "labelsTr")
        labels = volume_files(folder / "labelsTr")
        files = volume_files(folder / "imagesTr")
        if any(CHANNEL.fullmatch(name) and name not in labels for name in files):
            images, problems = grouped_by_channel(files, labels)
        else:
            frames = len(channel_names(described))
            images, problems = {name: _channels(path, frames) for name, path in files.items()}, []
        found = put_together(images, without(labels, problems), folder)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the labels that `dataset.json` names, without background."""
        folder = existing_folder(self.root)
        named = label_values(description(folder), folder)
        return {n: v for n, v in named.items() if v != (0,) and n != "ignore"}

    def ignored_values(self) -> tuple[int, ...]:
        """Return the values that `dataset.json` calls "ignore"."""
        folder = existing_folder(self.root)
        return label_values(description(folder), folder).get("ignore", ())

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels, e.g. ("MRI",)."""
        return channel_names(description(existing_folder(self.root)))


def _channels(path: Path, frames: int) -> tuple[Source, ...]:
    return tuple(Part(path, frame) for frame in range(frames)) if frames > 1 else (path,)

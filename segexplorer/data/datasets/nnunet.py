"""Data sets manifest by a `dataset.json`: nnU-Net's raw format and the Medical Segmentation Decathlon.

nnU-Net (Isensee 2021, versions 1 and 2) keeps one file per channel, the Decathlon (Antonelli 2022) one file
per case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import IGNORE, Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.discovery import put_together, volume_files, with_all_channels, without
from segexplorer.data.datasets.manifest import (
    MANIFEST,
    channel_names,
    label_values,
    read_manifest,
    required_folders,
)
from segexplorer.data.sources import Part

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


@registry.register
class NnUnet(DatasetSpec):
    """`imagesTr/case_0000.nii.gz` (one file per channel) and `labelsTr/case.nii.gz` with a `dataset.json`.

    Version 2 may name each case's files under "dataset", give regions (overlapping sets of label values) and an
    "ignore" label. Classes exclude each other here, so that a region loses the values of the regions painted over
    it (`regions_class_order`); its name says so. Ignored voxels count nowhere.
    """

    display_name = "nnU-Net raw"
    layout: ClassVar[str] = (
        "dataset.json\nimagesTr/case_0000.nii.gz\nimagesTr/case_0001.nii.gz\nlabelsTr/case.nii.gz"
    )
    kind: Literal["nnunet"] = "nnunet"
    root: str = parameter(title="Folder", description="The folder that holds dataset.json.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise dataset.json beside images with four-digit channels, or with files under "dataset"."""
        if not (folder / MANIFEST).is_file():
            return None
        if (folder / "imagesTr").is_dir():
            if any(CHANNEL.fullmatch(name) for name in volume_files(folder / "imagesTr")):
                return Recognition("nnunet", folder, "dataset.json beside imagesTr with files like case_0000")
            return None
        manifest = read_manifest(folder)
        if isinstance(manifest.get("dataset"), dict) and "channel_names" in manifest:
            return Recognition("nnunet", folder, "dataset.json that names the files of each case")
        return None

    def listing(self) -> Listing:
        """Return the training cases."""
        folder = existing_folder(self.root)
        manifest = read_manifest(folder)
        if isinstance(manifest.get("dataset"), dict):
            images, labels, problems = _listed(folder, manifest["dataset"])
        else:
            required_folders(folder, "imagesTr", "labelsTr")
            labels = dict(volume_files(folder / "labelsTr"))
            images, problems = grouped_by_channel(volume_files(folder / "imagesTr"), labels)
        found = put_together(images, without(labels, problems), folder)
        wanted = len(channel_names(manifest))
        given = len(found.cases[0].images) if found.cases else wanted
        if wanted and given != wanted:
            text = f"dataset.json names {wanted} channels, but the cases have {given}."
            problems = [
                *problems,
                Problem("error", "channels", text, "Correct channel_names, or add the files."),
            ]
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes; of regions what no later region paints over, unless classes overlap."""
        folder = existing_folder(self.root)
        manifest = read_manifest(folder)
        named = {n: v for n, v in label_values(manifest, folder).items() if v != (0,) and n != IGNORE}
        values = [value for group in named.values() for value in group]
        return (
            named
            if self.overlapping or len(set(values)) == len(values)
            else exclusive(named, manifest, folder)
        )

    def declared_overlap(self) -> str:
        """Return the sentence where `dataset.json` gives regions that share label values."""
        folder = existing_folder(self.root)
        named = label_values(read_manifest(folder), folder)
        owner: dict[int, str] = {}
        for name, values in named.items():
            for value in values:
                if value in owner:
                    return (
                        f"{MANIFEST} gives regions: {owner[value]} and {name} share the label value {value}."
                    )
                owner[value] = name
        return ""

    def ignored_values(self) -> tuple[int, ...]:
        """Return the value of the label "ignore"."""
        folder = existing_folder(self.root)
        return label_values(read_manifest(folder), folder).get(IGNORE, ())

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels, e.g. ("FLAIR", "T1w")."""
        return channel_names(read_manifest(existing_folder(self.root)))


def exclusive(
    regions: Mapping[str, tuple[int, ...]], manifest: Mapping[str, Any], folder: Path
) -> dict[str, tuple[int, ...]]:
    """Return classes that exclude each other: every value goes to the last region that holds it.

    Raises
    ------
    DataError
        When `regions_class_order` does not fit the regions.
    """
    order = manifest.get("regions_class_order", list(range(1, len(regions) + 1)))
    if not isinstance(order, list) or len(order) != len(regions):
        raise DataError(
            f"{folder / MANIFEST} names {len(regions)} regions, but its regions_class_order has another length.",
            "Give one value for each region except background, in the order of labels.",
        )
    left: dict[str, tuple[int, ...]] = {}
    names = list(regions)
    for position, name in enumerate(names):
        later = [n for n in names[position + 1 :] if set(regions[n]) & set(regions[name])]
        taken = {value for n in later for value in regions[n]}
        rest = tuple(value for value in regions[name] if value not in taken)
        if rest:
            left[f"{name} without {', '.join(later)}" if later else name] = rest
    return left


def grouped_by_channel(
    files: Mapping[str, Path], labels: Mapping[str, Source]
) -> tuple[dict[str, tuple[Source, ...]], list[Problem]]:
    """Group image files by case: one file per channel with a four-digit ending, or one file of the label's name."""
    channels: dict[str, dict[str, Source]] = {}
    for name, path in files.items():
        match = None if name in labels else CHANNEL.fullmatch(name)
        case, channel = (match["case"], match["channel"]) if match else (name, "0000")
        channels.setdefault(channel, {})[case] = path
    names = sorted(channels)
    return with_all_channels([channels[n] for n in names], [f"channel {n}" for n in names])


def _listed(
    folder: Path, cases: Mapping[str, Any]
) -> tuple[dict[str, tuple[Source, ...]], dict[str, Source], list[Problem]]:
    """Return images and labels of version 2's "dataset" entry, whose paths are relative to the folder."""
    images: dict[str, tuple[Source, ...]] = {}
    labels: dict[str, Source] = {}
    problems: list[Problem] = []
    for case, files in cases.items():
        try:
            own = tuple(folder / str(path) for path in files["images"])
            label = folder / str(files["label"]) if files.get("label") else None
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{folder / MANIFEST} does not say what the images and the label of the case {case} are.",
                'It should hold {"images": [...], "label": "..."}.',
            ) from error
        missing = next((p for p in (*own, *([label] if label else [])) if not p.exists()), None)
        if missing is not None:
            text = f"There is no file {missing.name}, which dataset.json names."
            problems.append(Problem("error", "no_file", text, "Add it, or take the case out.", case))
            continue
        images[case] = own
        if label is not None:
            labels[case] = label
    return images, labels, problems


@registry.register
class Decathlon(DatasetSpec):
    """`imagesTr` and `labelsTr` with a `dataset.json` that names labels and channels; test images are left out.

    Several channels (Task01, Task05) are the frames of one 4D file. nnU-Net's form, one file per channel, is read
    too.
    """

    display_name = "Decathlon folder"
    layout: ClassVar[str] = "dataset.json\nimagesTr/la_003.nii.gz\nlabelsTr/la_003.nii.gz"
    kind: Literal["decathlon"] = "decathlon"
    root: str = parameter(title="Folder", description="The folder that holds dataset.json.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise dataset.json beside imagesTr and labelsTr, one image file per case."""
        if not (folder / MANIFEST).is_file() or not (folder / "imagesTr").is_dir():
            return None
        if not (folder / "labelsTr").is_dir() or any(
            map(CHANNEL.fullmatch, volume_files(folder / "imagesTr"))
        ):
            return None
        return Recognition("decathlon", folder, "dataset.json beside imagesTr and labelsTr")

    def listing(self) -> Listing:
        """Return the training cases; files that `dataset.json` lists but the disk lacks are left out."""
        folder = existing_folder(self.root)
        manifest = read_manifest(folder)
        required_folders(folder, "imagesTr", "labelsTr")
        labels = volume_files(folder / "labelsTr")
        files = volume_files(folder / "imagesTr")
        if any(CHANNEL.fullmatch(name) and name not in labels for name in files):
            images, problems = grouped_by_channel(files, labels)
        else:
            frames = len(channel_names(manifest))
            images, problems = {name: _channels(path, frames) for name, path in files.items()}, []
        found = put_together(images, without(labels, problems), folder)
        return Listing(found.cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the labels that `dataset.json` names, without background."""
        folder = existing_folder(self.root)
        named = label_values(read_manifest(folder), folder)
        return {n: v for n, v in named.items() if v != (0,) and n != "ignore"}

    def ignored_values(self) -> tuple[int, ...]:
        """Return the values that `dataset.json` calls "ignore"."""
        folder = existing_folder(self.root)
        return label_values(read_manifest(folder), folder).get("ignore", ())

    def channels(self) -> tuple[str, ...]:
        """Return the names of the channels, e.g. ("MRI",)."""
        return channel_names(read_manifest(existing_folder(self.root)))


def _channels(path: Path, frames: int) -> tuple[Source, ...]:
    return tuple(Part(path, frame) for frame in range(frames)) if frames > 1 else (path,)

"""BIDS data sets whose labels are derivatives: `sub-01/anat/*_T1w` and `derivatives/*/sub-01/anat/*_dseg`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.core.fields import parameter
from segexplorer.data.case import Source, present_values
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.discovery import (
    files_below,
    put_together,
    stem,
    subfolders,
    with_all_channels,
    without,
)
from segexplorer.data.datasets.tables import read_rows

_LABEL_WORDS = ("dseg", "mask", "roi", "seg", "label", "labels", "lesion")
"""What marks a label, as the last word of a name (`_dseg`) or as an entity (`_seg-manual`, `_label-SC_seg`)."""
_IDENTITY = ("sub", "ses", "run")
"""Entities that identify an examination; the rest (space, desc, acq ...) describes an image of it."""


@dataclass(frozen=True)
class BidsFile:
    """A file by its name: entities such as `sub-01`, and the suffix such as `T1w`.

    A word without a value may be in the middle, as in `sub-01_T2w_label-SC_seg`, and an entity be the last.
    """

    entities: dict[str, str]
    suffix: str
    path: Path

    @property
    def case(self) -> str:
        """Subject, session and run."""
        return "_".join(f"{key}-{self.entities[key]}" for key in _IDENTITY if key in self.entities)

    @property
    def ending(self) -> str:
        """What distinguishes the file from others of its examination, e.g. "label-lesion_mask"."""
        parts = self.path_words[1:]
        return "_".join(part for part in parts if part.partition("-")[0] not in _IDENTITY)

    @property
    def path_words(self) -> list[str]:
        """The parts of its name between underscores."""
        return (stem(self.path) or "").split("_")

    @property
    def is_label(self) -> bool:
        """Whether its name marks it as a label."""
        return self.suffix in _LABEL_WORDS or any(key in ("seg", "label") for key in self.entities)


@registry.register
class Bids(DatasetSpec):
    """Images of the raw data set, or of a derivative, with labels (`dseg`, `mask`) of a derivative.

    Cases are subject, session and run; cases of one subject stay together. Names of label values come from the
    `dseg.tsv` beside a label or at the top of its derivative.
    """

    display_name = "BIDS"
    layout: ClassVar[str] = (
        "dataset_description.json\nsub-01/anat/sub-01_T1w.nii.gz\n"
        "derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz\nderivatives/manual/dseg.tsv"
    )
    kind: Literal["bids"] = "bids"
    root: str = parameter(
        title="Folder", description="The folder that holds sub-01 and derivatives.", path="folder"
    )
    images: tuple[str, ...] = parameter(
        (),
        title="Images",
        description="Endings of the images, one per channel, e.g. T1w, desc-preproc_T1w. Empty: the "
        "only one there is.",
    )
    label: str = parameter(
        "",
        title="Label",
        description="Ending of the labels, e.g. label-lesion_mask. Empty: the only one there is.",
    )
    pipeline: str = parameter(
        "",
        title="Derivative",
        description="Folder in derivatives that holds the labels. Empty: the only one with some.",
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise subjects (sub-...) beside derivatives with a dseg or mask."""
        subjects = any(f.name.startswith("sub-") for f in subfolders(folder))
        has_description = (folder / "dataset_description.json").is_file()
        if not (folder / "derivatives").is_dir() or not (subjects or has_description):
            return None
        label = next((f for f in bids_files(folder / "derivatives", 5) if f.is_label), None)
        if label is None:
            return None
        return Recognition("bids", folder, f"sub-... and the derivative {label.path.name}")

    def listing(self) -> Listing:
        """Return the examinations that have the images; those without label can be predicted."""
        root = existing_folder(self.root)
        labels = self._labels(root)
        tops = [folder for folder in subfolders(root) if folder.name.startswith("sub-")]
        raw = [f for top in tops for f in bids_files(top, 2) if not f.is_label]
        derived = [f for f in bids_files(root / "derivatives", 5) if not f.is_label]
        endings = self.images or (_only_image(raw or derived, labels, root),)
        channels: list[dict[str, Source]] = []
        for ending in endings:
            found = _of_ending(raw, ending) or _of_ending(derived, ending)
            if not found:
                known = sorted({f.ending for f in (*raw, *derived)})
                raise DataError(f"{root} holds no images that end in _{ending}.", did_you_mean(ending, known))
            channels.append(dict(found))
        images, problems = with_all_channels(channels, endings)
        listed = put_together(images, without(labels, problems), root, lambda case: case.split("_")[0])
        return Listing(listed.cases, [*listed.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the names of a dseg.tsv (index, name), or a class for each value that occurs."""
        labels = self._labels(existing_folder(self.root))
        first = next(iter(labels.values()))
        for table in _tables(first):
            return _named(table)
        return present_values(self.examine().cases)

    def _labels(self, root: Path) -> dict[str, Path]:
        derivatives = root / "derivatives"
        inside = list(bids_files(derivatives, 5)) if derivatives.is_dir() else []
        # an ending that was chosen makes a label of a file whatever it is called
        files = [f for f in inside if (f.ending == self.label if self.label else f.is_label)]
        if self.label and not files:
            known = sorted({f.ending for f in inside})
            raise DataError(f"No label ends in _{self.label}.", did_you_mean(self.label, known))
        tops = sorted({_pipeline(f, derivatives) for f in files})
        if self.pipeline and self.pipeline not in tops:
            raise DataError(
                f"The derivative {self.pipeline} holds no labels.", did_you_mean(self.pipeline, tops)
            )
        chosen = self.pipeline or _only(tops, "derivatives with labels", "pipeline", root)
        own = [f for f in files if _pipeline(f, derivatives) == chosen]
        endings = sorted({f.ending for f in own})
        return _of_ending(own, self.label or _only(endings, "kinds of label", "label", root))


def bids_files(folder: Path, depth: int) -> Iterator[BidsFile]:
    """Yield the volumes below a folder whose names follow BIDS."""
    for path in files_below(folder, depth) if folder.is_dir() else ():
        name = stem(path)
        if name is None or not re.fullmatch(r"sub-[^_]+(_[a-zA-Z0-9]+(-[^_]+)?)+", name):
            continue
        words = name.split("_")
        entities = dict(word.split("-", 1) for word in words if "-" in word)
        yield BidsFile(entities, words[-1] if "-" not in words[-1] else "", path)


def _pipeline(file: BidsFile, derivatives: Path) -> str:
    top = file.path.relative_to(derivatives).parts[0]
    return "" if top.startswith("sub-") else top


def _of_ending(files: list[BidsFile], ending: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if file.ending != ending:
            continue
        if file.case in found:
            raise DataError(
                f"{found[file.case].name} and {file.path.name} are both for {file.case}.", "Keep one."
            )
        found[file.case] = file.path
    return found


def _only(names: list[str], what: str, setting: str, root: Path) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(
            f"{root} holds no labels in derivatives.",
            "Labels end in _dseg, _mask or _seg, or choose another ending with data.label.",
        )
    raise DataError(
        f"{root} holds several {what}: {', '.join(names)}.", f"Choose one: data.{setting}: {names[0]}."
    )


def _only_image(files: list[BidsFile], labels: dict[str, Path], root: Path) -> str:
    """Return the only ending that every labelled examination has."""
    cases: dict[str, set[str]] = {}
    for file in files:
        cases.setdefault(file.ending, set()).add(file.case)
    shared = sorted(ending for ending, found in cases.items() if set(labels) <= found)
    if len(shared) != 1:
        names = shared or sorted(cases)
        raise DataError(
            f"{root} holds images that end in {', '.join(names) or 'nothing known'}.",
            f"Choose one or several as channels: data.images: [{names[0] if names else 'T1w'}].",
        )
    return shared[0]


def _tables(label: Path) -> Iterator[Path]:
    """Yield the tables of value names that hold for a label, the nearest first."""
    beside = label.parent / f"{stem(label)}.tsv"
    above = [folder / "dseg.tsv" for folder in label.parents if "derivatives" in folder.parts]
    yield from (path for path in (beside, *above) if path.is_file())


def _named(table: Path) -> dict[str, tuple[int, ...]]:
    rows = read_rows(table)[1]
    try:
        return {row["name"]: (int(row["index"]),) for row in rows if int(row["index"]) != 0}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{table} is no table of label values.", "It needs the columns index and name, separated by tabs."
        ) from error

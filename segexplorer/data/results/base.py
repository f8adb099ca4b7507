"""What a folder of somebody's results offers: predictions, the labels and images that belong to them, class names.

A kind recognises its layout from names alone, as data sets do; only small JSON files are opened. Predictions come
from the folder itself. Labels and images may be given, or be found where the program that made the results keeps
them. What cannot be scored is a problem of its case and keeps nobody else from being shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.printable import printable
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import existing_folder, expanded
from segexplorer.data.datasets.discovery import hidden, is_label_name, stem, subfolders
from segexplorer.data.datasets.folder import find_by_pattern
from segexplorer.data.results.pairing import called_labels, case_name, is_dicom_folder, volume_name
from segexplorer.data.sources import Structures


@dataclass(frozen=True)
class ResultCase:
    """One predicted case.

    Attributes
    ----------
    id
        Unique within its result set.
    prediction
        Source of the predicted labels.
    truth
        Source of the reference labels; None where none was found.
    images
        Sources of the images, one per channel; none where none were found.
    probabilities
        Array archive (.npz) of class probabilities beside the prediction.
    badge
        What a reader of its scores has to know, e.g. that the network was trained on it.
    """

    id: str
    prediction: Source
    truth: Source | None = None
    images: tuple[Source, ...] = ()
    probabilities: Path | None = None
    badge: str = ""

    def __post_init__(self) -> None:
        # from the name of a file, and shown in tables, logs and layers
        object.__setattr__(self, "id", printable(self.id))


@dataclass(frozen=True)
class ResultListing:
    """What a result folder holds.

    Attributes
    ----------
    cases
        Sorted by id, those without a label too.
    problems
        What is amiss, per case where it belongs to one.
    classes
        Class name -> label values, as the folder names them; they may overlap (regions). Empty: the values that
        occur, as the label files name them.
    ignored
        Label values that count nowhere.
    notes
        Sentences that belong beside every score.
    """

    cases: tuple[ResultCase, ...]
    problems: tuple[Problem, ...] = ()
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def scorable(self) -> tuple[ResultCase, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.truth is not None)


@dataclass(frozen=True)
class ResultRecognition:
    """One result set found in a folder.

    Attributes
    ----------
    kind
        Of results.
    folder
        The set's own folder; it may be a subfolder of the one looked at.
    reason
        What was seen, as the end of "because there is ...".
    settings
        Those of the kind that had to be found out.
    """

    kind: str
    folder: Path
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class ResultsSpec(Spec):
    """Base of result folders. A kind implements `listing`, and `recognise` where a folder shows what it is."""

    layout: ClassVar[str] = ""
    """The folder, for the documentation."""
    generality: ClassVar[int] = 0
    """How many folders `recognise` fits; the kinds with the smallest number that recognise a folder win."""

    root: str = parameter(title="Folder", description="The folder of the predictions.", path="folder")
    labels: str = parameter(
        "",
        title="Labels",
        description="Folder of the reference labels, or a pattern with {case}. Empty: looked for where the program "
        "that made the predictions keeps them.",
        path="folder",
    )
    images: str = parameter(
        "",
        title="Images",
        description="Folder of the images, or a pattern with {case}. Empty: looked for; scores do without.",
        path="folder",
    )

    @classmethod
    def recognise(cls, folder: Path) -> list[ResultRecognition]:
        """Return the result sets of this kind in a folder, by names alone; none where it is laid out otherwise."""
        return []

    def listing(self) -> ResultListing:
        """Return the cases, and what is amiss with others.

        Raises
        ------
        DataError
            When the folder is not there, or holds no prediction.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own

    @property
    def title(self) -> str:
        """What the set is called beside others: the name of its folder."""
        return existing_folder(self.root, "results").resolve().name


registry: Registry[ResultsSpec] = Registry("results", ResultsSpec, "kind of results")


# ---- what several kinds share


def put_together(
    predictions: Mapping[str, Source],
    truths: Mapping[str, Source],
    images: Mapping[str, Sequence[Source]],
    *,
    probabilities: Mapping[str, Path] | None = None,
    badges: Mapping[str, str] | None = None,
    where: Path,
) -> tuple[tuple[ResultCase, ...], list[Problem]]:
    """Return a case for every prediction, and a problem for every prediction or label that stays alone.

    Raises
    ------
    DataError
        When there is no prediction at all.
    """
    if not predictions:
        raise DataError(
            f"There is no prediction in {where}.", "Name the folder that holds the predicted labels."
        )
    cases = tuple(
        ResultCase(
            case,
            predictions[case],
            truths.get(case),
            tuple(images.get(case, ())),
            (probabilities or {}).get(case),
            (badges or {}).get(case, ""),
        )
        for case in sorted(predictions)
    )
    problems = [
        Problem("warning", "no_label", "No label was found for this prediction.", NO_LABEL, case.id)
        for case in cases
        if case.truth is None
    ]
    problems += [
        Problem("error", "no_prediction", "The label has no prediction.", NO_PREDICTION, case)
        for case in sorted(set(truths) - set(predictions))
    ]
    return cases, problems


NO_LABEL = "Name the folder of the labels (--labels)."
NO_PREDICTION = "Predict that case, or leave its label out: a mean without it flatters."


def labels_in(place: str) -> dict[str, Source]:
    """Return case -> label of a folder or a pattern: a file, a DICOM folder, or one file per structure.

    Raises
    ------
    DataError
        When there is no such folder, or two files could be the label of one case.
    """
    if "{case}" in place:
        return _by_pattern(place)
    folder = existing_folder(place, "labels")
    found: dict[str, list[Source]] = {}
    for path in sorted(folder.iterdir()):
        if not hidden(path) and path.is_file() and volume_name(path) is not None:
            found.setdefault(case_name(path), []).append(path)
    for path in subfolders(folder):
        if (source := _label_of_folder(path)) is not None:
            found.setdefault(case_name(path), []).append(source)
    return {case: _only(sources, case, folder) for case, sources in found.items()}


def _label_of_folder(folder: Path) -> Source | None:
    """Return the label that a case's folder holds: a DICOM series, one file, or a file per structure."""
    if is_dicom_folder(folder):
        return folder
    masks = structure_files(folder)
    if masks is not None:
        return structures_of(masks, sorted(masks))
    files = [
        p for p in sorted(folder.iterdir()) if not hidden(p) and p.is_file() and volume_name(p) is not None
    ]
    called = called_labels(files)
    return called[0] if len(called) == 1 else None


PREDICTION_FOLDERS = (
    "predictions",
    "prediction",
    "preds",
    "pred",
    "predicted",
    "predictionsts",
    "output",
    "outputs",
)
"""Usual names of a folder with a predicted label per case."""
STRUCTURE_FOLDERS = ("segmentations", "structures", "masks")
"""Names of the folder inside a case's folder that has a file per structure."""


def structure_files(folder: Path) -> dict[str, Path] | None:
    """Return structure -> mask of a case's folder, or of a folder called segmentations in it; None for others.

    In the case's own folder at least three files, none of them called an image or a label, are one per structure.
    """
    for inner in STRUCTURE_FOLDERS:
        if (folder / inner).is_dir():
            return volumes_by_name(folder / inner)
    files = volumes_by_name(folder)
    if len(files) < 3 or any(is_label_name(path) or _repeats(name, folder) for name, path in files.items()):
        return None
    return files


def _repeats(name: str, folder: Path) -> bool:
    return name.startswith(folder.name)


def volumes_by_name(folder: Path, ending: str = "") -> dict[str, Path]:
    """Return name without suffix -> volume file, sorted; with an ending only files of it (".nii.gz").

    Of two files with one name the first one counts, array archives last: those beside predictions hold
    probabilities.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix.lower() == ".npz", path.name)):
        name = path.name[: -len(ending)] if ending and path.name.endswith(ending) else stem(path)
        if hidden(path) or name is None or not path.is_file() or (ending and not path.name.endswith(ending)):
            continue
        found.setdefault(name, path)
    return dict(sorted(found.items()))


def structures_of(files: Mapping[str, Path], names: Sequence[str]) -> Structures:
    """Return the label of a file per structure; a structure's value is its place among the names, from 1."""
    values = {name: value for value, name in enumerate(names, start=1)}
    return Structures(tuple((values[name], name, path) for name, path in files.items() if name in values))


CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""Images of nnU-Net: one file per channel."""


def images_in(place: str, cases: Sequence[str]) -> dict[str, tuple[Source, ...]]:
    """Return case -> images for those of the named cases that have some, in a folder or by a pattern with {case}.

    An image has the name of its case, with a four-digit channel behind it (nnU-Net) or without; or it is the only
    volume, or a DICOM series, in a folder of that name.

    Raises
    ------
    DataError
        When there is no such folder.
    """
    wanted = set(cases)
    if "{case}" in place:
        return {case: (source,) for case, source in _by_pattern(place).items() if case in wanted}
    folder = existing_folder(place, "images")
    found: dict[str, dict[str, Source]] = {}
    for name, path in volumes_by_name(folder).items():
        match = CHANNEL.fullmatch(name)
        if name in wanted or match is None:
            found.setdefault(name if name in wanted else case_name(path), {})["0000"] = path
        else:
            found.setdefault(match["case"], {})[match["channel"]] = path
    for path in subfolders(folder):
        files = {n: p for n, p in volumes_by_name(path).items() if not is_label_name(p)}
        if is_dicom_folder(path):
            found.setdefault(path.name, {})["0000"] = path
        elif len(files) == 1:
            found.setdefault(path.name, {})["0000"] = next(iter(files.values()))
    return {c: tuple(files[k] for k in sorted(files)) for c, files in found.items() if c in wanted}


def _by_pattern(place: str) -> dict[str, Source]:
    """Return case -> file or folder of a path with {case} in it."""
    pattern = expanded(place)
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if "{" in part)
    root = existing_folder(str(Path(*parts[:first])) if first else ".", "pattern")
    return find_by_pattern(root, "/".join(parts[first:]), {})


def _only(sources: Sequence[Source], case: str, folder: Path) -> Source:
    if len(sources) > 1:
        names = " and ".join(p.name if isinstance(p, Path) else "a folder of structures" for p in sources[:3])
        raise DataError(
            f"{names} in {folder} could both be the label of {case}.",
            "Keep one of them, or give a pattern such as DIR/{case}_seg.nii.gz.",
        )
    return sources[0]

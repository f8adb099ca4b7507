"""Which prediction belongs to which truth: two files, two DICOM folders, or two folders of label files.

In folders the names decide. The format makes no difference, nor do words at the end of a name that say what it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segexplorer.core.errors import DataError, nearest
from segexplorer.data.datasets.discovery import hidden, is_label_name, stem, subfolders, suffixes
from segexplorer.data.formats import registry

ENDING = re.compile(r"[_\-. ](prediction|pred|segmentation|seg|labels?|mask|gt|truth)$", re.IGNORECASE)
"""What names say beyond the case: `case_7_prediction` belongs to `case_7_seg`."""


@dataclass(frozen=True)
class Pair:
    """A case: files, or DICOM folders."""

    case: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """What belongs together, and predictions that nothing is known about."""

    pairs: tuple[Pair, ...]
    extra: tuple[str, ...] = ()


def pair(prediction: Path, truth: Path) -> Pairing:
    """Pair two paths, or the contents of two folders.

    In folders a prediction belongs to the truth of the same name; the format makes no difference, nor do words at
    the end of the name that say what the file is (`_prediction`, `_seg`, `_mask` ...). A subfolder is a case when
    it holds a DICOM series or one label file.

    Raises
    ------
    DataError
        When a path is missing, one is a folder of files and the other a file, a truth has no prediction, or several
        files could be the one meant.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise DataError(f"There is no {path}.", "Check the path.")
    folders = [path for path in (prediction, truth) if path.is_dir()]
    if len(folders) < 2:
        for folder in folders:
            if not is_dicom_folder(folder):
                raise DataError(
                    "One of the two is a folder, the other a file.", "Name two files or two folders."
                )
        return Pairing((Pair(case_name(truth), prediction, truth),))
    predictions, truths = label_files(prediction), label_files(truth)
    shared = [case for case in truths if case in predictions]
    if not shared and is_dicom_folder(prediction) and is_dicom_folder(truth):
        return Pairing((Pair(case_name(truth), prediction, truth),))
    if not truths:
        raise DataError(
            f"{truth} holds no label files.", f"Label files end in {', '.join(sorted(suffixes()))}."
        )
    _tell_missing(truth, prediction, truths, predictions)
    found = [Pair(case, _one(predictions[case], case), _one(truths[case], case)) for case in shared]
    return Pairing(tuple(found), tuple(_one_name(predictions[c]) for c in predictions if c not in truths))


def label_files(folder: Path) -> dict[str, list[Path]]:
    """Return case -> the files and subfolders that may be its label, sorted."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not hidden(path) and path.is_file() and volume_name(path) is not None:
            found.setdefault(case_name(path), []).append(path)
    for path in subfolders(folder):
        inside = _volumes(path)
        if is_dicom_folder(path):
            found.setdefault(case_name(path), []).append(path)
        elif inside:
            found.setdefault(case_name(path), []).extend(called_labels(inside))
    return found


def _volumes(folder: Path) -> list[Path]:
    return [
        p for p in sorted(folder.iterdir()) if p.is_file() and not hidden(p) and volume_name(p) is not None
    ]


def volume_name(path: Path) -> str | None:
    """Return a volume file's name without suffix; DICOM files are known without one."""
    name = stem(path)
    return path.name if name is None and not path.suffix and registry.readable(path) else name


def is_dicom_folder(folder: Path) -> bool:
    """Whether a folder is one volume, or several series, of DICOM files."""
    inside = _volumes(folder)
    formats = {found.folders for path in inside if (found := registry.format_of(path)) is not None}
    return bool(inside) and formats == {True}


def case_name(path: Path) -> str:
    """Return the case that a file or folder is called after: its name without what says that it is a label."""
    name = path.name if path.is_dir() else volume_name(path) or path.stem
    while len(shorter := ENDING.sub("", name)) < len(name):
        name = shorter
    return name


def called_labels(paths: Sequence[Path]) -> list[Path]:
    """Return those that are called a label beside others that are not (an image and its mask)."""
    called = [path for path in paths if is_label_name(path) or "pred" in path.name.lower()]
    return called if called and len(paths) > 1 else list(paths)


def _one(paths: Sequence[Path], case: str) -> Path:
    named = called_labels(paths)
    if len(named) > 1:
        names = " and ".join(str(path.relative_to(path.parents[1])) for path in named[:3])
        raise DataError(f"{names} could both be the label of {case}.", "Keep one of them in the folder.")
    return named[0]


def _one_name(paths: Sequence[Path]) -> str:
    return paths[0].name


def _tell_missing(
    truth: Path, prediction: Path, truths: Mapping[str, list[Path]], predictions: Mapping[str, list[Path]]
) -> None:
    missing = [case for case in truths if case not in predictions]
    if not missing:
        return
    first = _one_name(truths[missing[0]])
    others = f" and {len(missing) - 1} more of {len(truths)}" if len(missing) > 1 else ""
    spare = [case for case in predictions if case not in truths]
    like = nearest(missing[0], spare, 1)
    remedy = (
        f"Is it {_one_name(predictions[like[0]])}? Give both the same name."
        if like
        else "Predict that case, or take its truth out of the folder."
    )
    raise DataError(f"{prediction} has no prediction for {first}{others} in {truth}.", remedy)

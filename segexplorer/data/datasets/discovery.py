"""The files of cases: which files are volumes, which image belongs to which label, and who the patient is.

The patient comes from the name of the case, or from the DICOM header without revealing who it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef, Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import Listing
from segexplorer.data.formats import registry

# ---- which files are volumes

_SECOND_HALVES = (".img", ".img.gz", ".raw", ".zraw")
"""Voxels whose header is another file; a case is named by its header."""


def suffixes() -> tuple[str, ...]:
    """Return the endings that a file of a data set may have, longest first."""
    known = {s for s in registry.readable_suffixes() if s not in _SECOND_HALVES}
    return tuple(sorted(known, key=lambda s: (-len(s), s)))


def stem(path: Path) -> str | None:
    """Return a volume file's name without its suffix; None for other files."""
    for suffix in suffixes():
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def is_label_name(path: Path) -> bool:
    """Whether a file is named like a label: its name contains "seg", "label", "mask", "gt" or the like."""
    name = unicodedata.normalize("NFC", stem(path) or "")  # macOS may write ä as a and two dots
    return _LABEL_WORDS.search(name.lower()) is not None


_LABEL_WORDS = re.compile(
    r"(^|[_\-. ])"
    r"((seg|segmentation|label|mask|gt|truth|ground_truth|lesion|annotation|masque|lésion|máscara|mascara)s?"
    r"|segmentierung(en)?|masken?|läsion(en)?|segmentaci[oó]n(es)?|segmentazion[ei])"
    r"($|[_\-. ])"
)
"""Also as they are called in German, French, Spanish and Italian."""


_LABEL_PARTS = re.compile(r"seg|label|mask|msk|gt|truth|lesion|annot|roi|contour|läsion|lésion|máscara")


def names_a_label(part: str) -> bool:
    """Whether what a name has besides the name of an image says that it is a label: `_gmseg_manual`, `lesion`."""
    return _LABEL_PARTS.search(unicodedata.normalize("NFC", part).lower()) is not None


def hidden(path: Path) -> bool:
    """Whether a file or folder does not belong to the data set: `.DS_Store`, `._name`, `__MACOSX`."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def holds_slices(folder: Path) -> bool:
    """Whether the first file of a folder is DICOM."""
    first = next((path for path in sorted(folder.iterdir()) if path.is_file() and not hidden(path)), None)
    return first is not None and is_dicom(first)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM."""
    found = registry.format_of(path)
    return found is not None and found.name == "DICOM"


def subfolders(folder: Path) -> list[Path]:
    """Return the folders inside, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path))


def volume_files(folder: Path) -> dict[str, Path]:
    """Return name without suffix -> volume file of a folder, sorted; hidden and `._` files are skipped.

    Raises
    ------
    DataError
        When two files differ only in their suffix.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if hidden(path) or name is None or not path.is_file():
            continue
        if name in found:
            raise DataError(
                f"{found[name].name} and {path.name} in {folder} have one name.", "Keep one of them."
            )
        found[name] = path
    return found


def files_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the files of a folder and of its subfolders down to a depth, sorted, hidden ones left out."""
    for path in sorted(folder.iterdir()):
        if hidden(path):
            continue
        if path.is_file():
            yield path
        elif depth > 0:
            yield from files_below(path, depth - 1)


def reach(folder: Path, *parts: str) -> int:
    """Return the depth of the files of cases below a folder: 2 when it has one of the named parts, else 1."""
    return 2 if {path.name.lower() for path in subfolders(folder)} & set(parts) else 1


def volumes_named(folder: Path, pattern: str, depth: int) -> Iterator[tuple[re.Match[str], Path]]:
    """Yield the volume files whose name without suffix matches a whole pattern, with the match."""
    expression = re.compile(pattern)
    for path in files_below(folder, depth):
        name = stem(path)
        if name is not None and (match := expression.fullmatch(name)):
            yield match, path


def by_case(found: Iterator[tuple[re.Match[str], Path]], group: str | int = 1) -> dict[str, Path]:
    """Return case -> file, the case being a group of the pattern.

    Raises
    ------
    DataError
        When two files are for one case.
    """
    files: dict[str, Path] = {}
    for match, path in found:
        case = match[group]
        if case in files:
            raise DataError(f"{files[case]} and {path} are both for the case {case}.", "Keep one of them.")
        files[case] = path
    return files


# ---- images and labels of a case


def put_together(
    images: Mapping[str, Sequence[Source]],
    labels: Mapping[str, Source],
    where: Path | str,
    patient: Callable[[str], str] = str,
) -> Listing:
    """Return the cases of images and labels with equal keys; a label without image is a problem.

    Parameters
    ----------
    images
        Case -> its channels.
    patient
        Case -> patient.

    Raises
    ------
    DataError
        When there is no image at all, or images and labels but no pair.
    """
    if not images:
        raise DataError(f"There is no image in {where}.", f"Supported endings: {', '.join(suffixes())}.")
    if labels and not set(images) & set(labels):
        raise DataError(f"No image in {where} has a label.", "Give image and label the same file name.")
    lonely = sorted(set(labels) - set(images))
    problems = [Problem("error", "no_image", "The label has no image.", LONELY, case) for case in lonely]
    cases = [CaseRef(i, tuple(images[i]), labels.get(i), patient(i)) for i in sorted(images)]
    return Listing(cases, problems)


def with_all_channels(
    channels: Sequence[Mapping[str, Source]], names: Sequence[str]
) -> tuple[dict[str, tuple[Source, ...]], list[Problem]]:
    """Return case -> channels for the cases that have all of them, and a problem for each other case."""
    complete: dict[str, tuple[Source, ...]] = {}
    problems: list[Problem] = []
    for case in sorted(set().union(*channels)):
        missing = [name for name, files in zip(names, channels, strict=True) if case not in files]
        if missing:
            text = f"It has no {' and no '.join(missing)}."
            remedy = "Every case needs the same images: add the file, or take the case out."
            problems.append(Problem("error", "no_channel", text, remedy, case))
        else:
            complete[case] = tuple(files[case] for files in channels)
    return complete, problems


def without(labels: Mapping[str, Source], problems: Sequence[Problem]) -> dict[str, Source]:
    """Return the labels of the cases that have no problem."""
    incomplete = {problem.case for problem in problems}
    return {case: label for case, label in labels.items() if case not in incomplete}


LONELY = "Add the image under the name of the label, or take the label out."


# ---- patients


def _is_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_is_expression)]


def patient_by(pattern: str, case: str) -> str:
    """Return what a pattern's first group (or the whole pattern) finds in a case's name; else the name."""
    found = re.search(pattern, case) if pattern else None
    if found is None:
        return case
    return found.group(1) if found.groups() else found.group()


def kept_together(refs: Sequence[CaseRef]) -> list[CaseRef]:
    """Return the cases with those of one DICOM patient together, where nothing else says whose they are.

    A patient is called by the name of the first of his cases; his number is only compared as a keyed hash.
    """
    unknown = {
        ref.id: ref.images[0]
        for ref in refs
        if ref.patient in ("", ref.id)
        and isinstance(ref.images[0], Path)
        and (ref.images[0].is_dir() or is_dicom(ref.images[0]))
    }
    if not unknown:
        return list(refs)
    from segexplorer.data.formats.dicom.files import patient_key

    first: dict[str, str] = {}
    own: dict[str, str] = {}
    for case in sorted(unknown):
        try:
            key = patient_key(unknown[case])
        except DataError:  # a file that cannot be read is reported when the case is opened
            key = ""
        own[case] = first.setdefault(key or f"case {case}", case)
    return [replace(ref, patient=own.get(ref.id, ref.patient)) for ref in refs]

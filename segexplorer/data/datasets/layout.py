"""Which kind of data set a folder holds, found out from names alone; only a `dataset.json` is opened."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence, Set
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, expanded, registry
from segexplorer.data.datasets.discovery import files_below, names_a_label, stem, subfolders
from segexplorer.data.datasets.folder import LABEL_FOLDERS
from segexplorer.data.formats.registry import suffix_of

_MOST_SUBFOLDERS = 40
"""A folder with more subfolders than this holds cases, not data sets."""


def recognise(place: Path, depth: int = 2) -> Recognition:
    """Return what a folder (or a file that lists cases) is laid out as; an only subfolder that is one counts too.

    Raises
    ------
    DataError
        When there is no such folder, it fits no layout, or several of its subfolders do.
    """
    if not place.exists():
        raise DataError(f"There is no folder {place}.", "Check the path of the data set.")
    found = _candidates(place, depth)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{one.folder.name} ({one.kind})" for one in found[:5])
        raise DataError(f"{place} holds several data sets: {listed}.", "Name one of these folders.")
    found_files = _files(place) if place.is_dir() else []
    listed = _endings(found_files)
    raise DataError(
        f"{place} does not have the layout of a known data set ({listed or 'no volumes were found'}).",
        _proposal(place, found_files)
        or "Give images and labels equal names in folders images and labels, or say where they are: "
        "kind folder, images: '{case}/ct.nii.gz', labels: '{case}/seg.nii.gz'; or list them in a CSV file.",
    )


_LOOKED_AT, _DEPTH = 5000, 4


def _files(place: Path) -> list[Path]:
    """Return the volumes below a folder, relative to it; of a large one the first thousands."""
    return [
        path.relative_to(place)
        for path in islice(files_below(place, _DEPTH), _LOOKED_AT)
        if stem(path) is not None
    ]


def _endings(files: Sequence[Path]) -> str:
    """Return how many files of each ending there are: "12 files .nii.gz, 3 files .dcm"."""
    counts = Counter(suffix_of(path) or path.suffix for path in files)
    return ", ".join(f"{n} file{'s' if n > 1 else ''} {suffix}" for suffix, n in counts.most_common(4))


def _proposal(place: Path, files: Sequence[Path]) -> str:
    """Return the command with the patterns by which most files make cases of image and label, or nothing.

    Every part of a path, every beginning of a file's name up to a separator, and the name of another file at its
    end may be what cases are called; the patterns that are left when it is taken out are counted. Where there are
    two files, one pair is enough.
    """
    fewest = 1 if len(files) == 2 else 2
    cases: dict[str, set[str]] = {}
    names = {stem(path) or path.name for path in files}
    for path in files:
        for case in _case_names(path, names):
            cases.setdefault(path.as_posix().replace(case, "{case}"), set()).add(case)
    several = {pattern: found for pattern, found in cases.items() if len(found) >= fewest}
    best: tuple[int, int, str, str] | None = None
    for label, labelled in several.items():
        if not any(names_a_label(part) or part.lower() in LABEL_FOLDERS for part in _words(label)):
            continue
        for image, pictured in several.items():
            if image == label or any(names_a_label(part) for part in _words(image)):
                continue
            shared = len(labelled & pictured)
            # of patterns with equally many cases the longest one leaves the least to chance
            if shared >= fewest and (best is None or (shared, len(image + label)) > best[:2]):
                best = shared, len(image + label), image, label
    if best is None:
        return ""
    shared, _, image, label = best
    command = ["segexplorer", "check", str(place), "--kind", "folder"]
    command += ["--set", f"images=[{json.dumps(image)}]", "--set", f"labels={json.dumps(label)}"]
    return f"This would find {shared} case{'s' if shared > 1 else ''}: {shlex.join(command)}"


def _words(pattern: str) -> list[str]:
    *folders, name = pattern.split("/")
    return [*folders, name.replace("{case}", "")]


def _case_names(path: Path, names: Set[str]) -> list[str]:
    """Return what the case of a file may be called: a folder above it, or the beginning or end of its own name."""
    name = stem(path) or path.name
    beginnings = [name[: found.start()] for found in re.finditer(r"[_\-. ]", name) if found.start()]
    ends = [name[i:] for i in range(1, len(name)) if name[i:] in names]
    return list(dict.fromkeys([*path.parts[:-1], *beginnings, *ends, name]))


def recognised_dataset(recognition: Recognition) -> DatasetSpec:
    """Return the data set that was recognised."""
    declared = registry.spec(recognition.kind)
    place = {name: str(recognition.folder) for name in ("root", "file") if name in declared.model_fields}
    return declared.of({**place, **recognition.settings}, f"data set {recognition.kind}")


def _candidates(place: Path, depth: int) -> list[Recognition]:
    kinds = registry.specs()
    if place.is_file():
        found = kinds["case_list"].recognise(place)
        return [found] if found else []
    named = [kind for kind in kinds.values() if not kind.generality]
    general = sorted((kind for kind in kinds.values() if kind.generality), key=lambda kind: kind.generality)
    return _candidates_below(place, depth, named, first=False) or _candidates_below(
        place, depth, general, first=True
    )


def _candidates_below(
    place: Path, depth: int, kinds: list[type[DatasetSpec]], *, first: bool
) -> list[Recognition]:
    """Return what a folder is by some kinds, or else what its subfolders are; `first`: the first kind that fits."""
    own = [found for kind in kinds if (found := kind.recognise(place))]
    if len(own) == 1 or (own and first):
        return own[:1]
    # kinds look into subfolders themselves, so that several of them may see theirs inside a folder of data sets
    inner = subfolders(place) if depth > 0 else []
    if len(inner) > _MOST_SUBFOLDERS:
        return []
    return [found for folder in inner for found in _candidates_below(folder, depth - 1, kinds, first=first)]


@registry.register
class Auto(DatasetSpec):
    """Any layout, recognised from the names in the folder; `segexplorer check FOLDER` says which one, and why."""

    display_name = "Recognised automatically"
    layout: ClassVar[str] = "any of the others"
    kind: Literal["auto"] = "auto"
    root: str = parameter(
        title="Folder",
        description="The folder of the data set, or a file that lists its cases.",
        path="folder",
    )

    def recognised(self) -> DatasetSpec:
        """Return the data set in its own kind, with the same choice of classes.

        Raises
        ------
        DataError
            When the layout is not known.
        """
        found = recognised_dataset(recognise(expanded(self.root)))
        return found.model_copy(update={name: getattr(self, name) for name in DatasetSpec.model_fields})

    def listing(self) -> Listing:
        """Return the cases of the recognised layout."""
        return self.recognised().listing()

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that the data set names."""
        return self.recognised().named_values()

    def ignored_values(self) -> tuple[int, ...]:
        """Return the label values that the data set marks as not to be counted."""
        return self.recognised().ignored_values()

"""Cases: the images and the label of one examination, and the mapping of label values to classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import Role
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, MOST_OVERLAPPING, LabelScheme
from segexplorer.core.printable import printable
from segexplorer.data.formats.registry import files_of_volume
from segexplorer.data.grid import aligned
from segexplorer.data.remembered import remembered
from segexplorer.data.sources import Recipe, open_image, open_label
from segexplorer.data.volume import Volume, value_counts

# ---- cases

_WHOLE = 2**24
"""Bytes up to which all of a file goes into its fingerprint."""
_STRETCH = 2**22
"""Bytes that are hashed without a point where hashing can be stopped."""
_BLOCK, _BLOCKS = 2**16, 257
"""Of larger images, these many blocks of bytes, evenly spread. A compressed file changes everywhere behind a
changed voxel; a few changed voxels of a large uncompressed image may be missed. Labels are always read whole."""
SHARED_VALUE = "Give each label value to one class; or let classes overlap (data.overlapping: true)."
"""What to do where a label value is in two classes."""
IGNORE = "ignore"
"""The class name whose label values are ignored, as in nnU-Net."""
Source = Path | Volume | Recipe
OtherLabels = Literal["background", "ignored"]


@dataclass(frozen=True)
class Case:
    """Opened images and label of one case; voxels are still read lazily."""

    id: str
    images: tuple[Volume, ...]
    label: Volume | None = None
    patient: str = ""


@dataclass(frozen=True)
class CaseRef:
    """A case that is known but not opened.

    Attributes
    ----------
    id
        Unique name within the data set; used in tables, logs and layer names.
    images
        One source, or several aligned ones that become channels.
    label
        The label's source, None for a case without truth.
    patient
        Cases of one patient never fall on both sides of a split.
    role
        Where the data set itself says what the case is for.
    identity
        Everything that decides the voxels, where the data set knows it without making them (a phantom's seed).
    resample
        Whether a label or further image on another grid is resampled onto that of the first image.
    series
        Which series of a DICOM folder that holds several is the image: see `choose_by_rule`.
    together
        Whether the classes of a one-hot label may overlap: see `open_label`.
    """

    id: str
    images: tuple[Source, ...]
    label: Source | None = None
    patient: str = ""
    role: Role | None = None
    identity: str = ""
    resample: bool = False
    series: str = "largest"
    together: bool = False

    def __post_init__(self) -> None:
        # from the name of a file, and shown in tables, logs and layers
        object.__setattr__(self, "id", printable(self.id))

    def open(self) -> Case:
        """Open the headers; everything is put on the first image's grid where that loses nothing, or is asked for.

        Raises
        ------
        DataError
            From the reader, the case's name in front.
        """
        try:
            first, *further = (_opened(source, series=self.series) for source in self.images)
            label = None
            if self.label is not None:
                label = _opened(self.label, like=first, label=True, together=self.together)
        except DataError as error:
            raise DataError(f"{self.id}: {error.message}", error.remedy) from error
        rest = (aligned(image, first, label=False, resample=self.resample) for image in further)
        truth = None if label is None else aligned(label, first, label=True, resample=self.resample)
        return Case(self.id, (first, *rest), truth, self.patient or self.id)

    def fingerprint(self, *, again: bool = False, looked: Callable[[], object] = lambda: None) -> str:
        """Return a hash of everything the case is made of: its identity, or all images and the label.

        The hash of a file is remembered until the file changes (`data.remembered`).

        Parameters
        ----------
        again
            Whether files are read and hashed even where their hash is remembered.
        looked
            Called every few megabytes; what it raises ends the reading.

        Raises
        ------
        DataError
            When a file is not there or cannot be read; the sentence names the case.
        """
        chosen = b"" if self.series == "largest" else f"series {self.series}".encode()
        digest = hashlib.sha256(self.identity.encode() + (b"resampled" if self.resample else b"") + chosen)
        for source in () if self.identity else (*self.images, self.label):
            try:
                digest.update(
                    b"none"
                    if source is None
                    else _known_content(source, whole=source is self.label, again=again, looked=looked)
                )
            except OSError as error:
                text = f"{self.id}: {error.filename} cannot be read: {error.strerror}."
                raise DataError(text, "Check its path and its permissions.") from error
        return digest.hexdigest()


def _known_content(source: Source, *, whole: bool, again: bool, looked: Callable[[], object]) -> bytes:
    found: str = remembered(
        f"content, whole: {whole}",
        lambda: source_identity(source),
        lambda: _content(source, whole=whole, looked=looked).hex(),
        newest=lambda: newest_change(source),
        again=again,
    )
    return bytes.fromhex(found)


def _content(source: Source, *, whole: bool = False, looked: Callable[[], object] = lambda: None) -> bytes:
    """Return a hash of a file's size and content, of a large one in samples, or of voxels in memory."""
    digest = hashlib.sha256()
    if isinstance(source, Recipe):
        digest.update(source.recipe.encode())
        for part in source.files:
            digest.update(_content(part, whole=whole, looked=looked))
    elif isinstance(source, Path) and source.is_dir():
        # a series is its slices, whatever they are called
        files = (path for path in source.rglob("*") if path.is_file())
        for content in sorted(_content(path, looked=looked) for path in files):
            digest.update(content)
    elif isinstance(source, Path):
        for path in files_of_volume(source):
            _hash_file(digest, path, whole, looked)
    else:
        array = np.ascontiguousarray(source.array)
        digest.update(f"{array.dtype} {array.shape} {source.affine.tolist()}".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _opened(
    source: Source,
    *,
    like: Volume | None = None,
    label: bool = False,
    series: str = "",
    together: bool = False,
) -> Volume:
    """Open an image; or a label, `like` its image, whose grid it takes where it has none of its own."""
    if isinstance(source, Volume):
        return source
    if isinstance(source, Recipe):
        return source.open(label=label, like=like)
    return open_label(source, like, together=together) if label else open_image(source, series)


def _hash_file(digest: Any, path: Path, whole: bool, looked: Callable[[], object]) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        if whole or size <= _WHOLE:
            inner = hashlib.sha256()
            while part_of_it := file.read(_STRETCH):
                inner.update(part_of_it)
                looked()
            digest.update(inner.digest())
        else:
            for block in range(_BLOCKS):  # the first at the beginning, the last at the end
                file.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))


# ---- classes


@dataclass(frozen=True)
class ClassMap:
    """Label values -> label indices: those of the classes 1..K, or of their combinations where classes overlap.

    Attributes
    ----------
    names, values
        Foreground classes in order and the label values merged into each.
    other_labels
        What becomes of label values that no class names: background, or ignored by loss and metrics.
    ignored
        Label values that are ignored whatever `other_labels` says (not annotated, "ignore" in nnU-Net).
    overlapping
        Whether a label value may belong to several classes.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    other_labels: OtherLabels = "background"
    ignored: tuple[int, ...] = ()
    overlapping: bool = False

    @classmethod
    def from_classes(
        cls,
        classes: Mapping[str, int | Sequence[int]],
        other_labels: OtherLabels = "background",
        *,
        overlapping: bool = False,
    ) -> Self:
        """Build from `{"kidneys": [2, 3], "liver": 5}`; values under the name "ignore" make no class.

        Raises
        ------
        DataError
            When there is no class, too many, or a value is in two classes that do not overlap.
        """
        if not set(classes) - {IGNORE}:
            raise DataError("No class is chosen.", "Name at least one, e.g. classes: {liver: 5}.")
        most = MOST_OVERLAPPING + 1 if overlapping else IGNORED
        if len(set(classes) - {IGNORE}) >= most:
            which = "overlapping classes" if overlapping else "classes"
            raise DataError(f"{len(classes)} {which} are too many.", f"Choose fewer than {most}.")
        values = tuple((v,) if isinstance(v, int) else tuple(v) for v in classes.values())
        seen: dict[int, str] = {}
        for name, group in zip(classes, values, strict=True):
            for value in group:
                if value in seen and not (overlapping and IGNORE not in (name, seen[value])):
                    text = f"Label value {value} is in two classes, {seen[value]} and {name}."
                    raise DataError(text, SHARED_VALUE)
                if value == 0:
                    raise DataError(
                        f"Class {name} names value 0, which is background.", "Use values above 0."
                    )
                seen[value] = name
        groups = dict(zip(classes, values, strict=True))
        ignored = groups.pop(IGNORE, ())
        return cls(tuple(groups), tuple(groups.values()), other_labels, ignored, overlapping)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what `plain` wrote."""
        values = tuple(tuple(v) for v in data["values"])
        ignored, overlapping = tuple(data.get("ignored", ())), bool(data.get("overlapping", False))
        return cls(tuple(data["names"]), values, data["other_labels"], ignored, overlapping)

    def plain(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        overlapping = {"overlapping": True} if self.overlapping else {}
        return {
            "names": list(self.names),
            "values": [list(v) for v in self.values],
            "other_labels": self.other_labels,
            "ignored": list(self.ignored),
            **overlapping,
        }

    @cached_property
    def _combinations(self) -> dict[tuple[int, ...], tuple[int, ...]]:
        """Classes -> the label values that belong to exactly these; in order of their last class and their number.

        So the label indices of classes within each other are the class indices: 1 is the whole, the last one what
        is innermost.
        """
        found: dict[tuple[int, ...], list[int]] = {}
        for value in dict.fromkeys(value for group in self.values for value in group):
            own = tuple(c for c, group in enumerate(self.values, start=1) if value in group)
            found.setdefault(own, []).append(value)
        order = sorted(found, key=lambda own: (own[-1], len(own), own))
        return {own: tuple(found[own]) for own in order}

    @cached_property
    def index_values(self) -> tuple[tuple[int, ...], ...]:
        """For each label index 1, 2, ... the label values that it stands for."""
        return tuple(self._combinations.values()) if self.overlapping else self.values

    @cached_property
    def scheme(self) -> LabelScheme:
        """What the label indices mean, which decides between softmax and sigmoid."""
        if not self.overlapping:
            return EXCLUSIVE
        return LabelScheme.of(len(self.names), tuple(self._combinations))

    @property
    def label_names(self) -> dict[int, str]:
        """Name of each label value that a prediction holds, for formats that have a place for names."""
        return {
            group[0]: self.scheme.name(index, self.names)
            for index, group in enumerate(self.index_values, start=1)
            if group
        }

    def reads_255_as_1(self, present: Iterable[int]) -> bool:
        """Whether a label with these values is a mask of 0 and 255 that means 0 and 1.

        That is so when the one class has the value 1 and 255 has no other meaning.
        """
        alone = self.values == ((1,),) and self.other_labels == "background" and 255 not in self.ignored
        return alone and set(present) - {0} == {255}

    def encode(self, label: NDArray[Any]) -> NDArray[np.uint8]:
        """Return label indices (0 background, 255 ignored) of label values, same shape.

        Raises
        ------
        DataError
            When a value is not a whole number.
        """
        label = integer_labels(label)
        present = list(value_counts(label))
        table = {v: i for i, group in enumerate(self.index_values, start=1) for v in group}
        table.update(dict.fromkeys(self.ignored, IGNORED))
        if self.reads_255_as_1(present):
            table[255] = 1
        other = 0 if self.other_labels == "background" else IGNORED
        low, high = (present[0], present[-1]) if present else (0, 0)
        if low >= 0 and high < 2**16:
            lookup = np.zeros(high + 1, np.uint8)
            for value in present:
                lookup[value] = 0 if value == 0 else table.get(value, other)
            if label.dtype == np.uint8 and all(lookup[value] == value for value in present):
                return np.array(label)  # the values are the indices already
            return np.asarray(lookup[label])
        indices = np.zeros(label.shape, np.uint8)
        for value in present:
            if value != 0:
                indices[label == value] = table.get(value, other)
        return indices

    def decode(self, indices: NDArray[np.uint8]) -> NDArray[Any]:
        """Return original label values; what has several values gets the first of them, ignored voxels 0."""
        firsts = [group[0] for group in self.index_values]
        kind = np.uint8 if min(firsts) >= 0 and max(firsts) < 256 else np.int32
        table = np.zeros(256, kind)
        for index, group in enumerate(self.index_values, start=1):
            table[index] = group[0]
        return np.asarray(table[indices])

    def unnamed(self, label: NDArray[Any]) -> list[int]:
        """Return the label values present that no class names."""
        known = {v for group in (*self.values, self.ignored) for v in group} | {0}
        return [value for value in value_counts(label) if value not in known]


def integer_labels(label: NDArray[Any]) -> NDArray[Any]:
    """Return label voxels as integers; values within 0.001 of a whole number are rounded.

    Raises
    ------
    DataError
        When a value is not a whole number.
    """
    if label.dtype.kind in "iu":
        return label
    if label.dtype.kind == "b":
        return label.astype(np.uint8)
    # some tools store labels as scaled floats, which come back as 2.9999998
    rounded = np.rint(label)
    if not np.isfinite(label).all() or np.abs(label - rounded).max(initial=0) > 1e-3:
        raise DataError(
            "The label contains values that are not whole numbers.",
            "Was the image chosen as its label? Probability maps need a threshold first.",
        )
    return np.asarray(rounded, np.int32)


# ---- values that labels hold


def present_values(refs: Sequence[CaseRef], *, skip: bool = False) -> dict[str, tuple[int, ...]]:
    """Return a class for every label value above 0 that occurs; a lone value is called "foreground".

    Masks of 0 and 255 beside masks of 0 and 1 mean the same, so that 1 and 255 become one class then.
    What a label holds is remembered until its file changes.

    Parameters
    ----------
    skip
        Whether labels that cannot be read are left out, for a listing that reports them itself.

    Raises
    ------
    DataError
        When all labels are empty, or one cannot be read.
    """

    def values_of(ref: CaseRef) -> frozenset[int]:
        try:
            return label_values(ref)
        except DataError:
            if not skip:
                raise
            return frozenset()

    with ThreadPoolExecutor(max_workers=4) as pool:
        sets = list(pool.map(values_of, refs))
    values = sorted(value for value in set().union(*sets) if value > 0)
    if not values:
        raise DataError(
            "No label of the data set contains a value above 0.", "Choose labels that mark something."
        )
    if len(values) > 254:
        raise DataError(
            f"The labels hold {len(values)} different values.", "Choose some with classes, e.g. {liver: 5}."
        )
    if values == [1, 255] and not any({1, 255} <= found for found in sets):
        return {"foreground": (1, 255)}
    return {"foreground" if len(values) == 1 else f"label {v}": (v,) for v in values}


def label_values(ref: CaseRef) -> frozenset[int]:
    """Return the values in a case's label; none without label.

    Raises
    ------
    DataError
        When the label cannot be read, or a value is not a whole number.
    """

    def read() -> list[int]:
        label = ref.open().label
        assert label is not None
        try:
            return list(value_counts(integer_labels(np.asarray(label.array))))
        except DataError as error:
            raise DataError(f"{ref.id}: {error.message}", error.remedy) from error

    source = ref.label
    if source is None:
        return frozenset()
    # a label without a grid of its own takes that of its image, which changes no value
    found = remembered(
        "values of a label" + (", together" if ref.together else ""),
        lambda: source_identity(source) if isinstance(source, Path) and source.is_file() else None,
        read,
        newest=lambda: newest_change(source),
    )
    return frozenset(found)


def file_identity(source: Source | None) -> tuple[object, ...] | None:
    """Return path, size, times and inode of a file, by which it is known to be unchanged; None for other sources.

    Who sets the time of a changed file back, as some copying programs do, changes the time of its inode.
    """
    if not isinstance(source, Path) or not source.is_file():
        return None
    about = source.stat()
    return (str(source.absolute()), about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


def source_identity(source: Source | None) -> list[object] | None:
    """Return what changes when the files of a source do, a folder's files among them; None for voxels in memory."""
    what: list[object] = [source.recipe] if isinstance(source, Recipe) else []
    for path in files_of(source):
        known = file_identity(path)
        if known is None:
            return None
        what.append(list(known))
    return what or None


def newest_change(source: Source | None) -> int:
    """Return when a file of a source changed last, ns since the epoch."""
    times = [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in files_of(source)]
    return max((max(pair) for pair in times), default=0)


def case_identity(ref: CaseRef) -> list[object] | None:
    """Return what changes when any file of a case does; None where voxels of it are in memory."""
    sources = (*ref.images, *([] if ref.label is None else [ref.label]))
    found = [source_identity(source) for source in sources]
    return None if None in found else list(found)


def newest_change_of(ref: CaseRef) -> int:
    """Return when a file of a case changed last, ns since the epoch."""
    return max(map(newest_change, (*ref.images, ref.label)))


def files_of(source: Source | None) -> list[Path]:
    """Return every file of a source, a folder's among them; none for voxels in memory."""
    if isinstance(source, Path) and source.is_dir():
        return sorted(path for path in source.rglob("*") if path.is_file())
    if isinstance(source, Recipe):
        return [file for part in source.files for file in files_of(part)]
    return list(files_of_volume(source)) if isinstance(source, Path) else []

"""Cases: the images and the label of one examination, and the mapping of label values to classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.types import Role
from segexplorer.data.volume import Volume, open_volume

IGNORED = 255
"""Class index of voxels that no loss and no metric counts."""
_END = 2**20
"""Bytes read at each end of a file to tell it from others."""
Source = Path | Volume
Unselected = Literal["background", "ignored"]


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
    """

    id: str
    images: tuple[Source, ...]
    label: Source | None = None
    patient: str = ""
    role: Role | None = None
    identity: str = ""

    def open(self) -> Case:
        """Open the headers.

        Raises
        ------
        DataError
            From the reader, the case's name in front.
        """
        try:
            images = tuple(_opened(source) for source in self.images)
            label = _opened(self.label, like=images[0]) if self.label is not None else None
        except DataError as error:
            raise DataError(f"{self.id}: {error.message}", error.remedy) from error
        return Case(self.id, images, label, self.patient or self.id)

    def fingerprint(self) -> str:
        """Return a hash of everything the case is made of: its identity, or all images and the label.

        Raises
        ------
        DataError
            When a file is not there or cannot be read; the sentence names the case.
        """
        digest = hashlib.sha256(self.identity.encode())
        for source in () if self.identity else (*self.images, self.label):
            try:
                digest.update(b"none" if source is None else _content(source))
            except OSError as error:
                text = f"{self.id}: {error.filename} cannot be read: {error.strerror}."
                raise DataError(text, "Check its path and its permissions.") from error
        return digest.hexdigest()


def _content(source: Source) -> bytes:
    """Return a hash of a file's size, head and tail (a gzip's checksum is there), or of voxels in memory."""
    digest = hashlib.sha256()
    if isinstance(source, Path) and source.is_dir():
        # a series is its slices, whatever they are called
        for part in sorted(_content(file) for file in source.rglob("*") if file.is_file()):
            digest.update(part)
    elif isinstance(source, Path):
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(str(size).encode())
            digest.update(file.read(_END))
            file.seek(max(0, size - _END))
            digest.update(file.read(_END))
    else:
        array = np.ascontiguousarray(source.array)
        digest.update(f"{array.dtype} {array.shape} {source.affine.tolist()}".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _opened(source: Source, *, like: Volume | None = None) -> Volume:
    """Open an image; or a label, `like` its image, whose grid it takes where it has none of its own."""
    return source if isinstance(source, Volume) else open_volume(source, label=like is not None, like=like)


@dataclass(frozen=True)
class ClassMap:
    """Label values -> class indices 1..K.

    Attributes
    ----------
    names, values
        Foreground classes in order and the label values merged into each.
    unselected
        What becomes of label values that no class names: background, or ignored by loss and metrics.
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    unselected: Unselected = "background"

    @classmethod
    def from_classes(
        cls, classes: Mapping[str, int | Sequence[int]], unselected: Unselected = "background"
    ) -> Self:
        """Build from `{"kidneys": [2, 3], "liver": 5}`.

        Raises
        ------
        DataError
            When there is no class, too many, or a value stands in two classes.
        """
        if not classes:
            raise DataError("No class is chosen.", "Name at least one, e.g. classes: {liver: 5}.")
        if len(classes) >= IGNORED:
            raise DataError(f"{len(classes)} classes are too many.", f"Choose fewer than {IGNORED}.")
        values = tuple((v,) if isinstance(v, int) else tuple(v) for v in classes.values())
        seen: dict[int, str] = {}
        for name, group in zip(classes, values, strict=True):
            for value in group:
                if value in seen:
                    text = f"Label value {value} stands in two classes, {seen[value]} and {name}."
                    raise DataError(text, "Give each label value to one class.")
                if value == 0:
                    raise DataError(
                        f"Class {name} names value 0, which is background.", "Use values above 0."
                    )
                seen[value] = name
        return cls(tuple(classes), values, unselected)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what `plain` wrote."""
        return cls(tuple(data["names"]), tuple(tuple(v) for v in data["values"]), data["unselected"])

    def plain(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {
            "names": list(self.names),
            "values": [list(v) for v in self.values],
            "unselected": self.unselected,
        }

    def encode(self, label: NDArray[Any]) -> NDArray[np.uint8]:
        """Return class indices (0 background, 1..K, 255 ignored) of label values, same shape.

        Raises
        ------
        DataError
            When the label holds no whole numbers.
        """
        label = whole_numbers(label)
        present = _unique(label)
        table = {v: i for i, group in enumerate(self.values, start=1) for v in group}
        other = 0 if self.unselected == "background" else IGNORED
        low, high = (int(present[0]), int(present[-1])) if present.size else (0, 0)
        if low >= 0 and high < 2**16:
            lookup = np.zeros(high + 1, np.uint8)
            for value in present:
                lookup[int(value)] = 0 if value == 0 else table.get(int(value), other)
            return np.asarray(lookup[label])
        indices = np.zeros(label.shape, np.uint8)
        for value in present:
            if value != 0:
                indices[label == value] = table.get(int(value), other)
        return indices

    def decode(self, indices: NDArray[np.uint8]) -> NDArray[Any]:
        """Return original label values; a merged class gets its first value, ignored voxels 0."""
        largest = max(v[0] for v in self.values)
        kind = np.uint8 if largest < 256 else np.int32
        table = np.zeros(256, kind)
        for index, group in enumerate(self.values, start=1):
            table[index] = group[0]
        return np.asarray(table[indices])

    def unnamed(self, label: NDArray[Any]) -> list[int]:
        """Return the label values present that no class names."""
        known = {v for group in self.values for v in group} | {0}
        return [int(v) for v in _unique(label) if int(v) not in known]


def _unique(label: NDArray[Any]) -> NDArray[Any]:
    if label.dtype == np.uint8:
        return np.flatnonzero(np.bincount(label.ravel(), minlength=1))
    return np.unique(label)


def whole_numbers(label: NDArray[Any]) -> NDArray[Any]:
    """Return label voxels as integers.

    Raises
    ------
    DataError
        When a value is no whole number.
    """
    if label.dtype.kind in "iu":
        return label
    rounded = np.rint(label)
    if not np.isfinite(label).all() or np.abs(label - rounded).max(initial=0) > 1e-3:
        raise DataError(
            "The label holds values that are no whole numbers.",
            "Was the image chosen as its label? Probability maps need a threshold first.",
        )
    return np.asarray(rounded, np.int32)

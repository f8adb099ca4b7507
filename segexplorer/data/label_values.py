"""Which values the labels of cases hold; each file is read once in a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef, Source, whole_numbers
from segexplorer.data.counting import value_counts

_known: dict[tuple[object, ...], frozenset[int]] = {}
_lock = threading.Lock()


def present_values(refs: Sequence[CaseRef], *, skip: bool = False) -> dict[str, tuple[int, ...]]:
    """Return a class for every label value above 0 that occurs; a lone value is called "foreground".

    Masks of 0 and 255 beside masks of 0 and 1 mean the same, so that 1 and 255 become one class then.
    Labels are read once in a process: files that did not change are remembered.

    Parameters
    ----------
    skip
        Whether labels that cannot be read are left out, for a listing that tells them by itself.

    Raises
    ------
    DataError
        When no label holds anything, or one cannot be read.
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
            "No label of the data set holds a value above 0.", "Choose labels that mark something."
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
        When the label cannot be read or holds no whole numbers.
    """
    key = file_identity(ref.label)
    with _lock:
        if key is not None and key in _known:
            return _known[key]
    label = ref.open().label
    if label is None:
        return frozenset()
    try:
        found = frozenset(value_counts(whole_numbers(np.asarray(label.array))))
    except DataError as error:
        raise DataError(f"{ref.id}: {error.message}", error.remedy) from error
    if key is not None:
        with _lock:
            _known[key] = found
    return found


def file_identity(source: Source | None) -> tuple[object, ...] | None:
    """Return what tells that a file is still the same, without reading it; None for what is no file."""
    if not isinstance(source, Path) or not source.is_file():
        return None
    about = source.stat()
    return (str(source.absolute()), about.st_size, about.st_mtime_ns)

"""Prepared cases on demand: the recently used in memory within a budget, all of them beside on the disk."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.core.regions import Partition, Regions
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.geometry import Grid
from segexplorer.data.transforms.distance_maps import stored_map
from segexplorer.data.transforms.preprocessing import FittedPreprocessing, Prepared

_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile)
_VERSION = 1
"""Raised when what is prepared changes, so that old cache files are left alone."""


class PreprocessedCache:
    """Gives prepared cases to sampler and evaluator; safe to use from several threads.

    Parameters
    ----------
    refs
        Cases by id, or a sequence of them.
    fitted, classes
        How they are prepared.
    memory_budget
        Bytes of voxels kept in memory; the least recently used are dropped first.
    disk_folder
        Folder of cache files; None keeps nothing on the disk.
    map_names
        Distance maps that `maps` gives (`data.distance_maps`).
    """

    def __init__(
        self,
        refs: Mapping[str, CaseRef] | Sequence[CaseRef],
        fitted: FittedPreprocessing,
        classes: ClassMap,
        memory_budget: int = 2**31,
        disk_folder: Path | None = None,
        map_names: Sequence[str] = (),
    ) -> None:
        self.map_names = tuple(map_names)
        self.refs = dict(refs) if isinstance(refs, Mapping) else {ref.id: ref for ref in refs}
        self.fitted, self.classes = fitted, classes
        self._budget, self._folder = memory_budget, disk_folder
        self._kept: OrderedDict[tuple[Hashable, str], Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._busy: dict[tuple[Hashable, str], threading.Lock] = {}
        self._notes: deque[str] = deque()

    @property
    def memory(self) -> int:
        """Bytes of voxels in memory now."""
        return self._bytes

    def take_notes(self) -> list[str]:
        """Return notes on the cases prepared since the last call, as sentences."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def get(self, case: str) -> Prepared:
        """Return a prepared case.

        Raises
        ------
        DataError
            When the case is not there or cannot be prepared; the sentence names it.
        """
        found: Prepared = self._kept_or_made(("prepared", case), lambda: self._prepare(case))
        return found

    def maps(self, case: str) -> Mapping[str, NDArray[np.int16]]:
        """Return the distance maps of a prepared case's label, as stored; none where it has no label."""
        return {
            name: self._kept_or_made((name, case), partial(self._map, name, case)) for name in self.map_names
        }

    def _map(self, name: str, case: str) -> NDArray[np.int16]:
        prepared = self.get(case)
        classes = len(self.classes.names) + 1
        label = prepared.label
        if label is None:
            label = np.zeros(prepared.image.shape[1:], np.uint8)
        path = None
        if self._folder is not None:
            path = self._folder / f"{self._key(self._ref(case))}-{name.replace(' ', '-')}.npz"
            if path.is_file() and (cached := _read_map(path)) is not None:
                return cached
        made = stored_map(name, label, classes, prepared.spacing)
        if path is not None:
            _save(path, map=made)
        return made

    def regions(self, case: str, partition: Partition) -> Regions:
        """Return the regions into which a partition divides a prepared case.

        Raises
        ------
        SpecError
            When the partition does not fit the case.
        """
        shape = self.get(case).image.shape[1:]
        if not partition.follows_truth:
            return partition.divide(shape)

        def divide() -> Regions:
            prepared = self.get(case)
            return partition.divide(shape, prepared.label, prepared.spacing)

        found: Regions = self._kept_or_made((partition, case), divide)
        return found

    def truth(self, case: str) -> NDArray[np.uint8] | None:
        """Return the label as class indices in the case's own grid and index order, or None."""
        ref = self._ref(case)
        if ref.label is None:
            return None

        def encode() -> NDArray[np.uint8]:
            label = ref.open().label
            assert label is not None
            return self.classes.encode(np.asarray(label.array))

        found: NDArray[np.uint8] = self._kept_or_made(("truth", case), encode)
        return found

    def _ref(self, case: str) -> CaseRef:
        if case not in self.refs:
            raise DataError(f"There is no case {case!r}.", "Choose one of the data set.")
        return self.refs[case]

    def _kept_or_made(self, key: tuple[Hashable, str], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:  # one thread prepares a case, others that want the same one wait for it
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            made = make()
            with self._lock:
                self._keep(key, made)
            return made

    def _keep(self, key: tuple[Hashable, str], value: Any) -> None:
        self._kept[key] = value
        self._bytes += value.nbytes
        while self._bytes > self._budget and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes

    def _prepare(self, case: str) -> Prepared:
        ref = self._ref(case)
        path = None if self._folder is None else self._folder / f"{self._key(ref)}.npz"
        if path is not None and path.is_file():
            cached = _read(path, case)
            if cached is not None:
                return cached
        prepared = self.fitted.apply(ref.open(), self.classes)
        self._notes.extend(prepared.notes)
        if path is not None:
            _write(path, prepared)
        return prepared

    def _key(self, ref: CaseRef) -> str:
        recipe = {
            "version": _VERSION,
            "case": [ref.id, ref.fingerprint()],
            # an edit in the middle of a large file shows in its time alone
            "times": [s.stat().st_mtime_ns for s in (*ref.images, ref.label) if isinstance(s, Path)],
            "preprocessing": self.fitted.plain(),
            "classes": self.classes.plain(),
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path, case: str) -> Prepared | None:
    """Read a cache file; None where it is damaged, so that it is made again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            label = data["label"]
            shape = tuple(int(n) for n in data["shape"])
            spacing = tuple(float(s) for s in data["spacing"])
            return Prepared(
                case=case,
                image=data["image"],
                label=label if label.size else None,
                affine=data["affine"],
                spacing=(spacing[0], spacing[1], spacing[2]),
                grid=Grid(shape, data["own_affine"]),
                resampled=bool(data["resampled"]),
            )
    except _DAMAGED:
        return None


def _read_map(path: Path) -> NDArray[np.int16] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return np.asarray(data["map"], np.int16)
    except _DAMAGED:
        return None


def _write(path: Path, prepared: Prepared) -> None:
    _save(
        path,
        image=prepared.image,
        label=np.zeros(0, np.uint8) if prepared.label is None else prepared.label,
        affine=prepared.affine,
        spacing=np.asarray(prepared.spacing),
        shape=np.asarray(prepared.grid.shape),
        own_affine=prepared.grid.affine,
        resampled=np.asarray(prepared.resampled),
    )


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    """Write a cache file that is whole or not there; nothing where the folder of the run has been deleted."""
    if not path.parent.parent.is_dir():
        return
    atomic_write(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

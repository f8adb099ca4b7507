"""Prepared cases on demand: those used recently in memory within a budget, all of them in the shared cache."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, DiskError
from segexplorer.core.regions import Partition, Regions
from segexplorer.data.cache_folder import CaseCache
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.foreground import Foreground
from segexplorer.data.stored_case import MOST_VOXELS, StoredCase, write_case, write_map
from segexplorer.data.transforms.augmentation import Voxels
from segexplorer.data.transforms.distance_maps import channels_of, stored_map
from segexplorer.data.transforms.preprocessing import FittedPreprocessing, Prepared
from segexplorer.data.voxel_file import ChunkedArray, DamagedFileError, VoxelFile

_VERSION = 2
"""Raised when what is prepared changes, so that old cache files are left alone."""
_OPEN_FILES = 64
"""Files of cases and maps that are kept open."""


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
        The cache folder that runs share (`cache_folder.base_folder`); None keeps nothing on the disk.
    map_names
        Distance maps that `maps` gives (`data.distance_maps`).
    resident, resident_maps
        Whether cases and maps are kept whole in memory, where they fit. Else patches are cut from files.
    """

    def __init__(
        self,
        refs: Mapping[str, CaseRef] | Sequence[CaseRef],
        fitted: FittedPreprocessing,
        classes: ClassMap,
        memory_budget: int = 2**31,
        disk_folder: Path | None = None,
        map_names: Sequence[str] = (),
        *,
        resident: bool = True,
        resident_maps: bool = True,
    ) -> None:
        self.map_names = tuple(map_names)
        self.refs = dict(refs) if isinstance(refs, Mapping) else {ref.id: ref for ref in refs}
        self.fitted, self.classes = fitted, classes
        self._budget = memory_budget
        self._cache = None if disk_folder is None else CaseCache(disk_folder)
        self._resident, self._resident_maps = resident, resident_maps
        self._kept: OrderedDict[tuple[Hashable, str], Any] = OrderedDict()
        self._bytes = 0
        self._files: OrderedDict[tuple[Hashable, str], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._busy: dict[tuple[Hashable, str], threading.Lock] = {}
        self._keys: dict[str, str] = {}
        self._notes: deque[str] = deque()
        self._noted: set[str] = set()

    @property
    def memory(self) -> int:
        """Bytes of voxels in memory now."""
        return self._bytes

    def take_notes(self) -> list[str]:
        """Return notes on the cases prepared since the last call, as sentences."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def close(self) -> None:
        """Say that this process reads no entry of the shared cache any more."""
        if self._cache is not None:
            self._cache.close()

    # ---- cases

    def get(self, case: str) -> Prepared:
        """Return a prepared case, whole and in memory.

        Raises
        ------
        DataError
            When the case is not there or cannot be prepared; the sentence names it.
        """
        found: Prepared = self._kept_or_made(("prepared", case), lambda: self._prepare(case))
        return found

    def open(self, case: str) -> Prepared | StoredCase:
        """Return what patches of a case are cut from: the case in memory, or its file, of which little is read.

        Raises
        ------
        DataError
            As `get`.
        """
        if self._cache is None or self._resident:
            return self.get(case)
        with self._lock:
            if ("prepared", case) in self._kept:
                found: Prepared = self._kept[("prepared", case)]
                return found
        stored = self._opened(("prepared", case), lambda: self._stored(case))
        return stored if stored is not None else self.get(case)

    def foreground(self, case: str) -> Foreground:
        """Return where the classes of a case are."""
        item = self.open(case)
        if isinstance(item, StoredCase):
            return item.foreground
        label = item.label
        found: Foreground = self._kept_or_made(("foreground", case), lambda: Foreground.of(label))
        return found

    def discard(self, case: str) -> None:
        """Forget the files of a case that turned out to be damaged, so that they are made again."""
        with self._lock:
            for name in ("prepared", *self.map_names):
                self._files.pop((name, case), None)
        if self._cache is not None:
            for name in ("", *self.map_names):
                self._cache.remove(self._key(case, name))

    def _prepare(self, case: str) -> Prepared:
        stored = self._opened(("prepared", case), lambda: self._stored(case))
        with self._lock:
            if ("prepared", case) in self._kept:  # made for the file just now
                found: Prepared = self._kept[("prepared", case)]
                return found
        if stored is not None:
            try:
                loaded: Prepared = stored.load()
                return loaded
            except DamagedFileError:
                self.discard(case)
        made = self._made(case)
        if stored is not None:  # it was damaged: written anew
            self._opened(("prepared", case), lambda: self._stored(case, made))
        return made

    def _made(self, case: str) -> Prepared:
        prepared = self.fitted.apply(self._ref(case).open(), self.classes)
        self._note(case, prepared.notes)
        return prepared

    def _stored(self, case: str, made: Prepared | None = None) -> StoredCase | None:
        """Return the file of a case, made if need be; None where none is kept."""
        if self._cache is None or not self._worth_keeping(case):
            return None
        if math.prod(self.fitted.prepared_shape(self._ref(case))) >= MOST_VOXELS:
            return None
        key = self._key(case)
        file = self._cache.open(key)
        if file is None:
            prepared = made

            def write(target: IO[bytes]) -> None:
                nonlocal prepared
                prepared = prepared or self._made(case)
                write_case(target, prepared)

            file = self._write(key, write)
            if prepared is not None:
                with self._lock:
                    self._keep(("prepared", case), prepared)
        if file is None:
            return None
        try:
            found = StoredCase(case, file)
        except DamagedFileError:
            self._cache.remove(key)
            return None if made is not None else self._stored(case, self._made(case))
        self._note(case, found.notes)
        return found

    def _worth_keeping(self, case: str) -> bool:
        """Whether a case belongs on the disk: not where its data set makes it, and it fits into memory."""
        return not (self._resident and self._ref(case).identity)

    def _write(self, key: str, write: Callable[[IO[bytes]], None]) -> VoxelFile | None:
        assert self._cache is not None
        try:
            file = self._cache.make(key, write)
        except DiskError as error:
            if not self._resident:
                raise
            self._say(f"Prepared cases are not kept for the next run: {error.message}")
            return None
        if file is None:
            self._say(
                f"The cache in {self._cache.folder.parent} is full of what runs use now, so cases are prepared "
                "again and again. Raise its limit: segexplorer cache limit."
            )
        return file

    def _note(self, case: str, notes: Sequence[str]) -> None:
        with self._lock:
            if case in self._noted:
                return
            self._noted.add(case)
        self._notes.extend(notes)

    def _say(self, sentence: str) -> None:
        with self._lock:
            if sentence in self._noted:
                return
            self._noted.add(sentence)
        self._notes.append(sentence)

    # ---- what belongs to a case

    def maps(self, case: str) -> Mapping[str, Voxels]:
        """Return the distance maps (C, x, y, z) of a prepared case's label, as stored; zeros without label."""
        return {name: self._map(name, case) for name in self.map_names}

    def _map(self, name: str, case: str) -> Voxels:
        if self._cache is not None and not self._resident_maps:
            file: ChunkedArray | None = self._opened((name, case), lambda: self._stored_map(name, case))
            if file is not None:
                return file
        whole: NDArray[Any] = self._kept_or_made((name, case), partial(self._whole_map, name, case))
        return whole

    def _whole_map(self, name: str, case: str) -> NDArray[Any]:
        if self._cache is not None and self._resident_maps and self._worth_keeping(case):
            file = self._opened((name, case), lambda: self._stored_map(name, case))
            if file is not None:
                try:
                    return np.asarray(file)
                except DamagedFileError:
                    self.discard(case)
        return self._made_map(name, case)

    def _made_map(self, name: str, case: str) -> NDArray[np.int16]:
        prepared = self.get(case)
        classes, scheme = len(self.classes.names) + 1, self.classes.scheme
        return stored_map(name, self._label(prepared), classes, prepared.spacing, scheme)

    def _stored_map(self, name: str, case: str) -> ChunkedArray | None:
        assert self._cache is not None
        key = self._key(case, name)
        classes, scheme = len(self.classes.names) + 1, self.classes.scheme
        file = self._cache.open(key)
        if file is None:
            prepared = self.get(case)
            label = self._label(prepared)
            file = self._write(
                key, lambda target: write_map(target, name, label, classes, prepared.spacing, scheme)
            )
        if file is None:
            return None
        found = file.arrays.get("map")
        shape = self.open(case).image.shape[1:]
        channels = channels_of(name, classes, scheme)
        if found is None or found.dtype != np.int16 or found.shape != (channels, *shape):
            self._cache.remove(key)
            return None
        return found

    @staticmethod
    def _label(prepared: Prepared) -> NDArray[np.uint8]:
        return np.zeros(prepared.image.shape[1:], np.uint8) if prepared.label is None else prepared.label

    def regions(self, case: str, partition: Partition) -> Regions:
        """Return the regions into which a partition divides a prepared case.

        Raises
        ------
        SpecError
            When the partition does not fit the case.
        """
        shape = self.open(case).image.shape[1:]
        if not partition.follows_truth:
            return partition.divide(shape)

        def divide() -> Regions:
            item = self.open(case)
            label = None if item.label is None else np.asarray(item.label[:])
            return partition.divide(shape, label, item.spacing)

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

    # ---- keeping

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
        if key in self._kept:
            return
        self._kept[key] = value
        self._bytes += value.nbytes
        while self._bytes > self._budget and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes

    def _opened(self, key: tuple[Hashable, str], make: Callable[[], Any]) -> Any:
        """Return an open file; what is dropped from the list is closed once nobody reads it any more."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
                return self._files[key]
            busy = self._busy.setdefault(("file", *key[1:], key[0]), threading.Lock())  # type: ignore[arg-type]
        with busy:
            with self._lock:
                if key in self._files:
                    return self._files[key]
            found = make()
            if found is not None:
                with self._lock:
                    self._files[key] = found
                    while len(self._files) > _OPEN_FILES:
                        self._files.popitem(last=False)
            return found

    def _key(self, case: str, name: str = "") -> str:
        """Return the hash of all that an entry depends on, which is not its name nor where it is."""
        if case not in self._keys:
            ref = self._ref(case)
            recipe = {
                "version": _VERSION,
                "case": ref.fingerprint(),
                # an edit in the middle of a large file shows in its time alone
                "times": [s.stat().st_mtime_ns for s in (*ref.images, ref.label) if isinstance(s, Path)],
                "preprocessing": self.fitted.plain(),
                "classes": self.classes.plain(),
            }
            self._keys[case] = json.dumps(recipe, sort_keys=True)
        return hashlib.sha256(f"{self._keys[case]}{name}".encode()).hexdigest()[:32]

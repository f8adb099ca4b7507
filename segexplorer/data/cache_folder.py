"""The cache of a machine, or of a team: prepared cases and distance maps of all runs, and what was measured.

```
<cache>/
  prepared/<ab>/<key>.zip   one prepared case, or one map of it; see data.stored_case
  prepared/locks/<key>      held while a process makes that entry
  prepared/users/<id>       held while a process lives, with the keys that it reads
  prepared/limit.json       how large the folder may become
  facts/<ab>/<key>.json     what was measured of files; see data.remembered
  scores/                   see training.result_scores
  lectures/                 see training.lecture_runs
```

A key is a hash of everything that an entry depends on, so an entry never becomes wrong; it only becomes unused.
Entries are written aside and renamed, so that a reader sees all or nothing of them, and a writer that was killed
leaves a part that nobody reads. The least recently used are deleted when the limit is reached, but none that a
living process reads. If one is deleted all the same (by hand, from another computer), whoever has it open reads on,
and whoever needs it next makes it again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from filelock import BaseFileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError
from segexplorer.core.file_locks import take_lock
from segexplorer.core.untrusted_files import read_bytes, read_json, with_checksum
from segexplorer.data.voxel_file import DamagedFileError, VoxelFile

VARIABLE = "SEGEXPLORER_CACHE"
"""Environment variable that names another folder than the system's place for caches."""
LARGEST_SHARE = 0.5
"""Without a limit of its own, the cache takes at most this share of what it has and what is free on its disk."""
_PREPARED, _LOCKS, _USERS, _LIMIT = "prepared", "locks", "users", "limit.json"
_SUFFIX = ".zip"
_ABANDONED = 86_400.0
"""Seconds after which a part of an entry, or a user without a working lock, counts as left behind."""
_WAIT = 1800.0
"""Longest wait, in seconds, for another process that makes an entry; then it is made here, too."""
_TOUCH = 600.0
"""An entry that is used is marked as used no more often than this, in seconds."""
_COUNTED = 60.0
"""The entries are counted again after so many seconds, for other processes make some, too."""
_KEYS = 2**22


def base_folder(chosen: str | Path | None = None) -> Path:
    """Return the cache folder: the chosen one, else what `SEGEXPLORER_CACHE` names, else the system's place.

    Parameters
    ----------
    chosen
        A setting, `compute.cache_folder`.
    """
    given = str(chosen) if chosen else os.environ.get(VARIABLE, "")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("segexplorer", appauthor=False)


def make_private(folder: Path) -> None:
    """Make a folder of patients' voxels that only its owner enters; one that exists is left as it is."""
    with translate_disk_errors(folder):
        missing = list(itertools.takewhile(lambda parent: not parent.exists(), (folder, *folder.parents)))
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True)
class Entry:
    """One file of the cache: its key, bytes, when it was last used (seconds since the epoch), and by the living."""

    key: str
    nbytes: int
    used: float
    in_use: bool = False


class _Limit(BaseModel):
    """`limit.json`."""

    model_config = ConfigDict(extra="ignore")

    bytes: Annotated[int, Field(ge=0, le=2**60)] | None = None


class CaseCache:
    """The shared entries of one cache folder, as one process uses them; safe to use from several threads.

    Parameters
    ----------
    base
        The cache folder (`base_folder`).
    """

    def __init__(self, base: Path) -> None:
        self.folder = base / _PREPARED
        self._mine: set[str] = set()
        self._user: tuple[BaseFileLock | None, Path] | None = None
        self._lock = threading.Lock()
        self._known: tuple[float, int] | None = None

    # ---- reading

    def open(self, key: str) -> VoxelFile | None:
        """Open an entry; None where there is none, or where it is damaged and was removed therefore."""
        path = self._path(key)
        self._use(key)
        try:
            found = VoxelFile(path, on_damage=lambda: self.remove(key))
        except FileNotFoundError:
            return None
        except DamagedFileError:
            self.remove(key)
            return None
        except DataError:  # it may not be read; making it will say why
            return None
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _TOUCH:
                os.utime(path)
        return found

    def make(self, key: str, write: Callable[[IO[bytes]], None]) -> VoxelFile | None:
        """Return an entry, made by this process if it is not there; while another one makes it, wait.

        Parameters
        ----------
        write
            Writes the entry into a file.

        Returns
        -------
        The entry; None where the cache is full of what living processes use.

        Raises
        ------
        DiskError
            When there is no space left, or the folder cannot be written to.
        """
        make_private(self.folder)
        with self._making(key):
            found = self.open(key)
            if found is None and self._make_room():
                atomic_write(self._path(key), write)
                found = self.open(key)
                if found is not None:
                    with self._lock:
                        if self._known is not None:
                            self._known = (self._known[0], self._known[1] + found.nbytes)
                    self._make_room()
        return found

    def remove(self, key: str) -> None:
        """Delete an entry; nothing where it is not there, or where the system keeps open files."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{_SUFFIX}"

    @contextmanager
    def _making(self, key: str) -> Iterator[None]:
        """Hold the lock of an entry; go on without where the file system has none, for renaming is enough."""
        path = self.folder / _LOCKS / key
        lock = None
        with translate_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout):
                lock = take_lock(path, _WAIT)
        try:
            yield
        finally:
            if lock is not None:
                # whoever waits for the deleted file finds the entry there, or at worst makes it twice
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                lock.release()

    # ---- who uses what

    def _use(self, key: str) -> None:
        """Note that this process reads an entry, so that no other one deletes it while this one lives."""
        with self._lock:
            if key in self._mine or not self.folder.is_dir():
                return
            self._mine.add(key)
            with contextlib.suppress(OSError):
                if self._user is None:
                    place = self.folder / _USERS
                    place.mkdir(exist_ok=True)
                    path = place / secrets.token_hex(8)
                    self._user = take_lock(path.with_suffix(".lock"), 0), path
                with self._user[1].open("a") as file:
                    file.write(f"{key}\n")

    def _in_use(self) -> set[str]:
        """Return the keys that living processes read; what the dead have left behind is removed."""
        keys = set(self._mine)
        place = self.folder / _USERS
        for path in list(place.iterdir()) if place.is_dir() else []:
            if path.suffix or (self._user is not None and path == self._user[1]):
                continue
            held, lock = False, None
            with contextlib.suppress(OSError):
                try:
                    lock = take_lock(path.with_suffix(".lock"), 0)
                except Timeout:
                    held = True
            if lock is None:
                with contextlib.suppress(OSError, DataError):
                    age = time.time() - path.stat().st_mtime
                    if held or age < _ABANDONED:
                        keys.update(read_bytes(path, _KEYS).decode("ascii", "replace").split())
                continue
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                path.with_suffix(".lock").unlink(missing_ok=True)
            lock.release()
        return keys

    def close(self) -> None:
        """Give back the marks of this process; what is open stays readable."""
        with self._lock:
            user, self._user, self._mine = self._user, None, set()
        if user is not None:
            with contextlib.suppress(OSError):
                user[1].unlink(missing_ok=True)
                user[1].with_suffix(".lock").unlink(missing_ok=True)
            if user[0] is not None:
                user[0].release()

    # ---- size

    def entries(self) -> list[Entry]:
        """Return all entries, the least recently used first."""
        in_use = self._in_use()
        found = []
        for path in self._files():
            with contextlib.suppress(OSError):
                facts = path.stat()
                key = path.name.removesuffix(_SUFFIX)
                found.append(Entry(key, facts.st_size, facts.st_mtime, key in in_use))
        return sorted(found, key=lambda entry: entry.used)

    def _files(self) -> Iterator[Path]:
        for sub in list(self.folder.iterdir()) if self.folder.is_dir() else []:
            if len(sub.name) == 2 and sub.is_dir():
                yield from sub.glob(f"*{_SUFFIX}")

    @property
    def limit(self) -> int:
        """Bytes that the entries may take: what was set, else half of what they take and of what is free."""
        given = self.given_limit
        if given is not None:
            return given
        place = next((p for p in (self.folder, *self.folder.parents) if p.is_dir()), Path.cwd())
        taken = sum(entry.nbytes for entry in self.entries())
        return int((taken + shutil.disk_usage(place).free) * LARGEST_SHARE)

    @property
    def given_limit(self) -> int | None:
        """The limit that was set for this folder, bytes; None without one, or where the file is damaged."""
        try:
            return _Limit.model_validate(read_json(self.folder / _LIMIT, 4096)).bytes
        except (FileNotFoundError, DataError, ValidationError):
            return None

    def set_limit(self, nbytes: int | None) -> None:
        """Set how many bytes the entries may take; None: half of the disk."""
        make_private(self.folder)
        content = with_checksum({"bytes": nbytes})
        atomic_write(self.folder / _LIMIT, json.dumps(content).encode())
        self._known = None
        self._make_room()

    def _make_room(self) -> bool:
        """Delete the least recently used entries beyond the limit; return whether there is room for another."""
        limit = self.given_limit
        with self._lock:
            known, most = self._known, 0 if limit is None else limit
            if known is not None and time.monotonic() - known[0] < _COUNTED and known[1] < most:
                return True
        entries = self.entries()
        taken = sum(entry.nbytes for entry in entries)
        limit = self.limit if limit is None else limit
        for entry in entries:
            if taken <= limit:
                break
            if not entry.in_use:
                self.remove(entry.key)
                taken -= entry.nbytes
        self._sweep()
        with self._lock:
            self._known = (time.monotonic(), taken)
        return taken < limit

    def _sweep(self) -> None:
        """Remove parts of entries whose writers were killed long ago."""
        for sub in list(self.folder.iterdir()) if self.folder.is_dir() else []:
            for part in sub.glob(".*.part") if sub.is_dir() else ():
                with contextlib.suppress(OSError):
                    if time.time() - part.stat().st_mtime > _ABANDONED:
                        part.unlink()

    def clear(self, *, unused_days: float = 0.0) -> tuple[int, int]:
        """Delete entries that no living process uses and that were not used for some days.

        Returns
        -------
        How many, and how many bytes they had.
        """
        before = time.time() - unused_days * 86_400
        gone = [e for e in self.entries() if not e.in_use and (unused_days == 0 or e.used < before)]
        for entry in gone:
            self.remove(entry.key)
        self._known = None
        return len(gone), sum(entry.nbytes for entry in gone)

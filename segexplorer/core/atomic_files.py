"""Files that are whole or not there: written beside the target, synced to the disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segexplorer.core.errors import SegExplorerError, disk_error


def atomic_write(path: Path, content: bytes | Callable[[IO[bytes]], None], *, synced: bool = True) -> None:
    """Write a file so that a reader, or a power cut, sees the old one or the new one, never half of it.

    Parameters
    ----------
    path
        Of the file; folders that do not exist yet are made.
    content
        All of it, or a function that writes it into a binary file. Where that function raises, the old file stays.
    synced
        Whether to wait until it is on the disk. Without, a power cut may leave a damaged file, which the caller
        must notice and do without.

    Raises
    ------
    DiskError
        When there is no space left, or the folder cannot be written to.
    """
    with translate_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # a rename is atomic within one file system only, so the part has to be in the same folder
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with part.open("xb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    content(file)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if synced:
            sync_folder(path.parent)


_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""Errors of file systems without hard links (FAT, some network drives)."""


def name_once(part: Path, name: Path) -> bool:
    """Give a file, written aside in the same folder, a name that nobody else has; False where another one has it.

    By a hard link, which either creates the name or fails, also on NFS (open(2), O_EXCL). Where there are none, the
    file is created exclusively; for an instant it is seen empty. The part stays and is for the caller to remove.
    """
    try:
        os.link(part, name)
    except FileExistsError:
        # the reply to a link that succeeded may get lost on NFS, and the repeated request then fails
        return part.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _created(name, part.read_bytes())
    return True


def _created(name: Path, content: bytes) -> bool:
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Turn what a disk or its permissions refuse into a sentence; other errors pass unchanged.

    Raises
    ------
    DiskError
        Naming the folder and what to do.
    """
    try:
        yield
    except SegExplorerError:
        raise
    except (OSError, RuntimeError) as error:  # torch's writer hides the first in the second
        refused = os_error_behind(error)
        translated = disk_error(refused, path, "written") if refused is not None else None
        if translated is None:
            raise
        raise translated from error


def os_error_behind(error: BaseException) -> OSError | None:
    """Return what the operating system refused behind a library's own error; None where it refused nothing.

    torch reports a failed write twice: the second error, of closing the archive, hides the first in its context.
    safetensors writes in Rust and gives the number as text, "os error 28".
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        if number := re.search(r"os error (\d+)", str(seen)):
            return OSError(int(number[1]), os.strerror(int(number[1])))
        if "write failed" in str(seen):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        seen = seen.__cause__ or seen.__context__
    return None


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable; does nothing where folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

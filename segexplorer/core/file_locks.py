"""Locks between processes, on file systems that have them."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems without locks: NFS without its lock service, some network drives."""


def take_lock(path: Path, seconds: float) -> BaseFileLock | None:
    """Take a lock, and wait for whoever has it; None where the file system has none.

    What a lock protects here stays whole without it, since files are replaced by renaming; work may be done twice,
    and of two changes at the same moment the later one counts.

    Raises
    ------
    filelock.Timeout
        When another process has it for longer.
    OSError
        When the file of the lock cannot be opened.
    """
    # a file in place of a lock would stay where its process is killed on another computer
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=seconds)
    except OSError as error:  # a timeout is one, too
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return lock

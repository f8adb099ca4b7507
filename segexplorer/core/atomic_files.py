"""Files that are whole or not there: write aside, sync, rename.

Writing a file that is whole or not there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segexplorer.core.errors import DataError, TrainingError


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left", "read only" and "not permitted" into a sentence.

    Raises
    ------
    TrainingError
        Naming the folder and what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise TrainingError(
                f"There is no space left for {path.name} in {path.parent}.",
                "Free some space or choose another output folder; what was saved before is unharmed.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise TrainingError(
                f"{path.parent} cannot be written to.", "Choose another output folder."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable; a no-op where folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a power cut, sees the old one or the new one, never half of it."""
    with translate_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # noqa: PTH101  mkstemp makes private files; a run folder is shared
            os.replace(name, path)  # noqa: PTH105
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write beside the target and rename, so that a full disk or a crash leaves what was there.

    Raises
    ------
    DataError
        When there is no space left, or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            with part.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "there is no space left" if full else f"the folder cannot be written ({error.strerror})"
        raise DataError(
            f"{path.name} was not written: {why}.",
            "Free some space or choose another folder; what was there before is unchanged.",
        ) from error

"""Writing a file that is whole or not there."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from segexplorer.core.errors import DataError


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

"""Files that somebody else may have written: opened only where they are regular, and read only up to a limit.

A run folder from a stranger may hold a pipe that never answers, a link to a device or into another folder, or a
small file that unpacks to gigabytes. Nothing here waits, follows a link out of its folder, or allocates more than
the caller's limit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from segexplorer.core.errors import DataError
from segexplorer.core.printable import printable_values

MAX_DEPTH = 64
"""Deepest nesting of a JSON or YAML document."""
MAX_VALUES = 5_000_000
"""Most values of a document, repeated ones (YAML aliases) counted each time."""
CHECKSUM = "checksum"
"""Key under which a JSON document keeps the SHA-256 of everything else in it."""

_REMEDY = "Copy it again from its owner; do not use it if you do not know where it comes from."
_UNREADABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENXIO,
    errno.ENODEV,
    errno.EINVAL,
}
"""What opening an odd file answers; a fault of the machine (EIO, ESTALE, ENOMEM) is not among them."""
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def require_inside(path: Path, folder: Path) -> Path:
    """Return the real path of something that must be in a folder, links followed.

    Raises
    ------
    DataError
        When it leads out of the folder, or its links go in circles.
    """
    try:
        real, root = Path(os.path.realpath(path, strict=True)), Path(os.path.realpath(folder, strict=True))
    except OSError as error:
        if error.errno in _UNREADABLE:
            raise _unreadable(path, error) from error
        raise
    if not real.is_relative_to(root):
        raise DataError(f"{path.name} in {folder.name} is a link that leads out of that folder.", _REMEDY)
    return real


def open_regular(path: Path, limit: int, *, within: Path | None = None) -> IO[bytes]:
    """Open a regular file for reading, without ever waiting for it.

    Parameters
    ----------
    limit
        Largest size in bytes.
    within
        Folder that the file must be in, whatever links there are.

    Raises
    ------
    FileNotFoundError
        When there is none.
    DataError
        When it is a pipe, a device, a folder or a socket, leads out of `within`, is too large or may not be read.
    """
    real = Path(os.path.realpath(path)) if within is None else require_inside(path, within)
    try:
        descriptor = os.open(real, _FLAGS)
    except OSError as error:
        if error.errno in _UNREADABLE:
            raise _unreadable(path, error) from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path.name} is not a regular file.", _REMEDY)
        if found.st_size > limit:
            raise DataError(
                f"{path.name} is larger than such a file can be ({size_text(found.st_size)}, at most "
                f"{size_text(limit)}).",
                _REMEDY,
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path.name} cannot be read ({(error.strerror or 'unknown error').lower()}).", _REMEDY)


def size_text(size: int) -> str:
    """Return a number of bytes in words: "12 bytes", "3.0 GiB"."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def read_bytes(path: Path, limit: int, *, within: Path | None = None) -> bytes:
    """Return what a regular file holds; see `open_regular`."""
    with open_regular(path, limit, within=within) as file:
        return file.read(limit)


def sha256_of(path: Path, limit: int, *, within: Path | None = None) -> str:
    """Return the SHA-256 of a regular file in hexadecimal digits; see `open_regular`."""
    with open_regular(path, limit, within=within) as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
        return digest.hexdigest()


# ---- documents


def read_json(path: Path, limit: int, *, within: Path | None = None) -> Any:
    """Return what a JSON file holds: bounded in size and depth, its texts printable, its checksums verified.

    Raises
    ------
    FileNotFoundError
        When there is none.
    DataError
        When it is no such document, holds numbers that no computer counts with, or has another checksum.
    """
    content = read_bytes(path, limit, within=within)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is damaged: it is not a JSON document.", _REMEDY) from error
    require_bounded(found, path.name)
    for part in found if isinstance(found, list) else [found]:
        if isinstance(part, dict) and CHECKSUM in part and part[CHECKSUM] != checksum_of(part):
            raise DataError(f"{path.name} is damaged: its checksum does not fit its content.", _REMEDY)
    return printable_values(found)


def require_bounded(value: Any, name: str) -> None:
    """Check the depth, the number of values and the size of the whole numbers of a parsed document.

    Raises
    ------
    DataError
        Naming the file and the limit.
    """
    count, level = 0, [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item.keys())
                deeper.extend(item.values())
            elif isinstance(item, (list, tuple)):
                deeper.extend(item)
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise DataError(f"{name} is damaged: it holds a number that is too large.", _REMEDY)
            if count + len(deeper) > MAX_VALUES:
                raise DataError(f"{name} is damaged: it holds too many values.", _REMEDY)
        count, level = count + len(deeper), deeper
        if not level:
            return
    raise DataError(f"{name} is damaged: it is nested too deeply.", _REMEDY)


def checksum_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object without its own checksum, whatever the order of its keys.

    It finds damage, not malice: whoever changes the content can write the checksum of the new content beside it.
    """
    rest = {key: value for key, value in document.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def with_checksum(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum, to be written."""
    plain = json.loads(json.dumps({key: value for key, value in document.items() if key != CHECKSUM}))
    return {**plain, CHECKSUM: checksum_of(plain)}


# ---- lines of a text that carries its checksum in a comment

_COMMENT = "# sha256 of the lines above: "


def with_checksum_comment(text: str) -> str:
    """Return a text (YAML) with the SHA-256 of its lines in a last line that its readers skip."""
    body = text if text.endswith("\n") else f"{text}\n"
    return f"{body}{_COMMENT}{hashlib.sha256(body.encode()).hexdigest()}\n"


def fits_checksum_comment(text: str) -> bool | None:
    """Whether the lines of a text fit the checksum in its last line; None where there is none."""
    body, found, rest = text.rpartition(_COMMENT)
    if not found:
        return None
    return rest.strip() == hashlib.sha256(body.encode()).hexdigest()

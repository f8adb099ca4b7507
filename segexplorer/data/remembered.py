"""What was measured of files, remembered until they change: values of labels, voxels per class, hashes, statistics.

Reading every voxel of a data set takes minutes, and every launch asks the same. An answer is kept in the cache
folder under a hash of the question and of the files it is about: path, size, times of content and of inode (in ns),
and inode. Neither the name nor the content of what is kept says whose files they are. An answer is not kept on the
disk while a file is so new that a second change could have the same time. A resumed run does not rely on it: it
reads and hashes its files again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.untrusted_files import read_json, with_checksum
from segexplorer.data.cache_folder import base_folder, make_private

_VERSION = 1
"""Raised when something is measured in another way, so that older answers are not used."""
_FACTS = "facts"
_LARGEST = 2**22
_SETTLED_NS = 2 * 10**9
"""A file that changed less long ago may change again without another time: FAT counts every second second."""

_known: dict[str, Any] = {}
_lock = threading.Lock()

Looked = Callable[[str, int, int], object]
"""Called with what is being read, how many are through, and of how many. What it raises ends the reading."""


def nobody_looks(what: str, done: int, total: int) -> None:
    """Do nothing: the default of whoever reads many files."""


def remembered(
    question: str,
    identity: Callable[[], Sequence[object] | None],
    answer: Callable[[], Any],
    *,
    newest: Callable[[], int] = lambda: 0,
    again: bool = False,
) -> Any:
    """Return a plain answer (as JSON has them) about files that did not change since it was given.

    Parameters
    ----------
    question
        What is asked, with everything the answer depends on but the files.
    identity
        Returns what changes when the files do; None: nothing is remembered.
    newest
        Returns when one of the files changed last, ns since the epoch.
    again
        Whether the answer is found anew, and remembered then.
    """
    about = identity()
    if about is None:
        return answer()
    text = json.dumps([_VERSION, question, about], default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:40]
    if not again:
        with _lock:
            if key in _known:
                return _known[key]
        found = _read(key)
        if found is not None:
            with _lock:
                _known[key] = found[0]
            return found[0]
    begun = time.time_ns()
    made = json.loads(json.dumps(answer()))  # as it will be read
    if identity() == about:
        with _lock:
            _known[key] = made
        if newest() < begun - _SETTLED_NS:
            _write(key, made)
    return made


def forget() -> None:
    """Forget everything, also on the disk."""
    with _lock:
        _known.clear()
    shutil.rmtree(base_folder() / _FACTS, ignore_errors=True)


def _read(key: str) -> list[Any] | None:
    path = base_folder() / _FACTS / key[:2] / f"{key}.json"
    try:
        found = read_json(path, _LARGEST)
    except (OSError, DataError):  # not there, or damaged: measured again
        return None
    return [found["answer"]] if isinstance(found, dict) and "answer" in found else None


def _write(key: str, answer: Any) -> None:
    path = base_folder() / _FACTS / key[:2] / f"{key}.json"
    content = json.dumps(with_checksum({"answer": answer})).encode()
    if len(content) > _LARGEST:
        return
    # where nothing can be written, the answer is right all the same, and is found anew next time
    with contextlib.suppress(SegExplorerError, OSError):
        make_private(path.parent)
        atomic_write(path, content, synced=False)

"""Standard streams that may be closed, full, or read by somebody who leaves early (`| head`).

Results go to stdout: where they cannot be written, the command says so and ends. Remarks go to stderr: a terminal
that is gone must not end a run of days, so what cannot be written there is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from segexplorer.core.errors import DiskError, ExitCode


class ReaderGoneError(SystemExit):
    """Whoever read stdout has enough: the command ends, and nothing is wrong."""

    def __init__(self) -> None:
        super().__init__(ExitCode.DONE)


class _Stream:
    """A text stream; subclasses decide what an error of writing means."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, as every text stream does."""
        if self._stream is None:
            self._failed(OSError(errno.EBADF, "closed"))
            return len(text)
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drain()
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError as error:
            self._drain()
            self._failed(error)

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drain(self) -> None:
        """Let the rest go nowhere; the interpreter flushes once more as it ends, and would exit with code 120."""
        assert self._stream is not None
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _failed(self, error: OSError) -> None:
        raise NotImplementedError


class _Results(_Stream):
    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EINVAL):  # EINVAL: a closed pipe on Windows
            raise ReaderGoneError from error
        full = "there is no space left" if error.errno == errno.ENOSPC else error.strerror or "it failed"
        raise DiskError(
            f"The result cannot be written to standard output: {full}.", "Send it to another place."
        ) from error


class _Remarks(_Stream):
    def _failed(self, error: OSError) -> None:
        pass


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make stdout and stderr safe to write to within the block."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _Results(sys.stdout))
    sys.stderr = cast(TextIO, _Remarks(sys.stderr))
    try:
        yield
    finally:
        with contextlib.suppress(DiskError, ReaderGoneError):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Open descriptors 0 to 2 that are closed; else the next file of a run gets one, and prints with it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)

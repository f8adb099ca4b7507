"""One run of a study trained by a process of its own, as every engine starts it.

The process is `segexplorer run-one STUDY NAME`. It lives as long as whoever started it: when its standard input
ends, because that process has died, it saves the run and ends as if it were preempted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from segexplorer.core.errors import DataError, ExitCode
from segexplorer.study.schedule import RunStatus, Schedule, State

AGAIN: frozenset[State] = frozenset({"preempted", "machine", "died", "waiting"})
"""States of a run, after its worker has ended, in which it is to be trained again."""
GIVEN_BACK: frozenset[State] = AGAIN | {"stopped"}
"""States in which another launch, that has not been cancelled, trains a run that it had left to its process."""


def worker_command(study: Path, name: str, launch: str = "", *, python: str = "") -> list[str]:
    """Return the command that trains one run; `python` is this interpreter by default."""
    words = [python or sys.executable, "-m", "segexplorer.frontends.cli", "run-one"]
    words += ["--launch", launch, "--with-parent"] if launch else []
    return [*words, "--", str(study), name]


class Worker:
    """A process that trains one run.

    Parameters
    ----------
    launch
        Token of the launch that it belongs to.
    environment
        Variables that differ from those of this process, e.g. CUDA_VISIBLE_DEVICES.
    log
        File to which its output is appended; None: it goes where that of this process goes.
    """

    def __init__(
        self,
        schedule: Schedule,
        name: str,
        launch: str,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.schedule, self.name, self.launch, self.log = schedule, name, launch, log
        self._before = len(schedule.tries(name))
        schedule.require_there()
        with contextlib.ExitStack() as stack:
            output = None
            if log is not None:
                output = stack.enter_context(_opened(log))
            self._process = subprocess.Popen(
                worker_command(schedule.study, name, launch),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on once
            )

    def poll(self) -> int | None:
        """Return the exit code of the process, None while it runs."""
        return self._process.poll()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the process to save the run and to end."""
        if os.name != "posix" and self._process.stdin is not None:  # a signal would end it at once there
            self._process.stdin.close()
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def wait(self) -> RunStatus:
        """Wait for the end of the process, and return what is known of the run then.

        A worker that ended before it took down a try has one taken down for it; so what does not even start, for
        example because a package is missing on that machine, is not tried for ever.
        """
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.schedule.require_there()
        status = self.schedule.status(self.name)
        unrecorded = len(status.tries) == self._before and status.state in AGAIN
        if unrecorded and code not in (ExitCode.DONE, ExitCode.PREEMPTED, ExitCode.INTERRUPTED):
            own = self.schedule.begin(self.name, self.launch)
            if code > 0:  # killed by a signal: it died, as its machine might have
                where = f"; see {self.log}" if self.log is not None else ""
                own.close(code, error=WorkerError(f"Its process ended with exit code {code} at once{where}."))
            status = self.schedule.status(self.name)
        return status

    @property
    def is_again_wanted(self) -> bool:
        """Whether the run, whose process has ended, is to be queued once more."""
        if self._process.returncode in (ExitCode.DONE, ExitCode.INTERRUPTED):
            return False  # done, left to another process, or not to be started
        return not self.schedule.is_cancelled(self.launch) and self.schedule.status(self.name).state in AGAIN


def _opened(log: Path) -> IO[bytes]:
    """Open a log to write behind what is in it; what it holds must not get into another file through a link.

    Raises
    ------
    DataError
        When it is a link.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_symlink():
        raise DataError(f"{log} is a link, and nothing is written through it.", "Remove it.")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(log, flags, 0o666), "ab")


class WorkerError(Exception):
    """A worker that ended without a word."""

    exit_code = ExitCode.FAILED

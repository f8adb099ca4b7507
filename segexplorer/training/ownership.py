"""Who owns a run folder: a lease in it, taken before the first write and checked before every further one.

```
owner.json           the lease of the process that trains this run; not there while nobody does
owner.<token>.json   the lease that took over from the one with that token, whose process had died
```

A lease is written aside and published by a hard link, which either creates the name or fails, also on NFS (open(2),
O_EXCL). It is taken over by the same means: the name of the new lease contains the token of the old one, which is
never used again, so that exactly one process can follow it. The owner is the end of this chain, and removes it at
last. Nothing in a chain is replaced, hence a process that was suspended cannot undo what others did meanwhile.

On the same computer, process id, start time and boot decide whether an owner is alive. On another one, its lease
counts as abandoned after `STALE_SECONDS` without a heartbeat. Both times are modification times, which the file
server sets, so the clocks of the computers are not compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, ValidationError

from segexplorer.core.atomic_files import name_once, sync_folder, translate_disk_errors
from segexplorer.core.errors import (
    DataError,
    FolderGoneError,
    OwnershipLostError,
    RunHeldError,
    SegExplorerError,
)
from segexplorer.core.untrusted_files import open_regular
from segexplorer.training.host import job_id, process_start, this_host
from segexplorer.training.run_files import RunFile

OWNER = "owner.json"
BEAT_SECONDS = 10.0
STALE_SECONDS = 300.0
"""Seconds without a heartbeat after which a lease of another computer counts as abandoned."""
VANISHING_SECONDS = 1.0
"""How long to wait whether a folder without its lease is being deleted."""

_LARGEST = 4096
"""Bytes of a lease that are read; ours have about 350."""
_ROUNDS = 100
_POSIX = os.name == "posix"
"""Elsewhere open files cannot be removed and folders cannot be opened."""
_LIVE: set[str] = set()
"""Tokens of the leases that this process has."""


# ---- leases as files

_Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[ -~]*$")]


class Holder(RunFile):
    """The process that a lease belongs to; the content of `owner.json`."""

    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    host: _Text = ""
    machine: _Text = ""
    boot: _Text = ""
    namespace: _Text = ""
    pid: Annotated[int, Field(ge=0, lt=2**63)] = 0
    started: _Text = ""
    job: _Text = ""
    since: Annotated[float, Field(ge=0, lt=2**40, allow_inf_nan=False)] = 0.0

    @classmethod
    def this_process(cls) -> Self:
        """Return a new holder: this process."""
        here = this_host()
        return cls(
            token=secrets.token_hex(16),
            host=here.name,
            machine=here.machine,
            boot=here.boot,
            namespace=here.namespace,
            pid=os.getpid(),
            started=process_start(os.getpid()) or "",
            job=job_id(),
            since=time.time(),
        )

    def is_alive(self) -> bool | None:
        """Whether the process is there; None where it cannot be known from here."""
        here = this_host()
        if self.host != here.name or not self.pid:
            return None
        rebooted = bool(self.boot and here.boot) and self.boot != here.boot
        if rebooted:  # or another computer of the same name, where nothing tells them apart
            return False if self.machine and self.machine == here.machine else None
        if (self.machine, self.boot, self.namespace) != (here.machine, here.boot, here.namespace):
            return None
        if self.pid == os.getpid():
            return self.token in _LIVE
        started = process_start(self.pid)
        return started is not None and (not started or not self.started or started == self.started)

    def __str__(self) -> str:
        """Return e.g. "process 312 on node7 (SLURM 812_3), since 2026-11-28 21:53"."""
        if not self.pid:
            return "an unknown process"
        elsewhere = f" on {self.host}" if self.host else ""
        place = elsewhere if self.is_alive() is None else " on this computer"
        who = "this process" if self.is_this_process() else f"process {self.pid}{place}"
        job = f" ({self.job})" if self.job else ""
        return f"{who}{job}, since {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.since))}"

    def is_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid() and self.is_alive() is True


@dataclass(frozen=True)
class _Link:
    """One lease of a chain, and when its owner showed a sign of life the last time."""

    path: Path
    holder: Holder
    beaten: float

    @property
    def successor(self) -> Path:
        return self.path.with_name(f"owner.{self.holder.token}.json")


def _chain(folder: Path) -> list[_Link]:
    """Return the leases of a folder, the owner's last; empty where nobody owns it.

    Raises
    ------
    DataError
        For files that no process of ours has written.
    """
    links: list[_Link] = []
    tokens: set[str] = set()  # a hostile folder may hold any number of leases
    path = folder / OWNER
    while (link := _read(path)) is not None:
        if link.holder.token in tokens:
            raise DataError(
                f"The leases in {folder} form a circle.",
                f"Delete owner*.json in it if nobody trains {folder.name}.",
            )
        links.append(link)
        tokens.add(link.holder.token)
        path = link.successor
    return links


def _read(path: Path) -> _Link | None:
    """Read a lease; what is no lease belongs to an unknown process (damage; a crash where there are no links)."""
    try:
        with open_regular(path, _LARGEST, within=path.parent) as file:
            content, beaten = file.read(_LARGEST), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        holder = Holder.model_validate_json(content)
    except ValidationError:
        holder = Holder(token=hashlib.sha256(content).hexdigest()[:32])
    return _Link(path, holder, beaten)


# ---- who owns a folder, for those who only read


def holder_of(folder: Path) -> Holder | None:
    """Return the owner of a run folder that is alive as far as can be known; None where nobody trains it.

    Nothing is written, so the age of a lease from another computer is measured by the clock of this one.
    """
    chain = _chain(folder)
    if not chain:
        return None
    alive = chain[-1].holder.is_alive()
    if alive is None:
        alive = time.time() - chain[-1].beaten < STALE_SECONDS
    return chain[-1].holder if alive else None


def last_beat(folder: Path) -> float | None:
    """Return when the owner of a run folder gave its last sign of life, by the file server's clock.

    Whoever waits for a process of another computer sees by it whether that is alive. None where nobody owns it.
    """
    chain = _chain(folder)
    return chain[-1].beaten if chain else None


def in_use(folder: Path, holder: Holder, *, elsewhere: bool = False) -> RunHeldError:
    """Return the error that says who owns a folder and since when.

    Parameters
    ----------
    elsewhere
        Whether its owner is on another computer, so that only the heartbeat says whether it is alive.
    """
    remedy = "Stop it there, or wait until it ends."
    if elsewhere:
        minutes = f"{STALE_SECONDS / 60:g} minutes"
        remedy = f"Stop it there, or wait: it may be taken over {minutes} after its last sign of life."
    return RunHeldError(f"The run {folder} is in use by {holder}.", remedy)


def is_owner_file(path: Path) -> bool:
    """Whether a file of a run folder is a lease, or the part of one that was being written."""
    return path.name == OWNER or (
        path.name.startswith((".owner.", "owner.")) and path.suffix in (".json", ".part")
    )


# ---- the lease of this process


class Lease:
    """The right of this process to write into a run folder. Use `take`.

    Attributes
    ----------
    holder
        This process.
    notice
        A sentence where the lease was taken over from a process that had died, else empty.
    died
        Tokens of earlier leases whose processes have certainly died.
    """

    def __init__(self, hold: _Hold, notice: str, died: tuple[str, ...]) -> None:
        self.holder, self.notice, self.died = hold.holder, notice, died
        self._hold = hold
        # also at the end of the interpreter; the heart refers to the hold alone, so that it does not keep the lease
        self._finalizer = weakref.finalize(self, hold.release)
        threading.Thread(target=hold.beat_regularly, name=f"lease of {hold.folder.name}", daemon=True).start()

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Take the lease of a folder for this process, and keep it alive by a thread until `release`.

        Raises
        ------
        RunHeldError
            When another process, or another run of this one, has it.
        DiskError
            When the folder cannot be written to.
        """
        folder = folder.absolute()
        with translate_disk_errors(folder / OWNER):
            for _ in range(_ROUNDS):
                chain = _chain(folder)
                last = chain[-1] if chain else None
                alive = last.holder.is_alive() if last is not None else False
                if last is not None and alive:
                    raise in_use(folder, last.holder)
                holder = Holder.this_process()
                with _written_aside(folder, holder) as (part, descriptor):
                    notice = ""
                    if last is not None:
                        silent = os.fstat(descriptor).st_mtime - last.beaten
                        if alive is None and silent < STALE_SECONDS:
                            raise in_use(folder, last.holder, elsewhere=True)
                        notice = _taken_over(last, alive, silent)
                    target = last.successor if last is not None else folder / OWNER
                    if not name_once(part, target):
                        continue  # another process was quicker: look again who it is
                    sync_folder(folder)
                    hold = _Hold(folder, target, holder, [link.path for link in chain])
                if hold.is_last():
                    died = (link.holder for link in chain if link.holder.is_alive() is False)
                    return cls(hold, notice, tuple(holder.token for holder in died))
                hold.withdraw()  # the chain that it continues had been removed meanwhile
        raise RunHeldError(f"{folder} changes its owner all the time.", "Find out which processes train it.")

    def check(self) -> None:
        """Make sure that this process still owns the folder, and that it is the same folder.

        Raises
        ------
        OwnershipLostError
            When another process took it over.
        FolderGoneError
            When it was deleted, moved or replaced.
        """
        self._hold.check()

    def check_last_beat(self) -> None:
        """Raise as `check` does, if the heart has found the lease lost; costs nothing, for loops that wait."""
        self._hold.raise_problem()

    def release(self) -> None:
        """Give the folder back; safe to call twice, and after it was lost."""
        self._finalizer()


class _Hold:
    """What keeps a lease: the open files, and the heart. Holds no reference to its `Lease`."""

    def __init__(self, folder: Path, file: Path, holder: Holder, earlier: list[Path]) -> None:
        self.folder, self.file, self.holder = folder, file, holder
        self._chain = [*earlier, file]
        self._successor = f"owner.{holder.token}.json"
        self._problem: SegExplorerError | None = None
        self._ended = threading.Event()
        self._content = file.read_bytes()
        # kept open: an inode number is not given to another file while this one is open
        self._folder_open = os.open(folder, os.O_RDONLY) if _POSIX else -1
        self._file_open = os.open(file, os.O_RDWR) if _POSIX else -1
        self._closing = threading.Lock()
        self._folder_identity = _identity(folder.stat())
        self._file_identity = _identity(file.stat())
        _LIVE.add(holder.token)

    def is_last(self) -> bool:
        """Whether this lease is the end of the folder's chain, hence its owner's."""
        try:
            chain = _chain(self.folder)
        except BaseException:
            self.withdraw()
            raise
        return bool(chain) and chain[-1].holder == self.holder

    # ---- the heart

    def beat_regularly(self) -> None:
        """Give a sign of life every `BEAT_SECONDS`, until the lease is released or lost; in a thread of its own."""
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.check()
                self._beat()
            except (SegExplorerError, OSError):
                if self._problem is not None:
                    return  # the run hears of it when it writes the next time, or waits
                continue  # a network drive that does not answer now; the next write says so, if it lasts

    def _beat(self) -> None:
        # written, not touched: so the file server sets the time; `utime` sends that of this computer on some
        with self._closing:  # the number of a closed file may be another file's by now
            if self._ended.is_set():
                return
            if _POSIX:
                os.pwrite(self._file_open, self._content, 0)
                os.fsync(self._file_open)
            else:
                self.file.write_bytes(self._content)

    # ---- checks

    def check(self) -> None:
        """See `Lease.check`."""
        self.raise_problem()
        with translate_disk_errors(self.folder):
            self._problem = self._find_problem()
        self.raise_problem()

    def raise_problem(self) -> None:
        """Raise what was found to be wrong, each time anew."""
        if self._problem is not None:
            raise type(self._problem)(self._problem.message, self._problem.remedy)

    def _find_problem(self) -> SegExplorerError | None:
        try:
            # opened anew, since an NFS client then asks the server whether names in it have changed
            descriptor = os.open(self.folder, os.O_RDONLY) if _POSIX else None
        except (FileNotFoundError, NotADirectoryError):
            return self._gone()
        try:
            facts = self.folder.stat() if descriptor is None else os.fstat(descriptor)
            if _identity(facts) != self._folder_identity:
                return self._gone()
            place = self.folder if descriptor is None else Path()
            try:
                own = os.stat(place / self.file.name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return self._gone() if self._is_vanishing() else self._lost()
            if _identity(own) != self._file_identity:
                return self._lost()
            try:
                os.stat(place / self._successor, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None
            return self._lost()
        except FileNotFoundError:
            return self._gone()
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _is_vanishing(self) -> bool:
        """Whether the folder is being deleted right now, of which the loss of the lease was only the beginning."""
        deadline = time.monotonic() + VANISHING_SECONDS
        while time.monotonic() < deadline and self.folder.exists():
            time.sleep(0.02)
        return not self.folder.exists()

    def _lost(self) -> OwnershipLostError:
        try:
            chain = _chain(self.folder)
        except (OSError, DataError):
            chain = []
        last = chain[-1].holder if chain else None
        if last is None or last == self.holder:
            how = f"the lease of this process ({self.file.name}) was removed"
        else:
            how = f"it was taken over by {last}, after this process had shown no sign of life"
        return OwnershipLostError(
            f"This process no longer owns the run {self.folder.name}: {how}.",
            "It has ended without writing anything more; look at the run folder before you go on with it.",
        )

    def _gone(self) -> FolderGoneError:
        how = "was deleted, moved or replaced"
        if self.folder.exists():
            how = "was replaced by another one"
        elif (link := Path(f"/proc/self/fd/{self._folder_open}")).is_symlink():
            now = str(link.readlink())  # Linux only; see proc(5)
            how = "was deleted" if now.endswith(" (deleted)") else f"was moved to {now}"
        return FolderGoneError(
            f"The run folder {self.folder} {how} during the run.",
            "Nothing more was written. Put the folder back and go on with --resume, or start the run again.",
        )

    # ---- the end

    def withdraw(self) -> None:
        """Remove the own lease alone, which is no part of the chain."""
        self._close()
        with contextlib.suppress(OSError):
            self.file.unlink()

    def release(self) -> None:
        """Remove the chain, its beginning first, if it is still the own one; nothing in a forked process."""
        if os.getpid() != self.holder.pid:
            return
        try:
            with contextlib.suppress(SegExplorerError, OSError):
                self.check()
                self._close()
                for path in self._chain:
                    path.unlink(missing_ok=True)
        finally:
            self._close()

    def _close(self) -> None:
        _LIVE.discard(self.holder.token)
        with self._closing:
            if not self._ended.is_set() and _POSIX:
                os.close(self._folder_open)
                os.close(self._file_open)
            self._ended.set()


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _taken_over(last: _Link, alive: bool | None, silent: float) -> str:
    why = (
        "which has died"
        if alive is False
        else f"which has shown no sign of life for {silent / 60:.0f} minutes"
    )
    return f"Took the run over from {last.holder}, {why}."


@contextmanager
def _written_aside(folder: Path, holder: Holder) -> Iterator[tuple[Path, int]]:
    """Write a lease that nobody sees yet; its modification time is the file server's present time."""
    part = folder / f".owner.{holder.token}.part"
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        os.write(descriptor, f"{holder.model_dump_json()}\n".encode())
        os.fsync(descriptor)
        yield part, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            part.unlink()

"""Run folders of another computer, copied here over the user's own ssh and kept up to date.

What is fetched is what `segexplorer watch` shows: the small text files, and, of a single run, its events and the
frames of its watched cases; never weights or prepared cases. Each `pull` asks for what has changed since the one
before, in one tar stream, and takes from it regular files of known names and limited sizes alone. The copies are
then read as the files of anybody are. Nothing is written there, and nothing listens here or there.

The other computer needs ssh, and find and tar of GNU, as every Linux has them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Self

from segexplorer.core.atomic_files import translate_disk_errors
from segexplorer.core.errors import DataError, SegExplorerError, SpecError, shorten
from segexplorer.training.ownership import OWNER
from segexplorer.training.run_files import (
    EVENTS,
    EXPERIMENT,
    HISTORY,
    INDEX,
    LIMITS,
    METRICS,
    OTHER_LIMIT,
    PROVENANCE,
    RUN,
    STATUS,
    GiB,
)

CONNECT_SECONDS = 15
_HOST = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?"
)
"""Names of computers, and of ssh's own configuration, which may hold an underscore."""
_MARK = "segexplorer"
"""Word before the first line of an answer; start-up files of a shell may print something before it."""
_MOST_SAID = 200
"""Lines of start-up files that are passed over."""
_LONGEST_SOCKET = 80
"""Bytes of the name of a socket; ssh appends 17, and systems allow about 104."""
_END_SECONDS = 10.0
"""How long ssh is waited for once it has sent everything."""
_MARGIN = 2
"""Seconds of overlap between two pulls: file systems with whole seconds, and files written during one."""
_LARGEST_FRAME = 4 * GiB
_LARGEST_COPY = 64 * GiB
_MOST_FILES = 200_000
_LARGEST_HEADER = 2**16
"""Bytes of a tar stream between two files; longer ones are built to fill the memory, or the stack, of a reader."""
_LATEST = 2**40
"""Seconds: times of files are before."""
_LONGEST_NAME, _LONGEST_PART = 2000, 255
"""Bytes of the name of a file, and of one part of it."""
_LONGEST_LISTING = 2**26
"""Bytes of a list of leases."""
_SMALL = (RUN, STATUS, EXPERIMENT)
_FRAME = re.compile(
    r"(?:train|validation|test)(?:/[0-9]{1,9}(?:/[A-Za-z0-9_ .-]{1,80}(?:/c(?:/[0-9]{1,6}){1,6})?)?)?"
)


class RemoteError(SegExplorerError, ConnectionError):
    """Another computer that cannot be reached, or does not answer as expected."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder on another computer: `host` as ssh takes it, `path` as it is there."""

    host: str
    path: str

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Return the folder that "host:FOLDER" names; None for a folder of this computer.

        Raises
        ------
        SpecError
            When there is a colon, but no name of a computer before it.
        """
        host, colon, path = text.partition(":")
        if not colon or "/" in host or "\\" in host or os.path.lexists(text):
            return None
        if len(host) == 1 and os.name == "nt":  # a drive
            return None
        if not _HOST.fullmatch(host):
            raise SpecError(
                f"{shorten(host, 80)!r} is not the name of a computer.",
                "Write HOST:FOLDER or USER@HOST:FOLDER.",
            )
        if any(ord(c) < 32 for c in path):
            raise SpecError("The folder's name holds characters that cannot be shown.", "Write HOST:FOLDER.")
        return cls(host, path or ".")

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


class RemoteCopy:
    """A copy of a remote folder in a temporary folder of this computer; use it as a context.

    Parameters
    ----------
    remote
        What is copied.
    ssh
        The program; options are put behind it.
    """

    def __init__(self, remote: RemoteFolder, ssh: Sequence[str] = ("ssh",)) -> None:
        self.remote = remote
        self._place = tempfile.TemporaryDirectory(prefix="segexplorer-watch-")
        self.folder = Path(self._place.name) / "copy"
        self.folder.mkdir()
        # one connection serves all pulls where ssh can share it; its socket is in a folder of this user alone
        shared = Path(self._place.name) / "s"
        options = [
            "BatchMode=yes",
            f"ConnectTimeout={CONNECT_SECONDS}",
            "ServerAliveInterval=15",  # a connection that is dead ends, and is made anew at the next look
            "ServerAliveCountMax=3",
            "ClearAllForwardings=yes",
        ]
        if os.name == "posix" and len(os.fsencode(shared)) <= _LONGEST_SOCKET:
            options += ["ControlMaster=auto", f"ControlPath={shared}", "ControlPersist=60"]
        given = [word for option in options for word in ("-o", option)]
        self._ssh = [*ssh, "-T", *given, "--", remote.host]
        self._since: dict[str, int] = {}
        self._sizes: dict[PurePosixPath, int] = {}  # of what is in the copy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the copy, and end the connection."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = [self._ssh[0], "-O", "exit", *self._ssh[1:]]
            subprocess.run(command, capture_output=True, timeout=5, stdin=subprocess.DEVNULL, check=False)
        self._place.cleanup()

    def pull(self, what: Literal["states", "run"] = "states") -> None:
        """Fetch what has changed: the small files of all runs in the folder, or all that is shown of one run.

        Raises
        ------
        RemoteError
            When the other computer cannot be reached, or the folder is not there.
        DataError
            When it sends what no run folder holds.
        """
        small = _any_named(*_SMALL, "owner.json", "owner.*.json")
        if what == "states":
            self._fetch("states", small, prune=True)
            self._forget_owners()
            return
        # zarr says in a small file that a frame is complete: these are read before the arrays, and written after
        # them, so that nobody sees the mark of a frame whose arrays have not arrived
        late = self._open_stream("marks", f"\\( {_any_named('zarr.json')} \\) -path './{HISTORY}/*'")
        with late as marks:
            self._fetch(
                "texts",
                _any_named(*_SMALL, "owner.json", "owner.*.json", METRICS, PROVENANCE, EVENTS, INDEX),
                top=True,
            )
            self._fetch("frames", f"-path './{HISTORY}/*' ! -name zarr.json")
            self._put_all(marks)
        self._forget_owners()

    # ---- one stream

    def _fetch(self, key: str, tests: str, *, prune: bool = False, top: bool = False) -> None:
        with self._open_stream(key, tests, prune=prune, top=top) as members:
            self._put_all(members)

    @contextlib.contextmanager
    def _open_stream(
        self, key: str, tests: str, *, prune: bool = False, top: bool = False
    ) -> Iterator[list[tuple[PurePosixPath, Path]]]:
        """Yield the files that have changed, in a temporary folder: (name below the remote folder, where it is)."""
        since = self._since.get(key)
        newer = "" if since is None else f" -newermt @{since - _MARGIN}"
        depth = "-maxdepth 1 " if top else "-maxdepth 14 "
        pruned = f"\\( -name {HISTORY} -o -name checkpoints -o -name cache \\) -prune -o " if prune else ""
        script = (
            f"find . {depth}{pruned}-type f{newer} \\( {tests} \\) -print0 | "
            "tar -cf - --null --no-recursion --ignore-failed-read -T - 2>/dev/null"
        )
        with tempfile.TemporaryDirectory(dir=self._place.name) as place:
            there, found = self._run(script, Path(place))
            yield found
        self._since[key] = there

    def _run(self, script: str, place: Path) -> tuple[int, list[tuple[PurePosixPath, Path]]]:
        with self._answer(script) as (there, stream), translate_disk_errors(place):
            found = list(self._unpacked(stream, place))
        return there, self._with_times(found, there)

    @contextlib.contextmanager
    def _answer(self, script: str) -> Iterator[tuple[int, IO[bytes]]]:
        """Carry out a script in the remote folder; yield the time there, and what the script prints."""
        # whatever the login shell is; "./" since a name may be "-", or be looked for in CDPATH
        inside = f"cd -- {_quoted(self.remote.path)} && echo {_MARK} $(date +%s) && {script}"
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    [*self._ssh, f"exec sh -c {shlex.quote(inside)}"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                )
            except OSError as error:
                raise RemoteError("The program ssh is not on this computer.", "Install OpenSSH.") from error
            assert process.stdout is not None
            with process:
                try:
                    there = _time_in(process.stdout)
                    if there is not None:
                        yield there, process.stdout
                        process.stdout.close()
                    process.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()  # all of the answer was read
                except BaseException:
                    process.kill()
                    raise
            if there is None:
                said.seek(0)
                raise self._refused(said.read(4096).decode(errors="replace"))

    def _refused(self, said: str) -> RemoteError:
        last = (said.strip().splitlines() or ["no answer"])[-1]
        remedy = f"Try: ssh {self.remote.host}. It must work without a password (a key, ssh-agent)."
        if "No such file" in said or "not found" in said or "can't cd" in said:
            remedy = f"Look whether {shorten(self.remote.path, 120)} is a folder on {self.remote.host}."
        return RemoteError(f"{self.remote} cannot be read: {shorten(last, 160)}.", remedy)

    def _unpacked(self, stream: IO[bytes], place: Path) -> Iterator[tuple[PurePosixPath, Path, float]]:
        """Unpack the regular files of a tar stream whose names and sizes are those of run folders."""
        bounded = _BoundedStream(stream)
        total, count = sum(self._sizes.values()), len(self._sizes)
        try:
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for number, member in enumerate(archive):
                    name, size = _safe_name(member.name), max(0, member.size)
                    total += size
                    if count + number > _MOST_FILES or total > _LARGEST_COPY:
                        raise DataError(f"{self.remote} sends too much.", "Watch a folder with fewer runs.")
                    bounded.left = size + _LARGEST_HEADER
                    if name is None or not member.isreg() or size > _limit(name):
                        continue
                    content = archive.extractfile(member)
                    assert content is not None
                    path = place / str(number)
                    with path.open("xb") as file:
                        shutil.copyfileobj(content, file)
                    bounded.left = _LARGEST_HEADER
                    # any text is a time to pax, also "nan"
                    yield name, path, float(member.mtime) if 0 <= member.mtime < _LATEST else 0.0
        except SegExplorerError:
            raise
        except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
            if not isinstance(error, tarfile.ReadError) or "empty" not in str(error):
                raise DataError(f"{self.remote} sent a damaged stream.", "Try again.") from error

    @staticmethod
    def _with_times(
        found: Sequence[tuple[PurePosixPath, Path, float]], there: int
    ) -> list[tuple[PurePosixPath, Path]]:
        """Give each file its time by the clock of this computer, by which ages of leases are told."""
        ahead = there - time.time()
        for _, path, written in found:
            os.utime(path, (written - ahead, written - ahead))
        return [(name, path) for name, path, _ in found]

    def _put_all(self, members: Sequence[tuple[PurePosixPath, Path]]) -> None:
        with translate_disk_errors(self.folder):
            for name, path in members:
                self._put(name, path)

    def _put(self, name: PurePosixPath, path: Path) -> None:
        target, size = self.folder / name, path.stat().st_size
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DataError(
                f"{self.remote} sends {shorten(str(name), 80)} both as a file and as a folder.",
                "Look at that folder there.",
            ) from error
        self._sizes[name] = size

    def _forget_owners(self) -> None:
        """Remove leases that are not there any more: those of runs whose state says that they have ended."""
        listing = (
            f"find . -maxdepth 7 \\( -name {HISTORY} -o -name checkpoints -o -name cache \\) -prune "
            "-o -type f -name 'owner*.json' -print"
        )
        with self._answer(listing) as (_, stream):
            lines = stream.read(_LONGEST_LISTING).decode(errors="replace").splitlines()
        there = {str(PurePosixPath(line)) for line in lines}
        for own in list(self.folder.rglob("owner*.json")):
            name = own.relative_to(self.folder)
            if name.as_posix() not in there and own.is_file():
                own.unlink()
                self._sizes.pop(PurePosixPath(name), None)


class _BoundedStream(io.RawIOBase):
    """A stream of which `left` bytes may be read before its reader has to say how many more."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.left = stream, _LARGEST_HEADER

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes."""
        if self.left < 0:
            raise tarfile.ReadError("a header is too long")
        content = self._stream.read(size)
        self.left -= len(content)
        return content


def _time_in(stream: IO[bytes]) -> int | None:
    """Return the time in the first line of an answer, whatever a shell prints before; None without one."""
    for _ in range(_MOST_SAID):
        if not (line := stream.readline(4096)):
            return None
        if (match := re.fullmatch(rf"{_MARK} (\d{{1,12}})\n".encode(), line)) is not None:
            return int(match[1])
    return None


def _quoted(path: str) -> str:
    """Return a path for the remote shell; "~/runs" is in the home folder, where ssh begins."""
    if path == "~" or path.startswith("~/"):
        path = path[2:] or "."
    return shlex.quote(path if path.startswith("/") else f"./{path}")


def _any_named(*names: str) -> str:
    return " -o ".join(f"-name {shlex.quote(name)}" for name in names)


def _safe_name(text: str) -> PurePosixPath | None:
    """Return the name of a file of a run folder, relative to the folder that is watched; None for any other."""
    if "\\" in text or not text.isprintable() or len(text.encode()) > _LONGEST_NAME:
        return None
    name = PurePosixPath(text)
    if name.is_absolute() or ".." in name.parts or not name.parts or len(name.parts) > 16:
        return None
    if any(len(part.encode()) > _LONGEST_PART for part in name.parts):
        return None
    if HISTORY in name.parts:
        inside = name.parts[name.parts.index(HISTORY) + 1 :]
        last = inside[-1] if inside else ""
        below = "/".join(inside[:-1] if last == "zarr.json" else inside)
        return name if last and (not below or _FRAME.fullmatch(below)) else None
    owner = name.name == OWNER or re.fullmatch(r"owner\.[0-9a-f]{32}\.json", name.name)
    return name if owner or name.name in {*_SMALL, METRICS, PROVENANCE, EVENTS, INDEX} else None


def _limit(name: PurePosixPath) -> int:
    if name.name in LIMITS:
        return LIMITS[name.name]
    return _LARGEST_FRAME if HISTORY in name.parts else OTHER_LIMIT

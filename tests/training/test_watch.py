"""A run of another process, looked at while it goes on: here, and through a copy over ssh."""

from __future__ import annotations

import io
import os
import stat
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from segexplorer.core.errors import DataError, RunStateError, SpecError
from segexplorer.core.events import (
    Event,
    Notice,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.training.history import open_run
from segexplorer.training.remote import RemoteCopy, RemoteError, RemoteFolder, _safe_name
from segexplorer.training.run import Run
from segexplorer.training.watch import LogTail, Watch


def _key(event: Event) -> tuple[Any, ...]:
    return type(event), event.attempt, event.seq, event.step


def test_a_run_that_goes_on_is_seen_whole(make_run: Callable[..., Run]) -> None:
    run = make_run(schedule__epochs=3)
    begun, watched = threading.Event(), []
    frames = []

    def load(frame: Any) -> Any:
        frames.append((frame.role, frame.index))
        return frame.load()

    run.record.hold()
    watch = Watch(run.folder, load=load, every=0.05)
    assert watch.state == "idle" and not watch.accepts("stop")

    def look() -> None:
        for event in watch:
            watched.append(event)
            begun.set()

    looking = threading.Thread(target=look)
    trained = []
    for event in run:
        trained.append(event)
        if isinstance(event, Planned):
            looking.start()
            assert begun.wait(20) and watch.accepts("stop") and not watch.accepts("pause")
    looking.join(20)
    assert not looking.is_alive() and watch.state == "finished"
    logged = open_run(run.folder).events()
    assert [_key(e) for e in watched] == [_key(e) for e in logged]
    assert isinstance(watched[-1], RunFinished) and watched[-1].state == "finished"
    # frames that came while it was watched are loaded; of those before, the newest alone
    announced = {(e.role, e.index) for e in logged if isinstance(e, WatchedDone)}
    assert frames and set(frames) <= announced
    newest = watch.watched.last("validation")
    assert newest is not None and newest.index == max(i for r, i in announced if r == "validation")


def test_of_a_run_that_has_ended_all_comes_at_once(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for _ in run:
        pass
    watch = Watch(run.folder, load=lambda frame: frame.load(), every=60)
    events = list(watch)
    assert [_key(e) for e in events] == [_key(e) for e in open_run(run.folder).events()]
    assert watch.watched.last("train") is not None


def test_nothing_reaches_the_run(make_run: Callable[..., Run]) -> None:
    watch = Watch(make_run().folder)
    for command in (watch.pause, watch.unpause, watch.step, watch.predict_now):
        with pytest.raises(RunStateError, match="from here"):
            command()
    with pytest.raises(RunStateError, match=r"loss\.alpha"):
        watch.set("loss.alpha", 1)
    with pytest.raises(RunStateError, match="extended"):
        watch.extend(3)


def test_looking_on_ends_on_request(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.record.hold()
    run.record.write(StateChanged(attempt=1, seq=1, state="running"))
    watch = Watch(run.folder, every=0.01)
    seen = []
    for event in watch:
        seen.append(event)
        watch.stop()
    assert seen[-1] == RunFinished(attempt=1, seq=1, time=0.0, state="stopped", reason="no longer watched")
    run.record.release()


def test_a_run_whose_process_is_gone_ends(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.training.watch._ALIVE_EVERY", 0.05)
    run = make_run()
    run.record.write(StateChanged(attempt=1, seq=1, state="running"))
    run.record.close()
    end = list(Watch(run.folder, every=0.01))[-1]
    assert isinstance(end, RunFinished) and end.reason == "its process has died"


def test_a_preempted_run_is_waited_for(make_run: Callable[..., Run]) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.stop(preempted=True)
    seen: list[Event] = []

    def look() -> None:
        seen.extend(Watch(run.folder, every=0.05))

    looking = threading.Thread(target=look)
    looking.start()
    again = Run(run.record)
    for _ in again:
        pass
    looking.join(20)
    assert not looking.is_alive()
    assert isinstance(seen[-1], RunFinished) and seen[-1].state == "finished"
    assert sum(isinstance(e, RunFinished) for e in seen) == 1
    assert {e.step for e in seen if isinstance(e, StepDone)} == set(range(1, 7))


def test_a_line_is_taken_once_it_is_whole(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.record.write(StateChanged(attempt=1, seq=1, state="running"))
    run.record.close()
    log = run.folder / "events.jsonl"
    line = log.read_bytes()
    tail = LogTail(run.folder)
    assert len(tail.take()) == 1 and tail.take() == []
    with log.open("ab") as file:
        file.write(line[:20])
    assert tail.take() == []
    with log.open("ab") as file:
        file.write(line[20:] + b"no event\n" + line)
    assert len(tail.take()) == 2
    log.write_bytes(line)
    with pytest.raises(DataError, match="replaced by a shorter one"):
        tail.take()


# ---- over ssh


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("gpu7:/data/runs", "gpu7", "/data/runs"),
        ("me@gpu7.example.org:runs", "me@gpu7.example.org", "runs"),
        ("gpu7:", "gpu7", "."),
        ("lab_gpu:~/it's; $(here)", "lab_gpu", "~/it's; $(here)"),
    ],
)
def test_a_folder_elsewhere_is_recognised(text: str, host: str, path: str) -> None:
    assert RemoteFolder.of(text) == RemoteFolder(host, path)


@pytest.mark.parametrize("text", ["runs", "/data/a:b", "./a:b"])
def test_a_folder_here_is_none_elsewhere(text: str) -> None:
    assert RemoteFolder.of(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=touch x:/a",
        "a b:/c",
        "a;b:/c",
        "$(x):/c",
        "a@-b:/c",
        ":x",
        "gpu7:/a\nb",
        "gpu-:/a",
        "rechnér:/a",
        "pc\u202e:/a",
        "@a:/b",
    ],
)
def test_what_is_no_name_of_a_computer_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        RemoteFolder.of(text)


@pytest.mark.parametrize(
    "name",
    [
        "./a/run.json",
        "status.json",
        "x/history.zarr/train/000001/prediction/c/0/0/0",
        "a/history.zarr/zarr.json",
    ],
)
def test_names_of_run_folders_are_taken(name: str) -> None:
    assert _safe_name(name) == PurePosixPath(name)


@pytest.mark.parametrize(
    "name",
    [
        "../run.json",
        "/etc/run.json",
        "a/../../run.json",
        "a/.ssh/authorized_keys",
        "checkpoints/a/model.safetensors",
        "a/history.zarr/../run.json",
        "a/history.zarr/train/x/evil.py",
        "a\\run.json",
        "run.json\n",
        "owner.x.json",
        "",
    ],
)
def test_other_names_are_not(name: str) -> None:
    assert _safe_name(name) is None


posix = pytest.mark.skipif(os.name != "posix", reason="the other computer is one with find and tar of GNU")


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    """A program in the place of ssh: it writes down its arguments, and runs the command here."""
    program = tmp_path / "ssh"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if '-O' in sys.argv: sys.exit(0)\n"
        "at = sys.argv.index('--')\n"
        "os.execvp('sh', ['sh', '-c', ' '.join(sys.argv[at + 2:])])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return [str(program)]


@posix
def test_a_run_elsewhere_is_seen_as_here(
    make_run: Callable[..., Run], ssh: list[str], tmp_path: Path
) -> None:
    run = make_run("it's a run; with $names")
    with RemoteCopy(RemoteFolder("gpu7", str(run.folder)), ssh) as copy:
        first = run.__iter__()
        while not isinstance(next(first), ValidationDone):
            pass
        copy.pull("run")
        before = open_run(copy.folder)
        assert before.status.state == "running" and len(before.watched("validation")) == 1
        assert before.holder is not None
        for _ in first:
            pass
        copy.pull("run")
        after, own = open_run(copy.folder), open_run(run.folder)
        assert [_key(e) for e in after.events()] == [_key(e) for e in own.events()]
        assert after.status == own.status and after.holder is None
        for mine, theirs in zip(after.watched("validation"), own.watched("validation"), strict=True):
            assert (mine.load().prediction == theirs.load().prediction).all()
        assert not (copy.folder / "checkpoints").exists()
        assert after.experiment == own.experiment
        folder = copy.folder
    assert not folder.exists()
    asked = (tmp_path / "asked").read_text()
    assert '"BatchMode=yes"' in asked and '"--", "gpu7"' in asked


@posix
@pytest.mark.slow
def test_of_many_runs_elsewhere_the_small_files_come(
    make_run: Callable[..., Run], ssh: list[str], tmp_path: Path
) -> None:
    for name in ("study/a", "study/b"):
        for _ in make_run(name):
            pass
    with RemoteCopy(RemoteFolder("gpu7", str(tmp_path / "study")), ssh) as copy:
        copy.pull()
        names = sorted(p.relative_to(copy.folder).as_posix() for p in copy.folder.rglob("*") if p.is_file())
    assert names == [
        f"{run}/{file}" for run in "ab" for file in ("experiment.yaml", "run.json", "status.json")
    ]


@posix
def test_a_folder_that_is_not_there_is_said(ssh: list[str], tmp_path: Path) -> None:
    with (
        RemoteCopy(RemoteFolder("gpu7", str(tmp_path / "nothing")), ssh) as copy,
        pytest.raises(RemoteError, match=r"gpu7:.*cannot be read"),
    ):
        copy.pull()


@posix
@pytest.mark.parametrize("folder", ["-", "-x", "run s;$(touch gone)`touch gone`", "a\u2028b", "it's", "!run"])
def test_any_name_of_a_folder_arrives_as_it_is(
    make_run: Callable[..., Run],
    ssh: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
) -> None:
    make_run(f"home/{folder}")
    (tmp_path / "elsewhere" / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("CDPATH", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("OLDPWD", "/")
    with RemoteCopy(RemoteFolder("gpu7", folder), ssh) as copy:
        copy.pull()
        assert open_run(copy.folder).state == "idle"
    assert sorted(p.name for p in (tmp_path / "home").iterdir()) == [folder]


@posix
def test_what_a_shell_prints_when_it_starts_does_no_harm(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run, program = make_run(), tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\necho Welcome to gpu7\necho 1234567890\necho Disk quota: 80 %\n"
        'for last; do :; done\nsh -c "$last"\n'
    )
    program.chmod(0o755)
    with RemoteCopy(RemoteFolder("gpu7", str(run.folder)), [str(program)]) as copy:
        copy.pull("run")
        assert open_run(copy.folder).state == "idle"


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[..., RemoteCopy]]:
    """Make a copy of a folder on a computer that answers everything with the same bytes."""
    copies = []

    def make(packed: bytes, after: str = "") -> RemoteCopy:
        stream, program = tmp_path / "stream", tmp_path / "ssh"
        stream.write_bytes(f"segexplorer {int(time.time())}\n".encode() + packed)
        program.write_text(f"#!/bin/sh\n[ $1 = -O ] && exit\ncat {stream}\n{after}\n")
        program.chmod(0o755)
        copies.append(RemoteCopy(RemoteFolder("gpu7", "/runs"), [str(program)]))
        return copies[-1]

    yield make
    for copy in copies:
        copy.close()


def _tar(*members: tuple[str, bytes, dict[str, str]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, headers in members:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), headers
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _files(copy: RemoteCopy) -> list[str]:
    return sorted(p.relative_to(copy.folder).as_posix() for p in copy.folder.rglob("*") if p.is_file())


@posix
@pytest.mark.parametrize("time_", ["nan", "inf", "-1e300", "1e300", "never"])
def test_a_time_that_is_none_does_no_harm(hostile: Callable[..., RemoteCopy], time_: str) -> None:
    copy = hostile(_tar(("run.json", b"{}", {"mtime": time_})))
    copy._fetch("states", "-name x")
    assert _files(copy) == ["run.json"]


@posix
def test_names_that_no_folder_can_hold_are_left_out(hostile: Callable[..., RemoteCopy]) -> None:
    names = [f"{'a' * 256}/run.json", f"{'ä' * 200}/run.json", f"{'/'.join(['b' * 250] * 12)}/run.json"]
    copy = hostile(_tar(*((name, b"{}", {}) for name in [*names, "a/run.json"])))
    copy._fetch("states", "-name x")
    assert _files(copy) == ["a/run.json"]


@posix
@pytest.mark.parametrize("kind", ["long", "deep", "sparse"])
def test_headers_that_fill_the_memory_or_the_stack_end_in_a_sentence(
    hostile: Callable[..., RemoteCopy], kind: str
) -> None:
    if kind == "long":
        packed = _tar(("run.json", b"", {"comment": "x" * 2**20}))
    elif kind == "deep":  # each describes the next one
        head = tarfile.TarInfo("x")
        head.type = tarfile.XHDTYPE
        packed = head.tobuf(tarfile.USTAR_FORMAT) * 3000
    else:
        places = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        packed = _tar(("run.json", b"9" * 9 + b"\n" + b"1\n" * 2**19, places))
    with pytest.raises(DataError, match="damaged stream"):
        hostile(packed)._fetch("states", "-name x")


@posix
def test_a_computer_cannot_fill_the_disk_by_and_by(
    hostile: Callable[..., RemoteCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.training.remote._LARGEST_COPY", 100)
    copy = hostile(_tar(("a/run.json", b"x" * 60, {})))
    copy._fetch("states", "-name x")
    hostile(_tar(("b/run.json", b"x" * 60, {})))  # from now on, it answers this
    with pytest.raises(DataError, match="gpu7:/runs sends too much"):
        copy._fetch("states", "-name x")


@posix
def test_who_sends_everything_and_stays_is_not_waited_for(
    hostile: Callable[..., RemoteCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.training.remote._END_SECONDS", 0.2)
    copy = hostile(_tar(("run.json", b"{}", {})), after="exec >&-; exec sleep 60")
    began = time.monotonic()
    copy._fetch("states", "-name x")
    assert time.monotonic() - began < 30 and _files(copy) == ["run.json"]


@posix
def test_a_folder_with_the_name_of_a_lease_is_left_alone(hostile: Callable[..., RemoteCopy]) -> None:
    copy = hostile(_tar(("owner.json/run.json", b"{}", {})))
    copy._fetch("states", "-name x")
    copy._forget_owners()
    assert _files(copy) == ["owner.json/run.json"]


@posix
def test_what_a_hostile_computer_sends_stays_inside(hostile: Callable[..., RemoteCopy]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("../outside.json", "/tmp/run.json", "evil.sh", "run.json"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("status.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        huge = tarfile.TarInfo("a/run.json")
        huge.size = 10**6
        archive.addfile(huge, io.BytesIO(b"x" * 10**6))
    copy = hostile(packed.getvalue())
    copy._fetch("states", "-name x")
    assert [p.name for p in copy.folder.rglob("*")] == ["run.json"]
    top = copy.folder.parent
    assert not list(top.glob("outside*")) and not (top.parent / "outside.json").exists()


@posix
@pytest.mark.parametrize(
    "names",
    [("a", "a/run.json"), ("run.json", "run.json/status.json"), ("a/run.json", "a/run.json/run.json")],
)
def test_a_name_that_is_both_a_file_and_a_folder_is_said(
    hostile: Callable[..., RemoteCopy], names: tuple[str, ...]
) -> None:
    copy = hostile(_tar(*((name, b"", {}) for name in names)))
    if names[0] == "a":  # no file of a run
        copy._fetch("states", "-name x")
        assert _files(copy) == ["a/run.json"]
        return
    with pytest.raises(DataError, match=r"gpu7:/runs sends .* both as a file and as a folder"):
        copy._fetch("states", "-name x")


@posix
def test_a_copy_that_cannot_be_renewed_is_said_once_and_tried_again(make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.record.hold()
    run.record.write(StateChanged(attempt=1, seq=1, state="running"))
    pulls = 0

    def pull() -> None:
        nonlocal pulls
        pulls += 1
        if pulls < 4:
            raise RemoteError("gpu7 cannot be reached.", "Try: ssh gpu7.")
        watch.stop()

    watch = Watch(run.folder, pull=pull, every=0.01)
    notices = [e.message for e in watch if isinstance(e, Notice)]
    assert notices == ["gpu7 cannot be reached."] and pulls >= 4
    run.record.release()

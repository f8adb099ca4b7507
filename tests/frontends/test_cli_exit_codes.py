"""Exit codes and standard streams: each end is called by its name, also when nobody can read it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segexplorer.core import errors
from segexplorer.core.errors import DiskError, ExitCode, PlaceError, disk_error
from segexplorer.frontends.cli import app as app_module
from segexplorer.frontends.cli.app import run as cli

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full and sh")
CONFIG = """
data: {kind: phantom, count: 3, size: 32, seed: 1}
split: {validation_count: 1}
sampling: {patch_size: [16, 16, 16], batch_size: 1, steps_per_epoch: 200}
network: {kind: unet, base_features: 4, levels: 2}
loss: dice
schedule: {kind: polynomial, epochs: 50}
compute: {device: cpu, threads: 1}
"""


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run `segexplorer ...` in a shell whose redirections are those of the command."""
    program = f"exec {sys.executable} -m segexplorer.frontends.cli"
    words = ["bash", "-o", "pipefail", "-c", command.replace("segexplorer", program, 1)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_codes_are_those_that_schedulers_and_shells_know() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "MISTAKE": 2,
        "MACHINE": 74,
        "PREEMPTED": 75,
        "INTERRUPTED": 130,
    }
    assert all(code.description.endswith(".") for code in ExitCode)


@LINUX
@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("segexplorer list losses >/dev/full", 74, "there is no space left"),
        ("segexplorer list losses --json >/dev/full", 74, "there is no space left"),
        ("segexplorer --help >/dev/full", 74, "there is no space left"),
        ("segexplorer list losses >&-", 74, "closed"),
        ("segexplorer describe losses no_such 2>&-", 2, ""),
        ("segexplorer describe losses no_such 2>/dev/full", 2, ""),
        ("{ segexplorer list losses; } | head -1", 0, ""),
        ("{ segexplorer schema; } | true", 0, ""),
    ],
)
def test_streams_that_are_full_or_closed(command: str, code: int, told: str) -> None:
    ended = shell(command)
    assert ended.returncode == code, ended
    assert (
        told in ended.stderr and "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    )
    assert told or not ended.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 74),
        (errno.EDQUOT, 74),
        (errno.EIO, 74),
        (errno.ESTALE, 74),
        (errno.ENAMETOOLONG, 2),
        (errno.ELOOP, 2),
        (errno.EACCES, 2),
        (errno.EROFS, 2),
        (errno.ENOENT, 2),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_its_code(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/data/case.nii.gz")

    monkeypatch.setattr("segexplorer.frontends.cli.catalogue.print_families", refuse)
    assert cli(["list"]) == code
    told = capsys.readouterr().err
    assert told.startswith("segexplorer: ") and "case.nii.gz" in told and "/data" in told
    assert "Traceback" not in told and told.count("\n") == 1


def test_a_name_of_the_longest_kind_makes_a_short_sentence() -> None:
    found = disk_error(OSError(errno.ENAMETOOLONG, "long"), Path("/tmp") / ("x" * 5000))
    assert isinstance(found, PlaceError) and len(str(found)) < 250
    assert disk_error(OSError(errno.EAGAIN, "again"), Path("/tmp/x")) is None
    assert isinstance(disk_error(OSError(errno.EIO, "io")), DiskError)


@pytest.mark.parametrize("error", [MemoryError(), errors.NotEnoughMemoryError("It does not fit.", "")])
def test_too_little_memory_is_the_machines_fault(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starve(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("segexplorer.frontends.cli.catalogue.print_families", starve)
    assert cli(["list"]) == ExitCode.MACHINE
    assert "segexplorer: " in capsys.readouterr().err


def test_handlers_and_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM)
    assert cli(["list"]) == 0
    assert (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a program can catch")
def test_sigterm_saves_a_checkpoint_and_asks_to_be_queued_again(tmp_path: Path) -> None:
    config, folder = tmp_path / "experiment.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    words = [sys.executable, "-m", "segexplorer.frontends.cli", "train", str(config), "-o", str(folder)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while not _steps(folder):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        process.terminate()  # schedulers send it to the job and to its steps
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == ExitCode.PREEMPTED, told
    assert "Preempted" in told and f"train --resume {folder}" in told
    assert (folder / "checkpoints" / "last").read_text().startswith("step_")
    assert '"stopped to make room (SIGTERM)"' in (folder / "events.jsonl").read_text()


def _steps(folder: Path) -> int:
    log = folder / "events.jsonl"
    return log.read_text(errors="replace").count('"StepDone"') if log.exists() else 0


def test_sigterm_before_a_run_exists_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        pytest.skip("SIGTERM has a handler here already")

    def preempt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("segexplorer.frontends.cli.catalogue.print_families", preempt)
    assert app_module.run(["list"]) == ExitCode.PREEMPTED


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize("command", ["compare", "check", "series", "verify"])
@pytest.mark.parametrize("name", ["loop", "x" * 300, "/".join(["y" * 200] * 25)])
def test_loops_of_links_and_names_too_long_are_mistakes(
    command: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("pool")
    Path("pool").symlink_to("loop")
    assert cli([command, name]) == ExitCode.MISTAKE
    told = capsys.readouterr().err
    assert told.startswith("segexplorer: ") and len(told) < 450

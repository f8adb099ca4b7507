"""Atomic files and checkpoints: whole or not there, damage noticed, disk errors told."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError, DiskError, ExitCode
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study.runs import read_run
from segexplorer.training.checkpoint import open_checkpoint, read_pointer, save_checkpoint
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.replay import Replay


def _save(root: Path, step: int, *, best: bool = False, value: float = 0.0) -> Path:
    network = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(network.weight, value)
    return save_checkpoint(
        root, network=network, average=None, state={"a": torch.ones(2)}, meta={"step": step}, best=best
    )


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    atomic_write(target, b"one")
    atomic_write(target, b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_errors_become_a_sentence_with_a_remedy(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskError) as caught, translate_disk_errors(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.remedy and "folder" in caught.value.remedy


def test_other_os_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), translate_disk_errors(tmp_path / "x"):
        raise BlockingIOError(errno.EAGAIN, "try again")


def test_pointers_follow_and_unreferenced_folders_go(tmp_path: Path) -> None:
    _save(tmp_path, 1, best=True)
    _save(tmp_path, 2)
    _save(tmp_path, 3)
    pointers = {p: read_pointer(tmp_path, p) for p in ("last", "previous", "best")}
    assert pointers == {"last": "step_3", "previous": "step_2", "best": "step_1"}
    _save(tmp_path, 4)
    assert sorted(f.name for f in tmp_path.iterdir() if f.is_dir()) == ["step_1", "step_3", "step_4"]


def test_the_same_step_saved_twice_keeps_both_whole(tmp_path: Path) -> None:
    _save(tmp_path, 5, value=1)
    second = _save(tmp_path, 5, value=2)
    opened, trouble = open_checkpoint(tmp_path, "last")
    network = torch.nn.Linear(2, 2)
    opened.load_weights(network)
    assert (opened.folder, trouble) == (second, "")
    assert torch.equal(network.weight, torch.full((2, 2), 2.0))
    assert torch.equal(opened.load_state("cpu")["a"], torch.ones(2))


@pytest.mark.parametrize("file", ["weights.safetensors", "state.pt", "meta.json"])
def test_a_damaged_last_falls_back_to_previous_and_says_so(tmp_path: Path, file: str) -> None:
    _save(tmp_path, 1)
    folder = _save(tmp_path, 2)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    opened, trouble = open_checkpoint(tmp_path, "last")
    assert opened.step == 1
    assert "step_2" in trouble


def test_no_whole_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checkpoint"):
        open_checkpoint(tmp_path, "last")
    (_save(tmp_path, 1) / "state.pt").unlink()
    with pytest.raises(DataError, match="No whole checkpoint"):
        open_checkpoint(tmp_path, "last")


def test_a_pointer_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    for text in ("step_../../etc\n", "../step_1", "/step_1", "step_1/..", "step_1\x00", "step_\u0661", ""):
        (tmp_path / "last").write_text(text)
        assert read_pointer(tmp_path, "last") is None


def test_a_damaged_pointer_is_no_run_without_checkpoints(tmp_path: Path) -> None:
    """A run must not begin anew because a file of one line was damaged."""
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    (tmp_path / "last").write_text("ste")
    opened, trouble = open_checkpoint(tmp_path, "last")
    assert opened.step == 1 and "pointer last is damaged" in trouble
    (tmp_path / "previous").write_bytes(b"")
    with pytest.raises(DataError, match="No whole checkpoint"):
        open_checkpoint(tmp_path, "last")


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from segexplorer.core.errors import DiskError
from segexplorer.training.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    save_checkpoint(Path(sys.argv[1]), network=torch.nn.Linear(400, 400), average=None,
                    state={}, meta={"step": 2}, best=False)
except DiskError as error:
    print(error.remedy)
"""


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000
    _save(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert "Free some space" in done.stdout, done.stderr
    opened, _ = open_checkpoint(tmp_path, "last")
    assert opened.step == 1
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))
    assert json.loads((opened.folder / "meta.json").read_text())["step"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"older version of segexplorer \(format 1, not 2\)"),
        ('{"format": 1}', "older version of segexplorer"),
        ('{"format": 3}', "newer version of segexplorer"),
        ('{"for', "run.json is damaged"),
    ],
)
def test_run_folders_of_other_versions_are_refused_in_one_sentence(
    tmp_path: Path, content: str | None, message: str
) -> None:
    folder = RunFolder.create(Experiment.of({"data": {"kind": "phantom"}}), tmp_path / "run").path
    assert RunFolder.open(folder).experiment() == open_run(folder).experiment
    (folder / "run.json").unlink()
    if content is not None:
        (folder / "run.json").write_text(content)
    for open_it in (RunFolder.open, open_run, read_run, Replay):
        with pytest.raises(DataError, match=message) as caught:
            open_it(folder)  # type: ignore[operator]
        assert caught.value.message.count(". ") == 0 and caught.value.remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_no_space_in_the_middle_of_a_torch_save_is_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save

    def full(content: object, _: object) -> None:
        with Path("/dev/full").open("wb") as device:
            return save(content, device)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskError, match="no space left") as caught:
        save_checkpoint(
            tmp_path,
            network=torch.nn.Linear(2, 2),
            average=None,
            state={"a": torch.ones(300_000)},
            meta={"step": 1},
            best=False,
        )
    assert caught.value.exit_code == ExitCode.MACHINE
    assert [p.name for p in tmp_path.iterdir()] == []
    config = tmp_path / "experiment.yaml"
    config.write_text(
        "data: {kind: phantom, count: 3, size: 32}\nsplit: {validation_count: 1}\nloss: dice\n"
        "sampling: {patch_size: [16, 16, 16], batch_size: 1, steps_per_epoch: 1}\n"
        "network: {kind: unet, base_features: 4, levels: 2}\nschedule: {kind: constant, epochs: 1}\n"
        "compute: {device: cpu, threads: 1, precision: float32}\n"
    )
    assert cli(["train", str(config), "-o", str(tmp_path / "run")]) == ExitCode.MACHINE
    told = capsys.readouterr().err
    assert "There is no space left for step_1" in told and "Traceback" not in told

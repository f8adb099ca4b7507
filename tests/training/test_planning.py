"""Reading the cases before training: with progress, a point where it can be stopped, and anew for a resume."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.events import Event, Progress, RunFinished, StepDone
from segexplorer.data import case as case_module
from segexplorer.data.io import save_volume
from segexplorer.data.phantom import render_ct
from segexplorer.data.volume import Volume
from segexplorer.training import plan as plan_module
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.plan import planning, resolve
from segexplorer.training.run import Run


@pytest.fixture
def experiment(tmp_path: Path, tiny: Experiment) -> Experiment:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(3):
        voxels, labels = render_ct((24, 22, 20), np.random.default_rng(number))
        image = Volume.from_array(voxels, modality="CT")
        save_volume(image, tmp_path / "data" / "images" / f"p{number}.nii.gz")
        save_volume(
            Volume.from_array(labels), tmp_path / "data" / "labels" / f"p{number}.nii.gz", integer=True
        )
    return Experiment.of({**tiny.plain(), "data": {"kind": "folder", "root": str(tmp_path / "data")}})


@pytest.fixture
def slow_hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hashing waits until the event is set, as with a huge file."""
    go_on = threading.Event()
    content = case_module._content

    def slow(source: Any, *, whole: bool = False, looked: Callable[[], object] = lambda: None) -> bytes:
        while not go_on.is_set():
            looked()
            time.sleep(0.01)
        return content(source, whole=whole, looked=looked)

    monkeypatch.setattr(case_module, "_content", slow)
    monkeypatch.setattr(plan_module, "_TOLD_SECONDS", 0.02)
    yield go_on
    go_on.set()


def trained(experiment: Experiment, folder: Path, steps: int) -> Run:
    run = Run(RunFolder.create(experiment, folder))
    for event in run:
        if isinstance(event, StepDone) and event.step == steps:
            break
    return run


def end_of(run: Run) -> RunFinished:
    end = list(run)[-1]
    assert isinstance(end, RunFinished)
    return end


def test_the_plan_is_the_same_with_and_without_progress(experiment: Experiment) -> None:
    events = planning(experiment)
    while True:
        try:
            assert isinstance(next(events), Progress)
        except StopIteration as end:
            found = end.value
            break
    expected = resolve(experiment)
    assert found.summary() == expected.summary() and found.roles == expected.roles
    assert found.fingerprints == expected.fingerprints == resolve(experiment, hash_again=True).fingerprints


def test_everything_that_is_read_is_told(experiment: Experiment) -> None:
    told: list[tuple[str, int, int]] = []
    resolve(experiment, hash_again=True, looked=lambda *at: told.append(at))
    assert {what for what, _, _ in told} >= {
        "reading headers",
        "looking at intensities",
        "counting classes",
        "checking that the data are the same",
    }
    assert all(0 <= done <= total == total for _, done, total in told)


def test_a_resume_hashes_again_tells_how_far_it_is_and_can_be_stopped_there(
    experiment: Experiment, tmp_path: Path, slow_hashing: threading.Event
) -> None:
    slow_hashing.set()
    folder = trained(experiment, tmp_path / "run", 2).folder
    slow_hashing.clear()
    run = Run(RunFolder.open(folder))
    begun, seen = time.monotonic(), []
    told: list[Event] = []
    for event in run:
        seen.append(event)
        hashing = isinstance(event, Progress) and event.activity == "checking that the data are the same"
        if hashing and run.accepts("stop"):
            told.append(event)
            run.stop()
    assert all(isinstance(e, Progress) and e.total == 3 for e in told)
    assert told and isinstance(seen[-1], RunFinished) and seen[-1].state == "stopped"
    assert time.monotonic() - begun < 20 and threading.active_count() < 20
    assert not any(thread.name.startswith("segexplorer-plan") for thread in threading.enumerate())
    slow_hashing.set()
    assert end_of(Run(RunFolder.open(folder))).state == "finished"


@pytest.mark.parametrize("kept_time", [False, True])
def test_a_replaced_label_is_noticed_at_a_resume(
    kept_time: bool, experiment: Experiment, tmp_path: Path
) -> None:
    folder = trained(experiment, tmp_path / "run", 2).folder
    label = tmp_path / "data" / "labels" / "p1.nii.gz"
    about = label.stat()
    raw = bytearray(label.read_bytes())
    raw[4:8] = (
        b"\x01\x02\x03\x04"  # the time inside the gzip header: the voxels are the same, the file is not
    )
    label.write_bytes(bytes(raw))
    if kept_time:
        os.utime(label, ns=(about.st_atime_ns, about.st_mtime_ns))
    end = end_of(Run(RunFolder.open(folder)))
    assert end.state == "failed" and "label of the case p1" in end.error.replace("image or ", "")


def test_a_forged_memory_does_not_help_a_resume(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is remembered of the files, a resume reads them."""
    folder = trained(experiment, tmp_path / "run", 2).folder
    label = tmp_path / "data" / "labels" / "p1.nii.gz"
    labels = render_ct((24, 22, 20), np.random.default_rng(1))[1]
    labels[3:5] = 1
    save_volume(Volume.from_array(labels), label, integer=True)
    known = case_module.source_identity
    monkeypatch.setattr(
        case_module, "source_identity", lambda source: ["always the same", len(str(known(source)))]
    )
    end = end_of(Run(RunFolder.open(folder)))
    assert end.state == "failed" and "has changed since step" in end.error

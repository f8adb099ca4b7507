"""Data-parallel training: two processes compute what one does, and end together."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import segexplorer
from segexplorer.core.errors import ExitCode, MachineError, SpecError, TrainingError
from segexplorer.core.events import EpochDone, Notice, RunFinished, StateChanged, StepDone
from segexplorer.core.spec import replace_values
from segexplorer.data.sampler import Sampler
from segexplorer.frontends.cli.train import follow, run_train
from segexplorer.study.matrix import Point
from segexplorer.study.plan import planned_run
from segexplorer.training.compute import require_devices
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.identity import Identity, compare
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run
from segexplorer.training.team import Team, launch, launched_by_others

if sys.platform == "win32":
    pytest.skip("signals and process ends are those of POSIX", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent))
import two_ranks

ROUNDING = 1e-9
"""Of float64 sums in another order."""


@pytest.fixture
def pair() -> Iterator[Callable[[], Team]]:
    """Start a follower on request; it has ended when the test has."""
    teams: list[Team] = []

    def start() -> Team:
        teams.append(launch(2))
        return teams[-1]

    yield start
    for team in teams:
        team.end(0)
        assert all(follower.process.poll() is not None for follower in team._followers)


def _whole(parts: list[Any]) -> Any:
    return np.concatenate(parts)


@pytest.mark.parametrize("patch", [[16, 16, 16], None])
def test_shares_of_a_batch_are_the_batch(tiny: Experiment, patch: list[int] | None) -> None:
    settings = {
        "sampling.patch_size": patch,
        "sampling.batch_size": 4,
        "augmentation.elastic.probability": 0.5,
        "augmentation.placement.probability": 0.5,
        "augmentation.flips.left_right": 0.3,
    }
    plan = resolve(replace_values(tiny, settings))
    store = plan.open_store()
    made = [
        Sampler(store, plan.ids("train"), plan.sampling, plan.experiment.augmentation, 3, share=share)
        for share in ((0, 1), (0, 2), (1, 2))
    ]
    moved = set()
    for epoch, index in ((1, 0), (1, 1), (2, 2)):
        whole, *parts = (sampler.batch(epoch, index) for sampler in made)
        for name in ("images", "labels", "origins", "spacings", "volume_shapes"):
            np.testing.assert_array_equal(_whole([getattr(p, name) for p in parts]), getattr(whole, name))
        assert sum((p.cases for p in parts), ()) == whole.cases == whole.step_cases
        assert all(p.step_cases == whole.cases and p.moved == whole.moved for p in parts)
        moved.add(whole.moved)
    assert True in moved


def test_every_loss_of_two_ranks_is_that_of_one() -> None:
    """In a process of its own: both ranks must know the same losses, and other tests register some."""
    alone = f"{__file__}::test_every_loss_of_two_ranks_alone"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "study", alone]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout[-3000:]


@pytest.mark.study
def test_every_loss_of_two_ranks_alone() -> None:
    """Compared by `test_every_loss_of_two_ranks_is_that_of_one`."""
    team = launch(2, program=[two_ranks.__file__])
    try:
        layers = two_ranks.compare_normalisations(team)
        losses = two_ranks.compare_losses(team)
        networks = two_ranks.compare_networks(team, two_ranks.FEW)
    finally:
        team.end(0)
    assert {k: v for k, v in layers.items() if v > ROUNDING} == {}
    wrong = [d for d in losses if max(d.value, d.gradient, d.learned) > ROUNDING]
    assert not wrong
    # the comparison tells them apart: the mean of the ranks' own losses is another loss for many
    averaged = {d.what for d in losses if d.averaged > 1e-6}
    assert {"lovasz_softmax", "region_dice", "cross_entropy with ignored voxels"} <= averaged
    assert {k: v for k, v in networks.items() if v > 1e-7} == {}


@pytest.mark.study
def test_every_network_of_two_ranks_is_that_of_one() -> None:
    """Two minutes: `pytest -m study tests/training/test_team.py`."""
    team = launch(2, program=[two_ranks.__file__, "networks"])
    try:
        networks = two_ranks.compare_networks(team, two_ranks.networks.names())
    finally:
        team.end(0)
    assert {k: v for k, v in networks.items() if v > 1e-7} == {}


def _steps(run: Run) -> list[StepDone]:
    return [e for e in run.record.earlier_events(99) if isinstance(e, StepDone)]


HARD: dict[str, Any] = {
    "sampling__batch_size": 2,
    "network": {
        "kind": "unet",
        "base_features": 4,
        "levels": 3,
        "normalisation": "batch",
        "dropout": 0.3,
        "deep_supervision": "stride",
    },
    "validation__average_weights": 0.5,
}


def test_two_devices_train_as_one_and_either_goes_on_with_the_other(
    make_run: Callable[..., Run], pair: Callable[[], Team]
) -> None:
    ends = {}
    runs = {name: make_run(name, **HARD) for name in ("one", "two")}
    for name, run in runs.items():
        run.team = pair() if name == "two" else None
        for event in run:
            if isinstance(event, StepDone) and event.step == 2:
                run.set("optimiser.learning_rate", 0.004)
            if isinstance(event, RunFinished):
                ends[name] = event
    assert [ends[name].error for name in runs] == ["", ""]
    one, two = (_steps(run) for run in runs.values())
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=2e-4)
        assert b.gradient_norm == pytest.approx(a.gradient_norm, rel=2e-3)
        assert (b.cases, b.samples, b.learning_rate) == (a.cases, 2, a.learning_rate)
    epochs = [[e for e in run.record.earlier_events(99) if isinstance(e, EpochDone)] for run in runs.values()]
    for a, b in zip(*epochs, strict=True):
        assert b.adaptive == pytest.approx(a.adaptive, rel=1e-3)
    # the run of two devices goes on with one, and says so
    again = Run(runs["two"].record)
    again.extend(1)
    events = list(again)
    assert isinstance(events[-1], RunFinished) and not events[-1].error
    assert any("devices 1 after 2" in e.message for e in events if isinstance(e, Notice))
    assert "devices 2, then 1" in again.badges


def test_a_step_takes_no_more_messages_than_it_needs(
    make_run: Callable[..., Run], pair: Callable[[], Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        call = getattr(torch.distributed, name)

        def counting(*given: Any, **options: Any) -> Any:
            calls[name] += 1
            return call(*given, **options)

        return counting

    run = make_run(**HARD)
    run.team = pair()
    for name in ("broadcast", "all_reduce", "all_gather", "all_gather_object"):
        monkeypatch.setattr(torch.distributed, name, counted(name))
    found = []
    for event in run:
        if isinstance(event, StepDone):
            found.append(dict(calls))
            calls.clear()
    network = run.experiment.network.build(dimensions=3, in_channels=1, out_channels=2)
    layers = sum(isinstance(module, torch.nn.BatchNorm3d) for module in network.modules())
    levels = len(network.train()(torch.zeros(2, 1, 16, 16, 16)))
    assert found[-1] == {
        "broadcast": 1,  # the order
        "all_gather": layers + levels + 1,  # their statistics; logits; labels and all that the loss knows
        "all_reduce": layers + 1,  # the same on the way back; the gradients
    }


def test_a_batch_that_cannot_be_divided_is_refused(
    tiny: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(replace_values(tiny, {"sampling.batch_size": 3}).to_yaml())
    said = (
        "A batch of 3 cannot be divided equally among 2 devices. Set sampling.batch_size to a multiple of 2"
    )
    assert run_train(file, [], tmp_path / "run", None, 0, devices=2, as_json=False) == ExitCode.MISTAKE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "the corrected command may have the folder"

    with pytest.raises(SpecError, match="A batch of 3 cannot be divided equally among 2 devices"):
        resolve(replace_values(tiny, {"sampling.batch_size": 3, "compute.devices": 2}))
    with pytest.raises(TrainingError, match="cannot be trained on 0 devices"):
        segexplorer.train(tiny, tmp_path / "none", devices=0)


def test_a_run_starts_and_ends_its_processes_and_obeys_as_ever(make_run: Callable[..., Run]) -> None:
    """Paused, stepped, stopped, gone on with: what the window and Python do with a run."""
    run = make_run(sampling__batch_size=2, schedule__epochs=500, compute__devices=2)
    processes = []
    paused_at: list[int] = []

    def ask(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            assert run.team is not None and run.plan is not None
            assert run.plan.device.startswith("2 × CPU")
            processes.extend(follower.process for follower in run.team._followers)
            run.pause()
        if isinstance(event, StateChanged) and event.state == "paused":
            paused_at.append(run.record.earlier_events(99)[-1].step)
            if len(paused_at) < 3:
                run.step()
            else:
                run.stop()

    run.events.connect(ask)
    thread = run.start()
    thread.join()
    events = run.record.earlier_events(99)
    assert isinstance(events[-1], RunFinished) and events[-1].state == "stopped", events[-1]
    assert paused_at == [1, 2, 3] and run.record.saved_step() == 3
    assert run.team is None and [p.poll() for p in processes] == [0]

    run.events.disconnect(ask)
    run.events.connect(lambda event: run.stop() if isinstance(event, StepDone) and event.step == 5 else None)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == "stopped" and not end.error
    assert "devices" not in " ".join(run.badges), "it went on with as many"
    assert [e.step for e in _steps(run)] == [1, 2, 3, 4, 5]


def test_a_second_run_on_several_devices_is_refused_and_a_follower_that_cannot_start_says_why(
    make_run: Callable[..., Run], pair: Callable[[], Team]
) -> None:
    with pytest.raises(
        MachineError, match=r"died: it ended with exit code 1 \(ModuleNotFoundError: .*nowhere"
    ):
        launch(2, program=["-c", "import nowhere"])
    pair()
    end = list(make_run(sampling__batch_size=2, compute__devices=2))[-1]
    assert isinstance(end, RunFinished) and end.state == "failed"
    assert end.error == "Another run of this process trains on several devices."


def test_the_number_of_devices_is_no_part_of_a_run(tiny: Experiment, tmp_path: Path) -> None:
    one, two = tiny, replace_values(tiny, {"compute.devices": 2})
    folder = RunFolder.create(one, tmp_path / "run").path
    assert planned_run(Point("run", two), folder).todo == "resume"
    settings = compare(Identity(planned=one), Identity(planned=two), step=3).findings
    assert not [f for f in settings if f.answer in ("refused", "announced")], settings


def test_a_device_that_is_named_is_one_device() -> None:
    with pytest.raises(SpecError, match=r"compute\.device is cuda:1, which is one device, and 2 are wanted"):
        require_devices("cuda:1", 2)
    require_devices("cpu", 2)


def test_making_room_for_one_is_making_room_for_all(
    make_run: Callable[..., Run], pair: Callable[[], Team]
) -> None:
    run = make_run(sampling__batch_size=2, schedule__epochs=500)
    run.team = pair()
    process = run.team._followers[0].process

    def ask(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            process.send_signal(signal.SIGTERM)

    run.events.connect(ask)
    assert follow(run) == ExitCode.PREEMPTED
    assert run.record.saved_step() == run.record.earlier_events(99)[-1].step >= 2
    run.team.end(ExitCode.PREEMPTED)
    assert process.poll() == ExitCode.PREEMPTED


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_with_a_sentence(
    make_run: Callable[..., Run], pair: Callable[[], Team]
) -> None:
    run = make_run(sampling__batch_size=2, schedule__epochs=500)
    run.team = pair()
    killed = 0.0

    def kill(event: Any) -> None:
        nonlocal killed
        if isinstance(event, StepDone) and event.step == 2:
            run.team._followers[0].process.kill()  # type: ignore[union-attr]
            killed = time.monotonic()

    run.events.connect(kill)
    end = list(run)[-1]
    assert time.monotonic() - killed < 100
    assert isinstance(end, RunFinished) and (end.state, end.exit_code) == ("failed", ExitCode.MACHINE)
    assert re.search(r"has died: it ended by signal SIGKILL", end.error)
    assert "--resume" in end.remedy


FAILS = """
from segexplorer.core.errors import DataError
from segexplorer.training.team import join
team = join()
team.hear()
team.fail(DataError("Case a is damaged.", "Copy it again."))
"""


@pytest.mark.slow
def test_a_process_that_cannot_go_on_says_why(make_run: Callable[..., Run]) -> None:
    run = make_run(sampling__batch_size=2)
    run.team = launch(2, program=["-c", FAILS])
    try:
        end = list(run)[-1]
    finally:
        run.team.end(ExitCode.MISTAKE)
    assert isinstance(end, RunFinished) and end.exit_code == ExitCode.MISTAKE
    assert re.fullmatch(r"Case a is damaged. \(said by process 1 on .*\)", end.error)
    assert end.remedy == "Copy it again."


def test_variables_of_torchrun_are_recognised() -> None:
    assert launched_by_others({"WORLD_SIZE": "8"}) == 0
    given = {"RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert launched_by_others(given) == 8

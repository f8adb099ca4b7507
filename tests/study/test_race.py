"""Races: lanes that start alike, end alike where nothing differs, and are a study on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import RunFinished, StepDone, WatchedDone
from segexplorer.study import compare_groups
from segexplorer.study.plan import runs_of
from segexplorer.study.race import RACE, REPETITION, LaneEvent, Race, is_race, open_race, plan_race
from segexplorer.training.checkpoint import WEIGHTS
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.fork import fork_of
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.viewmodels.race import RaceView


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps in four epochs."""
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1, "classes": {"liver": 1}},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "dice_cross_entropy",
            "optimiser": {"kind": "adamw", "learning_rate": 1e-2},
            "schedule": {"kind": "constant", "epochs": 4},
            "checkpoints": {"keep_every": 2},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    folder = tmp_path_factory.mktemp("race") / "run"
    assert list(Run(RunFolder.create(experiment, folder)))[-1].state == "finished"
    return folder


@pytest.fixture(scope="module")
def raced(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[LaneEvent]]:
    """A race of four steps from step 7, to which the run is repeated from step 6."""
    folder = tmp_path_factory.mktemp("raced") / "race"
    plan = plan_race(trained, {"loss": "cross_entropy"}, step=7, steps=4, every=2)
    race = Race(folder, plan)
    events = list(race)
    assert race.state == "finished", race.reason
    return folder, events


def test_the_cost_is_said_before_anything_is_trained(trained: Path, tmp_path: Path) -> None:
    plan = plan_race(trained, {"loss": "cross_entropy"}, step=7, steps=4)
    text = " ".join(plan.sentences())
    assert "step 6: 1 step has to be trained again first" in text
    assert (
        "3 lanes of 4 steps: A dice_cross_entropy, B cross_entropy, a control (A with other batches)" in text
    )
    assert "That takes about" in text
    assert "nobody can tell a difference from chance" in " ".join(
        plan_race(trained, {"loss.kind": "dice"}, step=6, controls=0).sentences()
    )
    assert [p.name for p in trained.parent.iterdir()] == ["run"]


def test_lanes_take_turns_between_frames(raced: tuple[Path, list[LaneEvent]]) -> None:
    _, events = raced
    order = [(e.lane, e.event.step) for e in events if isinstance(e.event, StepDone)]
    assert order[0] == (REPETITION, 7)
    assert order[1:7] == [(lane, step) for lane in ("A", "B", "control") for step in (8, 9)]
    assert order[7:] == [(lane, step) for lane in ("A", "B", "control") for step in (10, 11)]
    ends = [(e.lane, e.event.state) for e in events if isinstance(e.event, RunFinished)]
    assert ends == [(lane, "finished") for lane in (REPETITION, "A", "B", "control")]


def test_lane_a_is_what_the_run_itself_did(trained: Path, raced: tuple[Path, list[LaneEvent]]) -> None:
    recorded = {e.step: e.loss for e in open_run(trained).events() if isinstance(e, StepDone)}
    lane = {e.event.step: e.event.loss for e in raced[1] if e.lane == "A" and isinstance(e.event, StepDone)}
    assert lane == {step: recorded[step] for step in (8, 9, 10, 11)}


def test_every_lane_starts_with_the_same_picture_and_has_frames_at_the_same_steps(
    raced: tuple[Path, list[LaneEvent]],
) -> None:
    record = open_race(raced[0])
    frames = record.frames()
    assert list(frames) == [7, 9, 11] and all(set(f) == {"A", "B", "control"} for f in frames.values())
    first = [frame.prediction().tobytes() for frame in frames[7].values()]
    assert len(set(first)) == 1
    assert len([e for e in raced[1] if e.lane == "A" and isinstance(e.event, WatchedDone)]) == 2 * len(frames)
    batches = {
        lane: [e.event.cases for e in raced[1] if e.lane == lane and isinstance(e.event, StepDone)]
        for lane in ("A", "B")
    }
    assert batches["A"] == batches["B"]
    view = RaceView(raced[0])
    start = view.difference("liver", step=7)
    assert not any(start.apart_ml.values()) and not start.map.any()


def test_on_the_disk_it_is_a_small_study(raced: tuple[Path, list[LaneEvent]]) -> None:
    folder, _ = raced
    assert is_race(folder) and sorted(p.name for p in folder.iterdir()) == [
        "A",
        "B",
        "control",
        RACE,
        "study.json",
    ]
    found = runs_of([folder])
    assert [f.name for f in found.folders] == ["A", "B", "control"] and not found.left_out
    assert found.reference is not None and found.reference.name == "A"
    compared = compare_groups(found.folders, checkpoint="last", reference=found.reference)
    labels = {condition.label for group in compared.comparisons for condition in group.conditions}
    assert labels == {"dice_cross_entropy", "cross_entropy"}, (
        "A and its control are two seeds of one condition"
    )
    file = fork_of(folder / "B")
    assert file is not None and (file.source, file.step, file.ends_at) == ("run", 7, 11)
    view = RaceView(folder)
    assert view.curves("liver").lanes["B"][0] == [7, 9, 11]
    assert view.sentences() and not {"better", "worse"} & set(" ".join(view.sentences()).split())


def test_a_race_that_was_stopped_goes_on_and_ends_the_same(
    trained: Path, raced: tuple[Path, list[LaneEvent]], tmp_path: Path
) -> None:
    plan = plan_race(trained, {"loss": "cross_entropy"}, step=7, steps=4, every=2)
    race = Race(tmp_path / "race", plan)
    for told in race:
        if told.lane == "B" and isinstance(told.event, StepDone):
            race.stop()
    assert race.state == "stopped" and not open_race(race.folder).finished
    again = Race(race.folder)
    list(again)
    assert again.state == "finished", again.reason
    for lane in ("A", "B", "control"):
        one, two = (
            {e.step: e.loss for e in open_run(folder / lane).events() if isinstance(e, StepDone)}
            for folder in (raced[0], race.folder)
        )
        assert one == two, lane


def test_a_lane_that_fails_ends_the_race(trained: Path, tmp_path: Path) -> None:
    race = Race(tmp_path / "race", plan_race(trained, {"loss": "cross_entropy"}, step=6, steps=6, every=3))
    for told in race:
        if told.lane == "A":  # the lanes are made, and B has not begun
            (race.folder / "B" / "checkpoints" / "step_6" / WEIGHTS).write_bytes(b"damaged")
    assert race.state == "failed" and race.reason.startswith("lane B: No whole checkpoint"), race.reason
    ends = {lane: open_run(race.folder / lane).state for lane in ("A", "control")}
    assert ends == {"A": "stopped", "control": "stopped"}


def test_what_is_no_race(trained: Path, raced: tuple[Path, list[LaneEvent]], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="nothing is changed"):
        plan_race(trained, {})
    with pytest.raises(SpecError, match="cannot change in a fork"):
        plan_race(trained, {"network.levels": 3})
    with pytest.raises(DataError, match="holds no race"):
        open_race(trained)
    with pytest.raises(DataError, match="never overwritten"):
        Race(raced[0], plan_race(trained, {"loss": "dice"}, step=6))
    copy = tmp_path / "copy"
    shutil.copytree(raced[0], copy)
    for lanes in ({"../run": "x", "B": "y"}, {"A": "x", "B": "y", "../C": "z"}):
        text = {**json.loads((copy / RACE).read_text()), "lanes": lanes, "controls": list(lanes)[2:]}
        (copy / RACE).write_text(json.dumps(text))
        with pytest.raises(DataError, match="damaged"):
            open_race(copy)


def test_two_controls_have_batches_of_their_own(trained: Path) -> None:
    plan = plan_race(trained, {"loss": "dice"}, step=6, controls=2)
    assert plan.controls == ("control_1", "control_2")
    assert [e.seed for e in plan.lanes.values()] == [0, 0, 1, 2]
    assert plan.lanes["control_1"].loss == plan.lanes["A"].loss


def test_a_low_learning_rate_is_said(tmp_path: Path, trained: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    log = copy / "events.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["event"] == "StepDone":
            line["learning_rate"] = 1e-2 * 0.5 ** line["step"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "lanes will hardly part" in " ".join(plan_race(copy, {"loss": "dice"}, step=12).sentences())
    assert "hardly" not in " ".join(plan_race(copy, {"loss": "dice"}, step=0).sentences())

"""Forks: bit for bit what the run itself did, from any step, and changed only where they were told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import Event, RunFinished, StepDone, ValidationDone
from segexplorer.core.spec import replace_values
from segexplorer.training.checkpoint import STATE, WEIGHTS, Keep, open_checkpoint, save_checkpoint
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.fork import fork_of, forked, locate, make_fork, reached
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.run_files import read_kept
from segexplorer.training.sharing import share_run, unpacked_run
from segexplorer.training.verification import verify_run

EPOCHS, PER_EPOCH = 4, 3
LAST = EPOCHS * PER_EPOCH


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps whose checkpoints are kept after each epoch, and whose loss was edited at step 8."""
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": PER_EPOCH},
            "network": {"kind": "unet", "base_features": 4, "levels": 2, "dropout": 0.2},
            "loss": "adaptive_tversky_cross_entropy",
            "schedule": {"kind": "polynomial", "epochs": EPOCHS},
            "checkpoints": {"keep_every": 1},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
            "changes": [{"step": 8, "field": "optimiser.learning_rate", "value": 2e-3}],
        }
    )
    folder = tmp_path_factory.mktemp("fork") / "run"
    assert list(Run(RunFolder.create(experiment, folder)))[-1].state == "finished"
    return folder


def weights(folder: Path) -> str:
    """The checksum of the last weights."""
    return str(open_checkpoint(folder / "checkpoints", "last")[0].meta["sha256"][WEIGHTS])


def losses(events: list[Event]) -> dict[int, float]:
    """Step -> loss."""
    return {e.step: e.loss for e in events if isinstance(e, StepDone)}


def test_checkpoints_are_kept_after_every_epoch(trained: Path) -> None:
    kept = read_kept(trained / "checkpoints")
    assert kept == {f"step_{PER_EPOCH * n}": n for n in range(1, EPOCHS + 1)}
    assert not [f for f in verify_run(trained) if f.state == "damaged"]


@pytest.mark.parametrize(
    ("megabytes", "left"),
    [(20, [1, 2, 3, 4, 5, 6, 7, 8]), (5, [2, 4, 6, 8]), (4, [4, 8]), (3, [4, 8]), (2, [8]), (1, [])],
)
def test_kept_checkpoints_are_thinned_out_evenly(tmp_path: Path, megabytes: int, left: list[int]) -> None:
    """Of a little over a megabyte each: every second one goes, then every second one of those."""
    network = torch.nn.Linear(1000, 250)  # a megabyte
    state = {"moments": torch.zeros(10)}
    for number in range(1, 9):
        save_checkpoint(
            tmp_path,
            network=network,
            average=None,
            state=state,
            meta={"step": 3 * number},
            best=False,
            keep=Keep(number, megabytes),
        )
    numbers = read_kept(tmp_path)
    assert sorted(numbers.values()) == left
    names = {p.name for p in tmp_path.glob("step_*")}
    assert names == {*numbers, "step_24", "step_21"}, "those that pointers name stay, too"


@pytest.mark.parametrize("step", [0, 8, 9])
def test_a_fork_that_changes_nothing_repeats_the_run_bit_for_bit(
    trained: Path, tmp_path: Path, step: int
) -> None:
    point = locate(trained, step)
    assert point.replay_steps == (step % PER_EPOCH)
    told: list[Event] = []
    with reached(point, tmp_path / "fork", told.append) as there:
        folder = make_fork(there, forked(point, {}), tmp_path / "fork", steps=LAST - step)
    assert sorted(losses(told)) == list(range(step - point.replay_steps + 1, step + 1))
    assert there.note == ""
    assert [p.name for p in tmp_path.iterdir()] == ["fork"], "what was repeated is gone"
    events = list(Run(folder))
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished", events[-1]
    recorded = losses(open_run(trained).events())
    assert losses(events) == {n: recorded[n] for n in range(step + 1, LAST + 1)}
    assert weights(folder.path) == weights(trained)
    assert not [f for f in verify_run(folder.path) if f.state != "sound"]


def test_a_fork_ends_where_it_should_with_scores_and_a_badge(trained: Path, tmp_path: Path) -> None:
    point = locate(trained, 3)
    run = Run(make_fork(point, forked(point, {"loss": "dice"}), tmp_path / "fork", steps=2))
    events = list(run)
    assert [e.step for e in events if isinstance(e, StepDone)] == [4, 5]
    (scored,) = [e for e in events if isinstance(e, ValidationDone)]
    assert scored.step == 5 and scored.best and "forked at step 3" in run.badges
    file = fork_of(run.folder)
    assert file is not None and (file.source, file.step, file.ends_at) == ("run", 3, 5)
    assert file.changed == ["loss"]
    again = list(Run(RunFolder.open(run.folder)))
    assert not [e for e in again if isinstance(e, (StepDone, ValidationDone))], (
        "what is done is not done again"
    )


def test_the_first_step_of_a_fork_sees_the_same_batch_with_the_same_weights(
    trained: Path, tmp_path: Path
) -> None:
    """The Dice of the batch under the run's own loss and under another one is of one and the same prediction."""
    point = locate(trained, 6)
    recorded = next(e for e in open_run(trained).events() if isinstance(e, StepDone) and e.step == 7)
    one = {"kind": "weighted_sum", "terms": [{"loss": {"kind": "tversky"}, "weight": 2.0}]}
    for name, loss in (("one", {"kind": "tversky"}), ("two", one)):
        run = Run(make_fork(point, forked(point, {"loss": loss}), tmp_path / name, steps=1))
        first = next(e for e in run if isinstance(e, StepDone))
        assert first.cases == recorded.cases
        if name == "one":
            single = first.loss
        else:
            assert first.loss == pytest.approx(2 * single, rel=1e-6)


def test_the_optimiser_goes_on_with_its_moments(trained: Path, tmp_path: Path) -> None:
    point = locate(trained, 6)
    moments = {}
    for name, changes in {
        "same": {"loss": "dice"},
        "decayed": {"optimiser.weight_decay": 0.5},
        "other": {"optimiser": "sgd"},
    }.items():
        folder = make_fork(point, forked(point, changes), tmp_path / name, steps=1)
        state = open_checkpoint(folder.checkpoints)[0].load_state("cpu")
        moments[name] = state["optimiser"]
        assert list(Run(folder))[-1].state == "finished"
    source = next(p for p in (trained / "checkpoints").iterdir() if p.name == "step_6")
    original = torch.load(source / STATE, weights_only=True)["optimiser"]
    kept = moments["same"]["state"][0]["exp_avg"]
    assert torch.equal(kept, original["state"][0]["exp_avg"]) and kept.abs().sum() > 0
    assert moments["decayed"]["param_groups"][0]["weight_decay"] == 0.5
    assert original["param_groups"][0]["weight_decay"] != 0.5
    assert moments["other"] is None


def test_what_a_loss_has_adapted_stays_while_its_kind_does(trained: Path, tmp_path: Path) -> None:
    point = locate(trained, 6)
    source = open_checkpoint(trained / "checkpoints")[0].folder.parent / "step_6"
    adapted = torch.load(source / STATE, weights_only=True)["loss"]
    assert adapted
    for name, changes, stays in (("beta", {"loss.beta": 0.9}, True), ("kind", {"loss": "t_loss"}, False)):
        experiment = forked(point, changes)
        folder = make_fork(point, experiment, tmp_path / name, steps=1)
        found = open_checkpoint(folder.checkpoints)[0].load_state("cpu")["loss"]
        if stays:
            assert all(torch.equal(found[key], value) for key, value in adapted.items())
        else:
            assert found.keys() == experiment.loss.build().state_dict().keys()
        assert list(Run(folder))[-1].state == "finished"


def test_another_seed_draws_other_batches_of_the_same_split(trained: Path, tmp_path: Path) -> None:
    point = locate(trained, 6)
    experiment = forked(point, {"seed": 11})
    run = Run(make_fork(point, experiment, tmp_path / "control", steps=3))
    events = list(run)
    assert events[-1].state == "finished", events[-1]
    assert run.plan is not None
    recorded = losses(open_run(trained).events())
    assert losses(events)[7] != recorded[7]
    (roles,) = [a.roles for a in map(_attempt, [trained])]
    assert dict(run.plan.roles) == roles


def _attempt(folder: Path) -> Any:
    from segexplorer.training.run_files import read_provenance

    return read_provenance(folder)[-1]


def test_later_live_changes_are_repeated_unless_the_fork_changes_the_same(trained: Path) -> None:
    point = locate(trained, 6)
    assert [c.field for c in forked(point, {"loss": "dice"}).changes] == ["optimiser.learning_rate"]
    assert not forked(point, {"optimiser.learning_rate": 1e-4}).changes
    late = forked(locate(trained, 9), {})
    assert not late.changes and late.optimiser.learning_rate == 2e-3, "those before it are in effect"


def test_what_the_weights_belong_to_cannot_change(trained: Path) -> None:
    point = locate(trained, 6)
    for change in ({"network.base_features": 8}, {"data.count": 4}, {"split.validation_count": 2}):
        with pytest.raises(SpecError, match="cannot change in a fork"):
            forked(point, change)
    with pytest.raises(SpecError, match="no setting 'los'"):
        forked(point, {"los.beta": 1})
    with pytest.raises(SpecError, match="has no setting 'bet'"):
        forked(point, {"loss.bet": 1})


def test_where_there_is_nothing_to_fork(trained: Path, tmp_path: Path, tiny: Experiment) -> None:
    with pytest.raises(SpecError, match=r"trained 12 steps.*step 99"):
        locate(trained, 99)
    with pytest.raises(DataError, match="not a run folder"):
        locate(tmp_path)
    point = locate(trained, 6)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("")
    with pytest.raises(DataError, match="already exists"):
        make_fork(point, forked(point, {}), taken)
    share_run(trained, tmp_path / "copy.zip")
    with unpacked_run(tmp_path / "copy.zip") as shared:
        assert not locate(shared, 0).checkpoint  # a shared copy keeps nothing that training needs


def test_a_damaged_checkpoint_leaves_no_half_made_fork(trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    file = copy / "checkpoints" / "step_6" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    point = locate(copy, 6)
    with pytest.raises(DataError, match="checksum"):
        make_fork(point, forked(point, {}), tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


def test_a_repetition_that_is_not_exact_says_so(trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    log = copy / "events.jsonl"
    lines = log.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"StepDone"' in line and '"step": 7,' in line)
    lines[place] = replaced_loss(lines[place])
    log.write_text("\n".join(lines) + "\n")
    point = locate(copy, 8)
    with reached(point, tmp_path / "fork") as there:
        folder = make_fork(there, forked(point, {}), tmp_path / "fork", steps=1)
    assert "from step 7 on not exactly" in there.note
    run = Run(folder)
    list(run)
    assert any("not exactly" in badge for badge in run.badges)


def replaced_loss(line: str) -> str:
    """An event whose loss is another one."""
    import json

    event = json.loads(line)
    return json.dumps({**event, "loss": event["loss"] + 0.5})


def test_a_plain_fork_trains_to_the_end_of_its_epochs(trained: Path, tmp_path: Path) -> None:
    point = locate(trained, 9)
    run = Run(make_fork(point, replace_values(forked(point, {}), {"loss": "dice"}), tmp_path / "fork"))
    events = list(run)
    assert events[-1].step == LAST and "all 4 epochs" in events[-1].reason
    assert any(e.best for e in events if isinstance(e, ValidationDone)), "its best checkpoint is its own"

"""Recorded runs of lectures: made once, whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import TrainingError
from segexplorer.training.experiment import Experiment
from segexplorer.training.explanation import explain_run
from segexplorer.training.history import open_run
from segexplorer.training.lecture_runs import FOLDER, RECORDINGS, REWARDED, Making, Recording

TINY: dict[str, Any] = {
    "data": {"kind": "phantom", "count": 2, "size": 16, "seed": 0, "classes": {"liver": 1}},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [8, 8, 8], "batch_size": 1, "steps_per_epoch": 3},
    "network": {"kind": "unet", "base_features": 2, "levels": 2},
    "loss": "dice",
    "schedule": {"epochs": 2},
    "compute": {"device": "cpu", "threads": 1},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path / "cache"))


def test_a_recording_is_made_once_and_tells_how_far_it_is() -> None:
    recording, told = Recording("tiny", TINY), list[Making]()
    assert not recording.ready
    folder = recording.make(told.append)
    assert recording.ready and folder == recording.folder and open_run(folder).state == "finished"
    assert [making.done for making in told] == list(range(7)) and {making.total for making in told} == {6}
    made = (folder / "status.json").stat().st_mtime_ns
    assert recording.make(lambda _: pytest.fail("it is there")) == folder
    assert (folder / "status.json").stat().st_mtime_ns == made
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing is left aside"


def test_a_recording_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    recording, stop = Recording("tiny", TINY), threading.Event()
    with pytest.raises(TrainingError, match="was not made"):
        recording.make(lambda making: stop.set() if making.done == 2 else None, stop)
    assert not recording.ready and not list((tmp_path / "cache" / FOLDER).iterdir())


def test_another_recipe_and_a_damaged_folder_are_made_anew() -> None:
    recording = Recording("tiny", TINY)
    assert recording.folder != Recording("tiny", {**TINY, "seed": 1}).folder
    recording.folder.mkdir(parents=True)
    (recording.folder / "experiment.yaml").write_text("nonsense: [")
    assert not recording.ready
    assert open_run(recording.make()).state == "finished"


def test_a_sentence_tells_steps_and_the_time_that_is_left() -> None:
    assert "preparing" in Making(0, 200).sentence()
    assert Making(50, 200, 10.0).sentence().endswith("step 50 of 200, about 30 s left…")
    assert Making(200, 200, 40.0).sentence().endswith("step 200 of 200…")


@pytest.mark.parametrize("name", [name for name, found in RECORDINGS.items() if found.write is None])
def test_recipes_are_experiments_that_keep_checkpoints_and_logits(name: str) -> None:
    experiment = Experiment.of(RECORDINGS[name].recipe)
    assert experiment.checkpoints.keep_every > 0 and experiment.validation.logits_mb > 0
    assert experiment.compute.threads == 1 and experiment.compute.device == "cpu"


@pytest.mark.slow
def test_the_made_up_case_rewards_errors_exactly_where_the_weight_changes_its_sign() -> None:
    explained = explain_run(REWARDED.make())
    loss = REWARDED.recipe["loss"]
    outside = explained.labels == 0
    missed = (explained.labels == 1) & (explained.logits.argmax(0) == 0)
    assert missed.sum() > 500 and not (outside & (explained.logits.argmax(0) == 1)).any()
    report = explained.regions(loss)
    assert report is not None
    boxes = report.regions.numbers()
    with_misses = np.unique(boxes[missed])
    alpha, beta, fp, fn = (report.values[key][1][with_misses] for key in ("alpha", "beta", "fp", "fn"))
    assert np.allclose(alpha, 0.3, atol=0.015) and np.allclose(beta, 0.7, atol=0.015)
    assert (fp < 0.07 * fn).all()
    held = explained.asked(1, loss).values
    free = explained.asked(1, {**loss, "detach": False}).values
    cured = explained.asked(1, {**loss, "detach": False, "a": 0.4}).values
    assert (held[outside] < 0).all() and (cured[outside] <= 0).all()
    near = outside & np.isin(boxes, with_misses)
    assert (free[near] > 0).mean() > 0.99 and (free[outside & ~near] < 0).all()
    assert np.median(free[near]) > np.median(np.abs(free[outside & ~near])), "it is seen beside the rest"

"""Training from the shared cache: the same numbers, one cache for all runs, nothing of it in the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.events import RunFinished, StepDone
from segexplorer.core.spec import replace_values
from segexplorer.data.case import Case, ClassMap
from segexplorer.data.io import save_volume
from segexplorer.data.phantom import render_ct
from segexplorer.data.transforms import FittedPreprocessing, Prepared
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

SMALL_GB = 1e-6
"""Memory into which no case fits, so that patches are cut from files."""


@pytest.fixture
def on_disk(tmp_path: Path, tiny: Experiment) -> Experiment:
    """The tiny experiment on files, with a loss that needs distance maps, and turned patches."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number in range(3):
        voxels, labels = render_ct((32, 30, 28), np.random.default_rng(number))
        image = Volume.from_array(voxels, modality="CT")
        save_volume(image, folder / "images" / f"p{number}.nii.gz")
        save_volume(Volume.from_array(labels), folder / "labels" / f"p{number}.nii.gz", integer=True)
    return Experiment.of(
        {
            **tiny.plain(),
            "data": {"kind": "folder", "root": str(folder)},
            "loss": {
                "kind": "weighted_sum",
                "terms": [{"loss": "dice"}, {"loss": "boundary", "weight": 0.01}],
            },
            "augmentation": {"placement": {"probability": 0.5}},
        }
    )


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    apply = FittedPreprocessing.apply

    def counted(self: FittedPreprocessing, case: Case, classes: ClassMap) -> Prepared:
        made.append(case.id)
        return apply(self, case, classes)

    monkeypatch.setattr(FittedPreprocessing, "apply", counted)
    return made


def losses(run: Run) -> list[tuple[int, float]]:
    events = list(run)
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    return [(e.step, e.loss) for e in events if isinstance(e, StepDone)]


def weights(run: Run) -> dict[str, Any]:
    from safetensors.torch import load_file

    last = (run.folder / "checkpoints" / "last").read_text().strip()
    return load_file(run.folder / "checkpoints" / last / "weights.safetensors")


def test_where_cases_are_kept_changes_no_bit_and_runs_share_them(
    on_disk: Experiment, tmp_path: Path, prepared: list[str]
) -> None:
    def run(name: str, gb: float, cache: str) -> Run:
        settings = {"compute.cache_gb": gb, "compute.cache_folder": str(tmp_path / cache)}
        return Run(RunFolder.create(replace_values(on_disk, settings), tmp_path / name))

    runs = {
        "memory": run("memory", 4.0, "one"),
        "files": run("files", SMALL_GB, "two"),
        "files again": run("again", SMALL_GB, "one"),
    }
    told = {name: losses(each) for name, each in runs.items()}
    assert told["memory"] == told["files"] == told["files again"]
    first = weights(runs["memory"])
    for each in runs.values():
        assert all(np.array_equal(first[k], v) for k, v in weights(each).items())
        assert not (each.folder / "cache").exists()
    assert len(prepared) == 6, "three cases for each cache folder; the third run found them there"
    assert len(list((tmp_path / "one").rglob("*.zip"))) == 6, "three cases, and the map of each"
    assert not list((tmp_path / "one" / "prepared" / "users").iterdir())


def test_a_run_from_files_is_left_and_resumed_bit_for_bit(on_disk: Experiment, tmp_path: Path) -> None:
    settings = {"compute.cache_gb": SMALL_GB, "compute.cache_folder": str(tmp_path / "cache")}
    experiment = replace_values(on_disk, settings)
    whole = Run(RunFolder.create(experiment, tmp_path / "whole"))
    expected = losses(whole)
    parts = Run(RunFolder.create(experiment, tmp_path / "parts"))
    told = []
    for event in parts:
        if isinstance(event, StepDone):
            told.append((event.step, event.loss))
            if event.step == 4:
                break
    for path in (tmp_path / "cache").rglob("*.zip"):
        path.unlink()
    assert told + losses(Run(RunFolder.open(parts.folder))) == expected
    assert all(np.array_equal(weights(whole)[k], v) for k, v in weights(parts).items())


def test_phantoms_that_fit_into_memory_leave_nothing_on_the_disk(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = make_run(compute__cache_folder=str(tmp_path / "cache"))
    losses(run)
    assert not list((tmp_path / "cache").rglob("*.zip"))

"""Corrected labels as a new version: nothing old is changed, the split stays, and training goes on from the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, ExitCode
from segexplorer.core.events import Notice, RunFinished
from segexplorer.data.case import CaseRef
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run as segexplorer
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import read_experiment
from segexplorer.training.relabel import RELABELLED, RelabelledFile, corrected_labels, relabel
from segexplorer.training.run import Run
from segexplorer.training.run_files import read_run_file
from segexplorer.training.verdicts import Verdict, keep_verdict

Array = NDArray[np.uint8]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three phantoms, trained for two steps."""
    tiny = {
        "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1},
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "loss": "dice",
        "schedule": {"kind": "polynomial", "epochs": 2},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    run = Run(RunFolder.create(Experiment.of(tiny), tmp_path_factory.mktemp("relabel") / "run"))
    assert isinstance([*run][-1], RunFinished)
    return Path(run.folder)


def written(folder: Path, ref: CaseRef, change: Callable[[Array], Array], *, scale: float = 1.0) -> Path:
    """Write a changed label of a case."""
    label = ref.open().label
    assert label is not None
    folder.mkdir(exist_ok=True)
    voxels = change(np.asarray(label.array).astype(np.uint8).copy())
    volume = Volume.from_array(voxels, affine=label.affine @ np.diag([scale, 1, 1, 1]))
    return save_volume(volume, folder / f"{ref.id}.nii.gz", integer=True)


def without_first(voxels: Array) -> Array:
    return np.where(voxels == 1, 0, voxels).astype(np.uint8)


def test_a_run_is_fine_tuned_on_the_new_version(trained: Path, tmp_path: Path) -> None:
    before = read_experiment(trained)
    refs = before.data.cases()
    kept = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    written(tmp_path / "corrected", refs[0], without_first)
    written(tmp_path / "corrected", refs[1], lambda voxels: voxels)
    found = relabel(trained, corrected_labels(trained, str(tmp_path / "corrected")), tmp_path / "v2")
    assert {path: path.read_bytes() for path in kept} == kept, "nothing of the run is changed"
    (one,) = found.cases
    assert one.case == refs[0].id and found.unchanged == (refs[1].id,)
    first = next(iter(before.data.class_values()))
    assert set(one.removed_ml) == {first} and one.added_ml == {}
    made = Experiment.from_yaml(found.experiment)
    assert (made.schedule.epochs, made.network_weights.path) == (1, str(trained))
    assert made.optimiser.learning_rate == pytest.approx(0.1 * before.optimiser.learning_rate)  # type: ignore[attr-defined]
    assert made.data.class_values() == before.data.class_values()
    new = {ref.id: ref for ref in made.data.cases()}
    assert list(new) == [ref.id for ref in refs]
    changed = new[refs[0].id].open().label
    assert changed is not None and 1 not in np.unique(changed.array)
    run = Run(RunFolder.create(made, tmp_path / "retrained"))
    events = [*run]
    last = events[-1]
    assert isinstance(last, RunFinished) and last.state == "finished", last
    old_roles = json.loads((trained / "provenance.json").read_text())[-1]["roles"]
    new_roles = json.loads((tmp_path / "retrained/provenance.json").read_text())[-1]["roles"]
    assert new_roles == old_roles, "what was held out stays held out"
    said = " ".join(event.message for event in events if isinstance(event, Notice))
    assert "tensors taken over" in said


def test_what_was_done_is_kept(trained: Path, tmp_path: Path) -> None:
    refs = read_experiment(trained).data.cases()
    path = written(tmp_path / "corrected", refs[2], without_first)
    found = relabel(trained, {refs[2].id: path}, tmp_path / "v2", epochs=7, learning_rate=0.5)
    about = read_run_file(tmp_path / "v2", RELABELLED, RelabelledFile)
    assert about is not None and about.run == trained.name and about.cases == list(found.cases)
    label = open_volume(tmp_path / "v2" / about.cases[0].label, label=True)
    assert about.cases[0].label == f"labels/{refs[2].id}_v2.nii.gz" and label.shape == (32, 32, 32)
    made = Experiment.from_yaml(found.experiment)
    assert (made.schedule.epochs, made.optimiser.learning_rate) == (7, 0.5)  # type: ignore[attr-defined]


def test_labels_that_readers_painted_are_found_by_their_verdicts(trained: Path, tmp_path: Path) -> None:
    ref = read_experiment(trained).data.cases()[0]
    with pytest.raises(DataError, match="No verdict"):
        corrected_labels(trained)
    path = written(trained / "labels", ref, without_first)
    facts = {"case": ref.id, "role": "train", "family": "extra", "class_name": "x", "shape": (32, 32, 32)}
    keep_verdict(trained, Verdict.model_validate({**facts, "voxels": 1, "corrected": path.name}))
    assert corrected_labels(trained) == {ref.id: path}
    false = {**facts, "voxels": 1, "corrected": path.name, "corrected_sha256": "0" * 64}
    keep_verdict(trained, Verdict.model_validate({**false, "case": "phantom_001"}))
    assert corrected_labels(trained) == {ref.id: path}


@pytest.mark.parametrize(
    ("change", "scale", "words"),
    [
        (lambda voxels: voxels, 1.0, "None of these labels differs"),
        (lambda voxels: np.where(voxels == 1, 77, voxels).astype(np.uint8), 1.0, "holds 77"),
        (without_first, 1.1, "grid of its image"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    trained: Path, tmp_path: Path, change: Callable[[Array], Array], scale: float, words: str
) -> None:
    ref = read_experiment(trained).data.cases()[0]
    path = written(tmp_path / "corrected", ref, change, scale=scale)
    with pytest.raises(DataError, match=words):
        relabel(trained, {ref.id: path}, tmp_path / "v2")


def test_the_command_says_what_changed_and_refuses_what_is_there(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = read_experiment(trained).data.cases()[0]
    path = written(tmp_path / "corrected", ref, without_first)
    arguments = ["relabel", str(trained), "--label", f"{ref.id}={path}", "-o", str(tmp_path / "v2")]
    assert segexplorer(arguments) == ExitCode.DONE
    streams = capsys.readouterr()
    assert streams.out.strip() == str(tmp_path / "v2" / "experiment.yaml")
    assert f"{ref.id}: " in streams.err and "removed" in streams.err
    assert segexplorer(arguments) == ExitCode.MISTAKE
    assert "not empty" in capsys.readouterr().err
    assert segexplorer([*arguments[:2], "--label", "nobody=x.nii.gz", "-o", str(tmp_path / "v3")]) == 2
    assert "no case nobody" in capsys.readouterr().err
    assert segexplorer([*arguments[:2], "--label", "x", "-o", str(tmp_path / "v3")]) == 2
    assert "CASE=FILE" in capsys.readouterr().err

"""Prediction with a trained run: in the image's own grid, with the data set's own values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.core.events import Progress, ValidationDone
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.predict import load_predictor, predict
from segexplorer.training.run import Run


@pytest.fixture
def trained(make_run: Callable[..., Run]) -> Run:
    run = make_run()
    assert list(run)[-1].state == "finished"  # type: ignore[attr-defined]
    return run


def test_it_repeats_what_validation_saw(trained: Run) -> None:
    assert trained.plan is not None
    case = trained.plan.ids("validation")[0]
    image = trained.plan.refs[case].open().images[0]
    prediction = predict(trained.folder, image, checkpoint="last")
    shown = trained.watched.last("validation")
    assert shown is not None
    # phantom classes are numbered as their label values, so indices and values are the same
    np.testing.assert_array_equal(prediction.array, shown.prediction)
    np.testing.assert_allclose(prediction.affine, image.affine)


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIL"])
def test_a_turned_image_is_predicted_turned(trained: Run, tmp_path: Path, axes: str) -> None:
    assert trained.plan is not None
    image = trained.plan.refs[trained.plan.ids("train")[0]].open().images[0]
    straight = predict(trained.folder, image)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    turned_file = tmp_path / "turned.nii.gz"
    nib.Nifti1Image(np.asarray(image.array), image.affine).as_reoriented(turn).to_filename(turned_file)
    turned = predict(trained.folder, turned_file)
    saved = save_volume(turned, tmp_path / "prediction.nii.gz", integer=True)
    back = nib.load(saved)
    np.testing.assert_allclose(back.affine, nib.load(turned_file).affine, atol=1e-5)
    straightened = nib.as_closest_canonical(back)
    np.testing.assert_array_equal(np.asarray(straightened.dataobj), straight.array)


def test_merged_and_renumbered_labels_come_back_as_their_own_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.zeros((24, 24, 24), np.int16)
    label[4:12, 4:20, 4:20], label[14:20, 4:20, 4:20] = 52, 7
    image = (label > 0) * 300.0 + rng.normal(0, 5, label.shape)
    affine = np.diag([2.0, 1.0, 1.5, 1.0])
    for name, array in (("image", image.astype(np.float32)), ("label", label)):
        save_volume(Volume.from_array(array, affine=affine), tmp_path / f"{name}.nii.gz")
    experiment = Experiment.of(
        {
            "data": {
                "kind": "pairs",
                "pairs": [
                    {
                        "case": "one",
                        "image": str(tmp_path / "image.nii.gz"),
                        "label": str(tmp_path / "label.nii.gz"),
                    }
                ],
                "classes": {"bright": [52, 7]},
            },
            "split": {"self_validation": True},
            "preprocessing": {"spacing": [1.5, 1.5, 1.5], "intensity": "z_score"},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 2, "steps_per_epoch": 30},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "optimiser": {"kind": "adamw", "learning_rate": 0.01},
            "schedule": {"kind": "constant", "epochs": 2},
            "compute": {"device": "cpu", "threads": 1},
        }
    )
    run = Run(RunFolder.create(experiment, tmp_path / "run"))
    events = list(run)
    scores = [e for e in events if isinstance(e, ValidationDone)][-1]
    assert scores.badge == NOT_HELD_OUT and all(s.badge == NOT_HELD_OUT for s in scores.scores)
    assert scores.mean_dice > 0.8
    prediction = predict(run.folder, tmp_path / "image.nii.gz", checkpoint="last")
    assert prediction.shape == label.shape
    assert set(np.unique(prediction.array)) == {0, 52}
    truth = open_volume(tmp_path / "label.nii.gz").array > 0
    both = ((prediction.array > 0) & truth).sum()
    assert 2 * both / ((prediction.array > 0).sum() + truth.sum()) == pytest.approx(
        scores.mean_dice, abs=1e-6
    )


def test_every_window_is_reported_and_their_number_known_beforehand(trained: Run) -> None:
    assert trained.plan is not None
    image = trained.plan.refs[trained.plan.ids("train")[0]].open().images[0]
    predictor = load_predictor(trained.folder)
    count = predictor.windows([image])
    told: list[Progress] = []
    source = predictor.steps([image])
    while True:
        try:
            told.append(next(source))
        except StopIteration as end:
            np.testing.assert_array_equal(end.value.array, predict(trained.folder, image).array)
            break
    assert {progress.total for progress in told} == {count} and count > 1
    counted = [progress.done for progress in told if progress.activity == "predicting"]
    assert counted == list(range(count + 1))
    assert told[0].activity == "reading" and told[-1].activity == "putting back"


def test_what_cannot_be_predicted_says_why(trained: Run, tmp_path: Path) -> None:
    image = Volume.from_array(np.zeros((20, 20, 20), np.float32))
    with pytest.raises(DataError, match="1 image"):
        predict(trained.folder, [image, image])
    with pytest.raises(DataError, match="not a run folder"):
        predict(tmp_path, image)
    with pytest.raises(DataError, match="checkpoint"):
        load_predictor(trained.folder, "first")

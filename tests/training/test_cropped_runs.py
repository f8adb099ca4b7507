"""A run on cropped volumes: what is shown lies in the case's own grid, at its place in the world."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core.events import Notice, RunFinished
from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.predict import predict
from segexplorer.training.run import Run


def experiment_on_phantoms() -> Experiment:
    """Phantoms in a body, cropped to it and made finer; whole volumes, boxes of the region loss on them."""
    return Experiment.of(
        {
            "data": {"kind": "phantom", "count": 2, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "preprocessing": {"crop": {"to": "body", "margin": 6}, "spacing": [6, 6, 6]},
            "sampling": {"patch_size": None, "batch_size": 1, "steps_per_epoch": 1},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "squared_dice_ce_adaptive_region",
            "schedule": {"kind": "constant", "epochs": 1},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(RunFolder.create(experiment_on_phantoms(), tmp_path_factory.mktemp("cropped") / "run"))
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    return run


def test_watched_cases_lie_in_their_own_grid(cropped: Run) -> None:
    assert cropped.plan is not None
    shown = cropped.watched.last("validation")
    assert shown is not None and shown.probabilities is not None and shown.regions is not None
    case = cropped.plan.refs[shown.case].open()
    prepared = cropped.plan.fitted.apply(case, cropped.plan.classes)
    own = case.images[0]
    assert shown.prediction.shape == shown.probabilities.shape[1:] == own.shape
    np.testing.assert_allclose(shown.affine, own.affine)
    # boxes start where the crop does, not where the volume does
    np.testing.assert_allclose(shown.regions_affine, prepared.affine)
    assert not np.allclose(prepared.affine[:3, 3], own.affine[:3, 3], atol=4)
    extent = [edges[-1] for edges in shown.regions.edges]
    assert extent == list(prepared.image.shape[1:])
    most = cropped.plan.fitted.prepared_shape(cropped.plan.refs[shown.case])
    assert (np.asarray(most) >= extent).all()
    # outside of it everything is background
    ones = np.ones(prepared.image.shape[1:], np.uint8)
    outside = cropped.plan.fitted.restore(ones, prepared.grid, order=0) == 0
    assert outside.any() and not shown.prediction[outside].any()
    assert (shown.probabilities[0][outside] == 255).all()


def test_a_new_image_is_cropped_as_in_training(cropped: Run) -> None:
    assert cropped.plan is not None
    case = cropped.plan.ids("validation")[0]
    image = cropped.plan.refs[case].open().images[0]
    shown = cropped.watched.last("validation")
    assert shown is not None
    np.testing.assert_array_equal(predict(cropped.folder, image, checkpoint="last").array, shown.prediction)


def test_the_history_keeps_where_boxes_lie(cropped: Run) -> None:
    shown, kept = (
        cropped.watched.last("validation"),
        open_run(cropped.folder).watched("validation")[-1].load(),
    )
    assert shown is not None and kept.regions is not None and shown.regions is not None
    np.testing.assert_allclose(kept.regions_affine, shown.regions_affine)
    assert kept.regions.edges == shown.regions.edges
    np.testing.assert_array_equal(kept.prediction, shown.prediction)


def test_what_a_crop_cuts_off_is_told_of_every_case(tmp_path_factory: pytest.TempPathFactory) -> None:
    changes = {
        "preprocessing.crop.margin": 0,
        "preprocessing.crop.above": 30.0,
    }  # organs, but neither skin nor fat
    experiment = replace_values(experiment_on_phantoms(), changes)
    run = Run(RunFolder.create(experiment, tmp_path_factory.mktemp("cut") / "run"))
    told = [event.message for event in run if isinstance(event, Notice)]
    assert run.plan is not None
    for case in run.plan.roles:
        assert [m for m in told if m.startswith(f"{case}: Cropping cuts off") and " ml of " in m], (
            case,
            told,
        )

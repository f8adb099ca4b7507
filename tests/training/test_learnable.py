"""What cannot be learned, or does not fit, is said before training and at prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.foreground import Foreground
from segexplorer.data.sampler import Sampler, Sampling
from segexplorer.data.seen_images import SeenImages, look_at_training
from segexplorer.data.transforms.augmentation import Augmentation
from segexplorer.data.transforms.preprocessing import Prepared
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run
from segexplorer.losses import registry as losses
from segexplorer.training.plan import loss_problems, resolve

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
AFFINE[:3, 3] = -8


def case(root: Path, name: str, boxes: dict[int, tuple[slice, ...]], seed: int = 0, other: int = 0) -> None:
    """Write an image and a label of 20³ voxels of 1 mm with a box for each value; `other` fills the rest."""
    label = np.full((20, 20, 20), other, np.uint8)
    for value, box in boxes.items():
        label[box] = value
    rng = np.random.default_rng([seed, *name.encode()])
    image = rng.normal(0, 1, label.shape).astype(np.float32) + 3 * (label > 0)
    for folder, array in (("images", image), ("labels", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        segexplorer.save_volume(
            Volume.from_array(array, affine=AFFINE),
            root / folder / f"{name}.nii.gz",
            integer=folder == "labels",
        )


BIG = (slice(2, 12),) * 3


def tiny(x: int) -> tuple[slice, ...]:
    return slice(x, x + 1), slice(15, 16), slice(15, 16)


def plan_of(root: Path, classes: dict[str, int], **settings: Any) -> Any:
    data = {"kind": "folder", "root": str(root), "classes": classes, **settings.pop("data", {})}
    base = {
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "sampling": {"patch_size": [16, 16, 16]},
    }
    return resolve(segexplorer.Experiment.of({**base, "loss": "dice", "data": data, **settings}))


def codes(plan: Any) -> dict[str, str]:
    return {problem.code: problem.message for problem in plan.problems}


def test_a_lesion_of_one_voxel_that_resampling_loses_is_announced(tmp_path: Path) -> None:
    for n in range(4):
        case(tmp_path, f"p{n}", {1: BIG, 2: tiny(14 + n)}, n)
    classes = {"organ": 1, "lesion": 2}
    split = {"validation": ["p3"]}
    assert "class_vanishes" not in codes(plan_of(tmp_path, classes, split=split))
    lost = plan_of(tmp_path, classes, split=split, preprocessing={"spacing": [5, 5, 5]})
    found = codes(lost)["class_vanishes"]
    assert "class lesion is left in any training case" in found and "(3 voxels before)" in found
    with pytest.raises(DataError, match="No class is left in any training case"):
        plan_of(tmp_path, {"lesion": 2}, split=split, preprocessing={"spacing": [5, 5, 5]})


def test_classes_that_are_on_one_side_of_the_split_only(tmp_path: Path) -> None:
    case(tmp_path, "a", {1: BIG})
    case(tmp_path, "b", {1: BIG, 3: tiny(14)}, 1)
    case(tmp_path, "c", {1: BIG, 2: tiny(15)}, 2)
    plan = plan_of(tmp_path, {"organ": 1, "cyst": 2, "node": 3}, split={"validation": ["c"]})
    found = codes(plan)
    assert "cyst is in validation cases only" in found["class_untrained"]
    assert "No validation case holds the class node" in found["class_unvalidated"]


def test_a_loss_that_does_not_fit_the_classes_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(2):
        case(tmp_path, f"p{n}", {1: BIG}, n)
    with pytest.raises(DataError, match="does not fit the data: There are 3 class weights for 2 classes"):
        plan_of(tmp_path, {"organ": 1}, loss={"kind": "dice", "class_weights": [1, 2, 3]})
    experiment = {
        "data": {"kind": "folder", "root": str(tmp_path), "classes": {"organ": 1}},
        "network": {"kind": "unet"},
        "loss": {"kind": "cross_entropy", "class_weights": [1, 2, 3]},
    }
    (tmp_path / "e.yaml").write_text(segexplorer.Experiment.of(experiment).to_yaml())
    assert run(["check", str(tmp_path / "e.yaml")]) == 2
    said = capsys.readouterr()
    assert "3 class weights for 2 classes" in said.out + said.err


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_can_be_tried(name: str) -> None:
    assert loss_problems(losses.parse({"kind": name}), 3, 3) == []
    assert loss_problems(losses.parse({"kind": name}), 2, 2) == []


def test_trying_a_loss_on_many_classes_takes_few_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked: list[int] = []
    zeros = torch.zeros

    def counted(*shape: int, **how: Any) -> torch.Tensor:
        made = zeros(*shape, **how)
        asked.append(made.numel())
        return made

    monkeypatch.setattr(torch, "zeros", counted)
    weights = {"kind": "cross_entropy", "class_weights": [1.0] * 249}
    (problem,) = loss_problems(losses.parse(weights), 250, 3)
    assert "249 class weights for 250 classes" in problem.message
    assert loss_problems(losses.parse("dice_cross_entropy"), 250, 3) == []
    assert 250**2 <= max(asked) < 1e6


def test_one_subject_on_both_sides(tmp_path: Path) -> None:
    case(tmp_path, "sub-01_ses-1", {1: BIG}, 0)
    case(tmp_path, "sub-01_ses-2", {1: BIG}, 1)
    case(tmp_path, "sub-02_ses-1", {1: (slice(3, 9),) * 3}, 2)
    split = {"validation": ["sub-01_ses-2"]}
    found = codes(plan_of(tmp_path, {"organ": 1}, split=split))
    assert "of one subject, sub-01" in found["same_subject"]
    assert "Its label is the same as that of sub-01_ses-1" in found["same_label"]
    together = plan_of(tmp_path, {"organ": 1}, data={"patient_pattern": "(sub-[0-9]+)"})
    assert not {"same_subject", "same_label"} & set(codes(together))


def test_patches_of_sparse_labels_are_placed_where_something_counts(tmp_path: Path) -> None:
    for n in range(2):
        case(tmp_path, f"p{n}", {0: (slice(1, 5),) * 3, 1: (slice(1, 3),) * 3}, n, other=9)
    plan = plan_of(tmp_path, {"organ": 1, "ignore": 9}, split={"validation": ["p1"]})
    assert "% are annotated" in codes(plan)["sparse"]
    image = np.zeros((1, 40, 40, 40), np.float32)
    label = np.full((40, 40, 40), IGNORED, np.uint8)
    label[30:32, 4:6, 20:22] = 0

    class Store:
        map_names = ()

        def get(self, case: str) -> Prepared:
            return Prepared(
                case, image, label, np.eye(4), (1.0, 1.0, 1.0), Volume.from_array(image[0]), False
            )

        def open(self, case: str) -> Prepared:
            return self.get(case)

        def foreground(self, case: str) -> Foreground:
            return Foreground.of(label)

        def maps(self, case: str) -> dict[str, Any]:
            return {}

    sampling = Sampling(patch_size=(8, 8, 8), batch_size=4, steps_per_epoch=8)
    sampler = Sampler(Store(), ["a"], sampling, Augmentation(), seed=0)  # type: ignore[arg-type]
    for index in range(8):
        counted = (sampler.batch(0, index).labels != IGNORED).reshape(4, -1).any(axis=1)
        assert counted.all()


def prepared(channels: list[np.ndarray], spacing: float = 1.0) -> Prepared:
    image = np.stack(channels).astype(np.float32)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    grid = Volume.from_array(image[0], affine=affine)
    return Prepared("c", image, None, affine, (spacing,) * 3, grid, False)


def channels(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (20, 20, 20)), rng.exponential(1, (20, 20, 20)) - 1]


def test_images_unlike_those_of_training_are_named() -> None:
    seen = look_at_training(prepared(channels(seed)) for seen_from in range(6) for seed in [seen_from])
    assert seen is not None and SeenImages.of(seen.plain()) == seen
    first, second = channels(99)
    assert seen.concerns((1, 1, 1), prepared([first, second]).image) == []
    (swapped,) = seen.concerns((1, 1, 1), prepared([second, first]).image)
    assert "image 1 looks like image 2 of training" in swapped
    (other,) = seen.concerns((1, 1, 1), prepared([first, second + 9]).image)
    assert "intensities of image 2 are unlike" in other
    (coarse,) = seen.concerns((1, 1, 5), prepared([first, second]).image)
    assert coarse == "The voxels of 1 × 1 × 5 mm are unlike those of training (1 × 1 × 1 mm)."
    assert SeenImages.of({"finest": [1]}) is None and SeenImages.of(None) is None


def test_prediction_says_that_channels_are_swapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for n in range(3):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:10, 4:10, 4:10] = 1
        one = rng.normal(100, 10, label.shape) + 40 * label
        two = rng.exponential(50, label.shape) + 200 * label
        for folder, array in (("t1", one), ("t2", two), ("labels", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            segexplorer.save_volume(
                Volume.from_array(array.astype(np.float32), affine=AFFINE),
                tmp_path / folder / f"p{n}.nii.gz",
                integer=folder == "labels",
            )
    trained = segexplorer.train(
        {
            "data": {"kind": "folder", "root": str(tmp_path), "images": ["t1", "t2"], "labels": "labels"},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "dice",
            "sampling": {"patch_size": [16, 16, 16], "steps_per_epoch": 1},
            "schedule": {"kind": "constant", "epochs": 1},
        },
        tmp_path / "run",
    )
    images = [tmp_path / folder / "p0.nii.gz" for folder in ("t1", "t2")]
    assert not [n for n in segexplorer.predict(trained, images).notes if "another order" in n]
    notes = segexplorer.predict(trained, images[::-1]).notes
    assert [n for n in notes if "in another order than in training: image 1 looks like image 2" in n]
    command = ["predict", str(tmp_path / "run"), *map(str, images[::-1]), "--together", "-o"]
    assert run([*command, str(tmp_path / "out.nii.gz")]) == 0
    assert "another order than in training" in capsys.readouterr().err

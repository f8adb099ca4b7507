"""Distance maps of whole volumes that travel with the patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.events import RunFinished, ValidationDone
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.sampler import Sampler, Sampling
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import Augmentation, Preprocessing, fit
from segexplorer.data.transforms.distance_maps import MAPS, NEARNESS, SIGNED, UNSIGNED, as_numbers, stored_map
from segexplorer.data.volume import Volume
from segexplorer.functional.inputs import LossContext
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.learner import context_of
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run

SPACING = (1.0, 1.5, 2.5)
CLASSES = ClassMap.from_classes({"box": (1,), "rod": (2,)}, "background")
KINDS = ("boundary", "hausdorff", "distance_cross_entropy")


def labels() -> np.ndarray:
    found = np.zeros((24, 20, 16), np.uint8)
    found[4:15, 5:14, 3:11] = 1
    found[16:20, 2:18, 6:9] = 2
    return found


def store(folder: Path | None = None) -> PreprocessedCache:
    rng = np.random.default_rng(0)
    image = Volume.from_array(rng.normal(size=(24, 20, 16)).astype(np.float32), spacing=SPACING)
    ref = CaseRef("one", (image,), Volume.from_array(labels(), spacing=SPACING), "one")
    return PreprocessedCache([ref], fit(Preprocessing(), [ref]), CLASSES, disk_folder=folder, map_names=MAPS)


def test_maps_are_distances_in_mm_to_a_64th() -> None:
    truth = labels()
    signed = as_numbers(SIGNED, stored_map(SIGNED, truth, 3, SPACING))
    unsigned = as_numbers(UNSIGNED, stored_map(UNSIGNED, truth, 3, SPACING))
    outside = ndimage.distance_transform_edt(truth != 1, sampling=SPACING)
    inside = ndimage.distance_transform_edt(truth == 1, sampling=SPACING)
    assert np.abs(unsigned[1] - outside - inside).max() <= 1 / 128
    assert np.abs(signed[1] - np.where(truth == 1, 1.0 - inside, outside)).max() <= 1 / 128
    near = as_numbers(NEARNESS, stored_map(NEARNESS, truth, 3, SPACING))
    assert near.shape == (1, 24, 20, 16) and near.min() >= 0 and near.max() == 1


def test_ignored_voxels_count_as_background_and_absent_classes_have_no_map() -> None:
    truth = labels()
    ignored = np.where(truth == 2, 255, truth).astype(np.uint8)
    cleared = np.where(truth == 2, 0, truth).astype(np.uint8)
    for name in MAPS:
        assert np.array_equal(stored_map(name, ignored, 3, SPACING), stored_map(name, cleared, 3, SPACING))
    assert not stored_map(SIGNED, ignored, 3, SPACING)[2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_volume_gives_the_same_with_and_without_its_maps(kind: str) -> None:
    logits = torch.randn(1, 3, 24, 20, 16, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(labels()[None, None].astype(np.int64))
    maps = {
        name: torch.from_numpy(as_numbers(name, stored_map(name, labels(), 3, SPACING))[None])
        for name in MAPS
    }
    loss = losses.create(kind)
    spacing = np.asarray([SPACING])
    alone = loss.evaluate(logits, target, LossContext(spacing=spacing)).value
    given = loss.evaluate(logits, target, LossContext(spacing=spacing, distance_maps=maps)).value
    assert given.item() == pytest.approx(alone.item(), rel=2e-3)


def test_patches_bring_the_whole_volumes_maps_cut_and_mirrored_alike() -> None:
    made = store()
    sampling = Sampling(patch_size=(10, 10, 8), batch_size=4, steps_per_epoch=4)
    spec = Augmentation.of({"placement": {"probability": 0}, "flips": {"left_right": 0.5, "head_foot": 0.5}})
    sampler = Sampler(made, ["one"], sampling, spec, seed=3)
    whole = as_numbers(SIGNED, made.maps("one")[SIGNED])
    mirrored = 0
    for index in range(4):
        batch = sampler.batch(0, index)
        assert set(batch.maps) == set(MAPS) and batch.maps[SIGNED].shape == (4, 3, 10, 10, 8)
        for patch, origin, label in zip(batch.maps[SIGNED], batch.origins, batch.labels, strict=True):
            part = whole[(slice(None), *(slice(o, o + n) for o, n in zip(origin, (10, 10, 8), strict=True)))]
            flips = [
                axes
                for axes in [(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)]
                if np.array_equal(np.flip(part, axes), patch)
            ]
            assert flips, "the patch's map is not a piece of the whole volume's"
            mirrored += () not in flips
            assert ((patch[1] <= 0) == (label[0] == 1)).all(), (
                "map and label were cut or mirrored differently"
            )
    assert mirrored


def test_the_loss_of_a_patch_at_the_edge_of_an_object_knows_the_whole_object() -> None:
    """The patch holds object only, so that its own map would be empty."""
    made = store()
    piece = (slice(None), slice(6, 10), slice(7, 11), slice(5, 9))
    target = torch.ones(1, 1, 4, 4, 4, dtype=torch.long)
    logits = torch.zeros(1, 3, 4, 4, 4)
    whole = torch.from_numpy(as_numbers(SIGNED, made.maps("one")[SIGNED])[piece][None])
    loss = losses.create("boundary")
    assert loss(logits, target).item() == 0
    with_map = loss.evaluate(logits, target, LossContext(distance_maps={SIGNED: whole})).value
    assert with_map.item() == pytest.approx((whole[:, 1:] / 3).mean().item(), rel=1e-5)
    assert with_map.item() != 0


def test_turned_patches_interpolate_and_the_padding_is_nothing() -> None:
    made = store()
    sampling = Sampling(patch_size=(30, 20, 16), batch_size=2, steps_per_epoch=1)
    spec = Augmentation.of({"placement": {"probability": 1, "rotation": 20}})
    batch = Sampler(made, ["one"], sampling, spec, seed=0).batch(0, 0)
    outside = batch.labels[:, 0] == 255
    assert np.isfinite(batch.maps[SIGNED]).all() and outside.any()
    inside = batch.labels[:, 0] == 1
    assert batch.maps[SIGNED][:, 1][inside].max() < 2.5, "the turned map still marks the object"
    assert context_of(batch, 1).distance_maps is not None


def test_maps_are_kept_on_the_disk_and_made_again_when_damaged(tmp_path: Path) -> None:
    first = store(tmp_path).maps("one")
    files = sorted(tmp_path.glob("prepared/??/*.zip"))
    assert len(files) == 1 + len(MAPS)
    for file in files:
        file.write_bytes(b"damaged")
    again = store(tmp_path).maps("one")
    assert all(np.array_equal(first[name], again[name]) for name in MAPS)


@pytest.mark.parametrize("kind", KINDS)
def test_training_with_them_works_and_validates(kind: str, tmp_path: Path) -> None:
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "size": 32, "count": 3},
            "split": {"validation_count": 1},
            "network": {"kind": "unet", "base_features": 4, "levels": 3},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
            "schedule": {"kind": "constant", "epochs": 1},
            "loss": {"kind": "weighted_sum", "terms": [{"loss": "dice"}, {"loss": kind, "weight": 0.01}]},
            "compute": {"threads": 1},
        }
    )
    events = list(Run(RunFolder.create(experiment, tmp_path / "run")))
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    done = next(e for e in events if isinstance(e, ValidationDone))
    assert np.isfinite(done.loss)


def test_a_map_that_nobody_makes_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses.spec("boundary"), "requires", ("tomograms",))
    data = {"kind": "phantom", "size": 32, "count": 3}
    with pytest.raises(SpecError, match="tomograms"):
        resolve(Experiment.of({"data": data, "loss": "boundary"}))

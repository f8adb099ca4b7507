"""The handler in real engines of MONAI, and MONAI's own wrappers around our losses."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("ignite")
    plugin = pytest.importorskip("segexplorer_monai")
    from monai.data import DataLoader, Dataset, MetaTensor
    from monai.engines import SupervisedTrainer
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import UNet

import segexplorer
from segexplorer import Recorder, losses, open_run, open_volume
from segexplorer.core.events import StepDone, ValidationDone
from segexplorer.training.verification import verify_run

pytestmark = pytest.mark.filterwarnings("ignore")
AFFINE = np.array([[0, -2.0, 0, 30], [2, 0, 0, -10], [0, 0, 4, 7], [0, 0, 0, 1]])
SHAPE = (16, 16, 8)


def _item(number: int) -> dict[str, MetaTensor]:
    label = torch.zeros(1, *SHAPE)
    label[:, 3 : 8 + number, 4:9, 2:6] = 1
    image = label + torch.randn(label.shape, generator=torch.Generator().manual_seed(number)) * 0.1
    meta = {"filename_or_obj": f"/somewhere/case_{number}.nii.gz"}
    affine = torch.from_numpy(AFFINE)
    return {
        "image": MetaTensor(image, affine=affine, meta=meta),
        "label": MetaTensor(label, affine=affine, meta=meta),
    }


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))


def _labels(batch, device=None, non_blocking=False, **more):
    """What MONAI's trainer takes of a batch; our losses want labels as integers."""
    return batch["image"].as_tensor(), batch["label"].as_tensor().long()


@pytest.mark.parametrize("ours", [True, False], ids=["our loss", "loss of MONAI"])
def test_a_supervised_trainer_is_recorded(tmp_path: Path, ours: bool) -> None:
    from monai.losses import DiceCELoss

    network = _network()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    loss = losses.create("dice_cross_entropy") if ours else DiceCELoss(to_onehot_y=True, softmax=True)
    handler = plugin.SegExplorerHandler(
        tmp_path / "run",
        ["lesion"],
        loss=loss,
        network=network,
        optimizer=optimizer,
        watched={"train": [_item(0)], "validation": [_item(2)]},
        watch_every=2,
        inferer=SlidingWindowInferer(roi_size=(8, 8, 8), overlap=0.25),
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader(Dataset([_item(0), _item(1)]), batch_size=1),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=_labels,
        train_handlers=[handler],
    )
    trainer.run()
    record = open_run(tmp_path / "run")
    assert record.state == "finished" and {f.state for f in verify_run(record.folder)} == {"sound"}
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    assert [(e.step, e.epoch) for e in steps] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    assert set(steps[0].terms) == ({"dice", "cross_entropy"} if ours else {"loss"})
    for step in steps:
        assert sum(v * w for v, w in step.terms.values()) == pytest.approx(step.loss, rel=1e-4)
        assert step.learning_rate == 0.01
    assert [e.epoch for e in record.events() if isinstance(e, ValidationDone)] == [2, 3]
    for role, case in (("train", "case_0"), ("validation", "case_2")):
        frames = record.watched(role)
        assert [f.step for f in frames] == [4, 6]
        snapshot = frames[-1].load()
        assert snapshot.case == case and np.allclose(snapshot.affine, AFFINE)
        ref = next(ref for ref in record.experiment.data.cases() if ref.id == case)
        label = open_volume(ref.label, label=True)
        assert np.allclose(label.affine, AFFINE)
        truth = _item(0 if role == "train" else 2)["label"].numpy()[0]
        assert np.array_equal(label.array, truth)
    assert record.recorded is not None and record.recorded.trainer == "MONAI (SupervisedTrainer)"
    assert network.training
    if ours:
        assert np.isfinite(segexplorer.explain(record.folder).asked(1).values).all()


def test_an_error_ends_the_record_and_goes_on(tmp_path: Path) -> None:
    network = _network()

    def broken(logits, target):
        raise ZeroDivisionError("by zero")

    handler = plugin.SegExplorerHandler(tmp_path / "run", ["lesion"], loss=broken, network=network)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset([_item(0)]), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=broken,
        prepare_batch=_labels,
        train_handlers=[handler],
    )
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert open_run(tmp_path / "run").state == "failed"


@pytest.mark.parametrize("axes", [2, 3])
def test_classes_that_overlap_are_recorded_each(tmp_path: Path, axes: int) -> None:
    """As `ConvertToMultiChannelBasedOnBratsClassesd` makes labels, with a sigmoid per class."""
    item = _item(1)
    inner = item["label"].clone()
    inner[:, :5] = 0
    item["label"] = MetaTensor(torch.cat([item["label"], inner]), affine=item["label"].affine)
    item = {key: value[..., 3] if axes == 2 else value for key, value in item.items()}
    logits = (item["label"].as_tensor() * 2 - 1)[None] * 9
    logits[:, 1, :6] = -9.0
    loss = losses.multi_label("dice_cross_entropy")
    with Recorder(tmp_path / "run", ["whole", "core"], overlapping=True, loss=loss) as recorder:
        recorder.step(loss.evaluate(logits, item["label"].as_tensor()[None].long()))
        whole, core = plugin.watch(recorder, item, logits, case="a")
    assert whole.metrics["dice"] == 1.0 and 0.5 < core.metrics["dice"] < 1
    assert np.isfinite(segexplorer.explain(tmp_path / "run").asked(2).values).all()


@pytest.mark.parametrize("axes", [2, 3])
def test_a_plain_loop_watches_items(tmp_path: Path, axes: int) -> None:
    item = _item(1)
    item = {key: value[..., 3] if axes == 2 else value for key, value in item.items()}
    logits = torch.cat([1 - item["label"].as_tensor(), item["label"].as_tensor()])[None] * 9
    with Recorder(tmp_path / "run", ["lesion"]) as recorder:
        (score,) = plugin.watch(recorder, item, logits)
    assert score.case == "case_1" and score.metrics["dice"] == 1.0

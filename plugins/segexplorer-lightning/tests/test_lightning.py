"""The callback in real trainings of Lightning."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning.pytorch")
    plugin = pytest.importorskip("segexplorer_lightning")

import segexplorer
from segexplorer import losses, open_run
from segexplorer.core.events import StepDone, ValidationDone
from segexplorer.training.verification import verify_run

pytestmark = pytest.mark.filterwarnings("ignore")
AFFINE = np.array([[0, -2.0, 0, 30], [2, 0, 0, -10], [0, 0, 4, 7], [0, 0, 0, 1]])


def _case(axes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.zeros(1, *(12, 12, 8)[:axes], dtype=torch.long)
    label[:, 3:8, 4:9] = 1
    image = label + torch.randn(label.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    return image, label


class Segmentation(lightning.LightningModule):
    """A module as anybody writes it."""

    def __init__(self, axes: int, loss: torch.nn.Module) -> None:
        super().__init__()
        self.network = (torch.nn.Conv2d if axes == 2 else torch.nn.Conv3d)(1, 2, 3, padding=1)
        self.loss = loss

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_step(self, batch, index):
        images, labels = batch
        return self.loss(self(images), labels)

    def validation_step(self, batch, index):
        images, labels = batch
        self.log("val", self.loss(self(images), labels))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.02)


def _trainer(folder: Path, *callbacks, **more):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **(quiet | more)
    )


@pytest.mark.parametrize(("axes", "precision"), [(3, "32-true"), (2, "bf16-mixed")])
def test_a_training_is_recorded(tmp_path: Path, axes: int, precision: str) -> None:
    image, label = _case(axes)
    loss = losses.create("dice_cross_entropy")
    module = Segmentation(axes, loss)
    case = {"case": "a", "image": image, "label": label, "affine": AFFINE}
    callback = plugin.SegExplorerCallback(
        tmp_path / "run", ["lesion"], loss=loss, watched={"validation": [case]}, watch_every=2
    )
    batches = torch.utils.data.DataLoader([(image, label)] * 2, batch_size=1)
    _trainer(tmp_path, callback, max_epochs=3, precision=precision).fit(module, batches, batches)
    record = open_run(tmp_path / "run")
    assert record.state == "finished" and {f.state for f in verify_run(record.folder)} == {"sound"}
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    assert [(e.step, e.epoch) for e in steps] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)]
    for step in steps:
        assert set(step.terms) == {"dice", "cross_entropy"} and step.learning_rate == 0.02
        assert sum(v * w for v, w in step.terms.values()) == pytest.approx(step.loss, rel=1e-3)
    assert [e.epoch for e in record.events() if isinstance(e, ValidationDone)] == [2, 3]
    frames = record.watched("validation")
    assert [f.step for f in frames] == [4, 6]
    snapshot = frames[-1].load()
    assert np.allclose(snapshot.affine, AFFINE) and snapshot.logits is not None
    with torch.no_grad():
        expected = module(image[None])[0].argmax(0).numpy().reshape(snapshot.prediction.shape)
    assert (snapshot.prediction == expected).mean() > (0.99 if axes == 2 else 0.9999)
    assert record.recorded is not None and record.recorded.trainer == "Lightning (Segmentation)"
    assert np.isfinite(segexplorer.explain(record.folder).asked(1).values).all()


def test_classes_that_overlap_are_recorded_each(tmp_path: Path) -> None:
    image, label = _case()
    inner = label.clone()
    inner[:, :5] = 0
    masks = torch.cat([label, inner])
    loss = losses.multi_label("dice_cross_entropy")
    module = Segmentation(3, loss)
    module.network = torch.nn.Conv3d(1, 2, 3, padding=1)
    callback = plugin.SegExplorerCallback(
        tmp_path / "run",
        ["whole", "core"],
        overlapping=True,
        loss=loss,
        watched={"validation": [{"case": "a", "image": image, "label": masks, "affine": AFFINE}]},
    )
    batches = torch.utils.data.DataLoader([(image, masks)] * 2, batch_size=1)
    _trainer(tmp_path, callback, max_epochs=1).fit(module, batches)
    record = open_run(tmp_path / "run")
    assert record.state == "finished"
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    assert set(steps[0].terms) == {"dice", "cross_entropy"}
    snapshot = record.watched("validation")[-1].load()
    assert snapshot.scheme.classes == 2 and snapshot.logits is not None and not snapshot.logits[0].any()


def test_the_lines_of_the_page_train(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "use-the-losses-elsewhere.md"
    (block,) = (b for b in page.read_text().split("```python\n") if "LightningModule" in b)
    known = {"LightningModule": lightning.LightningModule, "UNet": UNet, "torch": torch, "losses": losses}
    exec(block.split("```")[0], known)
    image, label = _case()
    batches = torch.utils.data.DataLoader([(image, label)] * 2, batch_size=1)
    module = known["Segmentation"]()
    before = [p.detach().clone() for p in module.parameters()]
    _trainer(tmp_path, max_epochs=1).fit(module, batches)
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_an_error_ends_the_record(tmp_path: Path) -> None:
    image, label = _case()

    class Broken(Segmentation):
        def training_step(self, batch, index):
            if index == 1:
                raise ZeroDivisionError("by zero")
            return super().training_step(batch, index)

    callback = plugin.SegExplorerCallback(tmp_path / "run", ["lesion"], loss_name="ours")
    batches = torch.utils.data.DataLoader([(image, label)] * 2, batch_size=1)
    with pytest.raises(ZeroDivisionError):
        _trainer(tmp_path, callback, max_epochs=1).fit(Broken(3, losses.create("dice")), batches)
    record = open_run(tmp_path / "run")
    assert record.state == "failed"
    assert len([e for e in record.events() if isinstance(e, StepDone)]) == 1

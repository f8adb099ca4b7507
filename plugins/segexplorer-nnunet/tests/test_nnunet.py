"""The trainer in real trainings of nnU-Net: what it records, its losses, and the way back to the label's grid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("nnunetv2")
    plugin = pytest.importorskip("segexplorer_nnunet")

    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape,
    )
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from segexplorer_nnunet.cases import affine_of, on_own_grid
from segexplorer_nnunet.settings import VARIABLES, Settings
from segexplorer_nnunet.supervision import OwnTerms, SupervisedLoss

import segexplorer
from segexplorer import losses, open_run, open_volume, save_volume
from segexplorer.core.errors import SpecError
from segexplorer.core.events import StepDone, ValidationDone
from segexplorer.data.volume import Volume
from segexplorer.training.verification import verify_run

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800)]

NAME = "Dataset901_Boxes"
SHAPES = ((26, 30, 14), (30, 24, 12), (28, 28, 16), (24, 30, 14), (30, 30, 12))


def _case(number: int, shape: tuple[int, ...]) -> tuple[Volume, Volume]:
    """Return a case whose axes are not x, y, z, whose border is empty, and whose spacing is its own."""
    generator = np.random.default_rng(number)
    label = np.zeros(shape, np.uint8)
    label[6:12, 7:14, 4:8] = 1
    label[14:19, 9:20, 5:9] = 2
    image = label * 50.0 + generator.normal(100, 5, shape)
    image[:3], image[:, -4:], image[:, :, :2] = 0, 0, 0  # nnU-Net crops this away
    turned = np.array([[0, -1.0, 0], [1.0, 0, 0], [0, 0, -1.0]])
    angle = 0.2
    oblique = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = oblique @ turned @ np.diag([1.0 + 0.1 * number, 1.0, 2.0])
    affine[:3, 3] = 10 * number, -20, 5
    return Volume.from_array(image.astype(np.float32), affine=affine), Volume.from_array(label, affine=affine)


def _environment(root: Path, **more: str) -> dict[str, str]:
    return (
        os.environ
        | {
            "nnUNet_raw": str(root / "raw"),
            "nnUNet_preprocessed": str(root / "preprocessed"),
            "nnUNet_results": str(root / "results"),
            "nnUNet_extTrainer": str(plugin.TRAINERS),
            "nnUNet_n_proc_DA": "1",
            "nnUNet_def_n_proc": "1",
            "nnUNet_compile": "f",
            "SEGEXPLORER_EPOCHS": "2",
            "SEGEXPLORER_STEPS": "3",
            "SEGEXPLORER_WATCH_EVERY": "1",
        }
        | more
    )


def _run(root: Path, *command: str, **more: str) -> str:
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [str(tool), *command[1:]], env=_environment(root, **more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preprocessed data set, with a network small enough for a test."""
    root = tmp_path_factory.mktemp("nnunet")
    raw = root / "raw" / NAME
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for number, shape in enumerate(SHAPES):
        image, label = _case(number, shape)
        save_volume(image, raw / "imagesTr" / f"box_{number}_0000.nii.gz")
        save_volume(label, raw / "labelsTr" / f"box_{number}.nii.gz", integer=True)
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "small": 1, "large": 2},
        "numTraining": len(SHAPES),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(about))
    _run(root, "nnUNetv2_plan_and_preprocess", *["-d", "901", "-c", "3d_fullres", "-np", "1", "-npfp", "1"])
    path = root / "preprocessed" / NAME / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plan = plans["configurations"]["3d_fullres"]
    plan["patch_size"] = [8, 16, 16]
    plan["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
    }
    path.write_text(json.dumps(plans))
    return root


def _fold(root: Path, fold: int) -> Path:
    return root / "results" / NAME / "nnUNetTrainerSegExplorer__nnUNetPlans__3d_fullres" / f"fold_{fold}"


def _train(root: Path, fold: int, **more: str) -> Path:
    words = f"901 3d_fullres {fold} -tr nnUNetTrainerSegExplorer -device cpu"
    _run(root, "nnUNetv2_train", *words.split(), **more)
    return _fold(root, fold)


def _check_record(run: Path) -> None:
    """Steps add up, and watched cases are on the grid of their labels."""
    record = open_run(run)
    assert record.state == "finished" and {finding.state for finding in verify_run(run)} == {"sound"}
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    assert [(e.step, e.epoch) for e in steps] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    for step in steps:
        assert sum(v * w for v, w in step.terms.values()) == pytest.approx(step.loss, abs=2e-3)
        assert step.cases and 0 < step.learning_rate <= 0.01
    assert steps[-1].learning_rate < steps[0].learning_rate
    validations = [e for e in record.events() if isinstance(e, ValidationDone)]
    assert [e.epoch for e in validations] == [1, 2] and np.isfinite(validations[-1].loss)
    for role in ("train", "validation"):
        frames = record.watched(role)
        assert [frame.step for frame in frames] == [3, 6]
        snapshot = frames[-1].load()
        ref = next(ref for ref in record.experiment.data.cases() if ref.id == snapshot.case)
        assert ref.label is not None
        label = open_volume(ref.label, label=True)
        assert np.allclose(snapshot.affine, label.affine) and snapshot.prediction.shape == label.shape
        assert open_volume(ref.images[0]).shape == label.shape
        assert snapshot.logits is not None and snapshot.logits.shape == (3, *label.shape)
    explained = segexplorer.explain(run, step=3)
    assert not explained.approximate and np.isfinite(explained.got(1).values).all()
    assert "Truth: small" in explained.why((8, 9, 5))


def test_nnunets_own_loss_is_recorded_and_its_results_are_opened(data: Path) -> None:
    fold = _train(data, 0)
    _check_record(fold / "segexplorer")
    record = open_run(fold / "segexplorer")
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    assert set(steps[0].terms) == {"dice", "cross_entropy"}
    assert record.recorded is not None and record.recorded.loss == "DC_and_CE_loss of nnU-Net"
    assert (fold / "validation" / "summary.json").exists()


def test_a_loss_of_ours_with_regions_and_learned_weights(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "loss.yaml"
    settings.write_text(
        "loss:\n  kind: weighted_sum\n  weighting: uncertainty\n  terms:\n"
        "    - loss: cross_entropy\n    - loss: adaptive_region_tversky\n"
    )
    fold = _train(data, 1, SEGEXPLORER_LOSS=str(settings))
    _check_record(fold / "segexplorer")
    record = open_run(fold / "segexplorer")
    snapshots = [record.watched(role)[-1].load() for role in ("train", "validation")]
    assert all(s.regions is not None and "alpha" in s.regions.values for s in snapshots)
    state = torch.load(fold / "checkpoint_final.loss.pth", weights_only=True)
    learned = next(value for name, value in state.items() if name.startswith("learned"))
    start = losses.parse(Settings.from_environment({"SEGEXPLORER_LOSS": str(settings)}).loss).build()
    assert not torch.equal(learned, next(iter(start.learned.values())))  # the optimiser has it
    assert "Deep supervision is off" in next(fold.glob("training_log*.txt")).read_text()
    # nnU-Net goes on with what the loss had learned, in a record of its own
    start.load_state_dict(state)
    words = "901 3d_fullres 1 -tr nnUNetTrainerSegExplorer -device cpu --c"
    more = {"SEGEXPLORER_LOSS": str(settings), "SEGEXPLORER_EPOCHS": "3"}
    _run(data, "nnUNetv2_train", *words.split(), **more)
    steps = [e for e in open_run(fold / "segexplorer-2").events() if isinstance(e, StepDone)]
    weights = [steps[0].terms[name][1] for name in ("cross_entropy", "adaptive_region_tversky")]
    assert len(steps) == 3 and weights == pytest.approx(start.term_weights(), rel=1e-4)


def test_a_loss_of_ours_is_deeply_supervised(data: Path) -> None:
    fold = _train(data, 2, SEGEXPLORER_LOSS="{kind: tversky, alpha: 0.3, beta: 0.7}")
    _check_record(fold / "segexplorer")
    record = open_run(fold / "segexplorer")
    assert open_run(fold / "segexplorer").experiment.loss.beta == 0.7  # type: ignore[attr-defined]
    assert record.recorded is not None and record.recorded.loss == "Tversky"


def test_regions_with_a_loss_of_ours(data: Path) -> None:
    path = data / "preprocessed" / NAME / "dataset.json"
    before = path.read_text()
    regions = {"labels": {"background": 0, "whole": [1, 2], "large": 2}, "regions_class_order": [1, 2]}
    path.write_text(json.dumps(json.loads(before) | regions))
    try:
        fold = _train(data, 3, SEGEXPLORER_LOSS="dice_cross_entropy")
    finally:
        path.write_text(before)
    record = open_run(fold / "segexplorer")
    assert record.state == "finished"
    steps = [e for e in record.events() if isinstance(e, StepDone)]
    for step in steps:
        assert set(step.terms) == {"dice", "cross_entropy"}
        assert sum(v * w for v, w in step.terms.values()) == pytest.approx(step.loss, rel=1e-3)
    snapshot = record.watched("validation")[-1].load()
    assert snapshot.class_names == ("whole", "large") and snapshot.scheme.members == ((1,), (1, 2))
    assert snapshot.logits is not None and snapshot.logits.shape[0] == 3 and not snapshot.logits[0].any()
    whole, large = (snapshot.logits[c] > 0 for c in (1, 2))
    assert np.array_equal(snapshot.scheme.mask(snapshot.prediction, 2), large)
    assert np.array_equal(snapshot.scheme.mask(snapshot.prediction, 1), whole | large)
    assert np.isfinite(segexplorer.explain(fold / "segexplorer").asked(1).values).all()


# ---- the lines of the how-to page


def test_the_lines_for_a_trainer_of_ones_own_work(data: Path, tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "use-the-losses-elsewhere.md"
    (block,) = (b for b in page.read_text().split("```python\n") if "class nnUNetTrainerTversky" in b)
    short = "self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1"
    (tmp_path / "nnUNetTrainerTversky.py").write_text(
        block.split("```")[0].replace("return loss", f"{short}\n        return loss")
    )
    words = "901 3d_fullres 4 -tr nnUNetTrainerTversky -device cpu --disable_checkpointing"
    printed = _run(data, "nnUNetv2_train", *words.split(), nnUNet_extTrainer=str(tmp_path))
    assert "Validation complete" in printed and "Epoch 1" not in printed


# ---- the way back to the label's grid


def _prepared(root: Path):
    folder = root / "preprocessed" / NAME
    plans = PlansManager(load_json(str(folder / "nnUNetPlans.json")))
    configuration = plans.get_configuration("3d_fullres")
    about = load_json(str(folder / "dataset.json"))
    prepared = str(folder / configuration.data_identifier)
    dataset = infer_dataset_class(prepared)(prepared)
    return plans, configuration, about, dataset, folder


def test_logits_return_to_the_grid_of_the_label(data: Path) -> None:
    plans, configuration, _, dataset, folder = _prepared(data)
    cropped = 0
    for number, shape in enumerate(SHAPES):
        _, seg, _, properties = dataset.load_case(f"box_{number}")
        seg = np.asarray(seg[:])[0]
        onehot = np.stack([(np.maximum(seg, 0) == c) * 8.0 for c in range(3)]).astype(np.float32)
        own = on_own_grid(onehot, properties, plans, configuration)
        label = open_volume(folder / "gt_segmentations" / f"box_{number}.nii.gz", label=True)
        truth = np.asarray(label.array)
        assert own.shape == (3, *truth.shape) == (3, *shape)
        predicted = own.argmax(0)
        for c in (1, 2):
            both = ((predicted == c) & (truth == c)).sum()
            # resampling there and back moves a face by a voxel at most; a wrong axis or crop, by more
            assert 2 * both / ((predicted == c).sum() + (truth == c).sum()) > 0.8
        assert (predicted[truth == 0][:100] == 0).all()
        assert np.allclose(affine_of(properties), label.affine, atol=1e-4)
        cropped += tuple(properties["shape_before_cropping"]) != tuple(
            properties["shape_after_cropping_and_before_resampling"]
        )
    assert cropped == len(SHAPES)


def test_the_prediction_is_what_nnunet_would_write(data: Path) -> None:
    plans, configuration, about, dataset, _ = _prepared(data)
    _, seg, _, properties = dataset.load_case("box_3")
    logits = np.random.default_rng(0).normal(size=(3, *seg.shape[1:])).astype(np.float32)
    own = on_own_grid(torch.from_numpy(logits), properties, plans, configuration).argmax(0)
    theirs = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, plans.get_label_manager(about), properties
    )
    assert np.array_equal(own, np.asarray(theirs).T)


# ---- the loss, and the settings


def test_several_resolutions_count_as_in_nnunet() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(2, 3, n, n, n, generator=generator) for n in (8, 4, 2)]
    targets = [torch.randint(0, 4, (2, 1, n, n, n), generator=generator) for n in (8, 4, 2)]
    module = losses.create("dice_cross_entropy", ignore_index=3)
    weights = (0.7, 0.3, 0.0)
    expected = DeepSupervisionWrapper(module, weights)(outputs, targets)
    for dtype in (torch.int16, torch.float32):  # nnU-Net has had both
        ours = SupervisedLoss(
            losses.create("dice_cross_entropy"), weights, ignore_label=3, spacing=(2.0, 1.0, 1.0)
        )
        value = ours(outputs, [t.to(dtype) for t in targets])
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert sum(v * w for v, w in ours.terms().values()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_terms_of_nnunets_own_loss_are_heard(compiled: bool) -> None:
    """Where torch.compile is on, nnU-Net compiles the Dice term of its loss."""
    own = DC_and_CE_loss({"batch_dice": True, "do_bg": False, "ddp": False}, {}, weight_ce=0.5, weight_dice=2)
    if compiled:
        own.dc = torch.compile(own.dc, backend="eager")
    loss = DeepSupervisionWrapper(own, (0.7, 0.3, 0.0))
    heard = OwnTerms(loss)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        outputs = [torch.randn(2, 3, n, n, n, generator=generator) for n in (8, 4, 2)]
        targets = [torch.randint(0, 3, (2, 1, n, n, n), generator=generator).float() for n in (8, 4, 2)]
        value = float(loss(outputs, targets))
        terms = heard.terms()
        assert set(terms) == {"dice", "cross_entropy"} and terms["dice"][1] == 2
        assert sum(v * w for v, w in terms.values()) == pytest.approx(value, rel=1e-5)


def test_regions_count_alone_and_their_last_channel_is_ignored() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 6, 6, generator=generator)
    target = torch.rand(2, 3, 6, 6, 6, generator=generator) < 0.4  # two regions, and what is ignored
    ours = SupervisedLoss(
        losses.multi_label("dice_cross_entropy"), None, ignore_label=3, spacing=(1.0, 1.0, 1.0), regions=True
    )
    labels = torch.where(target[:, 2:], 7, target[:, :2].long())
    expected = losses.multi_label("dice_cross_entropy", ignore_index=7)(logits, labels)
    assert float(ours(logits, target)) == pytest.approx(float(expected), rel=1e-6)


def test_settings_are_read_and_wrong_ones_refused() -> None:
    given = Settings.from_environment({"SEGEXPLORER_LOSS": "dice", "SEGEXPLORER_WATCH_CASES": " a, b ,"})
    assert given.loss is not None and given.loss.kind == "dice"  # type: ignore[attr-defined]
    assert given.watch_cases == ("a", "b") and given.watch_every == 50 and given.epochs is None
    for name, value in (
        ("SEGEXPLORER_LOSS", "diec"),
        ("SEGEXPLORER_LOSS", "{kind: dice"),
        ("SEGEXPLORER_LOSS", "nowhere.yaml"),
        ("SEGEXPLORER_EPOCHS", "0"),
        ("SEGEXPLORER_WATCH_EVERY", "often"),
    ):
        with pytest.raises(SpecError):
            Settings.from_environment({name: value})


def test_the_readme_lists_every_setting_and_the_folder_is_printed() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name, meaning in VARIABLES.items():
        assert f"| `{name}` | {meaning} |" in readme
    done = subprocess.run(
        [sys.executable, "-m", "segexplorer_nnunet"], capture_output=True, text=True, check=True
    )
    assert list(Path(done.stdout.strip()).glob("*.py")) == [plugin.TRAINERS / "nnUNetTrainerSegExplorer.py"]

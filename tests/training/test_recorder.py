"""Runs that other programs train: what a recorder writes, every reader of run folders understands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import segexplorer
from segexplorer import Recorder, losses, open_run, open_volume
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import EpochDone, RunFinished, StepDone, ValidationDone
from segexplorer.frontends.cli.app import app
from segexplorer.training.explanation import explain_run
from segexplorer.training.ownership import holder_of
from segexplorer.training.sharing import share_run
from segexplorer.training.verification import is_sound, verify_run

SHAPE = (14, 12, 10)
AFFINE = np.array(
    [[0, -2, 0, 30], [2, 0, 0, -10], [0, 0, 5, 7], [0, 0, 0, 1]], float
)  # its axes are not x, y, z


def _label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:6, 2:6, 2:6] = 1
    label[8:12, 5:9, 3:8] = 2
    return label


def _train(recorder: Recorder, loss: torch.nn.Module, epochs: int = 2, steps: int = 3) -> None:
    """A loop as anybody writes it: the logits themselves are learned."""
    label = _label()
    truth = torch.from_numpy(label[None, None].astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, *SHAPE, generator=generator).requires_grad_()
    optimiser = torch.optim.SGD([logits], lr=4.0)
    for _ in range(epochs):
        for _ in range(steps):
            output = loss.evaluate(logits, truth)
            optimiser.zero_grad()
            output.value.backward()
            optimiser.step()
            recorder.step(output, learning_rate=4.0, gradient_norm=float(logits.grad.norm()))  # type: ignore[union-attr]
        recorder.epoch_end()
        output = loss.evaluate(logits, truth)
        recorder.validate(
            recorder.watch(
                "case 1", image=label * 10.0, label=label, affine=AFFINE, logits=logits, output=output
            )
        )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    loss = losses.create("chen2023_adaptive_region")
    with Recorder(
        folder,
        ["liver", "lesion"],
        loss=loss,
        trainer="a loop",
        network="no network",
        epochs=2,
        steps_per_epoch=3,
    ) as recorder:
        _train(recorder, loss)
    return folder


def test_a_folder_given_from_here_is_read_from_anywhere_and_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder("runs/mine", ["liver", "lesion"]) as recorder:
        recorder.watch("case 1", image=_label() * 10.0, label=_label(), prediction=_label())
    for place in (Path("runs/mine"), tmp_path / "runs" / "mine"):
        (case,) = open_run(place).experiment.data.cases()
        np.testing.assert_array_equal(case.open().label.array, _label())  # type: ignore[union-attr]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "runs").rename(tmp_path / "moved")
    (case,) = open_run("../moved/mine").experiment.data.cases()
    np.testing.assert_array_equal(case.open().label.array, _label())  # type: ignore[union-attr]


def test_the_record_has_steps_epochs_validations_and_frames(recorded: Path) -> None:
    record = open_run(recorded)
    events = record.events()
    steps = [e for e in events if isinstance(e, StepDone)]
    assert [e.step for e in steps] == [1, 2, 3, 4, 5, 6] and [e.epoch for e in steps] == [1, 1, 1, 2, 2, 2]
    assert set(steps[0].terms) == {"dice", "cross_entropy", "adaptive_region_tversky"}
    for step in steps:
        assert sum(v * w for v, w in step.terms.values()) == pytest.approx(step.loss, rel=1e-4)
    ends = [e for e in events if isinstance(e, EpochDone)]
    assert ends[0].loss == pytest.approx(np.mean([e.loss for e in steps[:3]]))
    validations = [e for e in events if isinstance(e, ValidationDone)]
    assert [e.epoch for e in validations] == [1, 2] and validations[-1].mean_dice > validations[0].mean_dice
    assert record.state == "finished" and holder_of(recorded) is None
    assert len(record.metrics) == 4
    frames = [frame.load() for frame in record.watched("validation")]
    assert [frame.step for frame in frames] == [3, 6]
    assert np.array_equal(frames[-1].prediction, frames[-1].logits.argmax(0))  # type: ignore[union-attr]
    assert frames[-1].regions is not None and "alpha" in frames[-1].regions.values
    assert np.allclose(frames[-1].affine, AFFINE)
    assert record.recorded is not None and record.recorded.trainer == "a loop"


def test_its_case_can_be_opened_and_explained(recorded: Path) -> None:
    record = open_run(recorded)
    (ref,) = record.experiment.data.cases()
    assert ref.label is not None and np.array_equal(open_volume(ref.label, label=True).array, _label())
    explained = segexplorer.explain(recorded)
    assert not explained.approximate and explained.loss.kind == "weighted_sum"  # type: ignore[attr-defined]
    assert np.array_equal(explained.labels, _label())
    assert "Truth: lesion" in explained.why((9, 6, 5)) and "penalties: FP" in explained.why((9, 6, 5))
    assert np.isfinite(segexplorer.explain(recorded, step=3).got(2).values).all()


def test_it_is_verified_compared_replayed_and_shared(recorded: Path, tmp_path: Path) -> None:
    assert is_sound(verify_run(recorded))
    assert all(finding.state == "sound" for finding in verify_run(recorded))
    other = tmp_path / "other"
    with Recorder(other, ["liver", "lesion"], loss_name="a loss of theirs", trainer="a loop") as recorder:
        _train(recorder, losses.create("dice"))
    listed = CliRunner().invoke(app, ["compare", str(recorded), str(other)], catch_exceptions=False)
    assert listed.exit_code == 0 and "a loss of theirs" in listed.output, listed.output
    share_run(recorded, tmp_path / "copy.zip", predictions=True)
    assert (tmp_path / "copy.zip").stat().st_size > 0


def test_it_cannot_be_trained_further(recorded: Path) -> None:
    before = (recorded / "events.jsonl").read_bytes()
    end = list(segexplorer.Session().resume(recorded))[-1]
    assert isinstance(end, RunFinished) and end.state == "failed" and "trained by a loop" in end.error
    assert not end.defect and end.exit_code == 2
    assert (recorded / "events.jsonl").read_bytes().startswith(before)


def test_it_is_owned_while_it_records_and_a_failure_is_its_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Recorder(tmp_path / "run", {"lesion": 1}) as recorder:
        recorder.step(0.5, {"dice": 0.3, "ce": (0.1, 2.0)})
        holder = holder_of(recorder.folder)
        assert holder is not None and holder.is_this_process
        assert open_run(recorder.folder).state == "running"
        raise ZeroDivisionError("by zero")
    record = open_run(tmp_path / "run")
    assert record.state == "failed" and holder_of(record.folder) is None
    end = record.events()[-1]
    assert isinstance(end, RunFinished) and "by zero" in end.error


def test_predictions_and_probabilities_without_image_or_logits(tmp_path: Path) -> None:
    label = _label()
    with Recorder(tmp_path / "run", {"liver": 10, "lesion": (20, 21)}) as recorder:
        values = np.array([0, 10, 20])[label]
        scores = recorder.watch("a", label=values, prediction=label, role="train")
        assert [s.metrics["dice"] for s in scores] == [1.0, 1.0]
        p = np.eye(3)[label].transpose(3, 0, 1, 2)
        assert recorder.watch("a", probabilities=p, role="train")[0].metrics["dice"] == 1.0
        assert recorder.score("b", label, values)[1].metrics["dice"] == 1.0
    frames = open_run(tmp_path / "run").watched("train")
    assert frames[0].load().probabilities is None and frames[1].load().logits is None
    assert segexplorer.explain(tmp_path / "run", role="train").approximate


def test_terms_are_known_where_the_loop_sees_the_value_alone(tmp_path: Path) -> None:
    truth = torch.from_numpy(_label()[None, None].astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(1, 3, *SHAPE, generator=generator) for _ in range(3)]
    loss = losses.create("dice_cross_entropy")
    with Recorder(tmp_path / "run", ["liver", "lesion"], loss=loss) as recorder:
        recorder.step(loss(batches[0], truth))
        value = loss(batches[1], truth)
        loss(batches[2], truth)  # a validation in between
        recorder.step(float(value))
        recorder.step(loss(batches[0], truth) + loss(batches[1], truth))  # of two batches together
    steps = [e for e in open_run(tmp_path / "run").events() if isinstance(e, StepDone)]
    for step, logits in zip(steps[:2], batches, strict=False):
        expected = loss.evaluate(logits, truth).terms
        assert {k: v for k, (v, _) in step.terms.items()} == pytest.approx(
            {k: float(v) for k, (v, _) in expected.items()}
        )
    assert set(steps[2].terms) == {"loss"} and loss.heard is None


def test_ignored_values_do_not_count(tmp_path: Path) -> None:
    label = _label()
    logits = np.eye(2, dtype=np.float32)[(label == 1).astype(int)].transpose(3, 0, 1, 2) * 4
    with Recorder(tmp_path / "run", {"liver": 1, "ignore": 2}, loss="dice_cross_entropy") as recorder:
        assert recorder.watch("a", label=label, logits=logits)[0].metrics["dice"] == 1.0
    explained = segexplorer.explain(tmp_path / "run")
    assert explained.class_names == ("liver",) and (explained.labels[label == 2] == 255).all()
    assert (explained.asked(1).values[label == 2] == 0).all()


def test_what_does_not_fit_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    label = _label()
    with pytest.raises(SpecError, match="no classes"):
        Recorder(tmp_path / "none", [])
    with Recorder(tmp_path / "run", ["liver", "lesion"]) as recorder:
        with pytest.raises(DataError, match="neither image nor label"):
            recorder.watch("a", prediction=label)
        with pytest.raises(DataError, match="no prediction"):
            recorder.watch("a", label=label)
        with pytest.raises(DataError, match="shape"):
            recorder.watch("a", label=label, logits=np.zeros((2, *SHAPE)))
        with pytest.raises(DataError, match="not finite"):
            recorder.watch("a", label=label, logits=np.full((3, *SHAPE), np.nan))
        with pytest.raises(DataError, match="values up to 7"):
            recorder.watch("a", label=label, prediction=np.full(SHAPE, 7))
        with pytest.raises(DataError, match="no scores"):
            recorder.validate([])
        recorder.step(torch.tensor(0.5))
    assert open_run(tmp_path / "run").state == "finished"
    with pytest.raises(DataError, match="already exists"):
        Recorder(tmp_path / "run", ["liver"])


# ---- classes that overlap


def _crossing() -> np.ndarray:
    """(2, x, y, z) 0 or 1: two boxes of which neither is within the other."""
    masks = np.zeros((2, *SHAPE), np.uint8)
    masks[0, 2:8, 2:8, 2:8] = 1
    masks[1, 5:12, 4:11, 3:9] = 1
    return masks


def _record_crossing(folder: Path, loss: str = "dice_cross_entropy") -> Path:
    """A loop with a sigmoid per class, as for MONAI's `sigmoid=True`."""
    masks = torch.from_numpy(_crossing())[None]
    module = losses.multi_label(loss)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, *SHAPE, generator=generator).requires_grad_()
    optimiser = torch.optim.SGD([logits], lr=400.0)
    with Recorder(folder, ["organ", "tumour"], overlapping=True, loss=module) as recorder:
        for _ in range(3):
            output = module.evaluate(logits, masks)
            optimiser.zero_grad()
            output.value.backward()
            optimiser.step()
            recorder.step(output)
            recorder.epoch_end()
            recorder.validate(
                recorder.watch(
                    "a", image=_crossing().sum(0) * 9.0, label=_crossing(), affine=AFFINE, logits=logits
                )
            )
    return folder


def test_overlapping_classes_are_recorded_scored_and_explained(tmp_path: Path) -> None:
    record = open_run(_record_crossing(tmp_path / "run"))
    assert record.experiment.data.overlapping and is_sound(verify_run(tmp_path / "run"))
    done = [e for e in record.events() if isinstance(e, ValidationDone)][-1]
    frame = record.watched("validation")[-1]
    snapshot = frame.load()
    masks = _crossing().astype(bool)
    predicted = [snapshot.scheme.mask(snapshot.prediction, c) for c in (1, 2)]
    both = predicted[0] & predicted[1]
    assert both.any() and (predicted[0] & ~both).any() and (predicted[1] & ~both).any()
    for mask, guess, score in zip(masks, predicted, done.scores, strict=True):
        assert score.metrics["dice"] == pytest.approx(2 * (mask & guess).sum() / (mask.sum() + guess.sum()))
    # the logits are those that were given, and what they ask for is asked for each class
    assert snapshot.logits is not None and len(snapshot.logits) == 3 and not snapshot.logits[0].any()
    chances = 1 / (1 + np.exp(-snapshot.logits[2].astype(np.float32)))
    assert np.abs(chances - snapshot.all_probabilities[2] / 255).max() < 0.005
    explanation = explain_run(tmp_path / "run")
    labels = np.asarray(open_volume(next((tmp_path / "run").glob("cases/*label*")), label=True).array)
    assert set(np.unique(labels)) == {0, 1, 2, 3} and explanation.scheme == snapshot.scheme
    # per box and class, what is extra and missed adds up to the volumes of soft errors
    assert snapshot.regions is not None
    missed = np.asarray(snapshot.regions.values["fn"])
    assert np.isnan(missed[0]).all()
    assert missed[1].sum() == pytest.approx(
        (1 - 1 / (1 + np.exp(-snapshot.logits[1][masks[0]].astype(float)))).sum(), rel=1e-2
    )


def test_overlapping_region_maps_probabilities_and_masks(tmp_path: Path) -> None:
    masks = _crossing()
    module = losses.multi_label("chen2023_adaptive_region")
    logits = torch.randn(1, 2, *SHAPE, generator=torch.Generator().manual_seed(1))
    with Recorder(tmp_path / "run", ["organ", "tumour"], overlapping=True, loss=module) as recorder:
        recorder.step(1.0)
        output = module.evaluate(logits, torch.from_numpy(masks)[None])
        first = recorder.watch("a", label=masks, logits=logits, output=output)
        second = recorder.watch("a", probabilities=logits[0].sigmoid())
        third = recorder.watch("a", prediction=logits[0] > 0)
        fourth = recorder.watch(
            "a", prediction=((logits[0] > 0) * torch.tensor([1, 2])[:, None, None, None]).sum(0)
        )
        assert recorder.score("b", (logits[0] > 0).numpy(), masks)[0].metrics == first[0].metrics
    assert [s.metrics for s in first] == [s.metrics for s in second] == [s.metrics for s in third]
    assert [s.metrics for s in first] == [s.metrics for s in fourth]
    snapshot = open_run(tmp_path / "run").watched("validation")[0].load()
    assert snapshot.regions is not None and snapshot.regions.values["alpha"].shape[0] == 3


def test_regions_have_their_label_values_and_what_has_none_is_refused(tmp_path: Path) -> None:
    regions = {"whole": [1, 2], "core": [2]}
    label = _label()
    with Recorder(tmp_path / "run", regions, overlapping=True) as recorder:
        recorder.step(1.0)
        scores = recorder.watch("a", label=label, prediction=label)
        assert [s.metrics["dice"] for s in scores] == [1.0, 1.0]
        assert scores[0].truth_ml == pytest.approx((label > 0).sum() / 1000)
        with pytest.raises(DataError, match="of core alone, for which no label value stands"):
            recorder.watch("b", label=np.stack([label > 3, label > 0]), prediction=label)
        with pytest.raises(DataError, match="2 overlapping classes"):
            recorder.watch("a", logits=np.zeros((3, *SHAPE)))
        with pytest.raises(DataError, match="0 or 1 for each class"):
            recorder.watch("a", prediction=np.zeros((3, *SHAPE)))
    with pytest.raises(SpecError, match="more combinations"):
        Recorder(tmp_path / "many", [f"c{i}" for i in range(8)], overlapping=True)

"""Explanations of arrays and of runs: asked, got, why; logits as they were recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import segexplorer
from segexplorer import losses, open_run
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.losses.pull import Space
from segexplorer.training import explanation
from segexplorer.training.explanation import (
    LossLike,
    explain_arrays,
    explain_run,
    logits_from_probabilities,
)
from segexplorer.training.history import HistoryWriter, RunRecord
from segexplorer.training.predict import load_predictor
from segexplorer.training.run import Run
from segexplorer.training.sliding_window import predict_logits
from segexplorer.training.snapshots import WatchedSnapshot

SHAPE = (12, 10, 9)


def _label() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[3:8, 3:8, 3:7] = 1
    return label


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "run"
    segexplorer.train(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "chen2023_adaptive_region",
            "schedule": {"kind": "polynomial", "epochs": 3},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        },
        folder,
    )
    return folder


# ---- arrays


def test_an_explanation_of_arrays_agrees_with_autograd() -> None:
    label = _label()
    logits = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    found = explain_arrays(label, logits=logits, loss="dice", class_names=("lesion",)).asked(1)
    leaf = torch.from_numpy(logits[np.newaxis]).requires_grad_()
    losses.create("dice")(leaf, torch.from_numpy(label[np.newaxis, np.newaxis].astype(np.int64))).backward()
    assert leaf.grad is not None
    expected = -leaf.grad[0, 1].numpy()
    assert np.allclose(found.values, expected / np.abs(expected).mean(), atol=1e-4)
    assert found.mean == pytest.approx(np.abs(expected).mean(), rel=1e-5)
    strength = np.abs(found.values)
    ends = [np.percentile(part, 99) for part in (strength, strength[label == 1])]
    assert found.limit == pytest.approx(max(ends), rel=1e-4)
    assert found.title == "Dice asks: more or less lesion" and not found.approximate


def test_any_loss_with_any_parameters_and_terms() -> None:
    logits = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    explained = explain_arrays(_label(), logits=logits, loss={"kind": "tversky", "alpha": 0.1, "beta": 0.9})
    other = explained.asked(1, {"kind": "tversky", "alpha": 0.9, "beta": 0.1})
    assert explained.asked(1).shares.elsewhere < other.shares.elsewhere  # a high alpha looks after surplus
    both, dice = (
        explained.pull_of("dice_cross_entropy", terms=True),
        explained.asked(1, "dice_cross_entropy", term="dice"),
    )
    assert np.allclose(sum(both.terms.values()), both.total, atol=1e-8)
    assert np.corrcoef(dice.values.ravel(), explained.asked(1, "dice").values.ravel())[0, 1] > 0.999
    with pytest.raises(SpecError, match="no term 'focal'"):
        explained.asked(1, "dice_cross_entropy", term="focal")
    with pytest.raises(SpecError, match="no class 2"):
        explained.asked(2)


def test_probabilities_of_8_bits_lose_the_pull_and_say_so() -> None:
    label = _label()
    logits = np.zeros((2, *SHAPE), np.float32)
    logits[0] = 9  # p = .0001: rounded to 0
    p = np.exp(logits) / np.exp(logits).sum(0)
    exact = explain_arrays(label, logits=logits, loss="dice")
    rounded = explain_arrays(label, probabilities=np.round(p * 255).astype(np.uint8), loss="dice")
    floats = explain_arrays(label, probabilities=p, loss="dice")
    assert rounded.approximate and rounded.asked(1).approximate and not floats.approximate
    assert "Approximate" in rounded.why((4, 4, 4)) and "Approximate" not in exact.why((4, 4, 4))
    assert np.allclose(floats.asked(1).values, exact.asked(1).values, atol=1e-3)
    assert np.isfinite(logits_from_probabilities(np.zeros((2, 1, 1, 1), np.uint8))).all()


def test_got_is_the_change_of_the_log_odds() -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=(2, *SHAPE)).astype(np.float32) for _ in range(2))
    found = explain_arrays(_label(), logits=before, later=after).got(1)
    expected = (after[1] - after[0]) - (before[1] - before[0])
    assert np.allclose(found.values * found.mean, expected, atol=1e-4)
    with pytest.raises(DataError, match="no later prediction"):
        explain_arrays(_label(), logits=after).got(1)


def test_training_that_takes_a_small_step_along_the_pull_follows_it() -> None:
    logits = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    asked = explain_arrays(_label(), logits=logits, loss="dice")
    pull = asked.pull_of().total
    along = explain_arrays(_label(), logits=logits, later=logits + 0.1 * pull, loss="dice").followed(1)
    assert along.share == pytest.approx(1) and along.rank_correlation == pytest.approx(1, abs=1e-3)
    assert (along.field.values >= 0).all()
    against = explain_arrays(_label(), logits=logits, later=logits - 0.1 * pull, loss="dice").followed(1)
    assert against.share == 0 and against.rank_correlation == pytest.approx(-1, abs=1e-3)
    noise = np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
    chance = explain_arrays(_label(), logits=logits, later=logits + noise, loss="dice").followed(1)
    assert abs(chance.share - 0.5) < 0.1


def test_why_says_truth_probability_pull_terms_and_region() -> None:
    label = _label()
    logits = np.zeros((2, *SHAPE), np.float32)
    logits[0] = 2  # everything is missed, p = .12
    explained = explain_arrays(label, logits=logits, loss="chen2023_adaptive_region", class_names=("lesion",))
    text = explained.why((4, 4, 4))
    assert text.startswith("Truth: lesion; probability of lesion: .12. ")
    assert "asks for more lesion" in text and "as strongly as Cross entropy" in text
    assert "of its terms, dice more (" in text and "adaptive region tversky more (" in text
    report = explained.regions()
    assert report is not None
    box = report.regions.region_at((4, 4, 4))
    assert f"{report.values['fn'][1, box]:.0f} missed" in text and "penalties: FP ." in text
    outside = explained.why((0, 0, 0), 1)
    assert outside.startswith("Truth: background") and "asks for less lesion" in outside
    with pytest.raises(DataError, match="outside the volume"):
        explained.why((40, 0, 0))
    ignored = label.copy()
    ignored[0, 0, 0] = 255
    assert "ignored" in explain_arrays(ignored, logits=logits).why((0, 0, 0))


def test_arrays_that_do_not_fit_are_refused() -> None:
    label = _label()
    for wrong, message in (
        ({}, "logits or probabilities"),
        ({"logits": np.zeros((2, 3, 3, 3))}, "shape"),
        ({"logits": np.zeros((2, *SHAPE)), "class_names": ("a", "b")}, "2 class names"),
        ({"logits": np.zeros((2, *SHAPE)), "later": np.zeros((3, *SHAPE))}, "later prediction"),
    ):
        with pytest.raises(DataError, match=message):
            explain_arrays(label, **wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="holds 7"):
        explain_arrays(label * 7, logits=np.zeros((2, *SHAPE)))


# ---- runs


def test_recorded_logits_are_those_of_the_network(run_folder: Path) -> None:
    frame = open_run(run_folder).watched("validation")[-1].load()
    predictor = load_predictor(run_folder, "last")
    prepared = predictor.fitted.apply(
        next(r for r in open_run(run_folder).experiment.data.cases() if r.id == frame.case).open(),
        predictor.classes,
    )
    windows = predict_logits(
        predictor.network,
        torch.from_numpy(prepared.image[None]),
        classes=len(frame.class_names) + 1,
        patch=predictor.patch,
        overlap=predictor.experiment.validation.overlap,
        runtime=predictor.runtime,
    )
    while True:
        try:
            next(windows)
        except StopIteration as end:
            expected = end.value[0].numpy()
            break
    assert frame.logits is not None and frame.logits.dtype == np.float16
    assert np.allclose(frame.logits, expected, rtol=1e-3, atol=1e-3)
    assert frame.logits_affine is not None and np.allclose(frame.logits_affine, prepared.affine)


def test_a_run_is_explained_with_its_own_loss_and_any_other(run_folder: Path) -> None:
    explained = explain_run(run_folder, step=6)
    assert explained.step == 6 and explained.later_step == 9 and not explained.approximate
    newest = explain_run(run_folder)
    assert newest.step == 9
    with pytest.raises(DataError, match="no later prediction"):
        newest.got(1)
    assert explained.loss == open_run(run_folder).experiment.loss
    lesion = explained.class_names.index("liver") + 1
    own, other = explained.asked(lesion), explained.asked(lesion, "cross_entropy")
    assert np.abs(own.values).mean() == pytest.approx(1, rel=1e-4)
    assert not np.allclose(own.values, other.values, atol=0.1)
    assert np.isfinite(explained.got(lesion).values).all()
    voxel = np.argwhere(explained.labels == lesion)[0]
    assert "Truth: liver" in explained.why(voxel)
    assert explain_run(run_folder, role="train", step=3).role == "train"
    with pytest.raises(DataError, match="no frame of step 4"):
        explain_run(run_folder, step=4)


def test_without_logits_the_probabilities_serve_and_it_is_approximate(make_run: Callable[..., Run]) -> None:
    run = make_run(validation__logits_mb=0)
    list(run)
    assert open_run(run.folder).watched("validation")[-1].load().logits is None
    explained = explain_run(run.folder)
    assert explained.approximate and explained.asked(1).approximate
    none = make_run("none", validation__logits_mb=0, validation__keep_probabilities=False)
    list(none)
    with pytest.raises(DataError, match="neither logits nor probabilities"):
        explain_run(none.folder)


def test_what_had_adapted_in_the_loss_is_recorded_and_used(make_run: Callable[..., Run]) -> None:
    run = make_run()
    list(run)
    frame = open_run(run.folder).watched("validation")[-1].load()
    assert frame.loss_state["state_buffers.weights"]
    explained = explain_run(run.folder)
    weights = explained._module(explained.loss).numbers("weights")
    assert weights == frame.loss_state["state_buffers.weights"]


def test_live_changes_of_the_loss_are_known_at_their_step(make_run: Callable[..., Run]) -> None:
    run = make_run(loss="tversky", schedule__epochs=3)
    for event in run:
        if type(event).__name__ == "ValidationDone" and event.step == 3:
            run.set("loss.alpha", 0.9)
    before, after = (explain_run(run.folder, step=s).loss for s in (3, 9))
    assert before.alpha != 0.9 and after.alpha == 0.9  # type: ignore[attr-defined]


def test_a_loss_that_rewards_errors_is_seen_in_its_pull_and_not_in_its_penalties() -> None:
    """Chen 2023's adaptive penalties with gradient: surplus voxels are asked for where FP is tiny beside FN."""
    label = np.zeros((16, 16, 16), np.uint8)
    label[4:12, 4:12, 4:12] = 1
    logits = np.zeros((2, 16, 16, 16), np.float32)
    logits[0] = 7
    logits[1, 4:8, 4:12, 4:12] = 12  # half of the structure is found, nothing else

    def loss(a: float, detach: bool) -> dict[str, object]:
        return {"kind": "adaptive_region_tversky", "a": a, "b": 0.4, "detach": detach, "grid": [1, 1, 1]}

    explained = explain_arrays(label, logits=logits, class_names=("lesion",))
    outside, missed = (0, 0, 0), (9, 8, 8)
    held, free, cured = (
        explained.asked(1, loss(*given)) for given in ((0.3, True), (0.3, False), (0.4, False))
    )
    assert held.values[outside] < 0 and cured.values[outside] < 0, "less outside"
    assert free.values[outside] > 0, "an error is rewarded"
    assert all(field.values[missed] > 0 for field in (held, free, cured))
    said = explained.why(outside, 1, loss(0.3, False))
    assert "asks for more lesion" in said and "Cross entropy, which asks for less" in said
    assert "penalties: FP .30, FN .70" in said or "penalties: FP .31, FN .69" in said


# ---- room for logits


def _snapshot(index: int, role: str = "validation") -> WatchedSnapshot:
    return WatchedSnapshot(
        case="a",
        role=role,  # type: ignore[arg-type]
        step=index,
        index=index,
        class_names=("lesion",),
        affine=np.eye(4),
        prediction=np.zeros((10, 10, 10), np.uint8),
        logits=np.full((2, 10, 10, 10), index + 1, np.float16),
        logits_affine=np.eye(4),
    )


@pytest.mark.parametrize("fit", [1, 3, 4, 7])
def test_logits_stay_within_their_room_spread_over_the_run(tmp_path: Path, fit: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    size = 2 * 2 * 1000
    writer = HistoryWriter(folder)
    for index in range(24):
        for role in ("validation", "train"):
            writer.write(_snapshot(index, role), 0, logits_mb=2 * fit * size / 1e6)
        writer = HistoryWriter(folder) if index == 12 else writer  # as after a resume
    for role in ("validation", "train"):
        frames = [frame.load() for frame in RunRecord(folder).watched(role)]  # type: ignore[arg-type]
        assert len(frames) == 24
        kept = [frame.index for frame in frames if frame.logits is not None]
        assert all(frame.logits is None or (frame.logits == frame.index + 1).all() for frame in frames)
        assert kept[-1:] == [23] or fit == 1
        gaps = np.diff([i for i in kept if i < 22])
        assert not gaps.size or gaps.max() <= 4 * math.ceil(24 / fit)
    assert 1 <= len(list(folder.rglob("logits/zarr.json"))) <= 2 * fit


# ---- slices first


@pytest.mark.parametrize("space", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("loss", "term"), [("dice_cross_entropy", ""), ("dice_cross_entropy", "dice"), ("tversky", "")]
)
def test_a_slice_comes_before_the_whole_and_is_part_of_it(
    loss: str, term: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    of = explain_arrays(_label(), logits=logits, loss=loss, class_names=("lesion",))
    assert not of.is_slow(term=term, space=space), "small cases are answered at once"
    monkeypatch.setattr(explanation, "SLICES_FIRST", 1)
    assert of.is_slow(term=term, space=space)
    first = of.asked_on_slices(1, [(2, 4)], term=term, space=space)
    whole = of.asked(1, term=term, space=space)
    assert first is not None and first.title == whole.title and not of.is_slow(term=term, space=space)
    drawn = first.values * first.mean
    np.testing.assert_allclose(drawn[:, :, 4], (whole.values * whole.mean)[:, :, 4], rtol=1e-3, atol=1e-9)
    assert not np.delete(drawn, 4, axis=2).any()
    both = of.asked_on_slices(1, [(2, 5)], term=term, space=space)
    assert both is not None and both.values[:, :, 4].any() and both.values[:, :, 5].any()
    assert not first.values[:, :, 5].any(), "what was answered before stays as it was"
    # the scale is estimated from other slices
    assert first.limit * first.mean == pytest.approx(whole.limit * whole.mean, rel=0.3)


@pytest.mark.parametrize("space", ["logits", "probabilities"])
@pytest.mark.parametrize("term", ["", "dice"])
@pytest.mark.parametrize("scheme", [EXCLUSIVE, LabelScheme.of(2, [(1,), (1, 2)])], ids=["softmax", "sigmoid"])
def test_the_rest_follows_piece_by_piece_and_is_the_same(
    scheme: LabelScheme, term: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
    logits[0] = 0
    label = _label()
    label[5:8, 3:8, 3:7] = 2
    monkeypatch.setattr(explanation, "SLICES_FIRST", 1)
    monkeypatch.setattr("segexplorer.losses.pull.PART_BYTES", 4 * 3 * 90)  # one slice of x at a time
    expected = explain_arrays(label, logits=logits, loss="dice_cross_entropy", scheme=scheme)
    of = explain_arrays(label, logits=logits, loss="dice_cross_entropy", scheme=scheme)
    first = of.asked_on_slices(2, [(0, 4), (1, 5)], term=term, space=space)
    again = of.asked_on_slices(2, [(2, 6)], term=term, space=space)
    assert first is not None and again is not None
    wanted: list[tuple[LossLike, str]] = [(None, term), ("cross_entropy", "")]
    shares = [0.0]
    while shares[-1] < 1:
        shares.append(of.advance(2, wanted, 0.0, space))
    assert len(shares) == 2 * SHAPE[0] + 3 and shares == sorted(shares)
    assert not of.is_slow(term=term, space=space) and not of.is_slow("cross_entropy", space=space)
    for loss, part in wanted:
        own, theirs = (one.asked(2, loss, term=part, space=space) for one in (of, expected))
        np.testing.assert_allclose(own.values, theirs.values, rtol=1e-3, atol=1e-5)
        assert own.mean == pytest.approx(theirs.mean, rel=1e-4)
        assert own.title == theirs.title
    whole = expected.asked(2, term=term, space=space)
    there = np.zeros(SHAPE, bool)
    there[4], there[:, 5], there[:, :, 6] = True, True, True
    drawn = again.values * again.mean
    np.testing.assert_allclose(drawn[there], (whole.values * whole.mean)[there], rtol=1e-3, atol=1e-9)
    assert not drawn[~there].any()
    value = of.pull_of(space=space).value
    assert value == pytest.approx(expected.pull_of(space=space).value, rel=1e-5)


def test_a_loss_that_needs_all_voxels_at_once_has_no_slice_of_its_own_and_is_named() -> None:
    logits = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    of = explain_arrays(_label(), logits=logits, loss="lovasz_softmax")
    assert of.asked_on_slices(1, [(0, 3)]) is None
    assert of.needs_all_voxels() == losses.parse("lovasz_softmax").display_name
    assert of.needs_all_voxels("dice") == ""
    compound = {"kind": "weighted_sum", "terms": [{"loss": "dice"}, {"loss": "lovasz_softmax"}]}
    assert of.needs_all_voxels(compound) == of.needs_all_voxels()
    terms = [term.name for term in losses.parse(compound).compound_terms()]
    assert [bool(of.needs_all_voxels(compound, term=term)) for term in terms] == [False, True]

"""Whole cases of a run: in pieces they are what they are at once, and each is predicted once for all roles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import SpecError
from segexplorer.core.events import Event, Notice, Progress, ValidationDone, WatchedDone
from segexplorer.core.spec import replace_values
from segexplorer.training.compute import Compute
from segexplorer.training.evaluator import CaseResult, Evaluator
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.learner import Learner
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run

PIECES, ROOMY = 1e-6, 4.0
"""compute.case_gb: so little that everything is worked on in the smallest pieces; and so much that nothing is."""


def evaluated(experiment: Experiment, folder: Path, **changes: Any) -> tuple[CaseResult, list[Event]]:
    """Return what a validation makes of the first validation case, and its events."""
    changed = replace_values(experiment, {k.replace("__", "."): v for k, v in changes.items()})
    plan = resolve(changed)
    learner = Learner(
        changed, plan.runtime, channels=plan.channels, classes=len(plan.class_names) + 1, steps=6
    )
    evaluator = Evaluator(plan, plan.open_store(), learner)
    source = evaluator.evaluate(
        plan.ids("validation")[0], "validation", step=3, epoch=1, index=0, activity="validating"
    )
    events = []
    while True:
        try:
            events.append(next(source))
        except StopIteration as end:
            return end.value, events


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "chen2023_adaptive_region"},
        {"loss": {"kind": "weighted_sum", "terms": [{"loss": "boundary"}, {"loss": "dice"}]}},
        {"loss": "dice", "preprocessing__spacing": [14.0, 12.0, 11.0], "preprocessing__crop": "body"},
        {"sampling__patch_size": None, "loss": "top_k"},
    ],
    ids=["adaptive", "regions", "distances", "resampled", "whole"],
)
def test_in_pieces_a_case_is_what_it_is_at_once(
    tiny: Experiment, tmp_path: Path, changes: dict[str, Any]
) -> None:
    logits = {"validation__logits_mb": 100, "data__size": 26}
    whole, _ = evaluated(tiny, tmp_path, compute__case_gb=ROOMY, **logits, **changes)
    parts, events = evaluated(tiny, tmp_path, compute__case_gb=PIECES, **logits, **changes)
    assert np.isfinite(whole.loss)
    assert parts.loss == pytest.approx(whole.loss, rel=2e-6, abs=1e-6)
    assert not any(isinstance(event, Notice) for event in events)
    assert whole.snapshot is not None and parts.snapshot is not None
    assert whole.snapshot.regions is not None and parts.snapshot.regions is not None
    assert parts.snapshot.regions.edges == whole.snapshot.regions.edges
    for name, values in whole.snapshot.regions.values.items():
        np.testing.assert_allclose(parts.snapshot.regions.values[name], values, rtol=1e-4, atol=1e-4)
    assert np.mean(parts.snapshot.prediction != whole.snapshot.prediction) < 1e-3
    assert whole.snapshot.probabilities is not None and whole.snapshot.probability_classes is None
    for own, other in zip(whole.scores, parts.scores, strict=True):
        assert other.metrics["dice"] == pytest.approx(own.metrics["dice"], abs=2e-3)
    assert whole.snapshot.logits is not None and parts.snapshot.logits is not None
    difference = np.abs(parts.snapshot.logits.astype(float) - whole.snapshot.logits)
    assert difference.max() < 0.01
    for curve, other in zip(whole.calibration, parts.calibration, strict=True):
        assert other.brier == pytest.approx(curve.brier, rel=1e-4)
    windows = [event for event in events if isinstance(event, Progress)]
    assert windows[-1].done == windows[-1].total == len(windows)


def test_a_loss_that_needs_all_voxels_says_so_where_they_do_not_fit(tiny: Experiment, tmp_path: Path) -> None:
    whole, events = evaluated(tiny, tmp_path, loss="lovasz_softmax", compute__case_gb=ROOMY)
    assert 0 < whole.loss < 1
    assert not any(isinstance(event, Notice) for event in events)
    parts, events = evaluated(tiny, tmp_path, loss="lovasz_softmax", compute__case_gb=PIECES)
    assert np.isnan(parts.loss)
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert "Lovasz softmax needs the logits of all voxels at once" in notice.message
    assert "compute.case_gb" in notice.remedy
    assert whole.snapshot is not None and parts.snapshot is not None
    assert (
        whole.snapshot.regions is not None and parts.snapshot.regions is not None
    )  # the errors are there all the same
    for name in ("fp", "fn"):
        own, other = (s.regions.values[name] for s in (whole.snapshot, parts.snapshot))  # type: ignore[union-attr]
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


def test_of_many_classes_the_chosen_ones_keep_their_probabilities(
    tiny: Experiment, tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    whole, _ = evaluated(tiny, tmp_path, compute__case_gb=ROOMY)
    assert whole.snapshot is not None and whole.snapshot.probabilities is not None
    names = whole.snapshot.class_names
    some = {"compute__case_gb": 2e-4, "validation__probability_classes": (names[1],)}
    parts, _ = evaluated(tiny, tmp_path, **some)
    assert parts.snapshot is not None and parts.snapshot.probabilities is not None
    assert parts.snapshot.probability_classes == (2,)
    assert parts.snapshot.all_probabilities is None
    difference = parts.snapshot.probabilities[0].astype(int) - whole.snapshot.probabilities[2]
    assert np.abs(difference).max() <= 1
    run = make_run(**some, schedule__epochs=1)
    for _ in run:
        pass
    frame = open_run(run.folder).watched("validation")[-1].load()
    assert frame.probability_classes == (2,)
    assert frame.probabilities is not None and frame.probabilities.shape == (1, *frame.prediction.shape)


def test_a_case_is_predicted_once_for_all_it_is_for(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that is watched as a training case and validated is predicted once, and shown in both roles."""
    asked: list[str] = []
    original = Evaluator.evaluate

    def counted(self: Evaluator, case: str, *args: Any, **more: Any) -> Any:
        asked.append(case)
        return original(self, case, *args, **more)

    monkeypatch.setattr(Evaluator, "evaluate", counted)
    monkeypatch.setattr(
        "segexplorer.training.plan._watched",
        lambda experiment, roles: dict.fromkeys(
            ("train", "validation"), next(case for case, role in roles.items() if role == "validation")
        ),
    )
    run = make_run(data__count=4, split__validation_count=2, schedule__epochs=1)
    done = [e for e in run if isinstance(e, WatchedDone)]
    assert run.plan is not None
    assert sorted(asked) == sorted(run.plan.ids("validation"))
    assert {e.role for e in done} == {"train", "validation"} and len({e.case for e in done}) == 1
    frames = [open_run(run.folder).watched(role)[-1].load() for role in ("train", "validation")]
    assert np.array_equal(frames[0].prediction, frames[1].prediction)


def test_one_prediction_serves_both_roles(tiny: Experiment, tmp_path: Path) -> None:
    plan = resolve(tiny)
    learner = Learner(tiny, plan.runtime, channels=plan.channels, classes=len(plan.class_names) + 1, steps=6)
    evaluator = Evaluator(plan, plan.open_store(), learner)
    source = evaluator.evaluate(
        plan.ids("validation")[0], "validation", step=3, epoch=1, index=0, activity=""
    )
    while True:
        try:
            next(source)
        except StopIteration as end:
            snapshot = end.value.snapshot
            break
    other = evaluator.shown_as(snapshot, "train", 7)
    assert (other.role, other.index) == ("train", 7)
    assert np.array_equal(other.prediction, snapshot.prediction)
    slabs = [e for e in evaluator.predict_slab("train", 2, 0.0, step=3) if isinstance(e, Progress)]
    assert slabs


def test_memory_for_a_case_is_half_of_the_machine_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segexplorer.training.compute.memory_limit", lambda device="cpu": 16 * 2**30)
    assert Compute().case_bytes() == 8 * 2**30
    assert Compute.of({"case_gb": 3}).case_bytes() == 3 * 10**9
    with pytest.raises(SpecError, match="case_gb"):
        Compute.of({"case_gb": 0})


def test_the_loss_of_a_run_in_pieces_is_that_of_one_at_once(make_run: Callable[..., Run]) -> None:
    values = [
        [e.loss for e in make_run(name=f"run{gb}", compute__case_gb=gb) if isinstance(e, ValidationDone)]
        for gb in (ROOMY, PIECES)
    ]
    assert len(values[0]) == 2
    assert values[0] == pytest.approx(values[1], rel=1e-5)

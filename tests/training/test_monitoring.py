"""What a run records of its loss beside training: gradients of terms and references. It must change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.core.events import StepDone
from segexplorer.functional.transfer import read_together
from segexplorer.losses.pull import TOTAL, gradient_norms
from segexplorer.losses.references import adds_up, reference_values
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.viewmodels.curves import Curves

MakeRun = Callable[..., Run]
LEARNED = {
    "kind": "weighted_sum",
    "terms": [{"loss": "dice"}, {"loss": "cross_entropy"}],
    "weighting": "uncertainty",
}


def _weights(run: Run) -> bytes:
    return (open_checkpoint(run.folder / "checkpoints", "last")[0].folder / WEIGHTS).read_bytes()


def _steps(run: Run) -> list[StepDone]:
    return [e for e in open_run(run.folder).events() if isinstance(e, StepDone)]


@pytest.mark.parametrize("loss", ["adaptive_tversky_cross_entropy", LEARNED], ids=["adaptive", "learned"])
def test_recording_changes_no_weight_by_a_bit(make_run: MakeRun, loss: Any) -> None:
    runs = [
        make_run(f"every {n}", loss=loss, network__dropout=0.2, monitoring__gradients_every=n) for n in (0, 1)
    ]
    for run in runs:
        assert list(run)[-1].state == "finished"
    without, with_them = map(_steps, runs)
    assert [e.loss for e in without] == [e.loss for e in with_them]
    assert _weights(runs[0]) == _weights(runs[1])
    assert not any(e.term_gradients or e.references for e in without)
    assert all(e.term_gradients and e.references for e in with_them)


def test_a_resumed_run_records_what_the_whole_would_have(make_run: MakeRun) -> None:
    whole, broken = (make_run(name, monitoring__gradients_every=2) for name in ("whole", "broken"))
    list(whole)
    for event in broken:
        if isinstance(event, StepDone) and event.step == 3:
            broken.stop()
    list(Run(RunFolder.open(broken.folder)))
    one, two = map(_steps, (whole, broken))
    assert [e.step for e in one if e.term_gradients] == [1, 3, 5]
    assert [(e.term_gradients, e.references) for e in one] == [(e.term_gradients, e.references) for e in two]


def test_the_curves_have_them(make_run: MakeRun) -> None:
    run = make_run(monitoring__gradients_every=2)
    list(run)
    curves = Curves()
    curves.extend(open_run(run.folder).events())
    steps, values = curves.series("term_gradients")["tversky"]
    assert steps.tolist() == [1, 3, 5] and (values > 0).all()
    assert set(curves.names("references")) >= {"this run", "perfect", "all background", "random"}


def test_norms_are_those_of_autograd() -> None:
    logits = torch.randn((2, 3, 5, 6, 4), generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 1, 5, 6, 4), generator=torch.Generator().manual_seed(1))
    weighed = losses.create(
        "weighted_sum",
        terms=[
            {"loss": "dice", "weight": 0.5},
            {"loss": {"kind": "dice_cross_entropy"}, "weight": 2.0, "name": "inner"},
        ],
    )
    found = read_together(gradient_norms(weighed, logits, target))
    assert set(found) == {"dice", "inner.dice", "inner.cross_entropy", TOTAL}

    def norm(loss: torch.nn.Module, factor: float) -> float:
        leaf = logits.clone().requires_grad_()
        loss(leaf, target).backward()
        assert leaf.grad is not None
        return factor * float(leaf.grad.norm())

    assert found["dice"] == pytest.approx(norm(losses.create("dice"), 0.5), rel=1e-5)
    assert found["inner.cross_entropy"] == pytest.approx(norm(losses.create("cross_entropy"), 2.0), rel=1e-5)
    assert found[TOTAL] == pytest.approx(norm(weighed, 1.0), rel=1e-5)


def test_references_are_what_they_say() -> None:
    target = torch.zeros((1, 1, 8, 8, 8), dtype=torch.long)
    target[..., :2, :2, :2] = 1
    target[..., 7] = 255
    entropy = losses.create("cross_entropy", ignore_index=255)
    found = read_together(reference_values(entropy, target, 2))
    share = 8 / (8 * 8 * 7)
    assert found["perfect"] == pytest.approx(0, abs=1e-6)
    assert found["class frequencies"] == pytest.approx(
        -share * np.log(share) - (1 - share) * np.log(1 - share), rel=1e-4
    )
    assert found["all background"] == pytest.approx(
        -share * np.log(0.01) - (1 - share) * np.log(0.99), rel=1e-4
    )
    state = torch.get_rng_state()
    assert reference_values(entropy, target, 2, seed=3) == reference_values(entropy, target, 2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_sums_are_told_from_means() -> None:
    assert adds_up(losses.parse({"kind": "t_loss", "normalise": False})) is True
    means = [name for name in losses.names() if adds_up(losses.parse(name)) is True]
    assert means == []

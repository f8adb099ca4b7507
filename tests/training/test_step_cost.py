"""What a training step asks of a device that works ahead: reads, waits, and bytes, counted on the CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segexplorer import losses
from segexplorer.core.spec import replace_values
from segexplorer.data.sampler import Sampler
from segexplorer.data.store import PreprocessedCache
from segexplorer.functional.boundary import counted_on_device
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.transfer import read_together
from segexplorer.losses.base import partitions_in
from segexplorer.training.compute import Runtime
from segexplorer.training.experiment import Experiment
from segexplorer.training.flight_recorder import StepError
from segexplorer.training.learner import Learner
from segexplorer.training.plan import Plan, resolve

READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__"}
WAITS = ("nonzero", "unique", "masked_select", "bincount", "aten.equal", "repeat_interleave.Tensor")
"""Operations whose result has a size that the host must know."""


class Sent(TorchFunctionMode):
    """Counts what Python asks for: numbers that are read, tensors that are made of numbers, and bytes sent."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner, self.reads, self.made, self.bytes = learner, list[str](), list[str](), 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        # Adam counts its steps on the host
        if name in READS and not any(args[0] is count for count in _counts(self.learner)):
            self.reads.append(name)
        if name == "to" and len(args) > 1 and isinstance(args[1], str | torch.device):
            self.bytes += args[0].nbytes
        if name in ("tensor", "as_tensor", "new_tensor") and (kwargs or {}).get("device") is not None:
            self.made.append(name)
        return func(*args, **(kwargs or {}))


class Done(TorchDispatchMode):
    """Counts what is done: numbers that are read, waits, and bytes that are read or written."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner, self.reads, self.waits, self.bytes = learner, 0, list[str](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = str(func)
        if "_local_scalar_dense" in name:
            known = {count.data_ptr() for count in _counts(self.learner)}
            self.reads += args[0].data_ptr() not in known
        masked = "index" in name and any(
            isinstance(t, Tensor) and t.dtype == torch.bool for t in tree_leaves(args[1:2])
        )
        if masked or any(wait in name for wait in WAITS):
            self.waits.append(name)
        if not func.is_view:
            self.bytes += sum(t.nbytes for t in tree_leaves((args, found)) if isinstance(t, Tensor))
        return found


def _counts(learner: Learner) -> list[Tensor]:
    """Return the numbers of tensors that torch keeps on the host for a network on a GPU, too."""
    return [state["step"] for state in learner.optimiser.state.values() if "step" in state]


class Trainer:
    """A learner with batches, as a run has them; ahead of its device where it is asked to be."""

    def __init__(self, experiment: Experiment, *, ahead: bool = True) -> None:
        plan = _plan()
        runtime: Runtime = _Ahead(**vars(plan.runtime)) if ahead else plan.runtime
        self.learner = Learner(
            experiment, runtime, channels=plan.channels, classes=len(plan.class_names) + 1, steps=6
        )
        self.sampler = Sampler(
            _store(),
            plan.ids("train"),
            plan.sampling,
            experiment.augmentation,
            experiment.seed,
            partitions_in(experiment.loss),
        )

    def step(self, number: int, **options: Any) -> Any:
        return self.learner.step(self.sampler.batch(1, number), number, 1, **options)


@cache
def _plan() -> Plan:
    return resolve(Experiment.of(TINY))


@cache
def _store() -> PreprocessedCache:
    return _plan().open_store()


class _Ahead(Runtime):
    @property
    def works_ahead(self) -> bool:
        return True


TINY: dict[str, Any] = {
    "data": {"kind": "phantom", "count": 2, "size": 24, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "adaptive_tversky_cross_entropy",
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}
DEEP = {"kind": "unet", "base_features": 4, "levels": 3, "deep_supervision": "exp"}
BY_STEP = {
    "kind": "weighted_sum",
    "terms": [{"loss": "tversky"}, {"loss": "cross_entropy"}],
    "weighting": {"kind": "loss_proportion", "granularity": "step"},
}
LEARNED = {**BY_STEP, "weighting": "uncertainty"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"loss": "dice_cross_entropy"},
    "adaptive by epoch": {"loss": "adaptive_tversky_cross_entropy"},
    "adaptive by step": {"loss": BY_STEP},
    "regions": {"loss": "adaptive_region_tversky"},
    "clipped": {"optimiser.gradient_clip": 0.1},
    "not clipped": {"optimiser.gradient_clip": None},
    "deep supervision": {"network": DEEP, "loss": "dice_cross_entropy"},
    "learned weights": {"loss": LEARNED},
    "momentum": {"optimiser": "sgd"},
}


@pytest.fixture(params=list(CASES))
def settings(request: pytest.FixtureRequest) -> Experiment:
    return replace_values(Experiment.of(TINY), CASES[request.param])


@pytest.mark.parametrize("measure", [False, True], ids=["", "measured"])
def test_a_step_reads_the_device_once(settings: Experiment, measure: bool) -> None:
    trainer = Trainer(settings)
    for number in range(2):  # the first one reads what was set before training
        trainer.step(number, measure=measure)
    batch = trainer.sampler.batch(1, 2)
    with Sent(trainer.learner) as sent, Done(trainer.learner) as done:
        trainer.learner.step(batch, 2, 1, measure=measure)
    assert sent.reads == ["tolist"] and done.reads == 0
    assert not done.waits and not sent.made
    voxels = batch.labels.size
    assert batch.images.dtype == np.float32 and batch.labels.dtype == np.uint8
    drawn = (trainer.learner.classes * voxels * 4) if measure else 0  # the logits of a random prediction
    regions = 2 * voxels if partitions_in(settings.loss) else 0
    assert sent.bytes - drawn >= 5 * voxels, "four bytes of image and one of label"
    assert sent.bytes - drawn <= 5 * voxels + regions + 1024, "and little else"


def test_working_ahead_changes_no_more_than_rounding(settings: Experiment) -> None:
    one, two = (Trainer(settings, ahead=ahead) for ahead in (True, False))
    for number in range(4):
        ahead, beside = one.step(number, measure=True), two.step(number, measure=True)
        assert ahead.loss == pytest.approx(beside.loss, rel=1e-5)
        assert ahead.gradient_norm == pytest.approx(beside.gradient_norm, rel=1e-4)
        assert ahead.references == pytest.approx(beside.references, rel=1e-5, abs=1e-6)
        for name, term in beside.terms.items():
            assert ahead.terms[name] == pytest.approx(term, rel=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e31])
def test_a_prediction_that_is_no_number_is_found_afterwards(value: float) -> None:
    found = []
    for ahead in (True, False):
        trainer = Trainer(Experiment.of(TINY), ahead=ahead)
        network = trainer.learner.network
        before = {k: v.clone() for k, v in network.state_dict().items()}
        hook = network.register_forward_hook(lambda module, given, logits: logits + value)
        with pytest.raises(StepError) as error:
            trainer.step(0)
        hook.remove()
        found.append((error.value.message, error.value.reason))
        trained = dict(network.named_parameters())
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items() if k in trained)
    assert found[0] == found[1]
    assert found[0][1] == ("refused" if value == 1e31 else "prediction")


def test_labels_that_the_loss_does_not_know_are_named_before_they_reach_it() -> None:
    trainer = Trainer(Experiment.of(TINY))
    batch = trainer.sampler.batch(1, 0)
    labels = batch.labels.copy()
    labels[0, 0, 0, 0, 0] = 200
    with pytest.raises(StepError, match="label 200"):
        trainer.learner.step(replace(batch, labels=labels), 0, 1)


WAITING = {"top_k", "dice_top_k", "hausdorff", "boundary_difference_over_union"}
"""Losses that need a number of voxels, or distances of the prediction, from the device; the last on a CPU alone."""


def test_losses_wait_for_nothing() -> None:
    class Nobody:
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)])

    waiting = set()
    for kind in losses.names():
        spec = losses.parse(kind)
        logits = torch.randn((2, 3, 8, 8, 8), requires_grad=True)
        labels = torch.randint(0, 3, (2, 1, 8, 8, 8), dtype=torch.uint8)
        maps = {name: torch.ones(2, 3, 8, 8, 8) for name in spec.needs()}
        context = LossContext(distance_maps=maps or None, labels_checked=True, spacing=[[1.0] * 3] * 2)
        loss: Any = spec.build()
        with Sent(Nobody()) as sent, Done(Nobody()) as done:  # type: ignore[arg-type]
            output = loss.evaluate(logits, labels, context)
            output.value.backward()
        assert output.extremes.tolist() == [logits.min(), logits.max()]
        if sent.reads or done.reads or done.waits or sent.made:
            waiting.add(kind)
    assert waiting == WAITING


def test_borders_are_counted_without_waiting() -> None:
    labels = torch.randint(0, 5, (2, 6, 7, 8), dtype=torch.uint8)
    border = torch.rand(labels.shape) < 0.4
    expected = [int(((labels == c) & border).sum()) for c in range(4)]
    assert counted_on_device(labels, border, 4).tolist() == expected


def test_numbers_are_read_together() -> None:
    given = {"a": torch.tensor(1.5), "b": 2.5, "c": torch.tensor(0.1, dtype=torch.float64)}
    assert read_together(given) == {"a": 1.5, "b": 2.5, "c": 0.1}
    assert list(read_together(given)) == ["a", "b", "c"] and read_together({}) == {}

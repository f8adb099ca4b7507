"""The learner: network, loss, optimiser and scaler as one thing that takes a step and can be saved."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segexplorer.core.errors import LossInputError, shorten
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.training.deep_supervision import mode_of, supervise
from segexplorer.training.flight_recorder import FlightStep, Reason, StepError
from segexplorer.training.schedules import ScheduleState
from segexplorer.training.slices import Layout
from segexplorer.training.trained_patch import SeenByLoss
from segexplorer.training.weights import WeightsReport, freeze, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from segexplorer.core.events import Reference
    from segexplorer.data.sampler import Batch
    from segexplorer.functional.inputs import LossContext
    from segexplorer.losses.module import Loss, LossOutput
    from segexplorer.networks.base import Mode
    from segexplorer.training.compute import Runtime
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.team import Team


@dataclass(frozen=True)
class StepResult:
    """The result of one optimiser step: plain numbers, and the loss's output for region maps (detached).

    Under deep supervision all of it is of the full resolution, but for the gradient norm. `term_gradients` and
    `references` are as in `StepDone`, empty where they were not measured. `seen` is what the loss saw, where it was
    to be kept.
    """

    loss: float
    terms: dict[str, tuple[float, float]]
    gradient_norm: float
    learning_rate: float
    output: LossOutput
    term_gradients: dict[str, float] = field(default_factory=dict)
    references: dict[Reference, float] = field(default_factory=dict)
    seen: SeenByLoss | None = None


class Learner:
    """Owns every tensor that training changes.

    Parameters
    ----------
    experiment
        The effective experiment; its seed decides the initial weights.
    runtime
        Where and how precisely to compute.
    channels, classes
        Input channels and channels of the logits (background included).
    scheme
        What the labels mean, which decides between softmax and sigmoid.
    steps
        Planned optimiser steps, over which the schedule runs.
    team
        The processes that share each step; None: this one alone.
    """

    def __init__(
        self,
        experiment: Experiment,
        runtime: Runtime,
        *,
        channels: int,
        classes: int,
        steps: int,
        scheme: LabelScheme = EXCLUSIVE,
        team: Team | None = None,
    ) -> None:
        import torch

        from segexplorer.losses.multilabel import build_loss

        self.runtime, self.steps, self.team, self.classes = runtime, steps, team, classes
        self.experiment = experiment
        self.layout = Layout.of(experiment.sampling.patch_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(experiment.seed)
            network = self.layout.build(experiment.network, channels, classes, overlapping=scheme.overlapping)
        self.network: torch.nn.Module = runtime.place_network(network, self.layout.dimensions)
        if team is not None:
            self.network = team.share_layers(self.network)
        self._forward: Callable[[torch.Tensor], Any] = self.network
        self._still = freeze(self.network, experiment.network_weights.freeze)
        self.loss: Loss = build_loss(experiment.loss, scheme).to(runtime.device)
        self.schedule_state = ScheduleState()
        # (first step, length) of every course of the schedule; an extension may add one
        self.pieces: list[tuple[int, int]] = [(0, steps)]
        self.scaler = runtime.scaler()
        self.optimiser = experiment.optimiser.build(self._groups())
        memory = experiment.validation.average_weights
        self.average: torch.optim.swa_utils.AveragedModel | None = None
        if memory > 0:
            self.average = torch.optim.swa_utils.AveragedModel(
                self.network, multi_avg_fn=_moving_average(memory), use_buffers=True
            )

    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [p for p in self.network.parameters() if p.requires_grad]}]
        learned = list(self.loss.parameters())
        if learned:  # a loss that learns its own parameters, e.g. nu of the T-Loss; never decayed
            groups.append({"params": learned, "weight_decay": 0.0})
        return groups

    def load_pretrained(self) -> WeightsReport | None:
        """Start from the experiment's file of weights, if it names one.

        Raises
        ------
        DataError
            When the file cannot be used.
        """
        path = self.experiment.network_weights.path
        if not path:
            return None
        report = load_weights(self.network, os.path.expandvars(path))
        if self.average is not None:
            self.average.module.load_state_dict(self.network.state_dict())
        return report

    def compile(self, shape: Sequence[int]) -> str:
        """Have training steps use a compiled version of the network, whose weights are those of the network.

        It is tried on made-up images, since compilers fail in many ways when they are first used.

        Parameters
        ----------
        shape
            (B, channels, *spatial) of the images of a step.

        Returns
        -------
        str
            Why the network is used as it is; "" where it was compiled.
        """
        import torch

        if self.team is not None:
            return "The network is not compiled: its layers exchange numbers between the devices."
        device = torch.device(self.runtime.device)
        kept = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        try:
            compiled = torch.compile(self.network)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                self._train()
                with self.runtime.autocast():
                    logits = compiled(self.runtime.place(torch.zeros(tuple(shape))))
                levels = list(logits) if isinstance(logits, (list, tuple)) else [logits]
                learned = [p for p in self.network.parameters() if p.requires_grad]
                torch.autograd.grad(
                    torch.stack([z.float().mean() for z in levels]).sum(), learned, allow_unused=True
                )
        except Exception as error:  # noqa: BLE001  whatever a compiler raises, the network works without it
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return (
                f"The network could not be compiled here and is used as it is: {shorten(reason.strip(), 160)}"
            )
        finally:
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(kept[name])
        self._forward = compiled
        return ""

    def _train(self) -> None:
        """Put the network into training mode, but for what is frozen."""
        self.network.train()
        for module in self._still:
            module.eval()

    @property
    def predictor(self) -> torch.nn.Module:
        """The network that predicts: the averaged one where weight averaging is on. In evaluation mode."""
        network: torch.nn.Module = self.network if self.average is None else self.average.module
        return network.eval()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of optimiser step `step`, counted from 0."""
        start, length = next(piece for piece in reversed(self.pieces) if piece[0] <= step)
        factor = self.experiment.schedule.scale(step - start, length, self.schedule_state)
        return self.experiment.optimiser.learning_rate * factor

    def step(
        self,
        batch: Batch,
        step: int,
        epoch: int,
        *,
        measure: bool = False,
        keep: bool = False,
        rate: float | None = None,
    ) -> StepResult:
        """Take one optimiser step.

        Parameters
        ----------
        batch
            This process's part of it, where a team shares the step; the result is that of the whole batch.
        measure
            Whether the gradients of the terms and the references are measured beside it; the step is the same.
        keep
            Whether the result has what the loss saw.
        rate
            Learning rate; that of the schedule where it is not given.

        Raises
        ------
        StepError
            When the loss or the gradient is not finite; the weights are left as they were.
        """
        import torch

        # counter-based: dropout at step n is the same whether or not the run was interrupted before
        torch.manual_seed((self.experiment.seed * 1_000_003 + step) % 2**63)
        self._train()
        self.loss.train()
        images = self.runtime.place(torch.from_numpy(batch.images))
        labels = self.runtime.send(torch.from_numpy(batch.labels))
        rate = self.learning_rate(step) if rate is None else rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self.runtime.autocast():
            logits = self._forward(images)
        try:
            mode = mode_of(self.experiment.network)
            context = self._known(batch, epoch)
            if self.team is not None:
                logits, labels, context = self.team.gather(logits, labels, context)
            output, total = self._evaluate(logits, labels, context, mode)
        except LossInputError as error:  # logits that are not finite never reach a loss's formula
            first = logits[0] if isinstance(logits, (list, tuple)) else logits
            finite = bool(first.isfinite().all())
            raise _refused(error, _facts(batch, step, math.nan, {}, rate), finite=finite) from error
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        if self.team is not None:
            self.team.reduce_gradients(list(self.network.parameters()), list(self.loss.parameters()))
        # now, since the graph of the network is free again and the loss still has the weights of this step
        gradients, references = self._measure(logits, labels, context, step) if measure else ({}, {})
        self.scaler.unscale_(self.optimiser)
        found = _Read.of(output, total, self._clip(), gradients, references)
        self._require_finite(found, batch, step, rate)
        seen = self._seen(logits, labels, context) if keep else None
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.loss.step_end({name: v for name, (v, _) in found.terms.items()})
        return StepResult(
            found.value, found.terms, found.norm, rate, output, found.gradients, found.references, seen
        )

    def _seen(self, logits: Any, labels: torch.Tensor, context: LossContext) -> SeenByLoss:
        """Return what the loss saw, with what had adapted in it before this step moves it."""
        full = logits[0] if isinstance(logits, (list, tuple)) else logits
        return SeenByLoss(full.detach(), labels, context, self.loss.numbers_by_name())

    def _known(self, batch: Batch, epoch: int) -> LossContext:
        """Return what the loss may know of a batch.

        Ahead of a device that works by itself, the labels are looked at here, and the logits together with all
        other numbers of the step, so that the loss waits for nothing.
        """
        context = context_of(batch, epoch, self.runtime.device)
        if not self.runtime.works_ahead:
            return context
        own = self.loss.spec.ignore_index
        ignored = context.ignore_index if own is None else own
        counted = batch.labels if ignored is None else np.where(batch.labels == ignored, 0, batch.labels)
        if batch.labels.dtype != np.uint8 or counted.max() >= self.classes:
            return context  # the loss says what is wrong
        alone = self.team is None  # nobody here has seen the labels of the others
        ignored = None if alone and batch.labels.max() < self.classes else context.ignore_index
        return replace(context, labels_checked=True, ignore_index=ignored)

    def _require_finite(self, found: _Read, batch: Batch, step: int, rate: float) -> None:
        """Refuse a step whose prediction, loss or gradient is no number.

        Raises
        ------
        StepError
            Before the weights are changed.
        """
        from segexplorer.functional.inputs import LARGEST_LOGIT, extreme_logits

        if not all(abs(z) < LARGEST_LOGIT for z in found.extremes):
            finite = all(map(math.isfinite, found.extremes))
            raise _refused(extreme_logits(), _facts(batch, step, math.nan, {}, rate), finite=finite)
        if not math.isfinite(found.sought):
            raise _not_finite("loss", found.sought, _facts(batch, step, found.value, found.terms, rate))
        if not math.isfinite(found.norm) and not self.scaler.is_enabled():
            facts = _facts(batch, step, found.value, found.terms, rate, found.gradients, found.norm)
            raise _not_finite("gradient", found.norm, facts)

    def _measure(
        self, logits: Any, labels: torch.Tensor, context: LossContext, step: int
    ) -> tuple[dict[str, torch.Tensor], dict[Reference, torch.Tensor]]:
        """Return the gradients of the terms and the references of a batch, at full resolution."""
        from segexplorer.losses.pull import gradient_norms
        from segexplorer.losses.references import reference_values

        drop = self.layout.drop
        full = drop(logits[0] if isinstance(logits, (list, tuple)) else logits)
        truth, known = drop(labels), self.layout.drop_context(context)
        return (
            gradient_norms(self.loss, full, truth, known),
            reference_values(self.loss, truth, full.shape[1], known, seed=step),
        )

    def _evaluate(
        self, logits: Any, labels: torch.Tensor, context: LossContext, mode: Mode
    ) -> tuple[LossOutput, torch.Tensor]:
        """Ask the loss, in 2D where the network is."""
        drop = self.layout.drop
        levels = [drop(level) for level in logits] if isinstance(logits, (list, tuple)) else drop(logits)
        return supervise(self.loss, levels, drop(labels), self.layout.drop_context(context), mode)

    def _clip(self) -> torch.Tensor:
        import torch

        limit = self.experiment.optimiser.gradient_clip
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm: torch.Tensor = torch.nn.utils.clip_grad_norm_(
            parameters, limit if limit is not None else math.inf
        )
        return norm

    def apply(self, experiment: Experiment) -> None:
        """Take over live settings; network, optimiser moments and what the loss adapted stay as they are."""
        self.experiment = experiment
        self.loss.update(experiment.loss)
        given = experiment.optimiser.hyperparameters()
        network, *learned = self.optimiser.param_groups
        network.update(given)
        for group in learned:
            group.update({**given, "weight_decay": 0.0})

    def state(self) -> dict[str, Any]:
        """Return everything but the network's weights, as tensors and plain numbers."""
        schedule = self.schedule_state
        return {
            "optimiser": self.optimiser.state_dict(),
            "loss": self.loss.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": {"factor": schedule.factor, "best": schedule.best, "waited": schedule.waited},
            "averaged": int(self.average.n_averaged) if self.average is not None else 0,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a saved state; the network's weights are loaded by the checkpoint."""
        if state["optimiser"] is not None:  # a fork with another kind of optimiser begins without moments
            self.optimiser.load_state_dict(state["optimiser"])
        self.loss.load_state_dict(state["loss"])
        if state["scaler"] and self.scaler.is_enabled():  # empty where the run began without float16
            self.scaler.load_state_dict(state["scaler"])
        self.schedule_state = ScheduleState(**state["schedule"])
        if self.average is not None:
            self.average.n_averaged.fill_(state["averaged"])


@dataclass(frozen=True)
class _Read:
    """All numbers of a step, read from the device at once.

    Attributes
    ----------
    value, sought
        The loss at full resolution, and what was made small.
    extremes
        Least and greatest logits, where the loss left them to be looked at.
    """

    value: float
    sought: float
    terms: dict[str, tuple[float, float]]
    norm: float
    extremes: tuple[float, ...]
    gradients: dict[str, float]
    references: dict[Reference, float]

    @classmethod
    def of(
        cls,
        output: LossOutput,
        total: torch.Tensor,
        norm: torch.Tensor,
        gradients: dict[str, torch.Tensor],
        references: dict[Reference, torch.Tensor],
    ) -> _Read:
        """Read them, with one wait."""
        from segexplorer.functional.transfer import read_together

        extremes = () if output.extremes is None else output.extremes.flatten().unbind()
        asked: dict[tuple[str, Any], torch.Tensor | float] = {
            ("", "value"): output.value,
            ("", "sought"): total,
            ("", "norm"): norm,
            **{("value", name): value for name, (value, _) in output.terms.items()},
            **{("weight", name): weight for name, (_, weight) in output.terms.items()},
            **{("extreme", n): extreme for n, extreme in enumerate(extremes)},
            **{("gradient", name): gradient for name, gradient in gradients.items()},
            **{("reference", name): reference for name, reference in references.items()},
        }
        known = read_together(asked)
        return cls(
            value=known["", "value"],
            sought=known["", "sought"],
            terms={name: (known["value", name], known["weight", name]) for name in output.terms},
            norm=known["", "norm"],
            extremes=tuple(known["extreme", n] for n in range(len(extremes))),
            gradients={name: known["gradient", name] for name in gradients},
            references={name: known["reference", name] for name in references},
        )


def _moving_average(memory: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], Any], None]:
    """Return the update of an exponential moving average; tensors of one dtype come in together."""
    import torch

    follow = torch.optim.swa_utils.get_ema_multi_avg_fn(memory)  # type: ignore[no-untyped-call]

    def update(averages: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: Any) -> None:
        if averages[0].is_floating_point():
            follow(averages, current, count)
            return
        for average, value in zip(averages, current, strict=True):
            average.copy_(value)  # counters and indices: a mean of them is off by one through rounding

    return update


def context_of(batch: Batch, epoch: int, device: torch.device | str = "cpu") -> LossContext:
    """Return the `LossContext` of a batch: distance maps, regions, the positions of its patches, and the spacing.

    The positions of patches that were mirrored, rotated or deformed are left out: they would misplace voxels.
    """
    import torch

    from segexplorer.functional.inputs import LossContext
    from segexplorer.functional.regions import BatchRegions
    from segexplorer.functional.transfer import sent

    maps = {name: sent(torch.from_numpy(pieces), device) for name, pieces in batch.maps.items()}
    return LossContext(
        distance_maps=maps or None,
        spacing=batch.spacings,
        origin=None if batch.moved else batch.origins,
        volume_shape=batch.volume_shapes,
        epoch=epoch,
        regions={partition: BatchRegions(seen, device) for partition, seen in batch.regions.items()} or None,
    )


def _facts(
    batch: Batch,
    step: int,
    loss: float,
    terms: dict[str, tuple[float, float]],
    rate: float,
    gradients: dict[str, float] | None = None,
    norm: float = math.nan,
) -> FlightStep:
    return FlightStep(
        step=step + 1,
        loss=loss,
        terms=terms,
        term_gradients=gradients or {},
        gradient_norm=norm,
        learning_rate=rate,
        cases=list(batch.step_cases or batch.cases),
    )


def _refused(error: LossInputError, facts: FlightStep, *, finite: bool) -> StepError:
    """Return the error of a step whose logits or labels the loss refuses."""
    return _stopped(error.message.rstrip("."), "refused" if finite else "prediction", facts)


def _not_finite(what: Literal["loss", "gradient"], value: float, facts: FlightStep) -> StepError:
    bad = [name for name, (v, w) in facts.terms.items() if not (math.isfinite(v) and math.isfinite(w))]
    term = f", from the term {bad[0]}" if bad else ""
    return _stopped(f"The {what} became {value}{term}", what, facts)


def _stopped(what: str, reason: Reason, facts: FlightStep) -> StepError:
    cases = ", ".join(dict.fromkeys(facts.cases))
    return StepError(
        f"{what}; this was at step {facts.step}, on {cases}.",
        "Lower the learning rate or set compute.precision to float32, and look at that case; "
        "the last good checkpoint is kept.",
        reason,
        facts,
    )

"""The one `torch.nn.Module` of all losses: a spec, and whatever adapts or is learned in training.

The module knows no kind of loss. It asks its spec for terms, weights and start values, keeps them as buffers and
parameters, so that they are saved, loaded and moved between devices like any others, and passes on the ends of
steps and epochs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from segexplorer.core.errors import SpecError
from segexplorer.core.events import EpochSummary
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.functional.inputs import LossContext, LossInputs
from segexplorer.functional.transfer import sent
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, terms_inside

__all__ = ["Loss", "LossOutput"]


class StateBuffers(nn.Module):
    """What adapts without gradient: float64 buffers by name, whose lengths may change.

    Loading a state dict takes over the lengths that were saved.
    """

    def __init__(self, start: Numbers) -> None:
        super().__init__()
        for name, values in start.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self._known: dict[str, tuple[Tensor, int, tuple[float, ...]]] = {}

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the values of a buffer; from its device only where something else than `set_values` set them."""
        buffer = self[name]
        known = self._known.get(name)
        if known is not None and known[0] is buffer and known[1] == buffer._version:
            return known[2]
        return self._remember(name, tuple(buffer.tolist()))

    def _remember(self, name: str, values: tuple[float, ...]) -> tuple[float, ...]:
        buffer = self[name]
        if not buffer.is_inference():  # those do not count their changes
            self._known[name] = buffer, buffer._version, values
        return values

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def set_values(self, new: Numbers) -> None:
        """Set new values; in place where the length stays, so that a compiled loss is not compiled again."""
        for name, values in new.items():
            old = self[name]
            given = torch.tensor(values, dtype=old.dtype)
            if given.shape == old.shape:
                old.copy_(sent(given, old.device))
            else:
                self.register_buffer(name, sent(given, old.device))
            if old.dtype == torch.float64:
                self._remember(name, tuple(map(float, values)))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        for name, buffer in list(self.named_buffers()):
            if prefix + name in state_dict:
                self.register_buffer(name, buffer.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *others)


class Loss(nn.Module):
    """A loss as a module that fits into any training loop.

    Attributes
    ----------
    spec
        The frozen parameters.
    parts
        Losses of a compound's terms, in order.
    learned
        float64 parameters by name that the optimiser learns with the network; give them no weight decay.
    state_buffers
        float64 buffers by name that change in `epoch_end` and `step_end`.
    scheme
        What the labels of the target mean; classes exclude each other unless the loss was built for others.
    heard
        None; a recorder that was given this loss puts a `deque` here, to which `forward` appends (value, terms),
        both detached, so that the terms are recorded although the loop sees the value alone.
    """

    scheme: LabelScheme = EXCLUSIVE

    def __init__(self, spec: LossSpec) -> None:
        super().__init__()
        self.spec = spec
        self.heard: deque[tuple[Tensor, Mapping[str, tuple[Tensor, Tensor | float]]]] | None = None
        self.parts = nn.ModuleList(Loss(term.spec) for term in spec.compound_terms())
        start = spec.learned().items()
        self.learned = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(values, dtype=torch.float64)) for name, values in start}
        )
        self.state_buffers = StateBuffers(spec.state_buffers())

    def forward(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> Tensor:
        """Return the scalar loss of logits (B, C, *spatial) and labels (B, 1, *spatial) or a soft target.

        Raises
        ------
        LossInputError
            Naming what is wrong with logits or target.
        """
        output = self.evaluate(logits, target, context)
        if self.heard is not None:
            self.heard.append((output.value.detach(), output.terms))
        return output.value

    def evaluate(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> LossOutput:
        """Return value, weighted terms and region maps; computed in float32 or wider, also under autocast."""
        with torch.autocast(logits.device.type, enabled=False):
            inputs = LossInputs(logits, target, context, self.spec.ignore_index)
            output = self.compute(inputs)
        return output if inputs.extremes is None else replace(output, extremes=inputs.extremes)

    def evaluate_part(
        self, place: int, logits: Tensor, target: Tensor, context: LossContext | None = None
    ) -> LossOutput:
        """Return what `evaluate` does, of one of the parts alone, without its weight."""
        return self.losses()[place].evaluate(logits, target, context)

    def compute(self, inputs: LossInputs) -> LossOutput:
        """Return value, terms and maps; all sums that the spec names are taken in one pass."""
        inputs.expect(*self.spec.sums(inputs))
        return self.spec.compute(inputs, self)

    def losses(self) -> list[Loss]:
        """Return the parts, as the losses they are."""
        return [part for part in self.parts if isinstance(part, Loss)]

    def _named_parts(self) -> list[tuple[str, Loss]]:
        names = (term.name for term in self.spec.compound_terms())
        return list(zip(names, self.losses(), strict=True))

    # ---- what adapts or is learned

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the values of a state buffer."""
        return self.state_buffers.numbers(name)

    def term_weights(self) -> tuple[float, ...]:
        """Return the present weights of a compound's terms; empty for all other losses."""
        with torch.no_grad():
            return tuple(float(weight) for weight in self.spec.weights_in(self))

    def epoch_end(self, summary: EpochSummary) -> None:
        """Adapt to the epoch's mean terms and the Dice of its validation; call it after each epoch."""
        self.state_buffers.set_values(self.spec.after_epoch(self, summary))
        for name, part in self._named_parts():
            part.epoch_end(replace(summary, terms=terms_inside(name, summary.terms)))

    def step_end(self, terms: Mapping[str, float]) -> None:
        """Adapt to the step's term values; call it after each step."""
        self.state_buffers.set_values(self.spec.after_step(self, terms))
        for name, part in self._named_parts():
            part.step_end(terms_inside(name, terms))

    def numbers_by_name(self) -> dict[str, tuple[float, ...]]:
        """Return whatever adapts or is learned, the parts' too, under the names of the `state_dict`."""
        return {name: tuple(values.flatten().tolist()) for name, values in self.state_dict().items()}

    def adaptive(self) -> dict[str, float]:
        """Return what adapts or is learned, by name, for curves: "weight of dice" -> 0.5, "nu" -> 2.7."""
        found = self.spec.reported(self)
        for name, part in self._named_parts():
            found.update({f"{name}: {key}": value for key, value in part.adaptive().items()})
        return found

    # ---- live edits

    def update(self, spec: LossSpec) -> None:
        """Take over changed parameters; what has adapted or was learned stays, except weights set by a schedule.

        Raises
        ------
        SpecError
            When the new spec has another kind, other terms, another weighting rule, or learns something else; that
            needs a new loss.
        """
        self._check_update(spec)
        self._take_over(spec)

    def _take_over(self, spec: LossSpec) -> None:
        self.spec = spec
        self.state_buffers.set_values(spec.after_edit(self))
        for part, term in zip(self.losses(), spec.compound_terms(), strict=True):
            part._take_over(term.spec)

    def _check_update(self, spec: LossSpec) -> None:
        same = type(spec) is type(self.spec)
        same = same and spec.learned().keys() == self.spec.learned().keys()
        same = same and spec.state_buffers().keys() == self.spec.state_buffers().keys()
        new, old = spec.compound_terms(), self.spec.compound_terms()
        same = same and [t.name for t in new] == [t.name for t in old]
        same = same and type(spec.rule()) is type(self.spec.rule())
        if same:
            for part, term in zip(self.losses(), new, strict=True):
                part._check_update(term.spec)
        if not same:
            raise SpecError(
                "A loss in use cannot change its kind, its terms, its weighting rule or what it learns.",
                "Change parameters only, or start a new run.",
            )

    def extra_repr(self) -> str:
        """Return the parameters for the module's `repr`."""
        return repr(self.spec)

"""Compounds: losses that are weighted sums of other losses, and `weighted_sum`, whose terms are free to choose.

All terms of a compound share one `LossInputs`, so that the softmax and the overlaps are computed once. How much
each term counts is decided by a weighting rule (`losses.weightings`), which may follow the epoch or the values of
the terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.events import EpochSummary
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.losses.base import (
    AnyLoss,
    AnyWeighting,
    CompoundTerm,
    LossOutput,
    LossSpec,
    Numbers,
    RegionMap,
    WeightingSpec,
    WeightingState,
    registry,
    terms_inside,
)
from segexplorer.losses.weightings import Fixed

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


class Compound(LossSpec):
    """Base of losses that are weighted sums of others."""

    family: ClassVar[str] = "compound"

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return the terms in order, with distinct names; at least one."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def rule(self) -> WeightingSpec:
        """Return the rule that weighs the terms."""
        return Fixed()

    def given(self) -> tuple[float, ...]:
        """Return the weights given with the terms."""
        return tuple(term.weight for term in self.compound_terms())

    def start_weights(self) -> tuple[float, ...]:
        """Return the weights before anything adapted."""
        return self._effective(self.rule().initial(self.given()))

    def _effective(self, weights: Sequence[Any]) -> tuple[Any, ...]:
        """Return what the terms are multiplied by, from the rule's own weights (numbers or tensors)."""
        if not self.rule().scales:
            return tuple(weights)
        return tuple(given * weight for given, weight in zip(self.given(), weights, strict=True))

    def bounds(self) -> tuple[float, float]:
        """Return the sum of the terms' ranges under the first weights; without ends where weights may grow."""
        rule, terms = self.rule(), self.compound_terms()
        if rule.scales:
            negative = bool(rule.penalty_name) or any(t.spec.bounds()[0] < 0 for t in terms if t.weight)
            return (-math.inf if negative else 0.0), math.inf
        lows, highs = 0.0, 0.0
        for term, weight in zip(terms, self.start_weights(), strict=True):
            if weight:
                low, high = term.spec.bounds()
                lows, highs = lows + weight * low, highs + weight * high
        return lows, highs

    def best(self) -> float:
        """Return the sum of the terms' best values under the first weights; -inf where a target decides."""
        pairs = zip(self.compound_terms(), self.start_weights(), strict=True)
        return sum((weight * term.spec.best() for term, weight in pairs if weight), start=0.0)

    def needs(self) -> tuple[str, ...]:
        """Return what its terms require."""
        return tuple(dict.fromkeys(name for term in self.compound_terms() for name in term.spec.needs()))

    def has_cross_entropy(self) -> bool:
        """Whether one of the terms has it."""
        return any(term.spec.has_cross_entropy() for term in self.compound_terms())

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the sums of all terms, each once."""
        return tuple(dict.fromkeys(s for term in self.compound_terms() for s in term.spec.sums(inputs)))

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Add up the terms; an inner compound's terms are named "outer.inner"."""
        value: Tensor | None = None
        terms: dict[str, tuple[Tensor, Tensor | float]] = {}
        parts: dict[str, Tensor] = {}
        maps: dict[str, RegionMap] = {}
        weights = self.weights_in(state)
        outputs = [part.spec.compute(inputs, part) for part in state.losses()]
        for term, weight, output in zip(self.compound_terms(), weights, outputs, strict=True):
            if not isinstance(weight, float):
                weight = weight.to(output.value.dtype)
            weighted = weight * output.value
            value = weighted if value is None else value + weighted
            fixed = weight if isinstance(weight, float) else weight.detach()
            if term.spec.compound_terms():
                terms.update({f"{term.name}.{name}": (v, fixed * w) for name, (v, w) in output.terms.items()})
                parts.update({f"{term.name}.{name}": weight * part for name, part in output.parts.items()})
            else:
                terms[term.name] = (output.value.detach(), fixed)
                parts[term.name] = weighted
            for name, region_map in output.maps.items():
                maps[name if name not in maps else f"{term.name}.{name}"] = region_map
        assert value is not None
        penalty = self.rule().penalty(dict(state.learned.items()))
        if penalty is not None:
            value = value + penalty.to(value.dtype)
            terms[self.rule().penalty_name] = (penalty.detach(), 1.0)
        return LossOutput(value, terms, maps, parts)

    # ---- weights that adapt or are learned

    def weights_in(self, state: Loss) -> tuple[Any, ...]:
        """Return what the terms are multiplied by at present."""
        rule = self.rule()
        if rule.learned(1):
            return self._effective(rule.learned_weights(dict(state.learned.items())).unbind())
        if rule.moves() != "never":
            return self._effective(state.state_buffers["weights"].unbind())
        return self.start_weights()

    def learned(self) -> Numbers:
        """Return what the rule learns."""
        return self.rule().learned(len(self.compound_terms()))

    def state_buffers(self) -> Numbers:
        """Return the rule's first weights, no means, and 0 epochs ended, where the weights change."""
        if self.rule().moves() == "never":
            return {}
        return {"weights": self.rule().initial(self.given()), "means": (), "epoch": (0.0,)}

    def after_epoch(self, state: Loss, summary: EpochSummary) -> Numbers:
        """Return the next weights of a rule that changes them after each epoch."""
        return self._reweighed(state, summary.terms, "epoch", summary.epoch)

    def after_step(self, state: Loss, terms: Mapping[str, float]) -> Numbers:
        """Return the next weights of a rule that changes them after each step."""
        return self._reweighed(state, terms, "step", 0)

    def _reweighed(self, state: Loss, terms: Mapping[str, float], moment: str, epoch: int) -> Numbers:
        if self.rule().moves() != moment:
            return {}
        means = self._term_means(state, terms)
        weights = self.rule().adapted(self._weighting_state(state, epoch, means))
        new: dict[str, tuple[float, ...]] = {"weights": weights, "epoch": (float(epoch),)}
        return {**new, "means": means} if means else new

    def after_edit(self, state: Loss) -> Numbers:
        """Return the weights under the rule's changed parameters."""
        if self.rule().moves() == "never":
            return {}
        return {
            "weights": self.rule().edited(self._weighting_state(state, int(state.numbers("epoch")[0]), ()))
        }

    def _weighting_state(self, state: Loss, epoch: int, means: tuple[float, ...]) -> WeightingState:
        before = state.numbers("means")
        return WeightingState(self.given(), state.numbers("weights"), means, before, epoch)

    def _term_means(self, state: Loss, terms: Mapping[str, float]) -> tuple[float, ...]:
        """Return the terms' mean values, or nothing at all where one of them is unknown."""
        pairs = zip(self.compound_terms(), state.losses(), strict=True)
        means = [term.spec.mean_value(term.name, terms, part) for term, part in pairs]
        known = tuple(mean for mean in means if mean is not None)
        return known if len(known) == len(means) else ()

    def mean_value(self, name: str, terms: Mapping[str, float], state: Loss) -> float | None:
        """Return the mean of an inner compound: it has no entry of its own, but its terms "name.inner" have."""
        inner = terms_inside(name, terms)
        means = self._term_means(state, inner)
        if not means:
            return None
        weighted = zip(state.term_weights(), means, strict=True)
        return sum(w * m for w, m in weighted) + inner.get(self.rule().penalty_name, 0.0)

    def reported(self, state: Loss) -> dict[str, float]:
        """Return the weights that adapt or are learned: "weight of dice" -> 0.5."""
        if not (self.learned() or self.state_buffers()):
            return {}
        weights = zip(self.compound_terms(), state.term_weights(), strict=True)
        return {f"weight of {term.name}": weight for term, weight in weights}

    def adaptive_limits(self) -> dict[str, tuple[float, float]]:
        """Return the ranges of the weights that adapt, and those of the terms."""
        limits, terms = self.rule().limits(len(self.compound_terms())), self.compound_terms()
        if limits is None:
            return super().adaptive_limits()
        lows, highs = (self._effective((end,) * len(terms)) for end in limits)
        pairs = zip(terms, lows, highs, strict=True)
        own = {f"weight of {term.name}": (low, high) for term, low, high in pairs}
        return {**own, **super().adaptive_limits()}


class Term(Spec):
    """One term of a weighted sum."""

    loss: AnyLoss = parameter("dice", title="Loss", description="The loss that is this term.")
    weight: float = parameter(
        1.0,
        title="Weight",
        description="Factor of this term. The rule loss_proportion replaces it; other rules multiply it.",
        typical=(0, 2),
        ge=0,
        live=True,
    )
    name: str = parameter("", title="Name", description="Name in curves; empty: the kind.", advanced=True)


@registry.register
class WeightedSum(Compound):
    """Any terms, weighted by a rule: L = sum_i w_i L_i."""

    display_name: ClassVar[str] = "Weighted sum"
    formula: ClassVar[str] = r"L=\sum_i w_i L_i"
    reference: ClassVar[str] = "general form of the compound losses of Oshah 2025, table 1"
    penalises: ClassVar[str] = "Whatever its terms penalise, each by its weight."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Chen 2023")
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    kind: Literal["weighted_sum"] = "weighted_sum"
    terms: tuple[Term, ...] = parameter(
        title="Terms",
        description="The losses that are added; they share softmax and overlaps.",
        default_factory=lambda: (Term.of({"loss": "dice"}), Term.of({"loss": "cross_entropy"})),
        min_length=1,
    )
    weighting: AnyWeighting = parameter(
        "fixed", title="Weighting", description="How the weights of the terms change in training, if they do."
    )

    @model_validator(mode="after")
    def _terms_fit(self) -> WeightedSum:
        for term in self.compound_terms():
            reason = self.weighting.refuse(term.name, term.spec.bounds()[0])
            if reason:
                raise ValueError(reason)
            if term.spec.ignore_index not in (None, self.ignore_index):
                raise ValueError(f"ignore_index belongs to the weighted sum, not to its term {term.name}")
            if term.name == self.weighting.penalty_name:
                raise ValueError(f"{term.name} is the name of what the weighting adds; call the term another")
        given_counts = self.weighting.scales or self.weighting.moves() == "never"
        if given_counts and not any(t.weight > 0 for t in self.terms):
            raise ValueError("at least one term needs a weight above 0")
        if reason := self.weighting.misfit(self.given()):
            raise ValueError(reason)
        return self

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return the terms; a repeated name gets a number."""
        names: list[str] = []
        for term in self.terms:
            name = term.name or getattr(term.loss, "kind", "term")
            numbered = (f"{name}_{number}" for number in count(2))
            names.append(name if name not in names else next(n for n in numbered if n not in names))
        return tuple(CompoundTerm(n, t.loss, t.weight) for n, t in zip(names, self.terms, strict=True))

    def rule(self) -> WeightingSpec:
        """Return the chosen rule."""
        return self.weighting

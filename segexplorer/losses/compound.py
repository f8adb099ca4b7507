"""Compounds: a list of terms and a weighting rule; the terms share one scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.losses.base import (
    AnyLoss,
    AnyWeighting,
    LossOutput,
    LossSpec,
    RegionMap,
    WeightingSpec,
    registry,
)
from segexplorer.losses.weightings import Fixed

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@dataclass(frozen=True)
class CompoundTerm:
    """A term of a compound: its name in `LossOutput.terms`, its loss, the weight given with it."""

    name: str
    spec: LossSpec
    weight: float = 1.0


class Compound(LossSpec):
    """Base of losses that are weighted sums of others."""

    family: ClassVar[str] = "compound"

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return the terms in order, with distinct names."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def rule(self) -> WeightingSpec:
        """Return the rule by which the terms are weighed."""
        return Fixed()

    def start_weights(self) -> tuple[float, ...]:
        """Return the weights before anything adapted."""
        return self.rule().initial(tuple(t.weight for t in self.compound_terms()))

    def bounds(self) -> tuple[float, float]:
        """Return the sum of the terms' ranges under the first weights."""
        lows, highs = 0.0, 0.0
        for term, weight in zip(self.compound_terms(), self.start_weights(), strict=True):
            if weight:
                low, high = term.spec.bounds()
                lows, highs = lows + weight * low, highs + weight * high
        return lows, highs

    def has_cross_entropy(self) -> bool:
        """Whether one of the terms has it."""
        return any(term.spec.has_cross_entropy() for term in self.compound_terms())

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Add up the terms; an inner compound's terms are named "outer.inner"."""
        weights: list[Any] = list(self.start_weights())
        if state.weights is not None:
            weights = list(state.weights.to(scene.logits.dtype).unbind())
        value: Tensor | None = None
        terms: dict[str, tuple[Tensor, Tensor | float]] = {}
        maps: dict[str, RegionMap] = {}
        outputs = state.part_outputs(scene)
        for term, weight, output in zip(self.compound_terms(), weights, outputs, strict=True):
            weighted = weight * output.value
            value = weighted if value is None else value + weighted
            inner = isinstance(term.spec, Compound)
            for name, (v, w) in output.terms.items():
                terms[f"{term.name}.{name}" if inner else term.name] = (v, weight * w)
            for name, region_map in output.maps.items():
                maps[name if name not in maps else f"{term.name}.{name}"] = region_map
        assert value is not None
        return LossOutput(value, terms, maps)


class Term(Spec):
    """One term of a weighted sum."""

    loss: AnyLoss = parameter("dice", title="Loss", meaning="The loss that is this term.")
    weight: float = parameter(
        1.0,
        title="Weight",
        meaning="Factor of this term; adaptive rules start from their own.",
        ge=0,
        live=True,
    )
    name: str = parameter("", title="Name", meaning="Name in curves; empty: the kind.", advanced=True)


@registry.register
class WeightedSum(Compound):
    """Any terms, weighed by a rule: L = sum_i w_i L_i."""

    display_name: ClassVar[str] = "Weighted sum"
    formula: ClassVar[str] = r"L=\sum_i w_i L_i"
    reference: ClassVar[str] = "general form of the compound losses of paper 003, table 1"
    punishes: ClassVar[str] = "Whatever its terms punish, each by its weight."
    papers: ClassVar[tuple[str, ...]] = ("000", "004")
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    kind: Literal["weighted_sum"] = "weighted_sum"
    terms: tuple[Term, ...] = parameter(
        title="Terms",
        meaning="The losses that are added; they share softmax and overlaps.",
        default_factory=lambda: (Term.of({"loss": "dice"}), Term.of({"loss": "cross_entropy"})),
        min_length=1,
    )
    weighting: AnyWeighting = parameter(
        "fixed", title="Weighting", meaning="How the weights move, if they do."
    )

    @model_validator(mode="after")
    def _terms_fit(self) -> WeightedSum:
        for term in self.compound_terms():
            reason = self.weighting.refuse(term.name, term.spec.bounds()[0])
            if reason:
                raise ValueError(reason)
            if term.spec.ignore_index not in (None, self.ignore_index):
                raise ValueError(f"ignore_index belongs to the weighted sum, not to its term {term.name}")
        if self.weighting.moves() == "never" and not any(t.weight > 0 for t in self.terms):
            raise ValueError("at least one term needs a weight above 0")
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

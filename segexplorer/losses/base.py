"""What every loss and every weighting rule promises, and the families "losses" and "weightings".

A loss is a frozen spec with a pure `compute(inputs, state)`. `build()` wraps it in `losses.module.Loss`, the one
`torch.nn.Module` of all kinds, which holds whatever adapts or is learned in training. The spec declares these
numbers and says how they change; the module asks the spec and knows no kind by name. A compound is a spec whose
`compound_terms()` is not empty; a weighting rule says how much each of its terms counts.

Nothing here imports torch, so that losses can be listed without waiting for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from segexplorer.core.errors import LossInputError
from segexplorer.core.events import EpochSummary, RegionReport
from segexplorer.core.fields import parameter
from segexplorer.core.regions import BoxRegions, Regions
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec, walk

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.core.regions import Partition
    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.regions import BatchRegions, Boxes
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


Numbers = Mapping[str, tuple[float, ...]]
"""Numbers of a loss's state by name: what is learned, or what adapts."""

# ---- what a loss returns


@dataclass(frozen=True)
class RegionMap:
    """A number per sample, class and region: `values` (B, C, R), detached, NaN where absent or skipped.

    `regions` are boxes that all samples share, or those of each sample, whose empty ones are NaN.
    """

    values: Tensor
    regions: Boxes | BatchRegions


@dataclass(frozen=True)
class LossOutput:
    """Value, terms and region maps of a loss for one batch.

    Attributes
    ----------
    value
        Scalar with its graph.
    terms
        Name -> (value, weight), detached scalars; the products add up to `value`.
    maps
        Name ("alpha", "beta", "fp", "fn", "loss", "share") -> numbers per region, detached.
    parts
        Name of a term -> its product with its weight, a scalar with its graph, of losses with several terms that
        depend on the logits. What each term asks for is their gradient.
    extremes
        (..., 2) least and greatest logit, where the caller looks at them (`LossContext.labels_checked`).
    """

    value: Tensor
    terms: Mapping[str, tuple[Tensor, Tensor | float]]
    maps: Mapping[str, RegionMap] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    extremes: Tensor | None = None


# ---- losses


@dataclass(frozen=True)
class CompoundTerm:
    """A term of a compound: its name in `LossOutput.terms`, its loss, and the weight given with it."""

    name: str
    spec: LossSpec
    weight: float = 1.0


class LossSpec(Spec):
    """Base of all loss specs; a kind implements `compute`."""

    formula: ClassVar[str] = ""
    """LaTeX."""
    reference: ClassVar[str] = ""
    penalises: ClassVar[str] = ""
    """One plain sentence."""
    family: ClassVar[str] = ""
    """Family as in table 1 of Oshah 2025: distribution, region, boundary or compound."""
    papers: ClassVar[tuple[str, ...]] = ()
    """Citations of the papers that use it, e.g. "Chen 2023"; `core.papers` describes them."""
    purposes: ClassVar[tuple[str, ...]] = ()
    """What it is for, by the names of `core.purposes.PURPOSES`; pickers find by them."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Parts of the `LossContext` it cannot do without."""
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    best_value: ClassVar[float] = 0.0
    regional: ClassVar[bool] = False
    """Whether overlap is counted box by box."""
    voxelwise: ClassVar[bool] = False
    """Whether the logarithm of the true class's probability is part of it: confident errors have a gradient."""
    follows_validation: ClassVar[bool] = False
    """Whether it adapts to the Dice of the validation; without validation it keeps its first values."""

    multi_label: ClassVar[bool] = True
    """Whether it has a form for classes that overlap (`losses.multilabel`)."""

    ignore_index: int | None = parameter(
        None,
        title="Ignored label",
        description="Voxels with this label do not count. In training, voxels without truth (255) never count.",
        advanced=True,
    )

    def build(self) -> Loss:
        """Return the loss as a `torch.nn.Module`: `loss(logits, target)`, `loss.evaluate(...)`."""
        from segexplorer.losses.module import Loss

        return Loss(self)

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the sums over voxels that `compute` will ask of its inputs, as far as they are known before.

        Whatever is named here is summed in one pass over the logits, with what other terms of a compound name. A
        loss that leaves it out is as right, and slower.
        """
        return ()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return value, terms and maps; changes nothing.

        Parameters
        ----------
        inputs
            Logits, target and what terms share.
        state
            The module that holds this spec: its buffers and its parts, for kinds that adapt or are compounds.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def bounds(self) -> tuple[float, float]:
        """Return the range of values under these parameters."""
        return self.value_range

    def best(self) -> float:
        """Return the value of a perfect prediction under these parameters; -inf where the target decides."""
        return self.best_value

    def needs(self) -> tuple[str, ...]:
        """Return the parts of the context that the loss or its terms require, each once."""
        return self.requires

    def lacks_maps(self, inputs: LossInputs) -> bool:
        """Whether the context has not all distance maps that the loss requires, so that it makes them itself."""
        return not set(self.requires) <= set(inputs.context.distance_maps or ())

    def partitions(self) -> tuple[Partition, ...]:
        """Return how the loss divides volumes, where it does; the losses inside it say so themselves."""
        return ()

    def penalty_range(self) -> tuple[float, float] | None:
        """Return the least and greatest alpha and beta of a region, where the loss has them by region."""
        return None

    def has_cross_entropy(self) -> bool:
        """Whether a logarithm per voxel is part of the loss, or of one of its terms."""
        return self.voxelwise

    def warning_message(self) -> str:
        """Return a sentence on an unwanted effect that these parameters may have, or ""; plans show it."""
        return ""

    # ---- terms and their weights; a loss that is no compound has none

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return the terms of a compound in order, with distinct names; empty for all other losses."""
        return ()

    def rule(self) -> WeightingSpec | None:
        """Return the rule that weighs the terms of a compound; None for all other losses."""
        return None

    def weights_in(self, state: Loss) -> tuple[Any, ...]:
        """Return the present weights of the terms: numbers, or scalar tensors where they adapt or are learned."""
        return ()

    def mean_value(self, name: str, terms: Mapping[str, float], state: Loss) -> float | None:
        """Return this loss's mean value from the mean terms of the compound it is part of.

        Parameters
        ----------
        name
            The name that this loss has among the compound's terms.
        terms
            Mean values by name, as in `LossOutput.terms`.
        state
            The module that holds this spec.

        Returns
        -------
        float or None
            None where `terms` does not contain it.
        """
        return terms.get(name)

    # ---- what adapts or is learned; `Loss` holds it, saves it and restores it

    def learned(self) -> Numbers:
        """Return the start values of what the optimiser learns along with the network, by name."""
        return {}

    def state_buffers(self) -> Numbers:
        """Return the start values of what adapts without gradient, by name; their lengths may change later."""
        return {}

    def after_epoch(self, state: Loss, summary: EpochSummary) -> Numbers:
        """Return the buffers that change at the end of an epoch, by name; those left out keep their values."""
        return {}

    def after_step(self, state: Loss, terms: Mapping[str, float]) -> Numbers:
        """Return the buffers that change after a step with these term values."""
        return {}

    def after_edit(self, state: Loss) -> Numbers:
        """Return the buffers that change when these parameters replace others during a run."""
        return {}

    def reported(self, state: Loss) -> dict[str, float]:
        """Return what is learned or adapts, under the names of its curves."""
        return {}

    def adaptive_limits(self) -> dict[str, tuple[float, float]]:
        """Return the range of what is reported and adapts within one, by name, of the losses inside it too."""
        found: dict[str, tuple[float, float]] = {}
        for term in self.compound_terms():
            inner = term.spec.adaptive_limits()
            found.update({f"{term.name}: {name}": limits for name, limits in inner.items()})
        return found


# ---- weighting rules


@dataclass(frozen=True)
class WeightingState:
    """What a rule bases the next weights on; one number per term throughout.

    Attributes
    ----------
    given
        The weights given with the terms.
    weights
        The rule's present weights.
    means
        The terms' mean values over the epoch, or their values of the step; empty where unknown.
    before
        The means of the previous epoch or step; empty at first.
    epoch
        Epochs that have ended, where weights move by the epoch.
    """

    given: tuple[float, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...] = ()
    before: tuple[float, ...] = ()
    epoch: int = 0


class WeightingSpec(Spec):
    """Base of the rules that weigh the terms of a compound."""

    formula: ClassVar[str] = ""
    """LaTeX."""
    reference: ClassVar[str] = ""
    scales: ClassVar[bool] = False
    """Whether the rule's weights multiply those given with the terms; otherwise they replace them."""
    penalty_name: ClassVar[str] = ""
    """Name in `LossOutput.terms` of what the rule itself adds to the loss; empty where it adds nothing."""

    def moves(self) -> Literal["never", "epoch", "step"]:
        """Return when the weights change: never, after each epoch, or after each step."""
        return "never"

    def initial(self, given: tuple[float, ...]) -> tuple[float, ...]:
        """Return the first weights, from those given with the terms."""
        return given

    def adapted(self, now: WeightingState) -> tuple[float, ...]:
        """Return the next weights, at the end of an epoch or step."""
        return now.weights

    def edited(self, now: WeightingState) -> tuple[float, ...]:
        """Return the weights after this rule's parameters were changed in a run."""
        return now.weights

    def learned(self, terms: int) -> Numbers:
        """Return the start values of what the rule learns with the network, by name."""
        return {}

    def learned_weights(self, learned: Mapping[str, Tensor]) -> Tensor:
        """Return the (terms,) weights of a rule that learns, with their graph."""
        raise NotImplementedError  # pragma: no cover  rules that learn have their own

    def penalty(self, learned: Mapping[str, Tensor]) -> Tensor | None:
        """Return what the rule itself adds to the loss, a scalar with its graph, or None."""
        return None

    def limits(self, terms: int) -> tuple[float, float] | None:
        """Return the range within which this rule's own weights adapt, at whose ends they say nothing any more.

        None: they do not adapt to training, or without limits.
        """
        return None

    def refuse(self, name: str, low: float) -> str:
        """Return why a term whose values start at `low` cannot be weighed by this rule, or an empty text."""
        return ""

    def misfit(self, given: tuple[float, ...]) -> str:
        """Return why this rule cannot weigh that many terms with these given weights, or an empty text."""
        return ""


# ---- the two families, and what their kinds share

registry: Registry[LossSpec] = Registry("losses", LossSpec, "loss")
AnyLoss = Annotated[LossSpec, registry.late_bound]
weightings: Registry[WeightingSpec] = Registry("weightings", WeightingSpec, "weighting rule")
AnyWeighting = Annotated[WeightingSpec, weightings.late_bound]


def losses_in(loss: LossSpec) -> Iterator[LossSpec]:
    """Yield a loss and every loss inside it."""
    yield loss
    for _, _, value in walk(loss):
        if isinstance(value, LossSpec):
            yield value


def penalty_range(loss: LossSpec) -> tuple[float, float] | None:
    """Return the least and greatest penalty of a region under a loss and all inside it; None without any."""
    found = [limits for one in losses_in(loss) if (limits := one.penalty_range()) is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def single(kind: str, value: Tensor, maps: Mapping[str, RegionMap] | None = None) -> LossOutput:
    """Return the output of a loss that is its own only term."""
    return LossOutput(value, {kind: (value.detach(), 1.0)}, maps or {})


def weighted_sum_of(terms: Mapping[str, tuple[Tensor, float]]) -> LossOutput:
    """Return the output of a loss that adds up several terms of its own, name -> (value, weight), in this order."""
    parts = {name: weight * value for name, (value, weight) in terms.items()}
    first, *others = parts.values()
    total = first
    for part in others:
        total = total + part
    return LossOutput(total, {name: (value.detach(), w) for name, (value, w) in terms.items()}, parts=parts)


def terms_inside(name: str, terms: Mapping[str, float]) -> dict[str, float]:
    """Return the terms "name.inner" of an inner compound under their inner names."""
    start = f"{name}."
    return {key.removeprefix(start): value for key, value in terms.items() if key.startswith(start)}


def partitions_in(loss: LossSpec) -> tuple[Partition, ...]:
    """Return how a loss and the losses inside it divide volumes, each partition once."""
    return tuple(dict.fromkeys(p for part in losses_in(loss) for p in part.partitions()))


def region_reports(output: LossOutput) -> list[RegionReport]:
    """Return one report per sample, on the CPU; empty where the loss has no regions.

    Maps over another partition than the first one's (two region terms in one loss) are left out.
    """
    from segexplorer.functional.regions import BatchRegions

    if not output.maps:
        return []
    regions = next(iter(output.maps.values())).regions
    arrays = {
        name: region.values.detach().float().cpu().numpy().astype(np.float32, copy=True)
        for name, region in output.maps.items()
        if region.regions == regions
    }
    samples = len(next(iter(arrays.values())))
    divided: list[Regions]
    if isinstance(regions, BatchRegions):
        divided = [sample.patch for sample in regions.samples]
    else:
        divided = [BoxRegions.of(regions.edges)] * samples
    return [
        RegionReport.of({name: a[b, :, : len(of.ids)] for name, a in arrays.items()}, of)
        for b, of in enumerate(divided)
    ]


def checked_weights(given: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Return class weights as they are; a negative one would reward errors, zeros alone would train nothing."""
    if given is not None and (not given or min(given) < 0 or max(given) == 0):
        raise ValueError("must all be at least 0, and one of them above 0")
    return given


def weights_of(given: tuple[float, ...] | None, inputs: LossInputs) -> Tensor:
    """Return (C,) class weights, ones where none are given.

    Raises
    ------
    LossInputError
        When their number is not that of the classes.
    """
    if given is None:
        return inputs.tensor([1.0] * inputs.classes)
    if len(given) != inputs.classes:
        raise LossInputError(
            f"There are {len(given)} class weights for {inputs.classes} classes.",
            "Give one per class, background first.",
        )
    return inputs.tensor(given)

"""What every metric declares, once, for tables, plots, command line and docs; and the registry of metrics.

A metric is a function of one class in one case: of its voxel counts (`overlap.OverlapMetric`), of the distances
between its surfaces (`surface.SurfaceMetric`), or of anything else that the two masks give
(`StructureMetric`). `scoring.score_case` computes them from one `structure.LabelPair`, in which surfaces and
connected components are computed at most once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.registry import Declarations

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

V = TypeVar("V", float, NDArray[np.float64])

NotScored = float | Literal["formula", "diagonal"]
"""What a metric is where a structure is not in both volumes: a number, what its formula gives, or the image's
diagonal."""

Better = Literal["higher", "lower", "zero"]
"""Which values are better; "zero": the nearer to 0, whatever the sign."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric under the name of its definition.

    Attributes
    ----------
    short_name
        Head of a narrow column; `display_name` where that is short already.
    definition, formula
        In one line of text, and in LaTeX.
    better
        Which direction is better.
    best
        The value of a perfect prediction.
    lowest, highest
        Ends of the range of values; infinite where it is open.
    unit
        "" for ratios, "mm" for distances ...
    missed, spurious, absent
        The value where a structure is only in the truth, only in the prediction, or in neither; see `NotScored`.
    over_absent
        Whether cases without the structure enter means, because their value says something (false positives per
        case); all other metrics leave them out.
    note
        What a reader of the number should know.
    reference
        Where it was defined.
    papers
        Which of the project's papers report it, and under which name or equation.
    by_volume
        Whether it is near 1 by volume alone: the background of a large image outweighs any error.
    default
        Whether it is computed without being asked for.
    protocol
        Name of the published scorer that it belongs to (`tasks.PROTOCOLS`); "" for all others.
    tasks
        Task (`tasks.TASKS`) -> why the metric is recommended for it.
    pitfalls
        Names of `tasks.PITFALLS` that mislead this metric.
    """

    name: str
    display_name: str
    short_name: str = ""
    definition: str
    formula: str = ""
    better: Better = "higher"
    best: float = 1.0
    lowest: float = 0.0
    highest: float = 1.0
    unit: str = ""
    missed: NotScored = "formula"
    spurious: NotScored = "formula"
    absent: NotScored = "formula"
    over_absent: bool = False
    note: str = ""
    reference: str = ""
    papers: tuple[str, ...] = ()
    by_volume: bool = False
    default: bool = True
    protocol: str = ""
    tasks: Mapping[str, str] = field(default_factory=dict)
    pitfalls: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Display name with its unit."""
        return f"{self.display_name}, {self.unit}" if self.unit else self.display_name

    @property
    def head(self) -> str:
        """Short name, whatever is near 1 by volume called so."""
        short = self.short_name or self.display_name
        return f"{short} ({NEAR_ONE})" if self.by_volume else short

    @property
    def summary(self) -> str:
        """The definition."""
        return self.definition

    @property
    def better_text(self) -> str:
        """Which values are better, in words."""
        return "nearer to 0 is better" if self.better == "zero" else f"{self.better} is better"

    def merit(self, value: V) -> V:
        """Return what is the higher the better: the value, its negative, or minus its size; also of an array."""
        if self.better == "zero":
            return -abs(value)
        return value if self.better == "higher" else -value

    def best_of(self, values: Iterable[float]) -> float:
        """Return the best of some values."""
        return max(values, key=self.merit)

    @property
    def range_text(self) -> str:
        """The range of values, e.g. "0 to 1"."""
        low, high = (f"{end:g}" for end in (self.lowest, self.highest))
        if math.isinf(self.lowest):
            return "any" if math.isinf(self.highest) else f"at most {high}"
        return f"at least {low}" if math.isinf(self.highest) else f"{low} to {high}"

    def compute(self, structure: Structure) -> float:
        """Return the value for one class in one case, whose state decides before the formula does.

        NaN where the metric has no meaning.
        """
        if structure.state != "scored":
            declared: NotScored = getattr(self, structure.state)
            if declared == "diagonal":
                return structure.diagonal
            if not isinstance(declared, str):
                return float(declared)
        return self.value(structure)

    def value(self, structure: Structure) -> float:
        """Return what the formula gives."""
        raise NotImplementedError

    def facts(self) -> Mapping[str, Any]:
        """Return all that the metric declares."""
        return {
            "name": self.name,
            "title": self.title,
            "definition": self.definition,
            "formula": self.formula,
            "unit": self.unit,
            "range": self.range_text,
            "better": self.better,
            "best": self.best,
            "missed": missing_text(self.missed),
            "spurious": missing_text(self.spurious),
            "absent": missing_text(self.absent),
            "computed": "by default" if self.default else "on request",
            "note": self.note,
            "recommended for": [f"{task}: {why}" for task, why in self.tasks.items()],
            "misled by": list(self.pitfalls),
            "reference": self.reference,
            "papers": list(self.papers),
        }


@dataclass(frozen=True, kw_only=True)
class StructureMetric(Metric):
    """A metric of anything that the two masks of a class give, e.g. of its components."""

    function: Callable[[Structure], float]

    def value(self, structure: Structure) -> float:
        """Return what the function gives."""
        return self.function(structure)


def missing_text(value: NotScored) -> str:
    """Return in words what a metric gives where a structure is missed, spurious or absent."""
    if isinstance(value, str):
        return {"formula": "what the formula gives", "diagonal": "the diagonal of the image"}[value]
    return "no value" if math.isnan(value) else f"{value:g}"


class Metrics(Declarations[Metric]):
    """The metrics by name: those that are computed by default first, then those on request, then protocols."""

    def _members(self) -> dict[str, Metric]:
        members = super()._members()
        ordered = sorted(members.items(), key=lambda item: (not item[1].default, bool(item[1].protocol)))
        return dict(ordered)


registry = Metrics(
    "metrics",
    "metric",
    note="TP, FP, FN, TN: voxels; P, T: surfaces of prediction and truth, d in mm, P95 the 95th percentile.",
)
"""Every metric by name, in the order of tables: ratios of voxel counts, then distances, then those on request."""

NEAR_ONE = "near 1 by volume"
"""Said beside such a metric wherever it is shown."""

IGNORED = 255
"""Truth value of voxels that count nowhere."""

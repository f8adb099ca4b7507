"""What every metric declares, once, for tables, plots, command line and docs; and the registry of metrics.

A metric is a function of the voxel counts of one class (`overlap.OverlapMetric`) or of the distances between the
surfaces of one class (`surface.SurfaceMetric`). `scoring.score_case` computes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from segexplorer.core.registry import Declarations


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric under the name of its definition.

    Attributes
    ----------
    short_name
        Head of a narrow column; `display_name` where that is short already.
    definition, formula
        In one line of text, and in LaTeX.
    best
        The value of a perfect prediction.
    unit
        "" for ratios, "mm" for distances.
    note
        What a reader of the number should know.
    reference
        Where it was defined.
    papers
        Which of the project's papers report it, and under which name or equation.
    by_volume
        Whether it is near 1 by volume alone: the background of a large image outweighs any error.
    """

    name: str
    display_name: str
    short_name: str = ""
    definition: str
    formula: str = ""
    better: Literal["higher", "lower"] = "higher"
    best: float = 1.0
    unit: str = ""
    note: str = ""
    reference: str = ""
    papers: tuple[str, ...] = ()
    by_volume: bool = False

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

    def facts(self) -> Mapping[str, Any]:
        """Return all that the metric declares."""
        return {
            "name": self.name,
            "title": self.title,
            "definition": self.definition,
            "formula": self.formula,
            "unit": self.unit,
            "better": self.better,
            "best": self.best,
            "note": self.note,
            "reference": self.reference,
            "papers": list(self.papers),
        }


registry: Declarations[Metric] = Declarations(
    "metrics",
    "metric",
    note="TP, FP, FN, TN: voxels; P, T: surfaces of prediction and truth, d in mm, P95 the 95th percentile.",
)
"""Every metric by name, in the order of tables: ratios of voxel counts, then distances."""

NEAR_ONE = "near 1 by volume"
"""Said beside such a metric wherever it is shown."""

IGNORED = 255
"""Truth value of voxels that count nowhere."""

"""What every metric declares, once, for tables, plots, command line and docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric under the name of its definition.

    Attributes
    ----------
    best
        The value of a perfect prediction.
    unit
        "" for ratios, "mm" for distances.
    note
        What a reader of the number should know.
    """

    name: str
    display_name: str
    definition: str
    better: Literal["higher", "lower"] = "higher"
    best: float = 1.0
    unit: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """Display name with its unit."""
        return f"{self.display_name}, {self.unit}" if self.unit else self.display_name

"""Networks of several resolutions, and the parameters that most networks have: each is declared here, once.

A kind that differs from its relatives in a default or a range says so where it declares the parameter; title,
meaning and unit stay the same everywhere.
"""

from __future__ import annotations

from typing import Any

from segexplorer.core.fields import parameter
from segexplorer.networks.deep_supervision import SupervisedNetwork


def doubled(base: int, levels: int, most: int | None = None) -> tuple[int, ...]:
    """Return the channels of each level: doubled from level to level, never above `most`."""
    widths = tuple(base * 2**level for level in range(levels))
    return widths if most is None else tuple(min(n, max(most, base)) for n in widths)


def base_features(
    default: int,
    *,
    least: int = 2,
    most: int = 128,
    meaning: str = "Channels at full resolution, doubled at each level. More learns more and costs more time.",
    advanced: bool = False,
) -> Any:
    """Declare the channels of the first level, in steps of the fewest that are allowed."""
    return parameter(
        default,
        title="Features of the first level",
        meaning=meaning,
        ge=least,
        le=most,
        step=least,
        advanced=advanced,
    )


def levels(default: int, *, fewest: int = 2, most: int = 7) -> Any:
    """Declare the number of resolutions."""
    return parameter(
        default,
        title="Levels",
        meaning="Resolutions, full resolution included. Each further level doubles how far the network sees.",
        ge=fewest,
        le=most,
    )


def maximum_features() -> Any:
    """Declare where the doubling of channels stops."""
    return parameter(
        320,
        title="Most features",
        meaning="Doubling stops at this many channels.",
        ge=8,
        le=2048,
        advanced=True,
    )


def dropout(default: float = 0.0, *, of: str = "channel", trade: bool = True) -> Any:
    """Declare the dropout: of a "channel", a "number" ...; `trade` tells what more of it brings."""
    more = "; more overfits less and learns slower" if trade else ""
    return parameter(
        default,
        title="Dropout",
        meaning=f"Probability that a {of} is dropped in training{more}.",
        ge=0,
        lt=1,
        step=0.05,
    )


class LevelledNetwork(SupervisedNetwork):
    """Base of the networks whose channels double from level to level and whose resolution halves."""

    base_features: int = base_features(16)
    levels: int = levels(4)

    def features(self) -> tuple[int, ...]:
        """Return the channels with which each level ends, the finest first."""
        return doubled(self.base_features, self.levels)

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (self.levels - 1),) * dimensions

"""How the penalties of a region follow its errors: the family "penalties".

`adaptive_region_tversky` weighs the false positives of a region by alpha = A + B f(x) and its false negatives
by beta = A + B f(1 - x), where x = FP / (FP + FN) is the share of false positives in the region's error. A rule
is the function f, increasing from f(0) = 0 to f(1) = 1, so that penalties go from A to A + B under every rule.
Chen 2023 uses f(x) = x and leaves non-linear rules to future work; `power` and `logistic` are such rules. Another
package adds one by registering a `PenaltySpec`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class PenaltySpec(Spec):
    """Base of all penalty rules; a kind implements `scaled` and `slope`."""

    formula: ClassVar[str] = ""
    """LaTeX."""
    reference: ClassVar[str] = ""

    def scaled(self, share: Tensor) -> Tensor:
        """Return f of shares from 0 to 1, elementwise and differentiable, from f(0) = 0 to f(1) = 1."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def slope(self, share: float) -> float:
        """Return f'(share); infinite where it is."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def lowest_pull(self) -> float:
        """Return the smallest value of f(x) + x (1 - x) f'(x) - (1 - x)^2 f'(1 - x) over the shares x.

        A + B times it is the smallest weight of a false positive in alpha FP + beta FN where alpha and beta pass on
        their gradient; below 0 the loss rewards errors. It is -1, at x = 0, for f(x) = x.
        """
        import torch

        found = math.inf
        shares = torch.linspace(0, 1, 1001, dtype=torch.float64)
        for x, f in zip(shares.tolist(), self.scaled(shares).tolist(), strict=True):
            own = x * (1 - x) * self.slope(x) if 0 < x < 1 else 0.0
            other = (1 - x) ** 2 * self.slope(1 - x) if x < 1 else 0.0
            found = min(found, f + own - other)
        return found


registry: Registry[PenaltySpec] = Registry("penalties", PenaltySpec, "penalty rule")
AnyPenalty = Annotated[PenaltySpec, registry.late_bound]


@registry.register
class Linear(PenaltySpec):
    """Penalties in proportion to the share of the error."""

    display_name: ClassVar[str] = "Linear"
    formula: ClassVar[str] = r"f(x)=x"
    reference: ClassVar[str] = "Chen 2023, eq. 7-8"
    kind: Literal["linear"] = "linear"

    def scaled(self, share: Tensor) -> Tensor:
        """Return the share itself."""
        return share

    def slope(self, share: float) -> float:
        """Return 1."""
        return 1.0


@registry.register
class Power(PenaltySpec):
    """A power of the share: above 1, penalties rise only for an error that clearly dominates; below 1, early."""

    display_name: ClassVar[str] = "Power"
    formula: ClassVar[str] = r"f(x)=x^p"
    kind: Literal["power"] = "power"
    exponent: float = parameter(
        2.0,
        title="Exponent",
        description="1 is the linear rule. With others alpha + beta is no longer the same in every region.",
        gt=0,
        le=10,
        step=0.25,
        live=True,
    )

    def scaled(self, share: Tensor) -> Tensor:
        """Return share ** exponent; where that has no finite slope at 0, shares below 1e-12 count as 1e-12."""
        return share.clamp(min=1e-12) ** self.exponent if self.exponent < 1 else share**self.exponent

    def slope(self, share: float) -> float:
        """Return exponent * share ** (exponent - 1)."""
        if share == 0:
            return 0.0 if self.exponent > 1 else 1.0 if self.exponent == 1 else math.inf
        return float(self.exponent * share ** (self.exponent - 1))


@registry.register
class Logistic(PenaltySpec):
    """A logistic curve from (0, 0) to (1, 1): penalties change quickly about its middle, and little elsewhere."""

    display_name: ClassVar[str] = "Logistic"
    formula: ClassVar[str] = (
        r"f(x)=\frac{\sigma(k(x-m))-\sigma(-km)}{\sigma(k(1-m))-\sigma(-km)},\quad \sigma(t)=\frac1{1+e^{-t}}"
    )
    kind: Literal["logistic"] = "logistic"
    steepness: float = parameter(
        8.0,
        title="Steepness",
        description="How quickly penalties change about the middle; near 0 the rule is the linear one.",
        gt=0,
        le=50,
        step=1.0,
        live=True,
        called="k",
    )
    middle: float = parameter(
        0.5,
        title="Middle",
        description="Share of the error about which penalties change. With others than .5, alpha + beta is no "
        "longer the same in every region.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="m",
    )

    def _ends(self) -> tuple[float, float]:
        k, m = self.steepness, self.middle
        return _sigmoid(-k * m), _sigmoid(k * (1 - m))

    def scaled(self, share: Tensor) -> Tensor:
        """Return the curve, scaled so that it passes through (0, 0) and (1, 1)."""
        low, high = self._ends()
        return ((self.steepness * (share - self.middle)).sigmoid() - low) / (high - low)

    def slope(self, share: float) -> float:
        """Return k s (1 - s) over the curve's height, s the logistic function at the share."""
        low, high = self._ends()
        s = _sigmoid(self.steepness * (share - self.middle))
        return self.steepness * s * (1 - s) / (high - low)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))

"""Where a run is, and what its epoch has added up so far: the plain numbers that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Position:
    """Where training is: epoch counted from 1, steps done in it, optimiser steps done in all."""

    epoch: int = 1
    index: int = 0
    step: int = 0


@dataclass
class EpochSums:
    """Sample-weighted sums of an epoch's losses and terms."""

    samples: int = 0
    loss: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, terms: dict[str, tuple[float, float]], samples: int) -> None:
        """Add a step."""
        self.samples += samples
        self.loss += loss * samples
        for name, (value, weight) in terms.items():
            self.values[name] = self.values.get(name, 0.0) + value * samples
            self.weights[name] = self.weights.get(name, 0.0) + weight * samples

    def mean_loss(self) -> float:
        """Return the mean loss."""
        return self.loss / max(self.samples, 1)

    def mean_terms(self) -> dict[str, tuple[float, float]]:
        """Return name -> (mean value, mean weight)."""
        n = max(self.samples, 1)
        return {k: (v / n, self.weights[k] / n) for k, v in self.values.items()}

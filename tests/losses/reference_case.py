"""The losses, written anew in plain numpy from their written specification, as a reference for the library.

Nothing here is shared with `segexplorer`. A reference takes a `Case` and its own parameters and returns a
float; derivatives come from differences of these values. What a loss holds fixed (adaptive weights, distance
maps of the prediction) is taken from `case.held`, the probabilities around which the difference is formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]


@dataclass
class Case:
    """One batch: logits (B, C, *spatial), labels (B, *spatial) or a soft target (B, C, *spatial)."""

    logits: Array
    target: NDArray[Any]
    ignored: int = 255
    spacing: tuple[float, ...] | None = None
    held: Array | None = None
    log_p: Array = field(init=False)
    p: Array = field(init=False)
    g: Array = field(init=False)
    m: Array = field(init=False)

    def __post_init__(self) -> None:
        z = self.logits
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        self.log_p = z - logsumexp(z, axis=1, keepdims=True)
        self.p = np.exp(self.log_p)
        if self.target.ndim == z.ndim:
            self.g, self.m = self.target.astype(float), np.ones((z.shape[0], 1, *z.shape[2:]))
        else:
            labels = self.target[:, None]
            self.m = (labels != self.ignored).astype(float)
            self.g = np.concatenate([labels == c for c in range(z.shape[1])], axis=1).astype(float)

    @property
    def soft(self) -> bool:
        return self.target.ndim == self.p.ndim

    @property
    def labels(self) -> NDArray[np.int64]:
        """Ignored voxels are background here, as the distance maps want it."""
        return np.where(self.m[:, 0] > 0, self.target, 0).astype(np.int64)

    @property
    def kept(self) -> float:
        return float(self.m.sum())

    def at(self, logits: Array) -> Case:
        return Case(
            logits, self.target, self.ignored, self.spacing, self.p if self.held is None else self.held
        )

    @property
    def frozen(self) -> Array:
        return self.p if self.held is None else self.held


def space(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))

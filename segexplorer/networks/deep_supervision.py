"""Deep supervision: logits at several resolutions in training, and how much each of them counts.

A network that can be supervised deeply has the setting `deep_supervision`. Switched on, it returns in training
mode a tuple of logits, the full resolution first; in evaluation mode one tensor, as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import NetworkSpec

Mode = Literal["none", "stride", "exp", "two", "same"]
FEWEST_LEVELS = 3
SMALLEST_EXP = 0.0625
"""MONAI's floor for the halved weights."""


class SupervisedNetwork(NetworkSpec):
    """Base of the networks that can be supervised at several resolutions."""

    deep_supervision: Mode = parameter(
        "none",
        title="Deep supervision",
        meaning=(
            "Trains the coarser levels on the truth too. The weights of the levels: stride, 2^-(stride × stride) "
            "as in Yeung 2022; exp, halved at each level; two, 1 and then 1/2; same, 1 for all."
        ),
        advanced=True,
    )

    @model_validator(mode="after")
    def _enough_levels(self) -> Self:
        if self.supervised and getattr(self, "levels", FEWEST_LEVELS) < FEWEST_LEVELS:
            raise ValueError(
                f"deep_supervision needs at least {FEWEST_LEVELS} levels, for a coarser one to ask"
            )
        return self

    @property
    def supervised(self) -> bool:
        """Whether the network returns several logits in training."""
        return self.deep_supervision != "none"


def level_weights(mode: Mode, strides: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return what the loss of each level counts; the weights do not add up to 1, as in both sources.

    Parameters
    ----------
    mode
        "stride": Yeung 2022, eq. 22, `w = 2^-(stride length × stride width)`: 1/2 at full resolution, 1/16 at
        half, 2^-16 at a quarter. The equation has no third stride, and none is added in 3D.
        "exp", "two", "same": `monai.losses.DeepSupervisionLoss`.
    strides
        Per level, how many voxels of the image one voxel of the level covers along each axis; the full
        resolution, all ones, first.

    Raises
    ------
    ValueError
        For "none", which has no levels.
    """
    count = len(strides)
    if mode == "stride":
        return tuple(2.0 ** -(stride[0] * stride[1]) for stride in strides)
    if mode == "exp":
        return tuple(max(0.5**level, SMALLEST_EXP) for level in range(count))
    if mode == "two":
        return (1.0,) + (0.5,) * (count - 1)
    if mode == "same":
        return (1.0,) * count
    raise ValueError("without deep supervision there are no levels to weigh")

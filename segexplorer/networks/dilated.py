"""What the networks with a dilated bottleneck share: the dilations and how they are put together (Zhang 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from segexplorer.core.fields import parameter
from segexplorer.networks.base import NetworkSpec

if TYPE_CHECKING:
    from torch import nn

Dilation = Annotated[int, Ge(1)]


class DilatedNetwork(NetworkSpec):
    """Base of the networks whose coarsest level has convolutions of several dilations."""

    dilations: tuple[Dilation, ...] = parameter(
        (1, 2, 4, 8),
        title="Dilations",
        meaning="Spacing of the kernel's voxels at the coarsest level, one convolution each; more sees further.",
        min_length=1,
        max_length=8,
    )
    arrangement: Literal["parallel", "stacked"] = parameter(
        "parallel",
        title="Arrangement",
        meaning="Side by side on the same features, or one behind the other, which sees further still.",
    )

    def dilated(
        self, dimensions: int, channels: int, *, normalisation: str, activation: str = "relu"
    ) -> nn.Module:
        """Return the dilated convolutions, for features of so many channels."""
        from segexplorer.networks.architectures.dilation import DilatedBottleneck

        return DilatedBottleneck(
            dimensions,
            channels,
            self.dilations,
            stacked=self.arrangement == "stacked",
            normalisation=normalisation,
            activation=activation,
        )

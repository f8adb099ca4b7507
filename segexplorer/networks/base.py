"""What every network promises, the family "networks", and the parameters that most networks share.

A network maps images `(B, C_in, *spatial)` to logits `(B, C_out, *spatial)` of the same shape, for any shape whose
axes are multiples of `divisor(dimensions)`. It works in 2D and 3D, under autocast to bfloat16 and in the
channels-last memory formats. With deep supervision it returns in training mode a tuple of logits, the full
resolution first; in evaluation mode always one tensor.

The bases build on each other: `NetworkSpec`, then `SupervisedNetwork` (deep supervision), then `LevelledNetwork`
(channels double from level to level); `DilatedNetwork` adds a bottleneck of dilated convolutions (Zhang 2025). A
parameter that several kinds have is declared here once, by a function; a kind that needs another default or range
passes it, while title, description and unit stay the same everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge
from pydantic import model_validator

from segexplorer.core.errors import MissingExtraError, SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class NetworkSpec(Spec):
    """Base of all network specs; a kind implements `_build` and `divisor`."""

    reference: ClassVar[str] = ""
    """The paper the architecture comes from."""
    family: ClassVar[str] = ""
    """Group of related architectures: "U-Net", "V-Net", "residual" or "transformer"."""
    papers: ClassVar[tuple[str, ...]] = ()
    """Citations of the papers that use it, e.g. "Chen 2023"; `core.papers` describes them."""
    purposes: ClassVar[tuple[str, ...]] = ()
    """What it is for, by the names of `core.purposes.PURPOSES`; pickers find by them."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that building it needs and that are not dependencies of this one."""

    def build(self, *, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        """Return the network with freshly initialised weights (from torch's global generator), on the CPU.

        Parameters
        ----------
        dimensions
            Number of spatial axes, 2 or 3.
        in_channels
            Image channels, e.g. 1 for CT, 4 for four MRI sequences.
        out_channels
            Logits per voxel: background and foreground classes, or 1 for one sigmoid foreground.

        Raises
        ------
        SpecError
            When dimensions or channels make no sense.
        MissingExtraError
            When one of `packages` is not installed.
        """
        check_dimensions(dimensions)
        for count, noun in ((in_channels, "image channel"), (out_channels, "output channel")):
            if count < 1:
                raise SpecError(f"A network needs at least one {noun}, not {count}.")
        for package in self.missing_packages():
            raise MissingExtraError.of(package, "", f"The network {self.display_name}")
        from segexplorer.networks.architectures.layers import with_own_layers

        return with_own_layers(self._build(dimensions, in_channels, out_channels))

    @classmethod
    def missing_packages(cls) -> tuple[str, ...]:
        """Return those of `packages` that are not installed here."""
        return tuple(p for p in cls.packages if importlib.util.find_spec(p) is None)

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        """Return, per spatial axis, what the input's length must be a multiple of."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def smallest_patch(self, dimensions: int) -> tuple[int, ...]:
        """Return a spatial shape that suffices for training, on a batch of one too.

        Twice the divisor: normalisation over space needs more than one voxel on the coarsest level. Predictions
        take any multiple of the divisor, the divisor itself included.
        """
        return tuple(2 * d for d in self.divisor(dimensions))

    def warning_message(self, patch: Sequence[int]) -> str:
        """Return what a plan should say of training on patches of a spatial shape, as sentences; mostly nothing."""
        return ""


def check_dimensions(dimensions: int) -> None:
    """Refuse anything but 2D and 3D."""
    if dimensions not in (2, 3):
        raise SpecError(f"Networks take 2 or 3 spatial axes, not {dimensions}.")


def padded(shape: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest shape not below `shape` whose axes are multiples of the divisor."""
    return tuple(-(-n // d) * d for n, d in zip(shape, divisor, strict=True))


# ---- the family

registry: Registry[NetworkSpec] = Registry("networks", NetworkSpec, "network")
AnyNetwork = Annotated[NetworkSpec, registry.late_bound]

# ---- deep supervision

Mode = Literal["none", "stride", "exp", "two", "same"]
FEWEST_LEVELS = 3
SMALLEST_EXP = 0.0625
"""MONAI's floor for the halved weights."""


class SupervisedNetwork(NetworkSpec):
    """Base of the networks that can be supervised at several resolutions."""

    deep_supervision: Mode = parameter(
        "none",
        title="Deep supervision",
        description=(
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


# ---- networks of several resolutions


def doubled(base: int, levels: int, most: int | None = None) -> tuple[int, ...]:
    """Return the channels of each level: doubled from level to level, never above `most`."""
    widths = tuple(base * 2**level for level in range(levels))
    return widths if most is None else tuple(min(n, max(most, base)) for n in widths)


def base_features(
    default: int,
    *,
    least: int = 2,
    most: int = 128,
    description: str = "Channels at full resolution, doubled at each level. More learns more and costs more time.",
    advanced: bool = False,
) -> Any:
    """Declare the channels of the first level; `least` is the smallest number and the step."""
    return parameter(
        default,
        title="Features of the first level",
        description=description,
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
        description="Resolutions, full resolution included. Each further level doubles how far the network sees.",
        ge=fewest,
        le=most,
    )


def maximum_features() -> Any:
    """Declare where the doubling of channels stops."""
    return parameter(
        320,
        title="Most features",
        description="Doubling stops at this many channels.",
        scale="log",
        ge=8,
        le=2048,
        advanced=True,
    )


def dropout(default: float = 0.0, *, of: str = "channel", trade: bool = True) -> Any:
    """Declare the dropout of a "channel", a "number" ...; `trade` adds to the description what more of it does."""
    more = "; more overfits less and learns slower" if trade else ""
    return parameter(
        default,
        title="Dropout",
        description=f"Probability that a {of} is dropped in training{more}.",
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


# ---- networks with a dilated bottleneck

Dilation = Annotated[int, Ge(1)]


class DilatedNetwork(NetworkSpec):
    """Base of the networks whose coarsest level has convolutions of several dilations."""

    dilations: tuple[Dilation, ...] = parameter(
        (1, 2, 4, 8),
        title="Dilations",
        description="Spacing of the kernel's voxels at the coarsest level, one convolution each; "
        "more sees further.",
        min_length=1,
        max_length=8,
    )
    arrangement: Literal["parallel", "stacked"] = parameter(
        "parallel",
        title="Arrangement",
        description="Side by side on the same features, or one behind the other, which sees further still.",
    )

    def dilated(
        self, dimensions: int, channels: int, *, normalisation: str, activation: str = "relu"
    ) -> nn.Module:
        """Return the dilated convolutions, for features of so many channels."""
        from segexplorer.networks.architectures.blocks import DilatedBottleneck

        return DilatedBottleneck(
            dimensions,
            channels,
            self.dilations,
            stacked=self.arrangement == "stacked",
            normalisation=normalisation,
            activation=activation,
        )

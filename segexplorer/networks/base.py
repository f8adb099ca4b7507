"""What every network promises, and the family "networks".

A network maps images `(B, C_in, *spatial)` to logits `(B, C_out, *spatial)` of the same shape, for any
shape whose axes are multiples of `divisor(dimensions)`. It works in 2D and 3D, under autocast to bfloat16
and in the channels-last memory formats. With deep supervision (`networks.deep_supervision`) it returns, in
training mode alone, a tuple of logits, the full resolution first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from segexplorer.core.errors import MissingExtraError, SpecError
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from torch import nn


class NetworkSpec(Spec):
    """Base of all network specs; a kind implements `_build` and `divisor`."""

    reference: ClassVar[str] = ""
    """The paper the architecture comes from."""
    family: ClassVar[str] = ""
    """What it is a relative of: "U-Net", "V-Net", "residual" or "transformer"."""
    papers: ClassVar[tuple[str, ...]] = ()
    """Citations of the papers that use it, e.g. "Chen 2023"; `core.papers` describes them."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that it cannot be built without and that are not dependencies of this one."""

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
        take any multiple of the divisor, once it too.
        """
        return tuple(2 * d for d in self.divisor(dimensions))

    def caution(self, patch: Sequence[int]) -> str:
        """Return what a plan should say of training on patches of a spatial shape, as sentences; mostly nothing."""
        return ""

    def parameter_count(self, *, dimensions: int, in_channels: int, out_channels: int) -> int:
        """Return the number of trainable numbers, without allocating them."""
        from segexplorer.networks.memory import on_meta

        network = on_meta(self, dimensions, in_channels, out_channels)
        return sum(p.numel() for p in network.parameters() if p.requires_grad)

    def memory_estimate(
        self,
        patch: Sequence[int],
        batch_size: int,
        *,
        in_channels: int,
        out_channels: int,
        activation_bytes: int = 4,
        training: bool = True,
    ) -> int:
        """Return the bytes that a step on a batch takes; see `networks.memory.estimate` for how.

        Parameters
        ----------
        patch
            Spatial shape; rounded up to the divisor.
        activation_bytes
            Bytes of one activation: 4 for float32, 2 under bfloat16 or float16 autocast.
        training
            Whether gradients and the optimiser's memory are counted, or a forward pass alone.
        """
        from segexplorer.networks.memory import estimate

        return estimate(
            self,
            padded(patch, self.divisor(len(patch))),
            batch_size,
            in_channels=in_channels,
            out_channels=out_channels,
            activation_bytes=activation_bytes,
            training=training,
        )


def check_dimensions(dimensions: int) -> None:
    """Refuse anything but 2D and 3D."""
    if dimensions not in (2, 3):
        raise SpecError(f"Networks take 2 or 3 spatial axes, not {dimensions}.")


def padded(shape: Sequence[int], divisor: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest shape not below `shape` whose axes are multiples of the divisor."""
    return tuple(-(-n // d) * d for n, d in zip(shape, divisor, strict=True))


registry: Registry[NetworkSpec] = Registry("networks", NetworkSpec, "network")
AnyNetwork = Annotated[NetworkSpec, registry.late_bound]

"""`levit_unet`: the network of Oshah 2025, declared for forms, command line and YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import NetworkSpec, registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

_TOKEN = 16
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis across the slices, in the order (x, y, z) of prepared volumes."""


@registry.register
class LeViTUNet(NetworkSpec):
    """LeViT encoder (four strided convolutions, three stages of attention), convolutional decoder with skips.

    Works on slices resized to a square, 224 x 224 in the paper; volumes are cut along one axis and put
    together again inside the network, so that any patch will do. One image channel is repeated to the three that
    ImageNet weights expect.

    Oshah 2025 and Xu et al. leave open how the decoder is built: here the features of the last convolution and of
    the three stages are brought to 1/16 of the slice and concatenated; four blocks of doubling, skip and two
    convolutions follow, with 512, 256, 128 and 64 channels. That gives 52.9 million parameters at size 384;
    Oshah 2025 reports 52.2 million.
    """

    display_name: ClassVar[str] = "LeViT-UNet"
    reference: ClassVar[str] = (
        "Xu et al. 2021, arXiv:2107.08623; Graham et al. 2021, doi:10.1109/ICCV48922.2021.01204; Oshah 2025"
    )
    family: ClassVar[str] = "transformer"
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    packages: ClassVar[tuple[str, ...]] = ("transformers",)
    purposes: ClassVar[tuple[str, ...]] = ("context",)
    kind: Literal["levit_unet"] = "levit_unet"
    size: Literal["128s", "192", "384"] = parameter(
        "384",
        title="Size",
        description="Features of the first attention stage. Larger learns more and costs more time; "
        "384 in Oshah 2025.",
    )
    image_size: int = parameter(
        224,
        title="Slice size",
        description="Slices are resized to this square, and the logits back. ImageNet weights are for 224.",
        unit="pixels",
        ge=5 * _TOKEN,  # the last stage has 2 x 2 tokens then, enough for the normalisation of one slice
        le=512,
        step=_TOKEN,
    )
    plane: Literal["axial", "coronal", "sagittal"] = parameter(
        "axial", title="Plane", description="How volumes are sliced; without effect on 2D images."
    )
    decoder_features: int = parameter(
        512,
        title="Features of the decoder",
        description="Channels of its first block, halved at each further one.",
        ge=16,
        le=1024,
        step=16,
        advanced=True,
    )

    @field_validator("image_size")
    @classmethod
    def _whole_tokens(cls, value: int) -> int:
        if value % _TOKEN:
            raise ValueError(f"must be a multiple of {_TOKEN}")
        return value

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer_levit_unet.network import LeViTUNet as Network
        from segexplorer_levit_unet.network import SliceWise

        network = Network(in_channels, out_channels, self.size, self.image_size, self.decoder_features)
        return network if dimensions == 2 else SliceWise(network, _AXES[self.plane])

    def warning_message(self, patch: Sequence[int]) -> str:
        if len(patch) == 2:
            return ""
        slices = patch[_AXES[self.plane]]
        return (
            f"{self.display_name} sees slices: each patch is {slices} of them, all resized to {self.image_size} × "
            f"{self.image_size}. To train on single {self.plane} slices, in {slices} times less memory, give the "
            f"patch one voxel along that axis, e.g. sampling.patch_size: {self._slice()}."
        )

    def _slice(self) -> list[int]:
        shape = [self.image_size] * 3
        shape[_AXES[self.plane]] = 1
        return shape

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (1,) * dimensions

    def smallest_patch(self, dimensions: int) -> tuple[int, ...]:
        # slices are resized, so the size is a matter of sense; two slices for the batch normalisation
        shape = [2 * _TOKEN] * dimensions
        if dimensions == 3:
            shape[_AXES[self.plane]] = 2
        return tuple(shape)

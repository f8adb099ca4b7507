"""`longitudinal_vnet`: the V-Net of Perera 2025 for two time points and their difference."""

from __future__ import annotations

from typing import ClassVar, Literal

from segexplorer.networks.base import registry
from segexplorer.networks.levels import dropout
from segexplorer.networks.vnet import Activation, VNetFamily, activation, kernel


@registry.register
class LongitudinalVNet(VNetFamily):
    """V-Net without residual sums: convolution, batch normalisation and leaky ReLU, five levels.

    Perera 2025, section II.B and figure 2: baseline, follow-up and their difference come in as three channels; the
    convolutional, down-sampling and up-sampling blocks are all convolution, batch normalisation and leaky ReLU.
    Five blocks make a path in the text, where the figure is not told: five levels here. The text names neither
    channels, kernels, convolutions per level, slope nor dropout, nor whether skips are added or concatenated:
    those of the V-Net, kernels of 3, a slope of 0.01, no dropout and concatenation here. The paper starts from the
    weights of CoactSeg (its reference 21), which are not part of this package.
    """

    display_name: ClassVar[str] = "V-Net, longitudinal"
    reference: ClassVar[str] = "Perera 2025, section II.B and figure 2; Milletari et al. 2016"
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025",)
    residual: ClassVar[bool] = False
    kind: Literal["longitudinal_vnet"] = "longitudinal_vnet"
    kernel: Literal[3, 5] = kernel(3)
    activation: Activation = activation("leaky_relu")
    dropout: float = dropout()

"""What there is to say of the size of the patches: beside the images, and to the network."""

from __future__ import annotations

from collections.abc import Sequence

from segexplorer.core.errors import SpecError
from segexplorer.data.checks import Problem
from segexplorer.networks.base import NetworkSpec
from segexplorer.training.experiment import Experiment
from segexplorer.training.slices import Layout


def patch_problems(
    experiment: Experiment, patch: tuple[int, ...] | None, divisor: Sequence[int], largest: Sequence[int]
) -> list[Problem]:
    """Return what a user should know of the patches.

    Parameters
    ----------
    patch
        Voxels that the network will see, multiples of `divisor`; None for whole volumes.
    largest
        Voxels of the largest training image along each axis.
    """
    problems = []
    caution = experiment.network.caution(Layout.of(experiment.sampling.patch_size).flat(patch or largest))
    if caution:
        problems.append(Problem("warning", "network", caution, ""))
    asked = experiment.sampling.patch_size
    if patch is not None and asked is not None and patch != tuple(asked):
        text = f"The patch {_times(asked)} was enlarged to {_times(patch)}."
        problems.append(Problem("note", "patch", text, f"The network needs multiples of {_times(divisor)}."))
    if 1 in largest and Layout.of(asked).thin is None:
        of_slices = [1 if n == 1 else p for n, p in zip(largest, patch or largest, strict=True)]
        text = (
            "The images are single slices, and a network of three dimensions would see padding around them."
        )
        problems.append(Problem("warning", "slices", text, f"Set sampling.patch_size: {of_slices}."))
    elif patch is not None and _volume(patch) > 2 * _volume(
        tuple(max(n, d) for n, d in zip(largest, divisor, strict=True))
    ):
        text = f"The patch {_times(patch)} is mostly padding: no training image exceeds {_times(largest)} voxels."
        problems.append(Problem("warning", "patch", text, "Set a smaller sampling.patch_size."))
    return problems


def step_memory(
    network: NetworkSpec,
    layout: Layout,
    shape: Sequence[int],
    batch_size: int,
    *,
    in_channels: int,
    out_channels: int,
    activation_bytes: int,
) -> int:
    """Return the estimated bytes of a training step on patches of a shape.

    Raises
    ------
    SpecError
        When the network cannot be trained on so few voxels.
    """
    flat = layout.flat(shape)
    try:
        return network.memory_estimate(
            flat,
            batch_size,
            in_channels=in_channels,
            out_channels=out_channels,
            activation_bytes=activation_bytes,
        )
    except (RuntimeError, ValueError) as error:  # the forward pass that counts is the first to find out
        enough = network.smallest_patch(layout.dimensions)
        if all(n >= least for n, least in zip(flat, enough, strict=True)):
            raise
        raise SpecError(
            f"{network.display_name} cannot be trained on patches of {_times(flat)} voxels.",
            f"Set sampling.patch_size to {_times(enough)} or more.",
        ) from error


def _volume(shape: Sequence[int]) -> int:
    voxels = 1
    for n in shape:
        voxels *= n
    return voxels


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)

"""The patch that the loss last trained on, as the loss saw it, on request.

A training step throws its logits away once the gradient is there. Asked for (`Run.show_patch`), the next step keeps
those of its batch, in float32 as the loss took them, with labels, regions and what else the loss knew. One batch is
kept at most, until another is asked for; a step that nobody asks about keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.core.untrusted_files import size_text
from segexplorer.training.slices import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.data.sampler import Batch
    from segexplorer.functional.inputs import LossContext
    from segexplorer.losses.base import LossSpec

SHOWN = 0
"""Place in the batch of the patch that is looked at."""


@dataclass(frozen=True)
class SeenByLoss:
    """What a step handed to its loss, on the device that trains: that of all devices, where they share the step.

    Attributes
    ----------
    logits
        (B, C, x, y, z) without their graph, at full resolution.
    labels
        (B, 1, x, y, z).
    context
        What else the loss knew.
    state
        What had adapted or was learned in the loss, by the names of its `state_dict`, as this step used it.
    """

    logits: Tensor
    labels: Tensor
    context: LossContext
    state: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrainedPatch:
    """A training step as its loss saw it, and the patch of its batch that is looked at.

    Attributes
    ----------
    case, step
        Of which case the patch is, and how many steps were done after it; the logits are those of the weights
        before the step.
    image
        (channels, x, y, z): the patch as the network saw it.
    logits, labels, context
        (B, C, x, y, z) float32 and (B, 1, x, y, z) of the whole batch, and what else the loss knew; on the CPU.
    loss, loss_state
        The loss of the step, and what had adapted or was learned in it.
    affine
        (4, 4) voxel of the patch -> RAS mm: where it lies in the case, or its own grid beside the same first voxel
        where `moved`.
    moved
        Whether it was turned or deformed, so that its voxels are no voxels of the case. One that was only mirrored
        is put where it lies.
    class_names, scheme
        Foreground classes, and what the labels mean.
    layout
        Whether the loss sees slices.
    """

    case: str
    step: int
    image: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    context: LossContext
    loss: LossSpec
    loss_state: Mapping[str, tuple[float, ...]]
    affine: NDArray[np.float64]
    moved: bool
    class_names: tuple[str, ...]
    scheme: LabelScheme = EXCLUSIVE
    layout: Layout = field(default_factory=Layout)

    @property
    def scope(self) -> str:
        """What was looked at, in words: "this patch, training mode, step 12"."""
        return f"this patch, training mode, step {self.step}"

    @property
    def remark(self) -> str:
        """What else must be known of it: "one of 2 in its batch; turned or deformed, so on its own grid"."""
        size = len(self.logits)
        said = [f"one of {size} in its batch"] if size > 1 else []
        said += ["turned or deformed, so on its own grid"] if self.moved else []
        return "; ".join(said)


def nbytes_of(batch: Batch, classes: int, samples: int) -> int:
    """Return the bytes that a step keeps when it is asked for: logits, labels, images and what the loss knew."""
    voxels = int(np.prod(batch.labels.shape[2:]))
    own = batch.images.nbytes + sum(pieces.nbytes for pieces in batch.maps.values())
    return samples * voxels * (4 * classes + 1) + own


def too_large(nbytes: int, megabytes: int) -> str:
    """Return why a step of so many bytes is not kept; "" where it is."""
    if nbytes <= megabytes * 1e6:
        return ""
    if megabytes == 0:
        return "Patches are not kept, since monitoring.patch_mb is 0."
    return (
        f"The last patch is not kept: its batch takes {size_text(nbytes)}, and monitoring.patch_mb allows "
        f"{megabytes} MB."
    )


def trained_patch(
    batch: Batch,
    seen: SeenByLoss,
    *,
    step: int,
    loss: LossSpec,
    affine: NDArray[np.float64],
    class_names: tuple[str, ...],
    scheme: LabelScheme,
    layout: Layout,
) -> TrainedPatch:
    """Return what is kept of a step.

    Parameters
    ----------
    batch
        This process's part of the batch, which begins with the patch that is looked at.
    affine
        (4, 4) voxel -> RAS mm of the prepared case that the patch was cut from.
    """
    placement = batch.placements[SHOWN]
    beside = np.eye(4)
    beside[:3, 3] = batch.origins[SHOWN]
    return TrainedPatch(
        case=batch.cases[SHOWN],
        step=step,
        image=np.array(batch.images[SHOWN]),
        logits=seen.logits.detach().float().cpu().numpy().copy(),
        labels=seen.labels.to("cpu").numpy().astype(np.uint8),
        context=_on_cpu(seen.context),
        loss=loss,
        loss_state=dict(seen.state),
        affine=affine @ (beside if placement is None else placement),
        moved=placement is None,
        class_names=class_names,
        scheme=scheme,
        layout=layout,
    )


def _on_cpu(context: LossContext) -> LossContext:
    from segexplorer.functional.regions import BatchRegions

    maps, regions, weights = context.distance_maps, context.regions, context.voxel_weights
    given: dict[str, Any] = {
        "distance_maps": None if maps is None else {name: m.to("cpu") for name, m in maps.items()},
        "regions": None
        if regions is None
        else {partition: BatchRegions(own.samples) for partition, own in regions.items()},
        "voxel_weights": None if weights is None else weights.to("cpu"),
    }
    # whoever asks again looks at labels and logits itself
    return replace(context, labels_checked=False, **given)

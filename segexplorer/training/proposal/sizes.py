"""How large a training step is: voxel size, patch, levels and width of the network, and the batch.

The rules follow what Isensee et al. 2021 (nnU-Net, doi:10.1038/s41592-020-01008-z) published: median voxel size, a
finer one along a coarse axis, patches as large as memory allows in the proportions of the patient, and as many
levels as such a patch feeds. Steps are tried from the largest to the smallest (`RUNGS_3D`); whoever has little time
leaves out the first ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.fingerprint import Fingerprint, Triple
from segexplorer.networks import registry as networks
from segexplorer.networks.base import NetworkSpec
from segexplorer.training.compute import Compute, memory_limit, resolve_compute

Shape = tuple[int, int, int]

# ---- the machine

_SHARE_OF_CPU, _SHARE_OF_GPU = 0.5, 0.8
"""Of the memory that is free, what a step may take: prepared cases and other programs need theirs."""
_ENOUGH_MEMORY = 10 * 2**30
"""More does not help: nnU-Net plans for a card of 11 GB, whatever card there is."""


@dataclass(frozen=True)
class Hardware:
    """What a proposal has to live with.

    Attributes
    ----------
    name
        What people call the device.
    gpu
        Whether it is one.
    memory
        Bytes that a training step may take.
    room
        Bytes of the machine's own memory, for whole volumes.
    """

    name: str
    gpu: bool
    memory: int
    room: int


def this_machine(*, window: bool = False) -> Hardware:
    """Return what is free on this machine now; `window`: whether a viewer is open in this process."""
    import psutil

    runtime = resolve_compute(Compute(), window=window)
    gpu = runtime.device.startswith("cuda")
    free = int(psutil.virtual_memory().available)
    room = min(free, memory_limit() or free)
    memory = _SHARE_OF_GPU * (memory_limit(runtime.device) or room) if gpu else _SHARE_OF_CPU * room
    return Hardware(runtime.device_name, gpu, int(min(memory, _ENOUGH_MEMORY)), room)


# ---- the size of a step


@dataclass(frozen=True)
class Sizing:
    """What decides how large a training step is.

    Attributes
    ----------
    spacing
        Voxel size of training, mm.
    shape
        Median size of the prepared volumes, voxels.
    largest
        Voxels along each axis that the largest of them has.
    patch
        A multiple of `divisor`; one voxel along `thin`.
    thin
        The axis across which slices are cut; None for patches of three dimensions.
    levels, features
        Of the U-Net.
    batch
        Patches per step.
    memory
        Estimate of a step, bytes.
    coarsened
        Whether the spacing is coarser than the data's own, so that patches see enough or volumes fit into memory.
    limit
        What kept the patch from being larger: "image", "memory" or "time".
    """

    spacing: Triple
    shape: Shape
    largest: Shape
    patch: Shape
    thin: int | None
    levels: int
    features: int
    batch: int
    memory: int
    coarsened: bool = False
    limit: str = ""

    @property
    def flat(self) -> tuple[int, ...]:
        """The patch as the network sees it."""
        return tuple(n for axis, n in enumerate(self.patch) if axis != self.thin)

    @property
    def covered(self) -> bool:
        """Whether the patch covers a volume, or slice, of median size."""
        return all(self.patch[axis] >= n for axis, n in enumerate(self.shape) if axis != self.thin)

    @property
    def divisor(self) -> Shape:
        """What the patch is a multiple of."""
        x, y, z = (1 if axis == self.thin else 2 ** (self.levels - 1) for axis in range(3))
        return x, y, z


RUNGS_3D = (
    (32, 160), (32, 144), (32, 128), (32, 112), (32, 96), (24, 96), (24, 80), (24, 64), (16, 64), (16, 56),
    (16, 48), (12, 48), (8, 48), (8, 40), (8, 32),
)  # fmt: skip
RUNGS_2D = (
    (32, 512), (32, 384), (32, 320), (32, 256), (24, 256), (24, 192), (16, 192), (16, 128), (8, 128), (8, 96),
)  # fmt: skip
"""Features of the first level, and the edge of the cube or square with as many voxels as the patch."""
SMALL_RUNGS = 5
"""So many of the smallest ones are left where a CPU is timed first, on which a large step takes minutes."""

_ANISOTROPIC = 3.0
"""Ratio of voxel sizes from which on an axis is coarse (Isensee 2021)."""
_FEW_SLICES, _THINNEST = 16, 8
"""Below so many slices of thick voxels, or of any, slices are segmented one by one."""
_MOST_LEVELS = 6
_COARSEST, _COARSEST_SHORT = 4, 2
"""Voxels that the coarsest level has at least along the middle axis of a patch, and along its shortest."""
_SEEN, _SEEN_FLAT = 1 / 32, 1 / 8
"""Share of a volume, or of a slice, that a patch sees at least, or voxels become coarser."""
_VOXELS_OF_SMALLEST = 27
"""Voxels that a small structure keeps when voxels become coarser: a cube of three."""
_SHARE_OF_ROOM = 0.5
"""Of the machine's memory, what predicting one whole volume may take."""
_COARSER = 1.1


def rungs(thin: int | None) -> tuple[tuple[int, int], ...]:
    """Return the steps that are tried, the largest first."""
    return RUNGS_3D if thin is None else RUNGS_2D


def anisotropic(spacing: Sequence[float]) -> bool:
    """Whether voxels are so much longer along one axis that it is treated apart."""
    return max(spacing) >= _ANISOTROPIC * min(spacing)


def usual_spacing(seen: Fingerprint) -> Triple:
    """Return the median voxel size (mm); along a coarse axis of few voxels that of the finest tenth of cases."""
    found = np.asarray(seen.median_spacing)
    coarse = int(np.argmax(found))
    others = np.delete(found, coarse)
    shape = np.asarray(seen.median_shape)
    few = shape[coarse] * _ANISOTROPIC < np.delete(shape, coarse).min()
    if found[coarse] >= _ANISOTROPIC * others.min() and few:
        finest = float(np.percentile(seen.spacings[:, coarse], 10))
        found[coarse] = max(finest, float(others.max()))
    return _triple(found)


def size(seen: Fingerprint, machine: Hardware, start: int = 0) -> Sizing:
    """Choose voxel size, patch, network and batch.

    Parameters
    ----------
    start
        How many of the largest rungs are left out, for want of time.

    Raises
    ------
    DataError
        When memory does not suffice for the smallest step.
    """
    spacing, coarsened, rung = usual_spacing(seen), False, -1
    while True:
        shapes = prepared_shapes(seen, spacing)
        thin = _thin(spacing, shapes)
        if rung < 0:
            rung = _affordable_rung(seen, spacing, shapes, thin, machine, start)
        found = _step(seen, spacing, shapes, thin, rung)
        flat = [n for axis, n in enumerate(found.shape) if axis != thin]
        share = math.prod(min(p, n) for p, n in zip(found.flat, flat, strict=True)) / math.prod(flat)
        enough = share >= (_SEEN if thin is None else _SEEN_FLAT)
        fits = _prediction_bytes(seen, shapes) <= _SHARE_OF_ROOM * machine.room
        coarser = _coarser(spacing, thin)
        if not fits or (not enough and _keeps_small(seen, coarser)):
            spacing, coarsened = coarser, True
            continue
        # memory is asked again at the end alone, since an estimate takes a moment
        again = _affordable_rung(seen, spacing, shapes, thin, machine, rung)
        if again != rung:
            rung = again
            continue
        reason = "image" if found.covered else "time" if rung and rung == start else "memory"
        memory = _step_memory(seen, found)
        return replace(
            found, memory=memory, coarsened=coarsened, limit=reason, batch=_batch(seen, found, machine)
        )


def prepared_shapes(seen: Fingerprint, spacing: Triple) -> NDArray[np.int64]:
    """Return (N, 3) sizes of the labelled cases at a spacing, voxels."""
    sizes = np.rint(seen.shapes * seen.spacings / np.asarray(spacing))
    return np.asarray(np.maximum(1, sizes), np.int64)


def work(seen: Fingerprint, sizing: Sizing) -> float:
    """Return the floating-point operations of the forward passes of a step; its time is about proportional."""
    forward = _operations(
        sizing.flat, sizing.levels, sizing.features, len(seen.channels), len(seen.names) + 1
    )
    return float(sizing.batch * forward)


def cube(shape: Sequence[int], spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    """Return a box of at most so many voxels inside a volume, as near to a cube in mm as the volume allows.

    Parameters
    ----------
    shape, spacing
        Of the volume: voxels, and mm.
    """
    if math.prod(shape) <= voxels:
        return tuple(shape)

    def box(side: float) -> list[float]:
        return [min(float(n), max(1.0, side / mm)) for n, mm in zip(shape, spacing, strict=True)]

    low, high = 0.0, max(n * mm for n, mm in zip(shape, spacing, strict=True))
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(box(middle)) <= voxels else (low, middle)
    return tuple(int(n + 1e-6) for n in box(low))


def depth(patch: Sequence[int]) -> int:
    """Return how many levels a patch feeds: each halves it, and some voxels have to be left on the coarsest."""
    ordered = sorted(patch)
    middle, shortest = ordered[len(ordered) // 2], ordered[0]
    halvings = min(
        math.log2(max(2 * _COARSEST, middle) / _COARSEST),
        math.log2(max(2 * _COARSEST_SHORT, shortest) / _COARSEST_SHORT),
    )
    return min(_MOST_LEVELS, int(halvings + 1e-9) + 1)


def unet(levels: int, features: int) -> NetworkSpec:
    """Return the network of a proposal."""
    return networks.parse({"kind": "unet", "base_features": features, "levels": levels})


def _affordable_rung(
    seen: Fingerprint,
    spacing: Triple,
    shapes: NDArray[np.int64],
    thin: int | None,
    machine: Hardware,
    start: int,
) -> int:
    """Return the first rung from `start` on whose step fits into memory."""
    last = len(rungs(thin))

    def fits(number: int) -> bool:
        return _step_memory(seen, _step(seen, spacing, shapes, thin, number)) <= machine.memory

    found = first_that(fits, min(start, last - 1), last)
    if found == last:
        raise DataError(
            f"{machine.memory / 2**30:.2g} GiB of memory do not suffice for the smallest training step.",
            "Close other programs, or train on another machine.",
        )
    return found


def first_that(holds: Callable[[int], bool], start: int, end: int) -> int:
    """Return the first number below `end` that a condition holds for, and with it for all later ones; else `end`.

    The first one is asked at once, since it mostly holds; the others are bisected.
    """
    if start < end and holds(start):
        return start
    low = start + 1
    while low < end:
        middle = (low + end) // 2
        low, end = (low, middle) if holds(middle) else (middle + 1, end)
    return end


def _step(
    seen: Fingerprint, spacing: Triple, shapes: NDArray[np.int64], thin: int | None, number: int
) -> Sizing:
    """Return patch and levels of one rung, its memory left open."""
    ladder = rungs(thin)
    features, edge = ladder[min(number, len(ladder) - 1)]
    middle = _shape(np.median(shapes, axis=0))
    flat = [axis for axis in range(3) if axis != thin]
    sides = cube([middle[a] for a in flat], [spacing[a] for a in flat], edge ** len(flat))
    levels = depth(sides)
    divisor = 2 ** (levels - 1)
    patch = [1, 1, 1]
    for axis, side in zip(flat, sides, strict=True):
        # up where the volume ends anyway, else down
        times = math.ceil(side / divisor) if side >= middle[axis] else side // divisor
        patch[axis] = max(2, times) * divisor
    return Sizing(
        spacing=spacing,
        shape=middle,
        largest=_shape(shapes.max(axis=0)),
        patch=(patch[0], patch[1], patch[2]),
        thin=thin,
        levels=levels,
        features=features,
        batch=2,
        memory=0,
    )


def _step_memory(seen: Fingerprint, sizing: Sizing) -> int:
    channels, outputs = len(seen.channels), len(seen.names) + 1
    return _memory(sizing.flat, sizing.levels, sizing.features, sizing.batch, channels, outputs)


def _thin(spacing: Triple, shapes: NDArray[np.int64]) -> int | None:
    """Return the axis across which volumes are cut into slices, or None."""
    middle = np.median(shapes, axis=0)
    axis = int(np.argmin(middle))
    thick = spacing[axis] >= _ANISOTROPIC * np.delete(np.asarray(spacing), axis).min()
    few = middle[axis] < (_FEW_SLICES if thick else _THINNEST)
    wide = np.delete(middle, axis).min() >= 4 * middle[axis]
    return axis if middle[axis] <= 1 or (few and wide) else None


@functools.lru_cache(maxsize=256)
def _memory(
    flat: tuple[int, ...], levels: int, features: int, batch: int, channels: int, outputs: int
) -> int:
    from segexplorer.networks.cost import memory_estimate

    # in float32: what lower precision saves is a reserve
    return memory_estimate(
        unet(levels, features), flat, batch, in_channels=channels, out_channels=outputs, activation_bytes=4
    )


@functools.lru_cache(maxsize=256)
def _operations(flat: tuple[int, ...], levels: int, features: int, channels: int, outputs: int) -> int:
    from segexplorer.networks.cost import operations

    return operations(unet(levels, features), flat, in_channels=channels, out_channels=outputs)


def _prediction_bytes(seen: Fingerprint, shapes: NDArray[np.int64]) -> int:
    """Return what a whole prediction of the largest case takes: image, label and logits in float32."""
    voxels = int(shapes.prod(axis=1).max())
    return voxels * (4 * len(seen.channels) + 1 + 4 * (len(seen.names) + 1))


def _coarser(spacing: Triple, thin: int | None) -> Triple:
    """Return a spacing a tenth coarser along its finest axis, and no finer than that along the others."""
    least = _COARSER * min(s for axis, s in enumerate(spacing) if axis != thin)
    return _triple([s if axis == thin else max(s, least) for axis, s in enumerate(spacing)])


def _keeps_small(seen: Fingerprint, spacing: Triple) -> bool:
    """Whether a small part of every class would still have some voxels."""
    sizes = [
        1000 * facts.volume_ml if facts.small_mm3 is None else facts.small_mm3
        for facts in seen.class_facts
        if facts.cases
    ]
    return math.prod(spacing) * _VOXELS_OF_SMALLEST <= min(sizes, default=math.inf)


def _batch(seen: Fingerprint, found: Sizing, machine: Hardware) -> int:
    """Return 2, or more on a GPU where patches are small: up to 5 % of all voxels in a step (Isensee 2021)."""
    if not machine.gpu:
        return 2
    total = int(prepared_shapes(seen, found.spacing).prod(axis=1).sum())
    most = max(2, min(12 if found.thin is None else 64, int(0.05 * total / math.prod(found.patch))))
    channels, outputs = len(seen.channels), len(seen.names) + 1
    batch = 2
    while (
        batch < most
        and _memory(found.flat, found.levels, found.features, batch + 1, channels, outputs) <= machine.memory
    ):
        batch += 1
    return batch


def _triple(values: Sequence[float] | NDArray[np.float64]) -> Triple:
    x, y, z = (float(f"{float(v):.4g}") for v in values)
    return x, y, z


def _shape(values: NDArray[np.floating] | NDArray[np.int64]) -> Shape:
    x, y, z = (round(float(v)) for v in values)
    return x, y, z

"""Prediction of whole volumes by sliding windows that are blended as they come, so that all logits never exist.

Windows go row by row along the first axis. What overlapping windows say of a voxel is added up in a buffer as high
as one window; voxels that no later window touches leave it as a finished `Tile`, whose logits are the
Gaussian-weighted means of the windows. Where even that buffer exceeds the memory that is allowed, the volume is cut
into columns along the other axes, and windows that meet two columns are predicted twice.

Positions and weights are those of MONAI (`dense_patch_slices`, `compute_importance_map`), to the bit, without an
import of MONAI, which takes longer than a small run; the result equals that of its `sliding_window_inference` up to
rounding. The loop is our own, because theirs holds all logits and does not yield, and a run must be able to stop
between windows. A window that holds a single value everywhere, such as air that the preprocessing clips or zeros
beside a brain, has the same logits wherever it is: they are computed once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme

if TYPE_CHECKING:
    import torch

    from segexplorer.training.compute import Runtime

TILE_BYTES = 48 * 2**20
"""Logits that leave the buffer at a time, but for one layer of voxels at least."""
GPU_TILE_BYTES = 2**29
"""The same on a GPU, where whoever takes a tile may wait for it."""

Range = tuple[int, int]
"""First voxel and end along an axis."""


@dataclass(frozen=True)
class Tile:
    """Finished logits of a part of a volume.

    Attributes
    ----------
    start
        Its first voxel in the volume.
    logits
        (1, C, *shape) float32 on the runtime's device.
    core
        What of `shape` belongs to this tile alone; the rest belongs to the next tiles too, and is there for
        interpolation. The cores of all tiles divide the volume.
    """

    start: tuple[int, ...]
    logits: torch.Tensor
    core: tuple[int, ...]

    @property
    def place(self) -> tuple[slice, ...]:
        """Where its core is in the volume."""
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.core, strict=True))

    @property
    def core_logits(self) -> torch.Tensor:
        """(1, C, *core) logits."""
        return self.logits[(slice(None), slice(None), *(slice(0, n) for n in self.core))]


# ---- windows, and how a volume is cut so that its buffer fits


def window_slices(shape: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    """Return the windows that cover a volume at least as large as the patch, the last ones moved inwards."""
    axes = []
    for size, length in zip(shape, patch, strict=True):
        step = max(1, int(length * (1 - overlap))) if length < size else length
        last = size - length
        axes.append(
            [slice(min(n * step, last), min(n * step, last) + length) for n in range(-(-last // step) + 1)]
        )
    return list(itertools.product(*axes))


def importance_map(patch: Sequence[int]) -> torch.Tensor:
    """Return the weights (*patch) of a window: a Gaussian of an eighth of its size, at least 1e-3."""
    import torch

    weights = torch.ones((), dtype=torch.float32)
    for length in patch:
        x = torch.arange(-(length - 1) / 2, (length - 1) / 2 + 1, dtype=torch.float32)
        weights = weights.unsqueeze(-1) * torch.exp(x**2 / (-2 * (0.125 * length) ** 2))
    return weights.clamp_min(1e-3)


def window_count(
    shape: Sequence[int], patch: Sequence[int], overlap: float, *, classes: int = 0, memory: int | None = None
) -> int:
    """Return how many windows cover a volume; one smaller than the patch is padded to it.

    Parameters
    ----------
    classes, memory
        As for `stream_logits`; where the volume has to be cut into columns, some windows count twice.
    """
    full = [max(n, p) for n, p in zip(shape, patch, strict=True)]
    free = _buffer_bytes(memory, classes, patch)
    return WindowPlan.of(full, patch, overlap, [(0, n) for n in full], classes, free).count


def _buffer_bytes(
    memory: int | None, classes: int, patch: Sequence[int], tile: int = TILE_BYTES
) -> int | None:
    """Return what is left for the buffer of what may be held.

    The rest are the logits of a window, those of one that is the same everywhere, and a tile that is being made.
    """
    own = 12 * classes * math.prod(patch) + 2 * tile
    return None if memory is None else max(0, memory - own)


@dataclass(frozen=True)
class WindowPlan:
    """The windows of a volume, column by column.

    Attributes
    ----------
    patch
        Window size in voxels.
    rows
        First voxels of the windows along the first axis, and the range of voxels that is wanted there.
    columns
        Of each column, its range along the other axes and the first voxels of its windows there.
    """

    patch: tuple[int, ...]
    rows: tuple[tuple[int, ...], Range]
    columns: tuple[tuple[tuple[tuple[int, ...], Range], ...], ...]

    @property
    def count(self) -> int:
        """Number of windows, those of two columns counted twice."""
        return len(self.rows[0]) * sum(math.prod(len(s) for s, _ in column) for column in self.columns)

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        patch: Sequence[int],
        overlap: float,
        wanted: Sequence[Range],
        classes: int,
        memory: int | None,
        halo: int = 0,
    ) -> WindowPlan:
        """Choose the columns that need the fewest windows among those whose buffer fits.

        Parameters
        ----------
        shape
            Of the volume, at least that of the patch.
        wanted
            Range of voxels along each axis that is to be predicted.
        memory
            Bytes that the buffer may take; None: any number. Where nothing fits, the smallest buffer is chosen.
        halo
            Voxels by which a column reaches into the next one.
        """
        whole = window_slices(shape, patch, overlap)
        starts = [sorted({w[axis].start for w in whole}) for axis in range(len(shape))]
        met = [_met(own, p, r) for own, p, r in zip(starts, patch, wanted, strict=True)]
        choices = []
        for pieces in itertools.product(*(_numbers(len(own)) for own in met[1:])):
            cuts = [_cut(own, r, n) for own, r, n in zip(met[1:], wanted[1:], pieces, strict=True)]
            read = [[(a, min(b + halo, r[1])) for a, b in c] for c, r in zip(cuts, wanted[1:], strict=True)]
            largest = [max(b - a for a, b in axis) for axis in read]
            need = 4 * (classes + 1) * patch[0] * math.prod(largest)
            axes = zip(met[1:], patch[1:], read, strict=True)
            count = math.prod(sum(len(_met(own, p, r)) for r in ranges) for own, p, ranges in axes)
            choices.append((need if memory is not None and need > memory else 0, count, pieces, cuts))
            if memory is None:
                break
        *_, cuts = min(choices, key=lambda choice: choice[:3])
        columns = tuple(
            tuple(
                (tuple(_met(own, p, (a, min(b + halo, r[1])))), (a, b))
                for (a, b), own, p, r in zip(ranges, met[1:], patch[1:], wanted[1:], strict=True)
            )
            for ranges in itertools.product(*cuts)
        )
        return cls(tuple(patch), (tuple(met[0]), (wanted[0][0], wanted[0][1])), columns)


def _numbers(most: int) -> list[int]:
    """Return numbers of columns worth trying: all small ones, then those in steps of about a third."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, found[-1] * 4 // 3)))
    return found


def _met(starts: Sequence[int], length: int, wanted: Range) -> list[int]:
    """Return the windows along an axis that meet a range."""
    return [s for s in starts if s < wanted[1] and s + length > wanted[0]]


def _cut(starts: Sequence[int], wanted: Range, pieces: int) -> list[Range]:
    """Cut a range into at most so many parts, at first voxels of windows, which the fewest windows cross."""
    places = [s for s in starts if wanted[0] < s < wanted[1]]
    edges = {
        min(places, key=lambda s: abs(s - wanted[0] - k * (wanted[1] - wanted[0]) / pieces))
        for k in range(1, pieces)
        if places
    }
    return list(itertools.pairwise(sorted({*wanted, *edges})))


# ---- prediction


def stream_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    *,
    classes: int,
    patch: Sequence[int],
    overlap: float,
    runtime: Runtime,
    mirror: bool = False,
    only: tuple[slice, ...] | None = None,
    memory: int | None = None,
    halo: int = 0,
    means: bool = True,
) -> Generator[tuple[int, int] | Tile, None, None]:
    """Predict a volume, yielding (windows done, windows in all) after each window, and tiles as they are finished.

    Nothing waits for a GPU between two windows: the buffer is on the network's device, and only tiles leave it.

    Parameters
    ----------
    network
        In evaluation mode, on the runtime's device.
    image
        (1, channels, *spatial) on any device.
    classes
        Number of output channels.
    patch
        Window size in voxels; larger than the volume is padded with the volume's smallest value and cut off.
    overlap
        Fraction by which neighbouring windows overlap, 0 to below 1.
    mirror
        Average over the mirrored windows of every combination of axes.
    only
        Predict only this part.
    memory
        Bytes that may be held on the device, or None for any number. One window with its logits is always held.
    halo
        Voxels by which tiles reach beyond their core along all axes but the first, where there are any.
    means
        Whether tiles hold the means of the windows' logits. Otherwise they are weighted sums, in memory that the
        next tiles need: enough for the likeliest class, and faster.
    """
    import torch

    spatial = image.shape[2:]
    padded, inner = _padded(image, patch)
    part = only or tuple(slice(0, n) for n in spatial)
    wanted = [(o.start + i.start, o.stop + i.start) for o, i in zip(part, inner, strict=True)]
    tile = GPU_TILE_BYTES if runtime.device.startswith("cuda") else TILE_BYTES
    free = _buffer_bytes(memory, classes, patch, tile)
    plan = WindowPlan.of(padded.shape[2:], patch, overlap, wanted, classes, free, halo)
    origin = tuple(i.start for i in inner)
    predict = _WindowPredictor(network, padded, plan.patch, runtime, mirror)
    done, (starts, rows) = 0, plan.rows
    for column in plan.columns:
        ranges = [(a, min(b + halo, w[1])) for (_, (a, b)), w in zip(column, wanted[1:], strict=True)]
        buffer = _Buffer(classes, plan.patch, ranges, predict.importance, means=means)
        for n, row in enumerate(starts):
            buffer.advance(row)
            for rest in itertools.product(*(s for s, _ in column)):
                with torch.no_grad():
                    buffer.add((row, *rest), predict((row, *rest)))
                done += 1
                yield done, plan.count
            end = starts[n + 1] if n + 1 < len(starts) else rows[1]
            for first, logits in buffer.finished(max(row, rows[0]), min(end, rows[1])):
                start = (first, *(a for _, (a, _) in column))
                core = (logits.shape[2], *(b - a for _, (a, b) in column))
                yield Tile(tuple(s - o for s, o in zip(start, origin, strict=True)), logits, core)


def predict_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    *,
    classes: int,
    patch: Sequence[int],
    overlap: float,
    runtime: Runtime,
    mirror: bool = False,
    only: tuple[slice, ...] | None = None,
) -> Generator[tuple[int, int], None, torch.Tensor]:
    """Predict a volume with all its logits, yielding (windows done, windows in all) after each window.

    Parameters are those of `stream_logits`; outside `only` the result is 0.

    Returns
    -------
    (1, classes, *spatial) float32 logits, on the CPU, Gaussian-weighted means of the windows.
    """
    import torch

    result = torch.zeros((1, classes, *image.shape[2:]))
    for item in stream_logits(
        network,
        image,
        classes=classes,
        patch=patch,
        overlap=overlap,
        runtime=runtime,
        mirror=mirror,
        only=only,
    ):
        if isinstance(item, Tile):
            result[(slice(None), slice(None), *item.place)] = item.core_logits.cpu()
        else:
            yield item
    return result


def likeliest(logits: torch.Tensor, scheme: LabelScheme = EXCLUSIVE) -> torch.Tensor:
    """Return (*shape) bytes, the label index of (C, *shape) logits.

    It is the class of the largest logit, the first of equal ones; where classes overlap, what stands for all
    classes above 1/2 (`LabelScheme.decisions`).

    On a CPU, class by class: twice as fast as `argmax` over an axis that is not the last one in memory.
    """
    import torch

    if scheme.overlapping:
        sets = torch.zeros(logits.shape[1:], dtype=torch.int32, device=logits.device)
        for c in range(1, len(logits)):
            sets += (logits[c] > logits[0]).int() << (c - 1)
        return torch.from_numpy(scheme.decisions).to(logits.device)[sets]
    if logits.device.type != "cpu" or logits.stride(0) == 1:
        return logits.argmax(0).to(torch.uint8)
    found = torch.zeros(logits.shape[1:], dtype=torch.uint8)
    step = max(1, _CACHED // max(1, math.prod(logits.shape[2:])))
    for first in range(0, logits.shape[1], step):
        part, labels = logits[:, first : first + step], found[first : first + step]
        best = part[0].clone()
        mask = torch.empty(best.shape, dtype=torch.bool)
        for index in range(1, len(part)):
            torch.gt(part[index], best, out=mask)
            labels.masked_fill_(mask, index)
            torch.maximum(part[index], best, out=best)
    return found


_CACHED = 100_000
"""Voxels whose largest logits so far stay in the processor's cache."""


class _WindowPredictor:
    """Logits of the windows of a volume; one whose voxels all have one value is predicted once."""

    def __init__(
        self,
        network: torch.nn.Module,
        image: torch.Tensor,
        patch: tuple[int, ...],
        runtime: Runtime,
        mirror: bool,
    ) -> None:
        self.network, self.image, self.patch = network, image, patch
        self.runtime, self.mirror = runtime, mirror
        self.importance: torch.Tensor = importance_map(patch).to(runtime.device)
        self._constant: tuple[tuple[float, ...], torch.Tensor] | None = None

    def __call__(self, start: Sequence[int]) -> torch.Tensor:
        """Return the (1, C, *patch) float32 logits of the window at a place."""
        place = tuple(slice(s, s + n) for s, n in zip(start, self.patch, strict=True))
        window = self.image[(slice(None), slice(None), *place)]
        value = _only_value(window)
        if value is not None and self._constant is not None and self._constant[0] == value:
            return self._constant[1]
        if self.runtime.device.startswith("cuda") and window.device.type == "cpu":
            window = window.contiguous().pin_memory()  # so that the copy to the GPU need not be waited for
        logits = _forward(self.network, self.runtime.place(window), self.runtime, self.mirror)
        if value is not None:
            self._constant = value, logits
        return logits


def _only_value(window: torch.Tensor) -> tuple[float, ...] | None:
    """Return the value of each channel of a (1, channels, *spatial) window that has no other; else None."""
    if window.device.type != "cpu":
        return None
    first, corner = window, window
    for axis in range(2, window.ndim):
        first, corner = first.narrow(axis, 0, 1), corner.narrow(axis, window.shape[axis] - 1, 1)
    if not bool((first == corner).all()) or not bool((window == first).all()):
        return None
    return tuple(first.flatten().tolist())


class _Buffer:
    """Weighted sums of the logits of one column, as high as a window, in the memory format of the network.

    Adding logits of another memory format would take ten times as long.
    """

    def __init__(
        self,
        classes: int,
        patch: tuple[int, ...],
        ranges: Sequence[Range],
        importance: torch.Tensor,
        *,
        means: bool = True,
    ) -> None:
        self.classes, self.patch, self.ranges, self.importance = classes, patch, ranges, importance
        self.shape = (patch[0], *(b - a for a, b in ranges))
        self.weight = importance.new_zeros(self.shape) if means else None
        self.total: torch.Tensor | None = None
        self.top: int | None = None
        """Voxel of the volume that the first layer is of."""

    def advance(self, top: int) -> None:
        """Move the buffer along the first axis, dropping the layers before `top`."""
        steps = 0 if self.top is None else top - self.top
        self.top = top
        if not steps:
            return
        for sums, axis in ((self.weight, 0), (self.total, 2)):
            if sums is None:
                continue
            kept = sums.shape[axis] - steps
            for first in range(0, kept, steps):  # pieces that do not overlap what they are copied from
                n = min(steps, kept - first)
                sums.narrow(axis, first, n).copy_(sums.narrow(axis, first + steps, n))
            sums.narrow(axis, max(kept, 0), min(steps, sums.shape[axis])).zero_()

    def add(self, start: Sequence[int], logits: torch.Tensor) -> None:
        """Add the (1, C, *patch) logits of a window in the first layers."""
        import torch

        if self.total is None:
            last = logits.ndim == 5 and self.classes > 1 and logits.stride(1) == 1
            layout = torch.channels_last_3d if last else torch.contiguous_format
            shape, device = (1, self.classes, *self.shape), logits.device
            self.total = torch.empty(shape, device=device, memory_format=layout).zero_()
        here, there = [slice(0, self.patch[0])], [slice(0, self.patch[0])]
        for s, n, (a, b) in zip(start[1:], self.patch[1:], self.ranges, strict=True):
            low, high = max(s, a), min(s + n, b)
            here.append(slice(low - a, high - a))
            there.append(slice(low - s, high - s))
        weight = self.importance[tuple(there)]
        target: Any = (slice(None), slice(None), *here)
        source: Any = (slice(None), slice(None), *there)
        self.total[target].addcmul_(logits[source], weight)
        if self.weight is not None:
            self.weight[tuple(here)] += weight

    def finished(self, first: int, end: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (voxel along the first axis, (1, C, layers, ...) logits) of layers that are complete."""
        assert self.total is not None
        assert self.top is not None
        most = TILE_BYTES if self.total.device.type == "cpu" else GPU_TILE_BYTES
        step = max(1, most // (4 * self.classes * math.prod(self.shape[1:])))
        for at in range(first, end, step):
            layers = slice(at - self.top, min(at + step, end) - self.top)
            sums = self.total[:, :, layers]
            yield at, sums if self.weight is None else sums / self.weight[layers]


def _padded(image: torch.Tensor, patch: Sequence[int]) -> tuple[torch.Tensor, tuple[slice, ...]]:
    from torch.nn.functional import pad

    missing = [max(0, p - s) for p, s in zip(patch, image.shape[2:], strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + s) for b, s in zip(before, image.shape[2:], strict=True))
    if not any(missing):
        return image, inner
    widths = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    flat = [w for pair in reversed(widths) for w in pair]
    return pad(image, flat, value=float(image.min())), inner


def _forward(network: torch.nn.Module, window: torch.Tensor, runtime: Runtime, mirror: bool) -> torch.Tensor:
    import torch

    axes = [axis for axis in range(2, window.ndim) if window.shape[axis] > 1]
    flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)] if mirror else [()]
    mean: torch.Tensor | None = None
    for flip in flips:
        with runtime.autocast():
            logits = network(torch.flip(window, flip) if flip else window)
        logits = torch.flip(logits.float(), flip) if flip else logits.float()
        mean = logits if mean is None else mean + logits
    assert mean is not None
    return mean if len(flips) == 1 else mean / len(flips)

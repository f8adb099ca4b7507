"""Training batches: which patches a step sees, drawn as a pure function of (seed, epoch, index).

Nothing is remembered from one batch to the next, so that a resumed run draws exactly the batches of an
uninterrupted one, and `Loader` can prepare batches ahead in background threads without changing them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.regions import Partition, PatchRegions
from segexplorer.core.spec import Spec
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.stored_case import StoredCase
from segexplorer.data.transforms.augmentation import Augmentation, draw
from segexplorer.data.transforms.preprocessing import Prepared
from segexplorer.data.voxel_file import DamagedFileError


@dataclass(frozen=True)
class Batch:
    """Patches of a training step.

    Attributes
    ----------
    images
        (B, C, *S) float32.
    labels
        (B, 1, *S) uint8 class indices, 255 = ignored (padding among it).
    cases
        Case id of each patch.
    origins, volume_shapes
        (B, D) voxel index of each patch in its prepared volume (negative in padding), and that volume's shape.
    spacings
        (B, D) mm.
    maps
        Name -> (B, C, *S) float32: distance maps of the whole volumes, cut with the patches.
    regions
        Partition -> for each patch, the regions of the whole volume that its voxels belong to.
    moved
        Whether any patch of the step was mirrored, rotated, scaled or deformed: origins do not place voxels then.
    step_cases
        Case id of each patch of the whole step: `cases`, unless several devices share the step.
    placements
        For each patch the (4, 4) map from its voxels to those of its volume; None where it was turned or deformed.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.uint8]
    cases: tuple[str, ...]
    origins: NDArray[np.int64]
    volume_shapes: NDArray[np.int64]
    spacings: NDArray[np.float64]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    regions: Mapping[Partition, tuple[PatchRegions, ...]] = field(default_factory=dict)
    moved: bool = False
    step_cases: tuple[str, ...] = ()
    placements: tuple[NDArray[np.float64] | None, ...] = ()


_PATCHES, _ORDER = 1, 2  # last word of a seed: one stream for patches, one for the order of cases


class Sampling(Spec):
    """Patches and batches of a training step."""

    display_name = "Sampling"

    patch_size: tuple[int, int, int] | None = parameter(
        (64, 64, 64),
        title="Patch size",
        description="Voxels along x, y and z; none: whole volumes, padded (padding is ignored by the loss).",
        unit="voxels",
    )
    batch_size: int = parameter(
        2, title="Batch size", description="Patches per optimiser step.", ge=1, le=256
    )
    foreground_ratio: float = parameter(
        0.67,
        title="Foreground share",
        description="Share of the patches that are placed on a voxel of some class; the rest may be anywhere, "
        "with sparse labels on a voxel that is annotated.",
        ge=0,
        le=1,
    )
    class_balanced: bool = parameter(
        True,
        title="Balance classes",
        description="Foreground patches choose among the classes present with equal chances, so "
        "small ones are seen.",
    )
    shift: int | None = parameter(
        None,
        title="Shift of foreground patches",
        description="How far along each axis a foreground patch may be shifted from its voxel. None: "
        "a quarter of the patch.",
        unit="voxels",
        advanced=True,
        ge=0,
    )
    steps_per_epoch: int | None = parameter(
        None, title="Steps per epoch", description="None: as many as bring every case once.", ge=1
    )
    divisor: tuple[int, int, int] = parameter(
        (1, 1, 1),
        title="Padded to multiples of",
        description="Sizes that the network can halve; set from it when a run is planned.",
        unit="voxels",
        advanced=True,
    )

    def steps_for(self, cases: int) -> int:
        """Return the optimiser steps per epoch with this many training cases."""
        return self.steps_per_epoch or max(1, math.ceil(cases / self.batch_size))


class Sampler:
    """Draws the batches of a run.

    Parameters
    ----------
    prepared
        The store of prepared cases.
    ids
        Training cases; their order does not matter.
    sampling, augmentation, seed
        What decides every draw, together with epoch and index.
    partitions
        Ways to divide the volumes into regions, whose parts go with the patches; those of a regional loss.
    share
        (number, count): which part of each batch is made here, where `count` devices share it. All of them draw the
        same numbers, so that their parts together are the batch that one device would have made.
    """

    def __init__(
        self,
        prepared: PreprocessedCache,
        ids: Sequence[str],
        sampling: Sampling,
        augmentation: Augmentation,
        seed: int,
        partitions: Sequence[Partition] = (),
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not ids:
            raise DataError("There is no case to sample from.", "Lower the validation share.")
        number, count = share
        size = sampling.batch_size // count
        self._own = range(number * size, (number + 1) * size)
        self.store, self.ids = prepared, tuple(sorted(ids))
        self.sampling, self.augmentation, self.seed = sampling, augmentation, seed
        self.partitions = tuple(partitions)
        self.steps_per_epoch = sampling.steps_for(len(self.ids))
        self._spacings: dict[str, tuple[float, float, float]] = {}

    def batch(self, epoch: int, index: int) -> Batch:
        """Return batch `index` of an epoch, both counted from 0; pure, and safe from several threads.

        Raises
        ------
        DataError
            From reading a case; the sentence names it.
        """
        size = self.sampling.batch_size
        cases = [self._case(epoch, index * size + place) for place in range(size)]
        try:
            return self._batch(cases, np.random.default_rng([self.seed, epoch, index, _PATCHES]))
        except DamagedFileError:  # of the cache: made again, once
            for case in cases:
                self.store.discard(case)
            return self._batch(cases, np.random.default_rng([self.seed, epoch, index, _PATCHES]))

    def _batch(self, cases: Sequence[str], rng: np.random.Generator) -> Batch:
        shape = self.sampling.patch_size or self._common_shape([self._get(case) for case in cases])
        prepared: list[Prepared | StoredCase] = []
        images, labels, origins, placements = [], [], [], []
        maps: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.store.map_names}
        regions: dict[Partition, list[PatchRegions]] = {partition: [] for partition in self.partitions}
        moved = False
        for place, case in enumerate(cases):
            drawn = _DrawnPlace.of(rng)
            variation = draw(self.augmentation, rng, shape, self._spacing(case))
            moved = moved or variation.moves
            if place not in self._own:  # another device's: only its random numbers are drawn
                continue
            item = self._get(case)
            prepared.append(item)
            origin = self._origin(item, shape, drawn)
            image, label = variation.patch(item.image, item.label, origin, shape, item.darkest)
            images.append(image)
            labels.append(label)
            origins.append(origin)
            placements.append(variation.placement(origin, shape))
            for name, stored in self.store.maps(item.case).items():
                maps[name].append(variation.map(name, stored, origin, shape))
            for partition, seen in regions.items():
                volume = self.store.regions(item.case, partition)
                seen.append(PatchRegions(variation.regions(volume, origin, shape), volume))
        return Batch(
            images=np.stack(images),
            labels=np.stack(labels)[:, None],
            cases=tuple(item.case for item in prepared),
            origins=np.asarray(origins, np.int64),
            volume_shapes=np.asarray([item.image.shape[1:] for item in prepared], np.int64),
            spacings=np.asarray([item.spacing for item in prepared], np.float64),
            maps={name: np.stack(pieces) for name, pieces in maps.items()},
            regions={partition: tuple(seen) for partition, seen in regions.items()},
            moved=moved,
            step_cases=tuple(cases),
            placements=tuple(placements),
        )

    def _case(self, epoch: int, sample: int) -> str:
        """Return the case of an epoch's sample; every case comes once before any comes again."""
        turn, place = divmod(sample, len(self.ids))
        order = np.random.default_rng([self.seed, epoch, turn, _ORDER]).permutation(len(self.ids))
        return self.ids[int(order[place])]

    def _get(self, case: str) -> Prepared | StoredCase:
        try:
            return self.store.open(case)
        except DamagedFileError:
            raise
        except DataError as error:
            if case in error.message:
                raise
            raise DataError(f"Case {case}: {error.message}", error.remedy) from error

    def _spacing(self, case: str) -> tuple[float, float, float]:
        """Return the spacing of a prepared case, mm; the case is prepared once to know it."""
        if case not in self._spacings:
            self._spacings[case] = self._get(case).spacing
        return self._spacings[case]

    def _common_shape(self, prepared: Sequence[Prepared | StoredCase]) -> tuple[int, int, int]:
        largest = np.max([item.image.shape[1:] for item in prepared], axis=0)
        divisor = np.asarray(self.sampling.divisor)
        x, y, z = (-(-largest // divisor) * divisor).tolist()
        return x, y, z

    def _origin(
        self, item: Prepared | StoredCase, patch: Sequence[int], drawn: _DrawnPlace
    ) -> tuple[int, int, int]:
        """Return the first voxel of a patch: about a foreground voxel, or anywhere; centred where it is larger."""
        shape, size = np.asarray(item.image.shape[1:]), np.asarray(patch)
        on_foreground = drawn.sort < self.sampling.foreground_ratio
        choice, jitter = drawn.choice, drawn.jitter
        shift = jitter * size if self.sampling.shift is None else jitter * 4 * self.sampling.shift
        room = np.maximum(shape - size, 0)
        origin = np.minimum((drawn.anywhere * (room + 1)).astype(np.int64), room)
        chosen = self._voxel(item, choice.tolist(), on_foreground=on_foreground) if room.any() else None
        if chosen is not None:
            centre = np.asarray(np.unravel_index(chosen, tuple(shape)))
            origin = np.clip(centre - size // 2 + np.round(shift).astype(np.int64), 0, room)
        origin = np.where(size > shape, -((size - shape) // 2), origin)
        return int(origin[0]), int(origin[1]), int(origin[2])

    def _voxel(
        self, item: Prepared | StoredCase, choice: Sequence[float], *, on_foreground: bool
    ) -> int | None:
        """Return the flat index of the voxel that a patch is placed on; None where it may be anywhere."""
        foreground = self.store.foreground(item.case)
        if on_foreground and foreground.counts:
            return foreground.choose(choice, balanced=self.sampling.class_balanced)
        # of sparse labels only what is annotated teaches anything
        return foreground.choose_annotated(choice) if foreground.annotated else None


@dataclass(frozen=True)
class _DrawnPlace:
    """The random numbers that place a patch; always equally many, whatever the case."""

    sort: float
    anywhere: NDArray[np.float64]
    choice: NDArray[np.float64]
    jitter: NDArray[np.float64]

    @classmethod
    def of(cls, rng: np.random.Generator) -> _DrawnPlace:
        """Draw them."""
        return cls(rng.random(), rng.random(3), rng.random(2), rng.uniform(-0.25, 0.25, 3))


# ---- batches ahead of time


class Loader:
    """Hands out the batches of a sampler in order, a few prepared ahead.

    Parameters
    ----------
    sampler
        Its `batch(epoch, index)` must be pure and safe to call from several threads.
    workers, ahead
        Threads, and how many batches may wait.
    finish
        What else is done to a batch in these threads, e.g. putting it into memory that a GPU reads by itself.
    """

    def __init__(
        self,
        sampler: Sampler,
        workers: int = 1,
        ahead: int = 3,
        finish: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        self.sampler, self._ahead, self._finish = sampler, ahead, finish
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="segexplorer-loader")
        self._waiting: deque[tuple[tuple[int, int], Future[Batch]]] = deque()

    def batch(self, epoch: int, index: int) -> Batch:
        """Return a batch; `index` counts from 0 within the epoch.

        Raises
        ------
        DataError
            From reading a case, naming it.
        """
        if not self._waiting or self._waiting[0][0] != (epoch, index):
            self._forget()
            self._ask(epoch, index)
        key, future = self._waiting.popleft()
        last = self._waiting[-1][0] if self._waiting else key
        while len(self._waiting) < self._ahead:
            last = self._after(*last)
            self._ask(*last)
        return future.result()

    def _after(self, epoch: int, index: int) -> tuple[int, int]:
        return (epoch, index + 1) if index + 1 < self.sampler.steps_per_epoch else (epoch + 1, 0)

    def _ask(self, epoch: int, index: int) -> None:
        self._waiting.append(((epoch, index), self._pool.submit(self._made, epoch, index)))

    def _made(self, epoch: int, index: int) -> Batch:
        return self._finish(self.sampler.batch(epoch, index))

    def _forget(self) -> None:
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Cancel what waits and end the threads."""
        self._forget()
        self._pool.shutdown(wait=True, cancel_futures=True)

"""Batches prepared ahead in background threads, in order; what is drawn depends on (seed, epoch, index) only."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segexplorer.data.batch import Batch
    from segexplorer.data.sampler import Sampler


class Loader:
    """Hands out the batches of a sampler in order, a few prepared ahead.

    Parameters
    ----------
    sampler
        Its `batch(epoch, index)` must be pure and safe to call from several threads.
    workers, ahead
        Threads, and how many batches may wait.
    """

    def __init__(self, sampler: Sampler, workers: int = 1, ahead: int = 3) -> None:
        self.sampler, self._ahead = sampler, ahead
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
        self._waiting.append(((epoch, index), self._pool.submit(self.sampler.batch, epoch, index)))

    def _forget(self) -> None:
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Cancel what waits and end the threads."""
        self._forget()
        self._pool.shutdown(wait=True, cancel_futures=True)

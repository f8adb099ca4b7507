"""A ledger of the memory that torch operations take and give back, for tensors without data too."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps, while it is active, the bytes of all storages that operations made and that still live.

    Parameters
    ----------
    known
        Tensors that are counted elsewhere, e.g. weights.
    float_bytes
        Bytes that one floating-point number counts, whatever its type here; integers count their own.
    small
        Storages below so many bytes are summed up a second time by themselves.

    Attributes
    ----------
    peak
        Most bytes alive at once.
    small_peak
        Most bytes of small storages alive at once.
    """

    def __init__(self, known: Iterable[torch.Tensor], *, float_bytes: int, small: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.float_bytes, self._small = float_bytes, small
        self._alive, self._alive_small = 0, 0
        self._entered = weakref.WeakSet(tensor.untyped_storage() for tensor in known)
        self.peak, self.small_peak = 0, 0

    def enter(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once, until the last tensor on it is gone."""
        storage = tensor.untyped_storage()
        if storage in self._entered:
            return
        self._entered.add(storage)
        numbers = storage.nbytes() // tensor.element_size()
        size = numbers * (self.float_bytes if tensor.is_floating_point() else tensor.element_size())
        self._add(size)
        weakref.finalize(storage, self._add, -size)

    def _add(self, size: int) -> None:
        self._alive += size
        self.peak = max(self.peak, self._alive)
        if abs(size) < self._small:
            self._alive_small += size
            self.small_peak = max(self.small_peak, self._alive_small)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.enter(leaf)
        return made

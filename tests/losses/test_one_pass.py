"""What a loss costs, counted operation by operation: passes over the logits, memory, and waits for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segexplorer import losses
from segexplorer.functional import inputs as asking
from segexplorer.functional import sweep as sweeping

SHAPE = (16, 16, 16)
WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select")
ALL_AT_ONCE = {"lovasz_softmax", "top_k", "dice_top_k", "cl_dice", "dice_cl_dice", "boundary", "hausdorff"}
"""Losses of single voxels, sorted voxels, centre lines and distances, which are no functions of sums alone."""


class Counted(TorchDispatchMode):
    """Counts what operations do.

    Attributes
    ----------
    traffic
        Bytes that operations read or write in memory that is as large as the logits. What is smaller is used again
        by the next slab, in a cache.
    peak
        Largest sum of bytes that existed at a time and were made here.
    waits
        Operations that make a device wait for the host.
    """

    def __init__(self, large: int) -> None:
        super().__init__()
        self.large, self.traffic, self.peak, self.waits = large, 0, 0, list[str]()
        self._alive = dict[int, tuple[StorageWeakRef, int]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        found = func(*args, **named)
        if any(name in str(func) for name in WAITS):
            self.waits.append(str(func))
        if func.is_view:
            return found
        named.pop("out", None)  # is written and not read
        read = [t for t in tree_leaves((args, named)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        for t in read + made:
            if t.untyped_storage().nbytes() >= self.large:
                self.traffic += t.numel() * t.element_size()
        for t in made:
            storage = t.untyped_storage()
            if storage.data_ptr() not in self._alive or self._alive[storage.data_ptr()][0].expired():
                self._alive[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return found


def cost(kind: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Counted, int]:
    """Return what a forward and backward pass costs, and the bytes of the logits."""
    logits = torch.randn((2, classes, *SHAPE), requires_grad=True)
    labels = torch.randint(0, classes, (2, 1, *SHAPE), dtype=torch.uint8)
    size = 4 * logits.numel()
    # as small a part of these logits as a slab is of those of a patch of 96 voxels
    monkeypatch.setattr(sweeping, "CACHED", max(classes * SHAPE[-1] * 4, logits.numel() // 54))
    loss = losses.create(kind)
    with Counted(size) as counted:
        loss(logits, labels).backward()
    return counted, size


SWEPT = [kind for kind in losses.names() if kind not in ALL_AT_ONCE | {"region_mutual_information"}]


@pytest.mark.parametrize("kind", SWEPT)
def test_functions_of_sums_move_and_hold_little(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, size = cost(kind, 4, monkeypatch)
    assert counted.traffic <= 8 * size, f"{counted.traffic / size:.1f} times the logits"
    if kind != "distance_cross_entropy":  # which makes distances of the truth
        assert counted.peak <= 2 * size, f"{counted.peak / size:.2f} times the logits at a time"
        assert not counted.waits


@pytest.mark.parametrize("kind", ["dice_cross_entropy", "unified_focal", "adaptive_region_tversky"])
@pytest.mark.parametrize("classes", [25, 104])
def test_many_classes_need_little_more_than_a_gradient(
    kind: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, size = cost(kind, classes, monkeypatch)
    assert counted.peak <= 1.5 * size, f"{counted.peak / size:.2f} gradients"


@pytest.mark.parametrize("kind", losses.names())
def test_a_loss_takes_one_pass_for_whatever_it_declares(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = list[list[Any]]()

    def counting(logits: Tensor, voxels: Any, wanted: list[Any]) -> Any:
        passes.append(wanted)
        return original(logits, voxels, wanted)

    original = asking.sweep
    monkeypatch.setattr(asking, "sweep", counting)
    losses.create(kind)(torch.randn(1, 3, 6, 6, 6), torch.randint(0, 3, (1, 1, 6, 6, 6)))
    assert len(passes) <= 1, passes

"""Between the host and a device that works ahead of it: each way without waiting where that can be done.

What a GPU is told to do, it does later. Whoever asks for a number of its memory waits until all of it is done, and
the GPU then waits for the next order. So numbers are read together (`read_together`), once in a training step, and
what is sent there is copied from memory that the device reads by itself (`sent`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

Name = TypeVar("Name", bound=Hashable)


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of the host on a device; a GPU fetches it without anybody waiting."""
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def read_together(values: Mapping[Name, Tensor | float]) -> dict[Name, float]:
    """Return plain numbers, with one wait for the device however many of them are there.

    Parameters
    ----------
    values
        Scalar tensors of one device, or numbers that are known already.
    """
    there = {name: value.detach() for name, value in values.items() if isinstance(value, Tensor)}
    packed = torch.stack([value.double() for value in there.values()]).tolist() if there else []
    read = dict(zip(there, packed, strict=True))
    return {name: read[name] if name in read else float(value) for name, value in values.items()}

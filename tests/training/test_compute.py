"""Where to compute: what "auto" resolves to, and what is refused."""

from __future__ import annotations

import pytest
import torch

from segexplorer.core.errors import SpecError
from segexplorer.training.compute import Compute, cores, resolve_compute


def test_a_window_is_left_one_core() -> None:
    assert resolve_compute(Compute(device="cpu")).threads == cores()
    assert resolve_compute(Compute(device="cpu"), window=True).threads == max(1, cores() - 1)
    assert resolve_compute(Compute(device="cpu", threads=3), window=True).threads == 3


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with resolve_compute(Compute(device="cpu", threads=1)).active():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_cpu_precisions() -> None:
    assert resolve_compute(Compute(device="cpu", precision="float32")).precision == "float32"
    with pytest.raises(SpecError, match="bfloat16 or float32"):
        resolve_compute(Compute(device="cpu", precision="float16"))


@pytest.mark.parametrize("device", ["gpu0", "cuda:99" if torch.cuda.is_available() else "cuda"])
def test_a_device_that_is_not_there_is_a_sentence(device: str) -> None:
    with pytest.raises(SpecError):
        resolve_compute(Compute(device=device))


def test_memory_in_use_is_reported() -> None:
    assert resolve_compute(Compute(device="cpu")).memory_in_use() > 50 * 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_is_taken_where_it_is() -> None:
    runtime = resolve_compute(Compute())
    assert runtime.device == "cuda" and runtime.precision in ("bfloat16", "float16")

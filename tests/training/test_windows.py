"""Sliding windows: equal to MONAI's, one at a time, and only where asked."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import torch
from monai.inferers import sliding_window_inference

from segexplorer.training.compute import Runtime
from segexplorer.training.sliding_window import predict_logits, window_slices

CPU = Runtime("cpu", "CPU", "float32", 1, channels_last=False)


class Affine(torch.nn.Module):
    """Two channels that depend on the place within the window, so that positions and weights show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(0, 1, x.shape[2])[None, None, :, None, None]
        return torch.cat([x * ramp, 1 - x], 1)


def result(
    source: Generator[tuple[int, int], None, torch.Tensor],
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    told = []
    while True:
        try:
            told.append(next(source))
        except StopIteration as end:
            return end.value, told


@pytest.mark.parametrize("shape", [(20, 17, 24), (8, 30, 9), (16, 16, 16)])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_equal_to_monai(shape: tuple[int, ...], overlap: float) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, *shape)
    ours, told = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=overlap, runtime=CPU)
    )
    theirs: Any = sliding_window_inference(
        image,
        (16, 16, 16),
        1,
        Affine(),
        overlap,
        "gaussian",
        padding_mode="constant",
        cval=float(image.min()),
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert told == [(n + 1, len(told)) for n in range(len(told))]


def test_mirrored_windows_of_a_symmetric_network_change_nothing() -> None:
    image = torch.rand(1, 1, 16, 16, 16)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, -x], 1)

    arguments: dict[str, Any] = {"classes": 2, "patch": (16, 16, 16), "overlap": 0.0, "runtime": CPU}
    plain, _ = result(predict_logits(network, image, **arguments))  # type: ignore[arg-type]
    mirrored, _ = result(predict_logits(network, image, mirror=True, **arguments))  # type: ignore[arg-type]
    torch.testing.assert_close(plain, mirrored)


def test_only_windows_that_touch_the_part_are_predicted() -> None:
    image = torch.rand(1, 1, 48, 16, 16)
    whole, every = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=0.0, runtime=CPU)
    )
    part = (slice(20, 21), slice(0, 16), slice(0, 16))
    slab, some = result(
        predict_logits(Affine(), image, classes=2, patch=(16, 16, 16), overlap=0.0, runtime=CPU, only=part)
    )
    assert (len(every), len(some)) == (3, 1)
    torch.testing.assert_close(slab[:, :, 16:32], whole[:, :, 16:32])


def test_windows_cover_every_voxel() -> None:
    covered = torch.zeros(21, 16, 33)
    for window in window_slices((21, 16, 33), (16, 16, 16), 0.25):
        covered[window] += 1
    assert covered.min() >= 1

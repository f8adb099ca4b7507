"""The memory of a step: counted without data, held against what torch's allocator gave to a real one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from segexplorer import networks
from segexplorer.networks import cost
from segexplorer.networks.architectures.memory_ledger import Ledger
from segexplorer.networks.base import NetworkSpec, padded

PATCH, BATCH = (32, 32, 16), 2


def allocated(spec: NetworkSpec, *, training: bool) -> int:
    """Return the most bytes that torch's CPU allocator had given out at once in a pass over a batch."""
    # as runs do on the CPU; else convolutions bring everything to a layout of their own and back
    layout: Any = {"memory_format": torch.channels_last_3d}
    network = spec.build(dimensions=3, in_channels=1, out_channels=2).train(training).to(**layout)

    def step() -> None:
        image = torch.rand(BATCH, 1, *PATCH).to(**layout)
        if not training:
            with torch.no_grad():
                network(image)
            return
        logits = network(image)
        gradient = torch.empty_like(logits)
        logits.backward(gradient)
        for parameter in network.parameters():
            parameter.grad = None

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    alive = peak = 0
    changes = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    for change in sorted(changes, key=lambda e: e.start_ns()):
        alive += change.nbytes()
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["dilated_unet", "attention_unet", "longitudinal_vnet"])
def test_the_estimate_is_what_the_allocator_gave(
    kind: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"normalisation": "batch"} if kind == "dilated_unet" else {}
    spec = networks.parse({"kind": kind, "base_features": 8, "levels": 3, **batch})
    monkeypatch.setattr(cost, "PARAMETER_COPIES", 0)
    monkeypatch.setattr(cost, "LOGIT_COPIES", 1)
    monkeypatch.setattr(cost, "HOLES", {True: 0.0, False: 0.0})
    estimated = cost.memory_estimate(spec, PATCH, BATCH, in_channels=1, out_channels=2, training=training)
    if not training:
        estimated -= 4 * cost.parameter_count(spec, dimensions=3, in_channels=1, out_channels=2)
    # kernels take a little for themselves, gradients of weights among it
    assert estimated == pytest.approx(allocated(spec, training=training), rel=0.08)


def test_weights_count_once_in_prediction_and_four_times_in_training() -> None:
    spec = networks.spec("vnet")()
    count = cost.parameter_count(spec, dimensions=3, in_channels=1, out_channels=2)
    training, inference = (
        cost.memory_estimate(spec, (32, 32, 32), 1, in_channels=1, out_channels=2, training=t)
        for t in (True, False)
    )
    assert 16 * count < training < 18 * count
    assert 4 * count < inference < 5 * count


def test_half_the_precision_takes_half_the_activations_and_a_copy_of_the_weights() -> None:
    spec = networks.spec("unet_plus_plus")()
    count = cost.parameter_count(spec, dimensions=3, in_channels=1, out_channels=2)
    whole, half = (
        cost.memory_estimate(
            spec, (32, 32, 32), 1, in_channels=1, out_channels=2, activation_bytes=b, training=False
        )
        for b in (4, 2)
    )
    assert half - 6 * count == pytest.approx((whole - 4 * count) / 2, rel=0.02)


def test_small_blocks_leave_holes_and_large_ones_do_not() -> None:
    ledger = Ledger([], float_bytes=4, small=100)
    kept = torch.empty(10, device="meta"), torch.empty(30, device="meta")
    for tensor in kept:
        ledger.enter(tensor)
    assert (ledger.peak, ledger.small_peak) == (160, 40)


def test_the_ledger_counts_each_storage_while_it_lives() -> None:
    weight = torch.ones(100)
    with Ledger([weight], float_bytes=2, small=1000) as ledger:
        double = weight * 2  # 100 numbers
        view = double.reshape(10, 10).t()  # the same storage
        largest, where = view.max(dim=0)  # 10 numbers, 10 whole numbers of 8 bytes
        assert ledger.peak == 2 * 100 + 2 * 10 + 8 * 10
        del double, view
        weight.add_(1)  # known, and in place
        assert len(largest) == len(where)
        torch.zeros(60)
    assert ledger.peak == 300


def test_inference_takes_less_than_training() -> None:
    spec = networks.spec("dynunet")()
    patch = (64, 64, 64)
    training, inference = (
        cost.memory_estimate(spec, patch, 1, in_channels=1, out_channels=3, training=t) for t in (True, False)
    )
    assert inference < training / 2.5


def test_a_patch_is_rounded_up_to_the_divisor() -> None:
    spec = networks.spec("unet")(levels=4)
    assert spec.divisor(3) == (8, 8, 8)
    assert padded((33, 40, 41), spec.divisor(3)) == (40, 40, 48)
    odd, whole = (
        cost.memory_estimate(spec, p, 1, in_channels=1, out_channels=2) for p in ((33, 40, 41), (40, 40, 48))
    )
    assert odd == whole

"""What the two processes of `test_team.py` compute together; run as a program, it is the second of them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from segexplorer.core.regions import PatchRegions
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.regions import BatchRegions
from segexplorer.losses.base import LossSpec, partitions_in, registry
from segexplorer.networks.base import registry as networks
from segexplorer.training.team import Team, join

SAMPLES, CLASSES, SHAPE = 4, 3, (6, 7, 5)


@dataclass(frozen=True)
class Difference:
    """How far two ranks are from one, relative to the largest number compared."""

    what: str
    value: float
    gradient: float
    learned: float
    averaged: float
    """Of the gradient if the ranks had averaged those of their own losses, as data-parallel training often does."""


def specs() -> Iterator[LossSpec]:
    """Yield every kind, with what it has by default, and every preset."""
    for name in (*registry.names(), *registry.presets()):
        yield registry.parse(name)


def compare_losses(team: Team) -> list[Difference]:
    """Compare every loss, on full labels and with ignored voxels that are spread unequally over the ranks."""
    found = []
    for spec in specs():
        for ignored in (False, True):
            found.append(_compare(team, spec, ignored=ignored))
    return found


def _compare(team: Team, spec: LossSpec, *, ignored: bool) -> Difference:
    random = torch.Generator().manual_seed(3)
    images = torch.randn(SAMPLES, CLASSES, *SHAPE, generator=random, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (SAMPLES, 1, *SHAPE), generator=random)
    if ignored:
        labels[0, :, :5] = 255
        labels[1, :, :2] = 255
        labels[3, :, :, :, 0] = 255
    context = _context(spec, random)
    whole, expected = _step(spec, images, labels, context)
    part = slice(team.rank * SAMPLES // team.size, (team.rank + 1) * SAMPLES // team.size)
    own = (images[part], labels[part], _cut(context, part))
    shared, got = _step(spec, *own, team=team)
    _, local = _step(spec, *own)
    averaged = team._all(local.grad_weight[None]).mean(0)
    return Difference(
        f"{spec.kind}{' with ignored voxels' if ignored else ''}",
        _apart(got.value, expected.value),
        _apart(got.grad_weight, expected.grad_weight),
        max([_apart(a.grad, b.grad) for a, b in zip(shared, whole, strict=True)], default=0.0),
        _apart(averaged, expected.grad_weight),
    )


@dataclass(frozen=True)
class _Result:
    value: Tensor
    grad_weight: Tensor


def _step(
    spec: LossSpec, images: Tensor, labels: Tensor, context: LossContext, team: Team | None = None
) -> tuple[list[nn.Parameter], _Result]:
    """Return the gradient of a network of nine weights: its logits mix the channels of the images."""
    weight = nn.Parameter(torch.eye(CLASSES, dtype=torch.float64) + 0.1)
    loss = spec.build()
    logits: Tensor = torch.einsum("kc,bc...->bk...", weight, images)
    if team is not None:
        gathered, labels, context = team.gather(logits, labels, context)
        assert isinstance(gathered, Tensor)
        logits = gathered
    output = loss.evaluate(logits, labels, context)
    output.value.backward()  # type: ignore[no-untyped-call]
    learned = [p for p in loss.parameters() if p.grad is not None]
    if team is not None:
        team.reduce_gradients([weight], learned)
    assert weight.grad is not None
    return learned, _Result(output.value.detach(), weight.grad)


def _context(spec: LossSpec, random: torch.Generator) -> LossContext:
    place = np.arange(SAMPLES)[:, None] * np.ones(3, np.int64)
    maps = {
        name: torch.randn(SAMPLES, CLASSES, *SHAPE, generator=random, dtype=torch.float64)
        for name in spec.needs()
    }
    divided = {}
    for partition in partitions_in(spec):
        volume = np.asarray(SHAPE) + SAMPLES
        truth = torch.randint(0, CLASSES, tuple(volume.tolist()), generator=random).numpy().astype(np.uint8)
        whole = partition.divide(tuple(volume.tolist()), truth, (1.0, 1.0, 2.0))
        samples = [PatchRegions(whole.patch(origin.tolist(), SHAPE), whole) for origin in place]
        divided[partition] = BatchRegions(samples)
    return LossContext(
        distance_maps=maps or None,
        regions=divided or None,
        spacing=1 + place / 4,
        origin=place,
        volume_shape=np.full((SAMPLES, 3), 12),
        epoch=1,
    )


def _cut(context: LossContext, part: slice) -> LossContext:
    maps, regions = context.distance_maps, context.regions
    return replace(
        context,
        distance_maps=None if maps is None else {k: v[part] for k, v in maps.items()},
        regions=None if regions is None else {k: BatchRegions(r.samples[part]) for k, r in regions.items()},
        spacing=context.spacing[part],
        origin=context.origin[part],
        volume_shape=context.volume_shape[part],
    )


def _apart(got: Tensor | None, expected: Tensor | None) -> float:
    assert got is not None and expected is not None
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-9))


# ---- layers that depend on the batch


def compare_normalisations(team: Team) -> dict[str, float]:
    """Compare batch normalisation alone: offsets, orders in memory and settings that no network here has."""
    return {
        f"{layer}, {order}, about {offset:g}": _compare_normalisation(team, layer, order, offset)
        for layer in (
            nn.BatchNorm3d(3),
            nn.BatchNorm3d(3, affine=False, momentum=None),
            nn.BatchNorm3d(3, 0.1),
        )
        for order in (torch.contiguous_format, torch.channels_last_3d)
        for offset in (0.0, 1e4)
    }


def _compare_normalisation(team: Team, layer: nn.Module, order: torch.memory_format, offset: float) -> float:
    random = torch.Generator().manual_seed(9)
    # the ranks' own means differ by much more than their voxels vary
    images = torch.randn(SAMPLES, 3, *SHAPE, generator=random, dtype=torch.float64)
    images += offset + 10 * torch.arange(SAMPLES)[:, None, None, None, None]
    wish = torch.randn(SAMPLES, 3, *SHAPE, generator=random, dtype=torch.float64)
    alone = nn.Sequential(copy.deepcopy(layer), nn.Conv3d(3, 3, 1)).double()
    for parameter in alone.parameters():
        nn.init.normal_(parameter, generator=random)
    together = team.share_layers(copy.deepcopy(alone))
    assert type(together[0]) is not type(alone[0])
    part = slice(team.rank * SAMPLES // team.size, (team.rank + 1) * SAMPLES // team.size)
    found = []
    for network, own in ((alone, slice(None)), (together, part)):
        given = images[own].contiguous(memory_format=order).requires_grad_()
        for _ in range(2):
            output = network(given)
        output.backward(wish[own])
        found.append((output.detach(), given.grad))
    team.reduce_gradients(list(together.parameters()), [])
    pairs = [(a[part], b) for a, b in zip(*found, strict=True)]
    pairs += [(a.grad, b.grad) for a, b in zip(alone.parameters(), together.parameters(), strict=True)]
    pairs += list(zip(alone.buffers(), together.buffers(), strict=True))
    return max(_apart(b.double(), a.double()) for a, b in pairs)


FEW = ("unet", "vnet", "attention_unet")
"""Networks that take seconds."""


def compare_networks(team: Team, kinds: Sequence[str]) -> dict[str, float]:
    """Compare every network, with dropout and batch normalisation: outputs, gradients, running means."""
    return {kind: _compare_network(team, kind) for kind in kinds}


def _compare_network(team: Team, kind: str) -> float:
    fields = networks.spec(kind).model_fields
    settings = {
        name: value for name, value in (("dropout", 0.4), ("normalisation", "batch")) if name in fields
    }
    spec = networks.parse({"kind": kind, **settings})
    torch.manual_seed(1)
    alone = spec.build(dimensions=2, in_channels=1, out_channels=2).double()
    together = team.share_layers(copy.deepcopy(alone))
    random = torch.Generator().manual_seed(5)
    shape = spec.smallest_patch(2)
    images = torch.randn(team.size, 1, *shape, generator=random, dtype=torch.float64)
    wish = torch.randn(team.size, 2, *shape, generator=random, dtype=torch.float64)
    outputs = []
    for network, own in ((alone, slice(None)), (together, slice(team.rank, team.rank + 1))):
        torch.manual_seed(7)
        logits = network.train()(images[own])
        outputs.append(logits if isinstance(logits, Tensor) else logits[0])
        outputs[-1].backward(wish[own])  # type: ignore[no-untyped-call]
    team.reduce_gradients(list(together.parameters()), [])
    found = [_apart(outputs[1].detach(), outputs[0].detach()[team.rank : team.rank + 1])]
    gradients = [
        (a.grad, b.grad)
        for a, b in zip(together.parameters(), alone.parameters(), strict=True)
        if b.grad is not None
    ]
    scale = max(float(b.abs().max()) for _, b in gradients)
    found += [float((a - b).abs().max()) / scale for a, b in gradients]
    assert list(together.state_dict()) == list(alone.state_dict()), f"{kind}: weights of other names"
    found += [
        float((a.double() - b.double()).abs().max())
        for a, b in zip(together.state_dict().values(), alone.state_dict().values(), strict=True)
    ]
    return max(found)


if __name__ == "__main__":
    second = join()
    if "networks" in sys.argv:
        compare_networks(second, networks.names())
    else:
        compare_normalisations(second)
        compare_losses(second)
        compare_networks(second, FEW)
    second.hear()

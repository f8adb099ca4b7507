"""What every network must do, for us and for plug-in authors.

>>> from segexplorer.testing.networks import check_network
>>> def test_mine():  # doctest: +SKIP
...     check_network(MyNetwork())

Each check raises AssertionError with a sentence that says which promise is broken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional

from segexplorer.networks.base import NetworkSpec, SupervisedNetwork, padded
from segexplorer.networks.cost import memory_estimate, parameter_count

IN_CHANNELS, OUT_CHANNELS = 2, 3
OVERFIT_STEPS, OVERFIT_RATE, OVERFIT_FALL = 12, 1e-2, 0.9
_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def check_network(spec: NetworkSpec, dimensions: tuple[int, ...] = (2, 3)) -> None:
    """Run every check on a spec, in 2D and 3D."""
    for d in dimensions:
        for check in CHECKS:
            check(spec, d)


def _built(spec: NetworkSpec, dimensions: int) -> nn.Module:
    torch.manual_seed(0)
    return spec.build(dimensions=dimensions, in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS)


def _image(spec: NetworkSpec, dimensions: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((batch, IN_CHANNELS, *spec.smallest_patch(dimensions)), generator=generator)


def _levels(output: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (output,) if isinstance(output, torch.Tensor) else tuple(output)


def _loss(levels: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.stack([level.float().square().mean() for level in levels]).sum()


def check_divisor(spec: NetworkSpec, dimensions: int) -> None:
    """The divisor has one positive entry per axis, and the smallest patch is a multiple of it."""
    divisor = spec.divisor(dimensions)
    assert len(divisor) == dimensions, f"divisor({dimensions}) has {len(divisor)} entries"
    assert all(n >= 1 for n in divisor), f"divisor({dimensions}) is {divisor}"
    smallest = spec.smallest_patch(dimensions)
    assert padded(smallest, divisor) == smallest, f"smallest patch {smallest} is no multiple of {divisor}"


def check_smallest(spec: NetworkSpec, dimensions: int) -> None:
    """A batch of one smallest patch can be trained on, and an image as long as the divisor be predicted."""
    network = _built(spec, dimensions)
    _loss(_levels(network(_image(spec, dimensions, batch=1)))).backward()  # type: ignore[no-untyped-call]
    divisor = spec.divisor(dimensions)
    with torch.no_grad():
        logits = network.eval()(torch.randn(1, IN_CHANNELS, *divisor))
    assert logits.shape == (1, OUT_CHANNELS, *divisor), f"logits {tuple(logits.shape)} for {divisor}"
    assert torch.isfinite(logits).all(), f"logits of an image of {divisor} are not finite"


def check_shape(spec: NetworkSpec, dimensions: int) -> None:
    """Logits have the image's spatial shape, on unequal axes too, are float32 and finite, and repeat exactly."""
    network = _built(spec, dimensions).eval()
    shape = list(spec.smallest_patch(dimensions))
    shape[0] += spec.divisor(dimensions)[0]
    image = torch.randn(1, IN_CHANNELS, *shape)
    with torch.no_grad():
        logits, again = network(image), network(image)
    assert isinstance(logits, torch.Tensor), "in evaluation the network must return one tensor of logits"
    assert logits.shape == (1, OUT_CHANNELS, *shape), f"logits {tuple(logits.shape)} for an image of {shape}"
    assert logits.dtype == torch.float32, f"logits are {logits.dtype}"
    assert torch.isfinite(logits).all(), "logits are not finite"
    assert torch.equal(logits, again), "in evaluation the same image gives other logits the second time"


def check_training(spec: NetworkSpec, dimensions: int) -> None:
    """In training it returns one tensor, or under deep supervision several, the full resolution first.

    Every parameter gets a finite gradient.
    """
    network = _built(spec, dimensions)
    image = _image(spec, dimensions)
    supervised = isinstance(spec, SupervisedNetwork) and spec.supervised
    levels = _levels(network(image))
    assert supervised or len(levels) == 1, "several logits, yet deep supervision is off"
    assert not supervised or len(levels) > 1, "deep supervision is on, yet there is one tensor of logits"
    whole = tuple(image.shape[2:])
    assert levels[0].shape[2:] == whole, "the first of several logits must have the full resolution"
    for level in levels:
        shape = tuple(level.shape[2:])
        assert level.shape[:2] == (len(image), OUT_CHANNELS), f"logits of a level are {tuple(level.shape)}"
        assert all(a % b == 0 for a, b in zip(whole, shape, strict=True)), f"{shape} does not divide {whole}"
    _loss(levels).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"


def check_overfit(spec: NetworkSpec, dimensions: int) -> None:
    """Two patches can be learned by heart: the cross entropy falls clearly within some steps of Adam."""
    network, image = _built(spec, dimensions), _image(spec, dimensions)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0  # the question is what the network can learn, not what it forgets
    truth = (image[:, 0] > 0.5).long() + (image[:, 0] > 1).long()
    optimiser = torch.optim.Adam(network.parameters(), lr=OVERFIT_RATE)
    losses = []
    for _ in range(OVERFIT_STEPS):
        loss = functional.cross_entropy(_levels(network(image))[0], truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    start, end = losses[0], min(losses[-3:])
    assert end < OVERFIT_FALL * start, (
        f"{OVERFIT_STEPS} steps bring the loss from {start:.3f} to {end:.3f} only"
    )


def check_seed(spec: NetworkSpec, dimensions: int) -> None:
    """The same seed gives the same weights; a state dict brings a network back exactly."""
    first, second = _built(spec, dimensions), _built(spec, dimensions)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), f"{name} differs under the same seed"
    torch.manual_seed(7)
    other = spec.build(dimensions=dimensions, in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS)
    other.load_state_dict(first.state_dict())
    image = _image(spec, dimensions)
    with torch.no_grad():
        same = torch.equal(first.eval()(image), other.eval()(image))
    assert same, "a network with another's weights answers differently: something is not in the state dict"


def check_saving(spec: NetworkSpec, dimensions: int) -> None:
    """Weights go through a safetensors file as runs save them, in the channels-last format too."""
    saved, loaded = (
        _built(spec, dimensions),
        spec.build(dimensions=dimensions, in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS),
    )
    saved = saved.to(memory_format=_LAST[dimensions])  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        save_model(saved, f"{folder}/weights.safetensors")
        load_model(loaded, f"{folder}/weights.safetensors")
    for name, value in saved.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), (
            f"{name} is another one after saving and loading"
        )


def check_samples_apart(spec: NetworkSpec, dimensions: int) -> None:
    """In evaluation, a sample's logits do not depend on the others in its batch."""
    network = _built(spec, dimensions).eval()
    image = _image(spec, dimensions)
    with torch.no_grad():
        together, alone = network(image)[:1], network(image[:1])
    assert torch.allclose(together, alone, atol=1e-4), "samples of a batch influence each other"


def check_low_precision(spec: NetworkSpec, dimensions: int) -> None:
    """Under bfloat16 autocast in the channels-last format it trains, and answers nearly the same."""
    network, image = _built(spec, dimensions).eval(), _image(spec, dimensions)
    with torch.no_grad():
        expected = network(image)
    network = network.to(memory_format=_LAST[dimensions])  # type: ignore[call-overload]
    image = image.to(memory_format=_LAST[dimensions])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network(image).float()
    error = (logits - expected).abs().mean() / expected.abs().mean()
    assert error < 0.1, f"bfloat16 logits differ from float32's by {error:.0%} on average"
    with torch.autocast("cpu", torch.bfloat16):
        levels = _levels(network.train()(image))
    _loss(levels).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), (
            f"the bfloat16 gradient of {name} is missing or not finite"
        )


def check_plan(spec: NetworkSpec, dimensions: int) -> None:
    """Parameters are counted exactly without building; memory grows with patch, batch and precision."""
    network = _built(spec, dimensions)
    counted = sum(p.numel() for p in network.parameters() if p.requires_grad)
    planned = parameter_count(spec, dimensions=dimensions, in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS)
    assert planned == counted, f"parameter_count returns {planned}, but the network has {counted}"
    patch = spec.smallest_patch(dimensions)

    def bytes_of(patch: tuple[int, ...], batch: int, activation_bytes: int = 4) -> int:
        return memory_estimate(
            spec,
            patch,
            batch,
            in_channels=IN_CHANNELS,
            out_channels=OUT_CHANNELS,
            activation_bytes=activation_bytes,
        )

    small = bytes_of(patch, 1)
    assert small > 4 * counted, "the memory estimate is below the weights alone"
    assert bytes_of(patch, 2) > small, "the memory estimate does not grow with the batch"
    assert bytes_of(tuple(2 * n for n in patch), 1) > small, "it does not grow with the patch"
    whole, half = (bytes_of(patch, 3, b) - bytes_of(patch, 2, b) for b in (4, 2))
    assert half < whole, "a further patch does not take less memory at half the precision"


def check_spec(spec: NetworkSpec, dimensions: int) -> None:
    """The spec comes back from plain data, and has a display name."""
    assert type(spec).of(spec.plain()) == spec, "the spec does not come back from its plain data"
    assert spec.display_name, "the spec has no display name"


CHECKS: tuple[Callable[[NetworkSpec, int], None], ...] = (
    check_spec,
    check_divisor,
    check_smallest,
    check_shape,
    check_training,
    check_overfit,
    check_seed,
    check_saving,
    check_samples_apart,
    check_low_precision,
    check_plan,
)

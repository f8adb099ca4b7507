"""Our own layers against torch's, and the fault of bfloat16 convolutions that one of them avoids."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from segexplorer.networks.architectures.layers import Convolution3d, GroupNorm, InstanceNorm, with_own_layers


def poison_the_allocator() -> None:
    """Leave NaN in memory that the next allocations get, as a long run does by and by."""
    held = [torch.full((n,), float("nan")) for n in (500, 7000, 30000, 55296, 110592, 200000)]
    del held


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 4, 4), (4, 2, 2), (1, 3, 3), (3, 3, 3), (5, 4, 2)])
def test_the_bfloat16_gradient_is_float32s(shape: tuple[int, ...], last: bool) -> None:
    torch.manual_seed(0)
    convolution = Convolution3d(16, 16, 3, padding=1, bias=False)
    image = torch.randn(1, 16, *shape)
    convolution(image).square().mean().backward()
    expected = convolution.weight.grad
    if last:
        convolution = convolution.to(memory_format=torch.channels_last_3d)
        image = image.to(memory_format=torch.channels_last_3d)
    for _ in range(4):
        convolution.weight.grad = None
        poison_the_allocator()
        with torch.autocast("cpu", torch.bfloat16):
            answer = convolution(image)
        answer.float().square().mean().backward()
        error = (convolution.weight.grad - expected).abs().max() / expected.abs().max()
        assert error < 0.05


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [(5, (n, 6, 6)) for n in range(1, 6)] + [(5, (6, 1, 6)), (5, (6, 6, 1)), (7, (4, 8, 8)), (7, (8, 2, 8))],
)
def test_the_bfloat16_gradient_of_larger_kernels_is_float32s(kernel: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    convolution = Convolution3d(8, 8, kernel, padding=kernel // 2, bias=False)
    image = torch.randn(1, 8, *shape)
    convolution(image).square().mean().backward()
    expected = convolution.weight.grad
    for _ in range(3):
        convolution.weight.grad = None
        poison_the_allocator()
        with torch.autocast("cpu", torch.bfloat16):
            answer = convolution(image)
        answer.float().square().mean().backward()
        error = (convolution.weight.grad - expected).abs().max() / expected.abs().max()
        assert error < 0.05


@pytest.mark.parametrize("shape", [(8, 1, 8), (2, 8, 8), (1, 1, 1)])
def test_strided_bfloat16_convolutions_keep_to_their_memory(shape: tuple[int, ...]) -> None:
    """With torch's own layer the second axis of length 1 aborts the process."""
    torch.manual_seed(0)
    convolution = Convolution3d(16, 16, 3, stride=2, padding=1, bias=False)
    image = torch.randn(1, 16, *shape)
    convolution(image).square().mean().backward()
    expected = convolution.weight.grad
    convolution.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        answer = convolution(image)
    answer.float().square().mean().backward()
    assert (convolution.weight.grad - expected).abs().max() / expected.abs().max() < 0.05


def test_layers_with_hooks_and_subclasses_are_left_alone() -> None:
    class Own(nn.Conv3d):
        """Somebody's own convolution."""

    hooked = nn.Conv3d(1, 1, 1)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    counting = nn.InstanceNorm3d(1, track_running_stats=True)
    network = nn.Sequential(Own(1, 1, 1), hooked, counting, nn.InstanceNorm3d(1, affine=True))
    replaced = with_own_layers(network)
    assert [type(m) for m in replaced] == [Own, nn.Conv3d, nn.InstanceNorm3d, InstanceNorm]


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (2, 6, 5, 4, 3), (1, 6, 4, 4, 4)])
@pytest.mark.parametrize("last", [False, True])
def test_instance_norm_is_torchs(shape: tuple[int, ...], last: bool) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    if last:
        x = x.to(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    ours = InstanceNorm(6).double()
    reference = (nn.InstanceNorm2d if x.ndim == 4 else nn.InstanceNorm3d)(6, affine=True).double()
    with torch.no_grad():
        for parameters in zip(ours.parameters(), reference.parameters(), strict=True):
            values = torch.randn(6, dtype=torch.float64)
            for parameter in parameters:
                parameter.copy_(values)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(a).pow(3).sum().backward()
    reference(b).pow(3).sum().backward()
    torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.weight.grad, reference.weight.grad)


def test_own_layers_keep_weights_names_and_answers() -> None:
    slow = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True), nn.GroupNorm(2, 4))
    image = torch.randn(2, 1, 6, 6, 6)
    expected, names = slow(image), list(slow.state_dict())
    fast = with_own_layers(slow)
    assert [type(m) for m in fast] == [Convolution3d, InstanceNorm, GroupNorm]
    assert list(fast.state_dict()) == names
    fast = fast.to(memory_format=torch.channels_last_3d)
    answer = fast(image.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    assert answer.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "build",
    [lambda a: InstanceNorm(3, affine=a), lambda a: GroupNorm(3, 3, affine=a)],
    ids=["instance", "group"],
)
def test_one_voxel_becomes_the_shift_in_evaluation_and_is_refused_in_training(
    build: Callable[[bool], InstanceNorm | GroupNorm], dimensions: int, affine: bool
) -> None:
    norm: InstanceNorm | GroupNorm = build(affine)
    if norm.bias is not None:
        nn.init.uniform_(norm.bias)
    image = torch.randn(2, 3, *[1] * dimensions)
    with pytest.raises(ValueError, match="one voxel"):
        norm(image)
    shift = torch.zeros(3) if norm.bias is None else norm.bias
    assert torch.equal(norm.eval()(image).flatten(1), shift.expand(2, 3))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_instance_norms_with_and_without_weights_are_torchs(affine: bool, last: bool) -> None:
    torch.manual_seed(0)
    layer = nn.InstanceNorm3d(4, affine=affine)
    image = torch.randn(2, 4, 3, 5, 2) * 3 + 1
    expected = layer(image)
    own = with_own_layers(nn.Sequential(layer))
    assert isinstance(own[0], InstanceNorm)
    assert set(own.state_dict()) == ({"0.weight", "0.bias"} if affine else set())
    given = image.contiguous(memory_format=torch.channels_last_3d) if last else image
    torch.testing.assert_close(own(given), expected)

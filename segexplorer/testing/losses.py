"""What every loss must do, for us and for plug-in authors.

>>> from segexplorer.testing.losses import check_loss
>>> def test_mine():  # doctest: +SKIP
...     check_loss("my_loss")

Each check raises AssertionError with a sentence that says which promise is broken.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
import warnings
from collections.abc import Callable
from unittest.mock import patch

import torch
from latex2mathml.converter import convert as latex_to_mathml
from torch import Tensor

from segexplorer.core.events import EpochSummary
from segexplorer.losses.base import LossSpec, registry

SHAPES = ((9, 10), (9, 6, 7))
CLASSES = (1, 2, 5)


def check_loss(loss: str | LossSpec) -> None:
    """Run every check on a kind, a preset's name or a spec."""
    spec = registry.parse(loss)
    for check in CHECKS:
        check(spec)


def _case(classes: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, classes, *shape), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, max(classes, 2), (2, 1, *shape), generator=generator)
    return logits.to(dtype).requires_grad_(), labels


def _value_and_gradient(spec: LossSpec, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value = spec.build()(logits, labels)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def check_shapes(spec: LossSpec) -> None:
    """2D and 3D, C = 1, 2, 5: finite, in range, terms add up, one-hot targets give the same."""
    low, high = spec.bounds()
    for shape in SHAPES:
        for classes in CLASSES:
            logits, labels = _case(classes, shape)
            output = spec.build().evaluate(logits, labels)
            value = output.value.item()
            assert low - 1e-5 <= value <= high + 1e-5, f"the value {value} is outside {low} to {high}"
            total = sum(float(v) * float(w) for v, w in output.terms.values())
            assert abs(total - value) <= 1e-4 * max(1, abs(value)), (
                f"terms give {total}, the value is {value}"
            )
            hot = (
                torch.cat([(labels == c).float() for c in range(classes)], 1)
                if classes > 1
                else labels.float()
            )
            assert torch.allclose(spec.build()(logits, hot), output.value, atol=1e-5), "one-hot differs"


def check_parts(spec: LossSpec) -> None:
    """What is returned of the single terms, each with its graph, adds up to the value and to its gradient."""
    for classes in (1, 3):
        logits, labels = _case(classes, SHAPES[1], torch.float64)
        output = spec.build().evaluate(logits, labels)
        names = [name for name, (_, weight) in output.terms.items() if float(weight) != 0]
        if not output.parts:
            assert len(names) <= 1, "it has several terms and does not return their parts"
            return
        assert set(output.parts) <= set(output.terms), "a part is no term"
        for name, part in output.parts.items():
            value, weight = output.terms[name]
            assert torch.allclose(part, value * weight), f"the part {name} is not its value times its weight"
        total, *others = (
            torch.autograd.grad(value, logits, retain_graph=True, allow_unused=True, materialize_grads=True)[
                0
            ]
            for value in (output.value, *(part for part in output.parts.values() if part.requires_grad))
        )
        assert torch.allclose(sum(others, torch.zeros_like(total)), total, atol=1e-12), (
            "the gradients of the parts do not add up"
        )


def check_one_channel(spec: LossSpec) -> None:
    """One sigmoid channel s equals two channels (0, s)."""
    logits, labels = _case(1, SHAPES[0], torch.float64)
    pair = torch.cat([torch.zeros_like(logits), logits], 1)
    assert torch.allclose(spec.build()(logits, labels), spec.build()(pair, labels)), (
        "C = 1 differs from (0, s)"
    )


def check_saturation(spec: LossSpec) -> None:
    """Logits up to 1e4, in every precision and under autocast, give finite values and gradients."""
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    for classes, dtype in ((c, d) for c in (2, 4) for d in dtypes):
        for scale in (8.0, 30.0, 1e4):
            logits, labels = _case(classes, SHAPES[1], dtype)
            big = (logits.detach().sign() * scale).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
                value, gradient = _value_and_gradient(spec, big, labels)
            assert value.isfinite() and gradient.isfinite().all(), f"not finite at {scale:g} in {dtype}"


def check_float32(spec: LossSpec) -> None:
    """float32 gives what float64 gives, for hesitant and for confident predictions, right and wrong."""
    for classes, scale in ((c, s) for c in (2, 4) for s in (1.0, 10.0, 40.0)):
        logits, labels = _case(classes, SHAPES[1], torch.float64)
        wide = (logits.detach() * scale).requires_grad_()
        narrow = wide.detach().float().requires_grad_()
        expected, slope = _value_and_gradient(spec, wide.detach().float().double().requires_grad_(), labels)
        value, gradient = _value_and_gradient(spec, narrow, labels)
        assert abs(value - expected) <= 1e-4 * max(1.0, float(expected.abs())), (
            f"at logits of about {scale:g} float32 gives {value.item()}, float64 {expected.item()}"
        )
        assert (gradient - slope).abs().max() <= 1e-3 * slope.abs().max() + 1e-6, (
            f"at logits of about {scale:g} the gradient in float32 is another"
        )


def check_empty(spec: LossSpec) -> None:
    """No foreground, full foreground, nothing kept: finite; nothing kept gives exactly 0."""
    for label in (0, 1):
        logits, labels = _case(3, SHAPES[0])
        value, gradient = _value_and_gradient(spec, logits, torch.full_like(labels, label))
        assert value.isfinite() and gradient.isfinite().all(), f"not finite where all is class {label}"
    ignoring = spec.model_copy(update={"ignore_index": 7})
    value, gradient = _value_and_gradient(ignoring, logits, torch.full_like(labels, 7))
    assert value.item() == 0, f"with every voxel ignored the value is {value.item()}, not 0"
    assert not gradient.any(), "voxels that are ignored have a gradient"


def check_ignored(spec: LossSpec) -> None:
    """Logits on ignored voxels change neither value nor gradient, and get none."""
    ignoring = spec.model_copy(update={"ignore_index": 7})
    logits, labels = _case(3, SHAPES[1], torch.float64)
    labels[..., :2] = 7
    value, gradient = _value_and_gradient(ignoring, logits, labels)
    other = logits.detach().clone()
    other[..., :2] = 5 - other[..., :2]
    assert torch.allclose(value, ignoring.build()(other, labels)), "ignored voxels change the value"
    assert not gradient[..., :2].any(), "ignored voxels get a gradient"


def hold_detached(loss: Callable[..., Tensor], logits: Tensor, target: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of logits in which everything detached keeps its value at `logits`.

    Finite differences see every path and autograd only those that are not detached, so a loss with adaptive
    penalties is to be compared with its differences on this function. What is detached is noted in order.
    """
    original, noted = Tensor.detach, list[Tensor]()

    def note(tensor: Tensor) -> Tensor:
        noted.append(original(tensor).clone())
        return noted[-1]

    with patch.object(Tensor, "detach", note):
        loss(logits, target)

    def held(other: Tensor) -> Tensor:
        remaining = iter(noted)
        with patch.object(Tensor, "detach", lambda tensor: next(remaining)):
            return loss(other, target)

    return held


def check_gradient(spec: LossSpec) -> None:
    """The gradient is that of finite differences in float64, what is detached held fixed."""
    for classes in (1, 3):
        logits, labels = _case(classes, (4, 5), torch.float64)
        held = hold_detached(spec.build(), logits, labels)
        assert torch.autograd.gradcheck(held, logits), "gradient and finite differences disagree"


def check_learned(spec: LossSpec) -> None:
    """What is learned has the gradient of finite differences, and is reported for curves."""
    loss = spec.build()
    logits, labels = _case(3, (4, 5), torch.float64)
    parameters = list(loss.parameters())
    if not parameters:
        return
    assert loss.adaptive(), "what is learned is missing from adaptive()"

    def value(*_: Tensor) -> Tensor:
        found: Tensor = loss(logits.detach(), labels)
        return found

    assert torch.autograd.gradcheck(value, parameters), "a learned parameter has another gradient"


def check_confident_errors(spec: LossSpec) -> None:
    """Where cross entropy is part, a voxel that is wrong with certainty has a gradient."""
    if not spec.has_cross_entropy():
        return
    _, labels = _case(2, SHAPES[0])
    for scale in (30.0, 1e4):
        wrong = torch.cat([(labels == c).float() * -scale for c in range(2)], 1).requires_grad_()
        _, gradient = _value_and_gradient(spec, wrong, labels)
        assert gradient.abs().amax(1).gt(0).all(), f"no gradient on errors at logits of {scale:g}"


def check_shift(spec: LossSpec) -> None:
    """Adding a number to all channels of a voxel changes nothing."""
    logits, labels = _case(3, SHAPES[1], torch.float64)
    value, gradient = _value_and_gradient(spec, logits, labels)
    other, same = _value_and_gradient(spec, (logits + logits[:, :1] * 3).detach().requires_grad_(), labels)
    assert torch.allclose(value, other) and torch.allclose(gradient, same), "a shift of the logits matters"


def check_permutation(spec: LossSpec) -> None:
    """The order of the samples in a batch does not matter."""
    logits, labels = _case(3, SHAPES[0], torch.float64)
    assert torch.allclose(spec.build()(logits, labels), spec.build()(logits.flip(0), labels.flip(0)))


def check_perfect(spec: LossSpec) -> None:
    """A perfect prediction has the best value."""
    _, labels = _case(3, SHAPES[0])
    logits = torch.cat([(labels == c).double() * 100 for c in range(3)], 1)
    value = spec.build()(logits, labels).item()
    if math.isinf(spec.best()):  # it depends on the target: at least no other prediction is better
        others = [spec.build()(other, labels).item() for other in (logits * 0, -logits, logits.flip(1))]
        assert value < min(others), f"a perfect prediction gives {value}, others {others}"
        return
    assert abs(value - spec.best()) < 1e-4, f"a perfect prediction gives {value}, not {spec.best()}"


def check_copies(spec: LossSpec) -> None:
    """Plain data, deep copies, pickles and state dicts bring the loss back, with what adapted or was learned."""
    assert type(spec).of(spec.plain()) == spec, "the spec does not come back from its plain data"
    logits, labels = _case(3, SHAPES[0])
    loss = spec.build()
    terms = {name: float(v) for name, (v, _) in loss.evaluate(logits, labels).terms.items()}
    loss.step_end(terms)
    loss.epoch_end(EpochSummary(1, 2, terms, {0: 0.9, 1: 0.5, 2: 0.2}))
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.25)
    loaded = spec.build()
    loaded.load_state_dict(loss.state_dict())
    for other in (loaded, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301
        assert torch.equal(other(logits, labels), loss(logits, labels)), "a copy gives another value"
        assert other.adaptive() == loss.adaptive(), "a copy lost what adapted"


def check_compiled(spec: LossSpec) -> None:
    """torch.compile gives the same value and gradient."""
    logits, labels = _case(3, SHAPES[0])
    torch._dynamo.reset()
    compiled = torch.compile(spec.build(), backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # dynamo warns of its own graph breaks: at SciPy, at data-dependent shapes
        value = compiled(logits, labels)
        (gradient,) = torch.autograd.grad(value, logits)
    expected, slope = _value_and_gradient(spec, logits, labels)
    assert torch.allclose(value, expected, atol=1e-6), "the compiled loss has another value"
    assert torch.allclose(gradient, slope, atol=1e-6), "the compiled loss has another gradient"


def check_words(spec: LossSpec) -> None:
    """It has a display name, reference, family, a sentence on what it penalises, and a drawable formula."""
    for name in ("display_name", "formula", "reference", "penalises", "family"):
        assert getattr(spec, name), f"{name} is empty"
    unknown = re.findall(r"\\[A-Za-z]+", latex_to_mathml(spec.formula))
    assert not unknown, f"the formula has commands that are not drawn: {', '.join(unknown)}"


CHECKS: tuple[Callable[[LossSpec], None], ...] = (
    check_words,
    check_shapes,
    check_parts,
    check_one_channel,
    check_saturation,
    check_float32,
    check_empty,
    check_ignored,
    check_gradient,
    check_learned,
    check_confident_errors,
    check_shift,
    check_permutation,
    check_perfect,
    check_copies,
    check_compiled,
)

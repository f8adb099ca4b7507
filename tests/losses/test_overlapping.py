"""Losses of overlapping classes in our own training: labels of combinations, whole cases, regions, pulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.core.regions import PatchRegions
from segexplorer.data.transforms.distance_maps import MAPS, as_numbers, stored_map
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.regions import BatchRegions, partition
from segexplorer.losses.base import LossSpec, losses_in, partitions_in, region_reports
from segexplorer.losses.multilabel import MultiLabelLoss, OverlappingLoss, build_loss
from segexplorer.losses.pull import gradient_norms, log_odds, pull
from segexplorer.losses.references import reference_values
from segexplorer.losses.streamed import StreamedOverlappingLoss, stream_loss

SCHEME = LabelScheme.of(3, [(1,), (1, 2), (1, 2, 3)])
SHAPE = (14, 11, 13)
EVERY = sorted({*losses.names(), *losses.presets()})
KINDS = [name for name in EVERY if all(part.multi_label for part in losses_in(losses.create(name).spec))]
SPACING = (1.0, 1.5, 2.0)


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, 4, x, y, z) logits, the background's 0, and (x, y, z) labels, some of them ignored."""
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, [n // 4 + 1 for n in SHAPE]).to(torch.uint8)
    for axis, n in enumerate(SHAPE):
        labels = labels.repeat_interleave(5, axis).narrow(axis, 0, n)
    labels = torch.where(torch.rand(SHAPE) < 0.1, 255, labels).to(torch.uint8)
    logits = 3 * torch.randn(1, 4, *SHAPE)
    logits[:, 0] = 0
    return logits, labels


def multi_hot(labels: torch.Tensor) -> torch.Tensor:
    """Return (1, 3, x, y, z): whole, core and enhancing, 255 where ignored."""
    found = torch.stack([(labels >= c) & (labels != 255) for c in (1, 2, 3)]).long()
    return torch.where(labels == 255, 255, found)[None]


def context_of(spec: LossSpec, labels: torch.Tensor) -> LossContext:
    """Return what a run knows of a whole case."""
    array = labels.numpy()
    maps = {
        name: torch.from_numpy(as_numbers(name, stored_map(name, array, 4, SPACING, SCHEME))[np.newaxis])
        for name in spec.needs()
        if name in MAPS
    }
    regions = {}
    for kind in partitions_in(spec):
        if kind.follows_truth:
            whole = kind.divide(tuple(labels.shape), array, SPACING)
            regions[kind] = BatchRegions([PatchRegions(whole, whole)])
    return LossContext(
        distance_maps=maps or None,
        regions=regions or None,
        spacing=np.asarray([SPACING]),
        origin=np.zeros((1, 3), np.int64),
        volume_shape=np.asarray([SHAPE]),
        epoch=1,
    )


def test_classes_that_exclude_each_other_keep_softmax() -> None:
    assert not isinstance(build_loss(losses.create("dice").spec, EXCLUSIVE), MultiLabelLoss)


@pytest.mark.parametrize("kind", EVERY)
def test_every_loss_trains_or_is_refused_with_a_sentence(kind: str) -> None:
    spec = losses.create(kind).spec
    if kind not in KINDS:
        with pytest.raises(SpecError, match="no form for overlapping classes"):
            build_loss(spec, SCHEME)
        return
    logits, labels = case(len(kind))
    leaf = logits.double().requires_grad_()
    output = build_loss(spec, SCHEME).evaluate(leaf, labels[None, None].long(), context_of(spec, labels))
    (gradient,) = torch.autograd.grad(output.value, leaf)
    assert torch.isfinite(gradient).all() and gradient[:, 1:].abs().max() > 0
    assert not gradient[:, 0].any()  # the background has no output
    ignored = labels[None, None] == 255
    assert not gradient[ignored.expand_as(gradient)].any()
    for of in output.maps.values():
        assert of.values.shape[1] == 4 and of.values[:, 0].isnan().all()


@pytest.mark.parametrize("kind", [k for k in KINDS if not losses.create(k).spec.needs()])
def test_it_is_the_multi_label_loss_of_the_masks(kind: str) -> None:
    logits, labels = case(len(kind))
    spec = losses.create(kind).spec
    context = context_of(spec, labels)
    ours = build_loss(spec, SCHEME).evaluate(logits, labels[None, None].long(), context)
    theirs = losses.multi_label(spec).evaluate(logits[:, 1:], multi_hot(labels), context)
    assert ours.value.item() == pytest.approx(theirs.value.item(), rel=1e-6)


def test_dice_and_cross_entropy_are_those_of_monai() -> None:
    from monai.losses import DiceLoss, TverskyLoss

    logits, labels = case(7)
    labels = torch.where(labels == 255, 0, labels)
    hot = multi_hot(labels).float()
    pairs = [
        ("dice", {"eps": 1e-5}, DiceLoss(sigmoid=True)),
        ("tversky", {"alpha": 0.3, "beta": 0.7, "eps": 1e-5}, TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7)),
        ("cross_entropy", {}, torch.nn.BCEWithLogitsLoss()),
    ]
    for kind, parameters, reference in pairs:
        ours = build_loss(losses.spec(kind).of(parameters), SCHEME)(logits, labels[None, None].long())
        assert float(ours) == pytest.approx(float(reference(logits[:, 1:], hot)), rel=1e-4), kind


@pytest.mark.parametrize("kind", KINDS)
def test_part_by_part_it_is_that_of_all_voxels(kind: str) -> None:
    logits, labels = case(len(kind))
    spec = losses.create(kind).spec
    loss, context = build_loss(spec, SCHEME).eval(), context_of(spec, labels)
    with torch.no_grad():
        whole = loss.evaluate(logits.double(), labels[None, None].long(), context)
    found = stream_loss(loss, labels, 4, context)
    assert isinstance(found, StreamedOverlappingLoss)
    if found.whole_needed_by is not None:
        return
    for start, end in ((0, 5), (5, 6), (6, SHAPE[0])):
        found.add((start, 0, 0), logits[:, :, start:end])
    output = found.output()
    assert float(output.value) == pytest.approx(float(whole.value), rel=1e-6, abs=1e-6)
    total = sum(float(v) * float(w) for v, w in output.terms.values())
    assert total == pytest.approx(float(output.value), rel=1e-4, abs=1e-6)
    with torch.no_grad():
        single = loss.evaluate(logits, labels[None, None].long(), context)
    for theirs, ours in zip(region_reports(single), region_reports(output), strict=True):
        for name, values in theirs.values.items():
            np.testing.assert_allclose(ours.values[name], values, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_part_is_that_of_all_voxels(kind: str) -> None:
    logits, labels = case(len(kind))
    spec = losses.create(kind).spec
    loss, context = build_loss(spec, SCHEME).eval(), context_of(spec, labels)
    found = stream_loss(loss, labels, 4, context)
    if found.whole_needed_by is not None:
        return
    leaf = logits.clone().requires_grad_()
    whole = loss.evaluate(leaf, labels[None, None].long(), context).value
    (expected,) = torch.autograd.grad(whole, leaf)
    for start, end in ((0, 5), (5, 6), (6, SHAPE[0])):
        found.add((start, 0, 0), logits[:, :, start:end])
    assert float(found.differentiate()) == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)
    for start, place in (
        ((0, 0, 6), (..., slice(6, 7))),
        ((3, 2, 0), (..., slice(3, 5), slice(2, 9), slice(0, 13))),
    ):
        own = found.gradient(start, logits[place])
        np.testing.assert_allclose(own, expected[place], rtol=1e-3, atol=3e-5 * float(expected.abs().max()))


def test_sums_of_one_loss_serve_another_class_by_class() -> None:
    logits, labels = case(3)
    first, second, third = (
        stream_loss(build_loss(losses.create(kind).spec, SCHEME), labels, 4, LossContext(ignore_index=255))
        for kind in ("dice", "tversky", "cross_entropy")
    )
    first.add((0, 0, 0), logits)
    assert second.know(first.known) and not third.know(first.known)
    plain = build_loss(losses.create("tversky").spec, SCHEME).evaluate(
        logits, labels[None, None].long(), LossContext(ignore_index=255)
    )
    assert float(second.differentiate()) == pytest.approx(float(plain.value), rel=1e-5)


def test_errors_per_box_are_sums_of_sigmoids() -> None:
    logits, labels = case(3)
    boxes = partition(SHAPE, box_size=7)
    loss = build_loss(losses.create("dice").spec, SCHEME)
    found = stream_loss(loss, labels, 4, LossContext(), boxes=boxes)
    found.add((0, 0, 0), logits)
    errors = found.errors()
    assert errors is not None
    p, kept = logits[0, 2].sigmoid(), labels != 255
    core = (labels >= 2) & kept
    expected = (p * (~core & kept))[:7, :7, :7].sum(), ((1 - p) * core)[:7, :7, :7].sum()
    for ours, theirs in zip(errors, expected, strict=True):
        assert float(ours[0, 2, 0]) == pytest.approx(float(theirs), rel=1e-5)
        assert ours[0, 0].isnan().all()


@pytest.mark.parametrize("kind", ["cross_entropy", "dice_cross_entropy"])
def test_the_pull_on_logits_and_probabilities(kind: str) -> None:
    """The binary cross entropy asks for g - p of each class, and for (g - p) / (p (1 - p)) of probabilities."""
    logits, labels = case(5)
    loss = build_loss(losses.create(kind).spec, SCHEME)
    found = pull(loss, logits, labels[None, None].long(), LossContext(), terms=True)
    entropy = found.terms["cross_entropy"] if found.terms else found.total
    g, kept = multi_hot(labels)[0].numpy(), (labels != 255).numpy()
    p = logits[0, 1:].double().sigmoid().numpy()
    expected = np.where(kept, g - p, 0) / (3 * kept.sum())
    np.testing.assert_allclose(entropy[1:], expected, atol=1e-8)
    assert not found.total[0].any()
    if found.terms:
        np.testing.assert_allclose(sum(found.terms.values()), found.total, atol=1e-7)
    space = pull(loss, logits, labels[None, None].long(), LossContext(), space="probabilities", terms=True)
    entropy = space.terms["cross_entropy"] if space.terms else space.total
    np.testing.assert_allclose(entropy[1:], expected / (p * (1 - p)), rtol=1e-3, atol=1e-7)
    norms = gradient_norms(loss, logits, labels[None, None].long(), LossContext())
    assert norms["total"] == pytest.approx(float(np.linalg.norm(found.total)), rel=1e-5)


def test_log_odds_are_the_logits() -> None:
    logits = case(1)[0][0].numpy()
    np.testing.assert_allclose(log_odds(logits, 2, SCHEME), logits[2])
    np.testing.assert_allclose(log_odds(logits, 0, SCHEME), -logits[1:].max(0))


def test_references_are_of_masks() -> None:
    labels = case(2)[1][None, None].long()
    loss = build_loss(losses.create("cross_entropy").spec, SCHEME)
    found = reference_values(loss, labels, 4, LossContext())
    assert found["perfect"] == pytest.approx(0, abs=1e-6)
    shares = [
        float((multi_hot(labels[0, 0])[0, c] == 1).sum()) / float((labels != 255).sum()) for c in range(3)
    ]
    background = np.mean([-s * np.log(0.01) - (1 - s) * np.log(0.99) for s in shares])
    assert found["all background"] == pytest.approx(background, rel=1e-5)
    entropy = np.mean([-s * np.log(s) - (1 - s) * np.log(1 - s) for s in shares])
    assert found["class frequencies"] == pytest.approx(entropy, rel=1e-5)
    assert found["random"] > entropy


def test_wrong_labels_and_channels_are_refused() -> None:
    loss = OverlappingLoss(losses.create("dice").spec, SCHEME)
    logits, labels = case(4)
    with pytest.raises(LossInputError, match="from 0 to 3"):
        loss(logits, torch.full((1, 1, *SHAPE), 4))
    with pytest.raises(LossInputError, match="3 overlapping classes"):
        loss(logits[:, :3], labels[None, None].long(), LossContext())
    with pytest.raises(LossInputError, match="Give integers"):
        loss(logits, torch.zeros(1, 1, *SHAPE))


def test_a_label_that_the_loss_itself_ignores_does_not_count() -> None:
    logits, labels = case(6)
    labels = torch.where(labels == 255, 3, labels)
    spec = losses.spec("dice_cross_entropy").of({"ignore_index": 3})
    loss = build_loss(spec, SCHEME)
    other = torch.where(labels[None, None] == 3, -logits, logits)
    first, second = (loss(x, labels[None, None].long()) for x in (logits, other))
    assert float(first) == float(second)
    found = stream_loss(loss, labels, 4, LossContext())
    found.add((0, 0, 0), logits)
    assert float(found.output().value) == pytest.approx(float(first), rel=1e-6)

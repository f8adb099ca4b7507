"""T-Loss, region mutual information and adaptive t-vMF Dice: vectors, independent formulas, hand-made cases."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from segexplorer import losses
from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.core.events import EpochSummary
from segexplorer.core.spec import replace_value
from segexplorer.functional.inputs import LossContext

SHARED = Path(__file__).resolve().parents[3] / "shared" / "loss_vectors.json"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "t_loss_nu1": ("t_loss", {"nu": 1.0, "normalise": False}),
    "t_loss_nu_e": ("t_loss", {"normalise": False, "learn_nu": False}),
    "rmi_r2": ("region_mutual_information", {"radius": 2, "cross_entropy_weight": 0.0}),
    "tvmf_k0": ("adaptive_t_vmf_dice", {}),
    "tvmf_adaptive_example": ("adaptive_t_vmf_dice", {"absent": "penalise"}),
}


def _case(classes: int = 3, shape: tuple[int, ...] = (6, 7, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((2, classes, *shape), generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (2, 1, *shape), generator=generator)


@pytest.mark.parametrize("name", KINDS)
def test_value_and_gradient_match(name: str) -> None:
    if not SHARED.is_file():
        pytest.skip("no ../shared/loss_vectors.json here")
    case = json.loads(SHARED.read_text())["cases"]["two_class"]
    logits = torch.tensor(case["logits"], dtype=torch.float64).reshape(case["shape"]).requires_grad_()
    labels = torch.tensor(case["labels"]).reshape(2, 1, 4, 4, 4)
    kind, parameters = KINDS[name]
    loss = losses.create(kind, **parameters)
    if name == "tvmf_adaptive_example":
        loss.epoch_end(EpochSummary(1, 2, {}, {0: 1 / 3, 1: 2 / 3}))
    value = loss(logits, labels)
    value.backward()
    expected = case["results"][name]
    assert value.item() == pytest.approx(expected["value"], abs=1e-10)
    assert logits.grad is not None
    error = logits.grad.flatten() - torch.tensor(expected["grad"], dtype=torch.float64)
    assert error.abs().max().item() <= max(1e-10, 10 * expected["fd_disagreement"])


@pytest.mark.parametrize(("nu", "key"), [(1.0, "at_raw_0"), (math.e, "at_raw_1")])
def test_the_gradient_of_log_nu_matches(nu: float, key: str) -> None:
    if not SHARED.is_file():
        pytest.skip("no ../shared/loss_vectors.json here")
    case = json.loads(SHARED.read_text())["cases"]["two_class"]
    logits = torch.tensor(case["logits"], dtype=torch.float64).reshape(case["shape"])
    loss = losses.create("t_loss", nu=nu, normalise=False)
    loss(logits, torch.tensor(case["labels"]).reshape(2, 1, 4, 4, 4)).backward()
    (raw,) = loss.parameters()
    assert raw.grad is not None
    assert raw.grad.item() == pytest.approx(case["t_loss_dnu_raw"][key], abs=2e-9)


@pytest.mark.parametrize("nu", [0.7, 5.0, 400.0])
def test_t_loss_is_the_density_of_scipy(nu: float) -> None:
    """-log of SciPy's multivariate t of p - g, identity scale, D the kept voxels of each sample."""
    logits, labels = _case(2, (3, 4))
    labels[0, 0, 0, :2] = 9
    found = losses.create("t_loss", nu=nu, normalise=False, ignore_index=9)(logits, labels).item()
    probs, values = torch.softmax(logits, 1).numpy(), []
    for b, c in itertools.product(range(2), range(2)):
        kept = labels[b, 0].numpy() != 9
        errors = (probs[b, c] - (labels[b, 0].numpy() == c))[kept]
        density = stats.multivariate_t(np.zeros(kept.sum()), np.eye(kept.sum()), df=nu + 1e-8)
        values.append(-density.logpdf(errors))
    assert found == pytest.approx(np.mean(values), rel=1e-9)


def test_t_loss_of_a_large_nu_is_the_gaussian_one() -> None:
    logits, labels = _case()
    size = math.prod(logits.shape[2:])
    errors = torch.softmax(logits, 1) - torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1)
    gaussian = (errors**2).flatten(2).sum(-1) / 2 + size / 2 * math.log(2 * math.pi)
    found = losses.create("t_loss", nu=1e9, normalise=False)(logits, labels).item()
    assert found == pytest.approx(gaussian.mean().item(), rel=1e-6)
    per_voxel = losses.create("t_loss", nu=1e9)(logits, labels).item()
    assert per_voxel == pytest.approx(found / size, rel=1e-12)


def test_t_loss_keeps_its_digits_on_large_volumes() -> None:
    """The constants are 1e7 apart at D = 1e6 and must not be rounded to float32."""
    logits, labels = torch.randn(1, 2, 100, 100, 100), torch.randint(0, 2, (1, 1, 100, 100, 100))
    narrow = losses.create("t_loss", normalise=False)(logits, labels).item()
    wide = losses.create("t_loss", normalise=False)(logits.double(), labels).item()
    assert narrow == pytest.approx(wide, rel=1e-6)


def test_t_loss_pulls_less_on_samples_that_disagree_throughout() -> None:
    """dL/dp = (nu + D)(p - g) / (nu + s): summed over a sample, it is largest at s = nu."""
    loss = losses.create("t_loss", nu=4.0, normalise=False)
    labels = torch.zeros(1, 1, 100, dtype=torch.long)
    pulls = []
    for error in (0.1, 0.2, 0.4, 0.8):  # s = 1, 4, 16, 64
        soft = torch.full((1, 1, 100), math.log(error / (1 - error)), requires_grad=True)
        (slope,) = torch.autograd.grad(loss(soft, labels), soft)
        pulls.append((slope.norm() / (error * (1 - error))).item())  # the sigmoid's own slope taken out
    assert pulls.index(max(pulls)) == 1 and pulls[3] < pulls[2] < pulls[1]


def test_nu_is_learned_only_where_asked() -> None:
    logits, labels = _case()
    assert list(losses.create("t_loss", learn_nu=False).parameters()) == []
    assert losses.create("t_loss", learn_nu=False).adaptive() == {}
    loss = losses.create("t_loss", nu=3.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    before = loss(logits, labels)
    before.backward()
    optimiser.step()
    assert loss.adaptive()["nu"] != 3.0 and loss(logits, labels) < before
    fixed = losses.create("t_loss", nu=loss.adaptive()["nu"] - 1e-8, learn_nu=False)
    assert fixed(logits, labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-12)
    with pytest.raises(SpecError, match="what it learns"):
        loss.update(losses.parse({"kind": "t_loss", "nu": 3.0, "learn_nu": False}))


def _bound(probs: np.ndarray, truth: np.ndarray, radius: int) -> float:
    """Return 1/2 logdet(M + a) / d by the definition: windows one by one, an inverse, a determinant."""
    room = [range(n - radius + 1) for n in probs.shape]
    points = [
        np.array([x[tuple(slice(i, i + radius) for i in at)].ravel() for at in itertools.product(*room)])
        for x in (probs, truth)
    ]
    p, y = (x - x.mean(0) for x in points)
    a = 5e-4 * np.eye(p.shape[1])
    rest = y.T @ y - y.T @ p @ np.linalg.inv(p.T @ p + a) @ p.T @ y
    return float(np.linalg.slogdet(rest + a)[1] / 2 / len(a))


@pytest.mark.parametrize(("shape", "radius"), [((40,), 3), ((9, 12), 3), ((6, 7, 5), 2), ((7, 6, 6), 3)])
def test_mutual_information_by_its_definition(
    shape: tuple[int, ...], radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same whether windows are taken at once or slab by slab."""
    logits, labels = _case(3, shape)
    probs = torch.softmax(logits, 1).numpy()
    truth = np.stack([(labels[:, 0].numpy() == c) for c in range(3)], 1).astype(float)
    expected = np.mean([sum(_bound(probs[b, c], truth[b, c], radius) for c in range(3)) for b in range(2)])
    loss = losses.create("region_mutual_information", radius=radius, cross_entropy_weight=0.0)
    slopes = []
    for block in (2**16, 1):
        monkeypatch.setattr("segexplorer.functional.mutual_information.BLOCK", block)
        given = logits.clone().requires_grad_()
        value = loss(given, labels)
        assert value.item() == pytest.approx(expected, rel=1e-8)
        slopes.append(torch.autograd.grad(value, given)[0])
    assert torch.allclose(*slopes)


def test_mutual_information_beside_cross_entropy() -> None:
    logits, labels = _case()
    output = losses.create("region_mutual_information", cross_entropy_weight=0.3).evaluate(logits, labels)
    alone = losses.create("region_mutual_information", cross_entropy_weight=0.0)(logits, labels)
    entropy = losses.create("cross_entropy")(logits, labels)
    assert torch.allclose(output.value, 0.3 * entropy + 0.7 * alone)
    assert sum(float(v) * float(w) for v, w in output.terms.values()) == pytest.approx(output.value.item())


def test_mutual_information_takes_the_largest_value_of_each_block() -> None:
    """Blocks of 3 voxels, the first of them from -1 to 1; what no whole block covers at the end is left out."""
    logits, labels = _case(2, (11, 13))
    probs = torch.softmax(logits, 1).numpy()

    def pooled(x: np.ndarray) -> np.ndarray:
        rows, columns = range(0, x.shape[0], 3), range(0, x.shape[1], 3)
        return np.array(
            [[x[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].max() for c in columns] for r in rows]
        )

    bounds = [
        _bound(pooled(probs[b, c]), pooled((labels[b, 0].numpy() == c).astype(float)), 2)
        for b in range(2)
        for c in range(2)
    ]
    loss = losses.create("region_mutual_information", pool=3, radius=2, cross_entropy_weight=0.0)
    assert loss(logits, labels).item() == pytest.approx(sum(bounds) / 2, rel=1e-8)


def test_an_absent_class_and_a_constant_prediction_do_no_harm() -> None:
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    logits = torch.zeros(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    value = losses.create("region_mutual_information", cross_entropy_weight=0.0)(logits, labels)
    (slope,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(2 * 0.5 * math.log(5e-4)) and slope.isfinite().all()


def test_windows_that_do_not_fit_are_refused() -> None:
    logits, labels = _case(2, (8, 2, 8))
    with pytest.raises(LossInputError, match="Windows of 3 voxels do not fit"):
        losses.create("region_mutual_information")(logits, labels)


def test_kappa_follows_the_last_validation() -> None:
    logits, labels = _case()
    loss = losses.create("adaptive_t_vmf_dice", scale=10.0)
    assert loss.adaptive() == {}
    start = losses.create("t_vmf_dice", kappa=0.0)(logits, labels)
    assert torch.equal(loss(logits, labels), start)
    loss.epoch_end(EpochSummary(1, 5, {}, {}))  # an epoch without validation
    assert torch.equal(loss(logits, labels), start)
    loss.epoch_end(EpochSummary(2, 5, {}, {0: 0.9, 1: 0.5, 2: 0.0}))
    kappas = {f"kappa of class {c}": pytest.approx(k) for c, k in enumerate((9.0, 5.0, 0.0))}
    assert loss.adaptive() == kappas
    loss.epoch_end(EpochSummary(3, 5))
    assert loss.adaptive() == kappas
    alike = losses.create("adaptive_t_vmf_dice", scale=8.0)
    alike.epoch_end(EpochSummary(1, 5, {}, {0: 0.5, 1: 0.5, 2: 0.5}))
    assert torch.allclose(alike(logits, labels), losses.create("t_vmf_dice", kappa=4.0)(logits, labels))


def test_kappa_moves_inside_a_compound_and_comes_back_from_its_state() -> None:
    logits, labels = _case()
    spec = losses.parse(
        {"kind": "weighted_sum", "terms": [{"loss": "adaptive_t_vmf_dice", "name": "vmf"}, {"loss": "dice"}]}
    )
    loss = spec.build()
    loss.epoch_end(EpochSummary(1, 5, {}, {0: 0.9, 1: 0.5, 2: 0.25}))
    assert loss.adaptive()["vmf: kappa of class 2"] == 8.0
    back = spec.build()
    assert back(logits, labels) != loss(logits, labels)
    back.load_state_dict(loss.state_dict())
    assert torch.equal(back(logits, labels), loss(logits, labels)) and back.adaptive() == loss.adaptive()


def test_samples_without_a_kept_voxel_do_not_dilute_the_mean() -> None:
    logits, labels = _case()
    labels[1] = 255
    for kind in ("t_loss", "region_mutual_information"):
        loss = losses.create(kind)
        both, one = loss(logits, labels, LossContext()), loss(logits[:1], labels[:1])
        assert torch.allclose(both, one), kind


def test_nu_is_learned_inside_a_compound_and_survives_live_edits() -> None:
    logits, labels = _case()
    terms = [{"loss": "t_loss", "weight": 2.0}, {"loss": "dice"}]
    loss = losses.parse({"kind": "weighted_sum", "terms": terms}).build()
    assert list(dict(loss.named_parameters())) == ["parts.0.learned.log_nu"]
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    loss(logits, labels).backward()
    optimiser.step()
    learned = loss.adaptive()
    assert list(learned) == ["t_loss: nu"] and learned["t_loss: nu"] != pytest.approx(math.e)
    loss.update(replace_value(loss.spec, "terms.0.weight", 0.5))
    assert loss.adaptive() == learned
    output = loss.evaluate(logits, labels)
    assert float(output.terms["t_loss"][1]) == 0.5


# torch's own compiler asks a non-leaf tensor for its gradient when it goes on after a graph break
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_loss_follows_what_adapts_and_what_is_edited() -> None:
    logits, labels = _case(3, (6, 6))
    loss = losses.create("adaptive_t_vmf_dice")
    compiled = torch.compile(loss, backend="aot_eager")
    values = [compiled(logits, labels).item()]
    for epoch, dice in ((1, 0.5), (2, 0.8)):
        loss.epoch_end(EpochSummary(epoch, 5, {}, {0: dice, 1: dice, 2: dice}))
        values.append(compiled(logits, labels).item())
    loss.update(replace_value(loss.spec, "scale", 5.0))
    values.append(compiled(logits, labels).item())
    expected = [losses.create("t_vmf_dice", kappa=k)(logits, labels).item() for k in (0.0, 16.0, 25.6, 4.0)]
    assert values == pytest.approx(expected, rel=1e-6)

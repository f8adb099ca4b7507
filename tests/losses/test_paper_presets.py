"""Each preset that carries the name of a paper follows that paper's equations and parameters.

The references are written in numpy from the equations, with the parameters as numbers, and share nothing with the
package. Where a paper leaves something open, the preset's note says what was chosen; the references agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from segexplorer import losses
from segexplorer.core.events import EpochSummary
from segexplorer.core.papers import PAPERS
from segexplorer.core.spec import get_value, replace_values

EXACT = 1e-12
SHAPE = (5, 4, 6)
Array = np.ndarray
PRESETS = losses.registry.presets()
OF_PAPERS = [name for name in PRESETS if name.startswith(tuple(f"{p.prefix}_" for p in PAPERS.values()))]


def case(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = 2 * torch.randn((2, classes, *SHAPE), generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (2, 1, *SHAPE), generator=generator)


CASES = {classes: case(classes) for classes in (2, 4)}


class Volume:
    """p and g, each (B, C, *spatial)."""

    def __init__(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        z = logits.numpy()
        e = np.exp(z - z.max(1, keepdims=True))
        self.p = e / e.sum(1, keepdims=True)
        self.g = (labels.numpy() == np.arange(z.shape[1]).reshape(1, -1, 1, 1, 1)).astype(float)

    def total(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1).sum(-1)


def cross_entropy(v: Volume, weights: Any = 1.0, gamma: Any = 0.0) -> float:
    """Mean over voxels of -sum_c w_c g_c (1 - p_c)^gamma_c log p_c; weights and gamma per class or one for all."""
    w, e = (np.broadcast_to(x, v.p.shape[1]).reshape(1, -1, 1, 1, 1) for x in (weights, gamma))
    return float(-(w * v.g * (1 - v.p) ** e * np.log(v.p)).sum(1).mean())


def foreground(v: Volume, inside: float) -> list[float]:
    """Class weights: `inside` for foreground, one minus it for background."""
    return [1 - inside] + [inside] * (v.p.shape[1] - 1)


def tversky(v: Volume, fp: float, fn: float, eps: float) -> Array:
    """1 - TI of each sample and class, (B, C)."""
    hit = v.total(v.p * v.g)
    errors = fp * v.total(v.p * (1 - v.g)) + fn * v.total((1 - v.p) * v.g)
    return 1 - (hit + eps) / (hit + errors + eps)


def dice(v: Volume, eps: float, power: int = 1) -> Array:
    """1 - Dice of each sample and class, (B, C); the denominator sums the power of p and of g."""
    size = v.total(v.p**power) + v.total(v.g**power)
    return 1 - (2 * v.total(v.p * v.g) + eps) / (size + eps)


def summed(ratios: Array) -> float:
    """Sum over classes, mean over samples."""
    return float(ratios.sum(1).mean())


def unified_focal(v: Volume, symmetric: bool) -> float:
    """Yeung 2022, eq. 17 to 20: delta .6, gamma .2, lambda .5; delta weighs false negatives."""
    rare = np.full(v.p.shape[1], 0.0 if not symmetric else 0.2)
    rare[0] = 0.2
    exponents = np.full(v.p.shape[1], 0.8)
    exponents[0] = 0.8 if symmetric else 1.0
    focal = cross_entropy(v, foreground(v, 0.6), rare)
    return 0.5 * focal + 0.5 * summed(tversky(v, 0.4, 0.6, 1e-7) ** exponents)


def modified_cross_entropy(v: Volume, beta: float) -> float:
    """-(1/N) sum [beta y log p + (1 - beta) (1 - y) log(1 - p)] of two classes."""
    y, p = v.g[:, 1], v.p[:, 1]
    return float(-(beta * y * np.log(p) + (1 - beta) * (1 - y) * np.log(1 - p)).mean())


def generalised_dice(v: Volume, power: int) -> float:
    volumes = v.total(v.g)
    w = 1 / volumes**power
    hit, size = (w * v.total(v.p * v.g)).sum(1), (w * (v.total(v.p) + volumes)).sum(1)
    return float((1 - (2 * hit + 1e-5) / (size + 1e-5)).mean())


def boundary(v: Volume) -> float:
    """Mean over foreground of p times the distance to the contour, negative inside (Kervadec 2019)."""
    maps = []
    for sample in v.g[:, 1:]:
        for inside in sample.astype(bool):
            outer, inner = distance_transform_edt(~inside), distance_transform_edt(inside)
            maps.append(outer * ~inside - (inner - 1) * inside)
    return float((v.p[:, 1:] * np.reshape(maps, v.p[:, 1:].shape)).mean())


def ws_dice(v: Volume) -> float:
    w = 0.15 + 0.7 * v.g
    p, g = w * (2 * v.p - 1), w * (2 * v.g - 1)
    return float((1 - (2 * v.total(p * g) + 1e-5) / (v.total(p * p) + v.total(g * g) + 1e-5)).mean())


def regions(v: Volume, adaptive: bool) -> float:
    """Chen 2023, eq. 4, or 6 to 8 with A .3 and B .4: sum over classes and regions in which the class is present.

    16 x 16 x 16 regions of volumes with fewer voxels along an axis: each voxel is a region.
    """
    assert max(SHAPE) <= 16
    p, g, eps = v.p, v.g, 1e-7
    if not adaptive:
        losses_ = 1 - (2 * p * g + eps) / (p**2 + g**2 + eps)
    else:
        fp, fn = p * (1 - g), (1 - p) * g
        alpha = 0.3 + 0.4 * (fp + eps) / (fp + fn + eps)
        beta = 0.3 + 0.4 * (fn + eps) / (fp + fn + eps)
        losses_ = 1 - (p * g + eps) / (p * g + alpha * fp + beta * fn + eps)
    return summed(v.total(np.where(g > 0, losses_, 0)))


def chen_baseline(v: Volume) -> float:
    """Eq. 9, lambda one over the number of voxels."""
    return summed(dice(v, 1e-7, power=2)) + cross_entropy(v)


REFERENCES: dict[str, Callable[[Volume], float]] = {
    "zhang2025_tversky": lambda v: tversky(v, 0.7, 0.3, 1e-5)[:, 1].mean(),
    "zhang2025_adaptive_tversky_ce_73": lambda v: (
        0.5 * tversky(v, 0.7, 0.3, 1e-5)[:, 1].mean() + 0.5 * cross_entropy(v)
    ),
    "zhang2025_adaptive_tversky_ce_55": lambda v: (
        0.5 * tversky(v, 0.5, 0.5, 1e-5)[:, 1].mean() + 0.5 * cross_entropy(v)
    ),
    "perera2025_dice": lambda v: dice(v, 1e-5).mean(),
    "perera2025_ce": cross_entropy,
    "perera2025_focal": lambda v: cross_entropy(v, foreground(v, 0.25), 2),
    "perera2025_tversky": lambda v: tversky(v, 0.3, 0.7, 1e-5)[:, 1].mean(),
    "perera2025_unified_focal_symmetric": lambda v: unified_focal(v, symmetric=True),
    "perera2025_unified_focal_asymmetric": lambda v: unified_focal(v, symmetric=False),
    "perera2025_log_cosh": lambda v: np.log(np.cosh(dice(v, 1e-5))).mean(),
    "perera2025_dice_ce": lambda v: dice(v, 1e-5).mean() + cross_entropy(v),
    "perera2025_focal_dice": lambda v: 0.5 * dice(v, 1e-5).mean() + 0.5 * cross_entropy(v, gamma=2),
    "perera2025_focal_tversky": lambda v: (tversky(v, 0.3, 0.7, 1e-5)[:, 1] ** 0.75).mean(),
    "perera2025_combo": lambda v: (
        0.5 * modified_cross_entropy(v, 0.5) - 0.5 * (1 - dice(v, 1e-5)[:, 1]).mean()
    ),
    "perera2025_weighted_dice": lambda v: generalised_dice(v, 1),
    # alpha weighs false negatives and 1 - alpha false positives; alpha .7, beta .7, gamma .5
    "perera2025_hytver": lambda v: (
        0.5 * modified_cross_entropy(v, 0.7) + 0.5 * tversky(v, 0.3, 0.7, 1e-5)[:, 1].mean()
    ),
    "yeung2022_ce": cross_entropy,
    "yeung2022_focal": lambda v: cross_entropy(v, foreground(v, 0.25), 2),
    "yeung2022_dice": lambda v: summed(dice(v, 2e-7)),
    "yeung2022_tversky": lambda v: summed(tversky(v, 0.3, 0.7, 1e-7)),
    "yeung2022_focal_tversky": lambda v: summed(tversky(v, 0.3, 0.7, 1e-7) ** (1 / (4 / 3))),
    "yeung2022_combo": lambda v: 0.5 * cross_entropy(v, 0.5) - 0.5 * summed(1 - dice(v, 2e-7)),
    "yeung2022_hybrid_focal": lambda v: (
        0.5 * cross_entropy(v, foreground(v, 0.25), 2)
        + 0.5 * summed(tversky(v, 0.3, 0.7, 1e-7) ** (1 / (4 / 3)))
    ),
    "yeung2022_unified_focal_symmetric": lambda v: unified_focal(v, symmetric=True),
    "yeung2022_unified_focal_asymmetric": lambda v: unified_focal(v, symmetric=False),
    "oshah2025_dice_ce": lambda v: 0.5 * dice(v, 1e-5).mean() + 0.5 * cross_entropy(v),
    "oshah2025_dice_focal": lambda v: 0.5 * dice(v, 1e-5).mean() + 0.5 * cross_entropy(v, gamma=2),
    "oshah2025_boundary_kervadec": lambda v: generalised_dice(v, 2) + 0.01 * boundary(v),
    "oshah2025_focal_then_ws_dice": lambda v: cross_entropy(v, gamma=2),
    "chen2023_baseline": chen_baseline,
    "chen2023_region": lambda v: chen_baseline(v) + regions(v, adaptive=False),
    "chen2023_adaptive_region": lambda v: chen_baseline(v) + regions(v, adaptive=True),
}
TWO_CLASSES = ("zhang2025", "perera2025")
"""Papers with one structure to find; their equations have two classes."""


def test_every_preset_of_a_paper_has_a_reference() -> None:
    assert set(REFERENCES) == set(OF_PAPERS)
    assert all(preset.group in PAPERS for name, preset in PRESETS.items() if name in OF_PAPERS)


@pytest.mark.parametrize(
    ("name", "classes"), [(n, c) for n in OF_PAPERS for c in CASES if c == 2 or not n.startswith(TWO_CLASSES)]
)
def test_it_follows_the_equations_and_parameters_of_its_paper(name: str, classes: int) -> None:
    expected = REFERENCES[name](Volume(*CASES[classes]))
    assert losses.create(name)(*CASES[classes]).item() == pytest.approx(expected, rel=EXACT, abs=EXACT)


def test_regions_of_volumes_with_more_voxels_than_regions() -> None:
    """Chen 2023 divides 32 x 20 x 48 voxels into 16 x 16 x 16 regions, the first ones larger where it has to."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((1, 2, 32, 20, 48), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (1, 1, 32, 20, 48), generator=generator)
    v, expected = Volume(logits, labels), 0.0
    for x in np.array_split(np.arange(32), 16):
        for y in np.array_split(np.arange(20), 16):
            for z in np.array_split(np.arange(48), 16):
                p, g = (a[0][:, x[0] : x[-1] + 1, y[0] : y[-1] + 1, z[0] : z[-1] + 1] for a in (v.p, v.g))
                axes = (1, 2, 3)
                each = 1 - (2 * (p * g).sum(axes) + 1e-7) / ((p**2 + g**2).sum(axes) + 1e-7)
                expected += each[g.sum(axes) > 0].sum()
    found = losses.create("chen2023_region").evaluate(logits, labels)
    (term,) = (value for name, (value, _) in found.terms.items() if name == "region_dice")
    assert term.item() == pytest.approx(expected, rel=EXACT)


def test_zhang_2025_weighs_by_the_shares_of_the_last_epoch() -> None:
    """Eq. 9 and 10, with losses of .6 and .2 in the epoch before."""
    loss = losses.create("zhang2025_adaptive_tversky_ce_73")
    loss.epoch_end(EpochSummary(epoch=1, epochs=9, terms={"tversky": 0.6, "cross_entropy": 0.2}))
    v = Volume(*CASES[2])
    expected = 0.75 * tversky(v, 0.7, 0.3, 1e-5)[:, 1].mean() + 0.25 * cross_entropy(v)
    assert loss(*CASES[2]).item() == pytest.approx(expected, rel=EXACT)


def test_schedules_that_oshah_2025_cites() -> None:
    """Kervadec: each epoch boundary .01 more, generalised Dice .01 less, down to .1. Wang: focal, then WSDice."""
    v = Volume(*CASES[4])
    kervadec = losses.create("oshah2025_boundary_kervadec")
    cascade = losses.create("oshah2025_focal_then_ws_dice")
    for ended, of_dice, of_boundary in ((1, 0.99, 0.02), (50, 0.5, 0.51), (150, 0.1, 1.51)):
        summary = EpochSummary(epoch=ended, epochs=200, terms={})
        kervadec.epoch_end(summary)
        expected = of_dice * generalised_dice(v, 2) + of_boundary * boundary(v)
        assert kervadec(*CASES[4]).item() == pytest.approx(expected, rel=EXACT)
        cascade.epoch_end(summary)
        stage = cross_entropy(v, gamma=2) if ended < 100 else ws_dice(v)
        assert cascade(*CASES[4]).item() == pytest.approx(stage, rel=EXACT)


# ---- figure 1 of Yeung 2022: special cases, from one preset to another


def evaluated(name: str, classes: int, **changes: Any) -> tuple[float, torch.Tensor]:
    """Return the value of a preset with some parameters changed, and its gradient."""
    logits = CASES[classes][0].clone().requires_grad_()
    value = replace_values(PRESETS[f"yeung2022_{name}"].spec, changes).build()(logits, CASES[classes][1])
    value.backward()
    assert logits.grad is not None
    return value.item(), logits.grad


PLAIN = {"gamma": 0.0, "delta": 0.5}
BOTH = ("unified_focal_symmetric", "unified_focal_asymmetric")
FIGURE_1: list[tuple[str, dict[str, Any], str, dict[str, Any], float, float]] = [
    # general preset, its parameters, special preset, its parameters, factor, constant per class
    *((n, {**PLAIN, "lam": 0.0}, "dice", {}, 1.0, 0.0) for n in BOTH),
    *((n, {**PLAIN, "lam": 1.0}, "ce", {}, 0.5, 0.0) for n in BOTH),
    *((n, PLAIN, "combo", {}, 1.0, 0.5) for n in BOTH),
    *((n, {"gamma": 0.0, "delta": 0.7, "lam": 0.0}, "tversky", {}, 1.0, 0.0) for n in BOTH),
    (BOTH[0], {"gamma": 0.25, "delta": 0.7, "lam": 0.0}, "focal_tversky", {}, 1.0, 0.0),
    (BOTH[0], {"gamma": 0.5, "delta": 0.25, "lam": 1.0}, "focal", {"gamma": 0.5}, 1.0, 0.0),
    (
        BOTH[0],
        {"gamma": 0.25, "delta": 0.7},
        "hybrid_focal",
        {"gamma": 0.25, "foreground_weight": 0.7},
        1.0,
        0.0,
    ),
    ("hybrid_focal", {"lam": 1.0}, "focal", {}, 1.0, 0.0),
    ("hybrid_focal", {"lam": 0.0}, "focal_tversky", {}, 1.0, 0.0),
    ("focal", {"gamma": 0.0, "foreground_weight": 0.5}, "ce", {}, 0.5, 0.0),
    ("focal_tversky", {"exponent": 1.0}, "tversky", {}, 1.0, 0.0),
    ("tversky", {"alpha": 0.5, "beta": 0.5}, "dice", {}, 1.0, 0.0),
    ("combo", {"lam": 1.0}, "ce", {}, 0.5, 0.0),
    ("combo", {"lam": 0.0}, "dice", {}, 1.0, -1.0),
]


@pytest.mark.parametrize("classes", CASES)
@pytest.mark.parametrize(
    ("general", "changes", "special", "more", "factor", "constant"),
    FIGURE_1,
    ids=[f"{general} to {special}" for general, _, special, *_ in FIGURE_1],
)
def test_figure_1_of_yeung_2022_between_presets(
    general: str,
    changes: dict[str, Any],
    special: str,
    more: dict[str, Any],
    factor: float,
    constant: float,
    classes: int,
) -> None:
    value, gradient = evaluated(general, classes, **changes)
    expected, slope = evaluated(special, classes, **more)
    assert value == pytest.approx(factor * expected + constant * classes, abs=EXACT)
    assert torch.allclose(gradient, factor * slope, rtol=0, atol=EXACT)


def test_the_kinds_keep_their_defaults_beside_the_presets() -> None:
    """Under the kinds' names classes are averaged, and alpha and beta weigh errors of foreground alone."""
    for kind in ("dice", "tversky", "focal_tversky", "hybrid_focal", "unified_focal", "combo"):
        assert get_value(losses.parse(kind), "class_reduction") == "mean"
    logits, labels = CASES[2]
    v = Volume(logits, labels)
    assert losses.create("tversky")(logits, labels).item() == pytest.approx(
        tversky(v, 0.3, 0.7, 1e-5)[:, 1].mean(), rel=EXACT
    )
    mean = tversky(v, 0.4, 0.6, 1e-7) ** np.array([1.0, 0.8])
    expected = 0.5 * cross_entropy(v, foreground(v, 0.6), np.array([0.2, 0.0])) + 0.5 * mean.mean()
    assert losses.create("unified_focal")(logits, labels).item() == pytest.approx(expected, rel=EXACT)

"""Write docs/losses.md from what the losses declare: `python scripts/write_losses_page.py`."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from segexplorer import losses
from segexplorer.core.fields import Parameter, parameters
from segexplorer.core.papers import PAPERS
from segexplorer.losses.base import LossSpec

PAGE = Path(__file__).resolve().parents[1] / "docs" / "losses.md"
FAMILIES = {
    "region": "Region losses",
    "distribution": "Distribution (voxel) losses",
    "boundary": "Boundary losses",
    "compound": "Compound losses",
}
"""The families, as in table 1 of Oshah 2025."""

# ruff: noqa: E501  (tables)
INTRODUCTION = """# The losses

*Written by `python scripts/write_losses_page.py` from the losses' own declarations; a test holds it to them.*

A loss is made with `segexplorer.losses.create(KIND, **parameters)` and called as `loss(logits, target)`, with logits
(B, C, *spatial) of 1 to 3 spatial axes and labels (B, 1, *spatial), or a soft target (B, C, *spatial). C = 1 is one
sigmoid foreground. `segexplorer describe losses KIND` prints one of the entries below.

Signs: z logits, p probabilities, g the target as 0 and 1; sums go over voxels; TP = sum pg, FP = sum p(1-g),
FN = sum (1-p)g, G = sum g, Q = sum p^2; M voxels that are kept, K the classes that count, y a voxel's class, eps the smoothing.
**`alpha` weighs false positives and `beta` false negatives wherever these names occur**, whatever a paper calls them.

Unless an entry says otherwise, ratios are taken per sample and class and then averaged; losses that weigh FP against
FN count foreground alone (with two classes, an FP of one is an FN of the other, and counting both would cancel the
weights); region losses count the (class, box) pairs whose class is present. Whatever is a weight is held fixed for
the gradient. Half precision is computed in float32; the value and its gradient are finite for any finite logits.
"""

NOT_HERE = """## Named by the papers, and not here

These cannot be functions of prediction and target alone, or have no settled definition; nothing here pretends to be
one of them.

| loss | what it would need |
|---|---|
| Conditional boundary loss | features of the decoder, the classifier's weights and boundary masks: it pulls the features of boundary voxels to those of their class |
| InverseForm | a second, pre-trained network that regresses the transform between predicted and true edges, and an edge head |
| Boundary-aware loss (Hayder) | a head of K channels that predicts a truncated, quantised distance transform per instance |
| Active boundary loss | slices in 2D and a definition that does not break off where no boundary is predicted; its public form decides voxel by voxel in a loop that depends on the data |
| Shape-aware loss (Al Arif) | a settled definition: the paper weighs the cross entropy by a distance between contours that it does not define for voxels |
"""


def page() -> str:
    """Return the page's text."""
    return "\n".join([INTRODUCTION, *_contents(), *_entries(), *_rules(), *_presets(), *_papers(), NOT_HERE])


def _own() -> dict[str, type[LossSpec]]:
    """The losses of this package, by family and name; those of plug-ins document themselves."""
    own = {k: s for k, s in losses.registry.specs().items() if s.__module__.startswith("segexplorer.")}
    order = list(FAMILIES)
    return dict(sorted(own.items(), key=lambda item: (order.index(item[1].family), item[0])))


def _contents() -> Iterator[str]:
    for family, title in FAMILIES.items():
        links = [f"[`{k}`](#{k})" for k, s in _own().items() if s.family == family]
        yield f"* {title}: {', '.join(links)}"
    yield ""


def _entries() -> Iterator[str]:
    family = ""
    for kind, spec in _own().items():
        if spec.family != family:
            family = spec.family
            yield f"## {FAMILIES[family]}\n"
        yield f"### {kind}\n"
        yield f"**{spec.display_name}.** {inspect.getdoc(spec)}\n"
        yield f"$${spec.formula}$$\n"
        yield f"* Punishes: {spec.punishes}"
        yield f"* Reference: {spec.reference}"
        if spec.papers:
            yield f"* Used in: {', '.join(spec.papers)}"
        if spec.requires:
            yield f"* Needs of the context: {', '.join(spec.requires)}"
        low, high = spec().bounds()
        yield f"* Values: {_number(low)} to {_number(high)}; perfect: {_perfect(spec().best())}\n"
        yield from _table(spec)


def _table(spec: type[LossSpec]) -> Iterator[str]:
    declared = [p for p in parameters(spec) if p.name != "ignore_index"]
    if not declared:
        return
    yield "| parameter | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for p in declared:
        called = f" Called {p.called}." if p.called else ""
        live = " *Live.*" if p.live else ""
        cells = (
            f"`{p.name}`",
            _default(p),
            p.range_text or _choices(p),
            f"{p.title}. {p.meaning}{called}{live}",
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _default(p: Parameter) -> str:
    value = p.default
    if isinstance(value, tuple):
        return ", ".join(str(getattr(v, "kind", getattr(getattr(v, "loss", v), "kind", v))) for v in value)
    text = str(getattr(value, "kind", value))
    return {"None": "none", "": "none"}.get(text, text)


def _choices(p: Parameter) -> str:
    if p.shape.form == "choice":
        return ", ".join(f"`{c}`" for c in p.shape.choices)
    return "yes or no" if p.shape.form == "flag" else ""


def _rules() -> Iterator[str]:
    yield "## Weighting rules\n"
    yield "`weighted_sum` weighs its terms by one of these.\n"
    for kind, rule in losses.weightings.specs().items():
        yield f"* **`{kind}`** ({rule.display_name}): {' '.join((inspect.getdoc(rule) or '').split())}"
        if rule.reference:
            yield f"  Reference: {rule.reference}."
    yield ""


def _presets() -> Iterator[str]:
    yield "## Presets of the papers\n"
    yield "A preset's name stands wherever a kind may: `loss: chen2023_adaptive_region`.\n"
    yield "| preset | what it is | kind | note |"
    yield "|---|---|---|---|"
    for preset in losses.presets().values():
        yield f"| `{preset.name}` | {preset.display_name} | `{preset.spec.kind}` | {preset.note} |"
    yield ""


def _papers() -> Iterator[str]:
    yield "## The papers\n"
    yield "Entries and presets cite them by first author and year.\n"
    yield "| paper | title | names begin with |"
    yield "|---|---|---|"
    for citation, paper in PAPERS.items():
        yield f"| [{citation}](https://doi.org/{paper.doi}) | {paper.title} | `{paper.prefix}_` |"
    yield ""


def _number(value: float) -> str:
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return f"{value:.4g}"


def _perfect(value: float) -> str:
    return "depends on the target" if math.isinf(value) else _number(value)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} holds {len(_own())} losses.\n")

"""What a picker offers of a registry: where to start, by paper, by family; and how it is searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segexplorer.core.papers import PAPERS, Paper, citation_of
from segexplorer.core.purposes import PURPOSES, meant, titles
from segexplorer.core.registry import Preset, Registry
from segexplorer.core.spec import Spec
from segexplorer.viewmodels.formula import spoken

FAMILIES: Mapping[str, str] = {
    "distribution": "Distribution: every voxel's probability",
    "region": "Region: overlap",
    "boundary": "Boundary: distance and shape",
    "compound": "Compound: several together",
}
"""Families of losses as in table 1 of Oshah 2025, in its order."""

START_HERE: Mapping[str, tuple[str, ...]] = {
    "losses": (
        "dice_cross_entropy",
        "tversky",
        "adaptive_tversky_cross_entropy",
        "unified_focal",
        "squared_dice_ce_adaptive_region",
    ),
    "networks": ("unet", "vnet", "dynunet", "segresnet", "unetr"),
}
"""By family of the registry: the few that teach most for a first try; those that are registered are shown."""


@dataclass(frozen=True)
class Choice:
    """One kind or preset.

    Attributes
    ----------
    key
        "kind:NAME" or "preset:NAME".
    title
        Display name; within its paper's group without the paper.
    model
        Spec class.
    preset_note
        What a preset's note says; "" for a kind.
    papers
        Citations of the papers that use it, e.g. "Chen 2023".
    family
        Family it belongs to, "" where kinds have none.
    """

    key: str
    title: str
    model: type[Spec]
    preset_note: str = ""
    papers: tuple[str, ...] = ()
    family: str = ""
    terms: tuple[type[Spec], ...] = ()
    """Spec classes of the terms of a preset that adds several up."""
    spec: Spec | None = None
    """What choosing it gives; None for a kind that has no defaults of its own."""
    purposes: tuple[str, ...] = ()
    """What it is for, by the names of `core.purposes`; of a preset also what its terms are for."""

    @property
    def is_preset(self) -> bool:
        """Whether it is a complete spec rather than a kind."""
        return self.key.startswith("preset:")

    @property
    def searched(self) -> str:
        """Everything a search looks at, in lower case."""
        shown = [_title(model) for model in self.terms]
        shown += [sentence for model in (self.model, *self.terms) for sentence in about(model)]
        meant = [f"{p.title} {p.words}" for p in map(PURPOSES.get, self.purposes) if p is not None]
        words = (self.key, self.title, self.preset_note, self.family, *self.papers, *shown, *meant)
        return " ".join(words).replace("_", " ").lower()


@dataclass(frozen=True)
class Group:
    """A heading of the picker and what is listed below it."""

    title: str
    choices: tuple[Choice, ...]


def choices(registry: Registry[Any]) -> dict[str, Choice]:
    """Return every preset and kind of a registry by its key, presets first."""
    presets = (_of_preset(name, preset) for name, preset in registry.presets().items())
    kinds = (_of_kind(kind, model) for kind, model in registry.specs().items())
    return {found.key: found for found in (*presets, *kinds)}


def choice(registry: Registry[Any], key: str) -> Choice:
    """Return one preset or kind by its key.

    Raises
    ------
    UnknownKindError
        For a kind that is not registered.
    """
    sort, _, name = key.partition(":")
    if sort == "preset":
        return _of_preset(name, registry.presets()[name])
    return _of_kind(name, registry.spec(name))


def _of_preset(name: str, preset: Preset[Any]) -> Choice:
    model = type(preset.spec)
    return Choice(
        f"preset:{name}",
        preset.display_name,
        model,
        preset.note,
        (preset.group,) if preset.group in PAPERS else (),
        getattr(model, "family", ""),
        terms := tuple(type(term.loss) for term in getattr(preset.spec, "terms", ())),
        preset.spec,
        tuple(dict.fromkeys(purpose for m in (model, *terms) for purpose in purposes_of(m))),
    )


def _of_kind(kind: str, model: type[Spec]) -> Choice:
    return Choice(
        f"kind:{kind}",
        with_citation(model),
        model,
        papers=tuple(getattr(model, "papers", ())),
        family=getattr(model, "family", ""),
        spec=None if any(f.is_required() for f in model.model_fields.values()) else model(),
        purposes=purposes_of(model),
    )


def purposes_of(model: type[Spec]) -> tuple[str, ...]:
    """Return what a kind says that it is for, by the names of `core.purposes`."""
    return tuple(getattr(model, "purposes", ()))


def with_citation(model: type[Spec]) -> str:
    """Return what a kind is called, with author and year of where it comes from: "Tversky (Salehi 2017)"."""
    name = model.display_name or str(getattr(model, "model_fields", {})["kind"].default)
    citation = citation_of(getattr(model, "reference", ""))
    return f"{name} ({citation})" if citation and f"({citation})" not in name else name


def groups(registry: Registry[Any]) -> tuple[Group, ...]:
    """Return the groups of a picker: start here, then papers with their presets and kinds, then families.

    A kind is listed in each group it belongs to, except in a paper's beside a preset of the same kind; what has
    neither paper nor family comes last.
    """
    known = choices(registry)
    found = [Group("Start here", tuple(_first(known, START_HERE.get(registry.family, ()))))]
    for paper in PAPERS.values():
        found.append(Group(paper.heading, tuple(_shorter(c, paper) for c in _of_paper(known, paper))))
    kinds = [c for c in known.values() if not c.is_preset]
    families = dict.fromkeys([*FAMILIES, *(c.family for c in kinds if c.family)])
    for family in families:
        title = FAMILIES.get(family, family[:1].upper() + family[1:])
        found.append(Group(title, tuple(c for c in kinds if c.family == family)))
    placed = {c.key for group in found for c in group.choices}
    found.append(Group("Others", tuple(c for c in known.values() if c.key not in placed)))
    return tuple(group for group in found if group.choices)


def _first(known: Mapping[str, Choice], names: Sequence[str]) -> list[Choice]:
    keys = (key for name in names for key in (f"kind:{name}", f"preset:{name}"))
    return [known[key] for key in keys if key in known]


def _of_paper(known: Mapping[str, Choice], paper: Paper) -> list[Choice]:
    found = [c for c in known.values() if paper.citation in c.papers]
    preset = {c.model for c in found if c.is_preset}
    return [c for c in found if c.is_preset or c.model not in preset]


def _shorter(choice: Choice, paper: Paper) -> Choice:
    """Return a preset without its paper in the title, for its paper's own group; kinds as they are."""
    return replace(choice, title=choice.title.removesuffix(f" ({paper.citation})"))


def matches(choice: Choice, query: str) -> bool:
    """Whether each word of a query is somewhere in a choice's name, paper, family or sentences."""
    searched = choice.searched
    return all(word in searched for word in query.lower().replace("_", " ").split())


def filtered(offered: Sequence[Group], query: str) -> tuple[Group, ...]:
    """Return the groups with only what matches; what is for a purpose that the query means comes first."""
    known = {choice.key: choice for group in offered for choice in group.choices}
    first = (
        Group(f"For {purpose.title}", tuple(c for c in known.values() if purpose.name in c.purposes))
        for purpose in meant(query)
    )
    kept = (Group(group.title, tuple(c for c in group.choices if matches(c, query))) for group in offered)
    return tuple(group for group in (*first, *kept) if group.choices)


def about(model: type[Spec]) -> tuple[str, ...]:
    """Return the sentences about a kind: what it punishes (or is), and its reference."""
    first = getattr(model, "penalises", "") or (model.__doc__ or "").strip().partition("\n")[0]
    return tuple(" ".join(str(line).split()) for line in (first, getattr(model, "reference", "")) if line)


def punished(choice: Choice) -> str:
    """Return what a choice punishes (or is); of a preset with terms, what each of them does."""
    own, *_ = (*about(choice.model), "")
    if not choice.terms:
        return own
    return "\n".join(f"{_title(model)}: {about(model)[0]}" for model in choice.terms)


def reference(choice: Choice) -> str:
    """Return where a choice comes from, with title and DOI of each paper that is cited; "" where none is known."""
    models = choice.terms or (choice.model,)
    lines = dict.fromkeys(sentence for model in models for sentence in about(model)[1:])
    cited = " ".join((*lines, *(choice.papers if choice.is_preset else ())))
    return "\n".join((*lines, *(paper.reference for name, paper in PAPERS.items() if name in cited)))


def formula(choice: Choice) -> str:
    """Return a choice's formula in LaTeX, with those of its terms; "" where it has none."""
    of_terms = (rf"\text{{{_title(model)}: }}{formula_of(model)}" for model in choice.terms)
    return r",\qquad ".join((formula_of(choice.model), *of_terms))


def formula_of(model: type[Spec]) -> str:
    """Return a kind's formula in LaTeX; "" where it has none."""
    return str(getattr(model, "formula", ""))


def spoken_formula(choice: Choice) -> str:
    """Return a choice's formula as one line of text."""
    return spoken(formula(choice))


def _title(model: type[Spec]) -> str:
    return str(getattr(model, "display_name", model.__name__))


def range_sentence(spec: Spec | None) -> str:
    """Return range and best value of a loss under its parameters in one sentence; "" for what has none."""
    bounds, best_of = getattr(spec, "bounds", None), getattr(spec, "best", None)
    if bounds is None or best_of is None:
        return ""
    (low, high), best = bounds(), float(best_of())
    lowest, highest = _number(low), _number(high)
    if math.isinf(high):
        extent = "any number" if math.isinf(low) else f"from {lowest} up"
    else:
        extent = f"from {lowest} to {highest}"
    shown = "the lower the better" if math.isinf(best) else f"best is {_number(best)}"
    return f"Values: {extent}; {shown}."


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def where_used(choice: Choice) -> str:
    """Return "Used in Zhang 2025, Chen 2023; family: region" and the like; "" where neither is known."""
    head = f"Used in {', '.join(choice.papers)}" if choice.papers else ""
    return "; ".join(text for text in (head, f"family: {choice.family}" if choice.family else "") if text)


def for_what(choice: Choice) -> str:
    """Return "For class imbalance; fewer false negatives (missed)"; "" where no purpose is known."""
    return f"For {'; '.join(titles(choice.purposes))}" if choice.purposes else ""


def purposes_in(offered: Sequence[Group]) -> tuple[str, ...]:
    """Return the titles of the purposes that something of these groups is for, in their order."""
    used = {name for group in offered for choice in group.choices for name in choice.purposes}
    return titles(tuple(name for name in PURPOSES if name in used))

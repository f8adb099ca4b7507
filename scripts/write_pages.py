"""Fill in the generated parts of the documentation: `make pages`, or `python scripts/write_pages.py`.

A page of docs/ is written by hand, except between a pair of comments:

    <!-- begin losses -->
    <!-- end losses -->

What goes between them is printed by the function of that name in `BLOCKS`, from what the package itself declares:
registries, parameters, commands, docstrings. Nothing is listed here by hand, so a new loss appears on its page by
running this once more. A test compares the pages with what this prints.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import typer
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel

import segexplorer
from segexplorer import losses, metrics, networks
from segexplorer.core.errors import DataError, ExitCode
from segexplorer.core.fields import Parameter, parameters
from segexplorer.core.papers import PAPERS
from segexplorer.core.purposes import PURPOSES, titles
from segexplorer.core.registry import Declarations, Declared, Registry
from segexplorer.core.spec import Spec
from segexplorer.data import datasets
from segexplorer.data.formats import registry as readers
from segexplorer.frontends.cli.app import app
from segexplorer.frontends.cli.catalogue import known_families
from segexplorer.frontends.napari.keys import GESTURES, KEYS
from segexplorer.metrics.base import Metric
from segexplorer.metrics.calibration import CalibrationMetric
from segexplorer.networks.base import SupervisedNetwork
from segexplorer.networks.cost import cost, memory_estimate, parameter_count
from segexplorer.study.designs import Design, measured, withheld
from segexplorer.training.experiment import Experiment
from segexplorer.viewmodels.catalogue import FAMILIES
from segexplorer.viewmodels.lectures import LECTURES, Lecture

DOCS = Path(__file__).resolve().parents[1] / "docs"
MARKED = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
COST_PATCH = (96, 96, 96)
COMMON = {"ignore_index"}
"""Parameters of every loss, explained once at the head of the page."""

S = TypeVar("S", bound=Spec)
D = TypeVar("D", bound=Declared)
Lines = Iterator[str]
BLOCKS: dict[str, Callable[[], Lines]] = {}


def block(function: Callable[[], Lines]) -> Callable[[], Lines]:
    """Offer a function as a block under its own name, with hyphens."""
    BLOCKS[function.__name__.replace("_", "-")] = function
    return function


def filled(text: str) -> str:
    """Return a page with all its blocks printed anew.

    Raises
    ------
    KeyError
        When a page asks for a block that is not here.
    """

    def printed(match: re.Match[str]) -> str:
        lines = "\n".join(BLOCKS[match[2]]()).strip()
        return f"{match[1]}\n{lines}\n\n{match[3]}"

    return MARKED.sub(printed, text)


def pages() -> list[Path]:
    """Return the pages that have a generated part."""
    return [path for path in sorted(DOCS.rglob("*.md")) if MARKED.search(path.read_text(encoding="utf-8"))]


# ---- lectures


def lecture_steps(lecture: Lecture) -> Lines:
    """Each step of a lecture as the window asks for it: question, clicks, and the answer folded away."""
    for number, step in enumerate(lecture.steps, 1):
        yield f"### Step {number}\n"
        yield f"**Predict.** {step.predict}\n"
        yield f"**Then click.** {step.do}\n"
        yield f"<details>\n<summary>Answer</summary>\n\n{step.answer}\n\n</details>\n"


for _name, _lecture in LECTURES.items():
    BLOCKS[f"lecture-{_name}"] = partial(lecture_steps, _lecture)


# ---- losses and weightings


@block
def losses_overview() -> Lines:
    """One table per family of losses."""
    for family, title in FAMILIES.items():
        yield f"### {title}\n"
        rows = [
            (f"[`{kind}`](#{kind})", spec.display_name, spec.penalises)
            for kind, spec in _own(losses.registry).items()
            if spec.family == family
        ]
        yield from _table(("Kind", "Name", "What it penalises"), rows)


@block
def losses_by_purpose() -> Lines:
    """What to look at for a purpose."""
    kinds = _own(losses.registry)
    rows = [
        (
            title_of(purpose),
            ", ".join(f"[{s.display_name}](#{k})" for k, s in kinds.items() if purpose in s.purposes),
        )
        for purpose in PURPOSES
    ]
    yield from _table(("For", "Losses"), [row for row in rows if row[1]])


def title_of(purpose: str) -> str:
    """Return a purpose's title as the beginning of a sentence."""
    title = PURPOSES[purpose].title
    return title[:1].upper() + title[1:]


@block
def losses_entries() -> Lines:
    """Formula, source, values and parameters of every loss."""
    for kind, spec in _own(losses.registry).items():
        low, high = spec().bounds()
        yield f"### `{kind}`\n"
        yield f"**{spec.display_name}.** {_doc(spec)}\n"
        yield f"$$\n{spec.formula}\n$$\n"
        yield f"- **Penalises:** {spec.penalises}"
        if spec.purposes:
            yield f"- **For:** {'; '.join(titles(spec.purposes))}"
        yield f"- **Reference:** {spec.reference}"
        if spec.papers:
            yield f"- **Used in:** {', '.join(spec.papers)}"
        if spec.requires:
            yield f"- **Needs:** {', '.join(name.replace('_', ' ') for name in spec.requires)}"
        yield f"- **Values:** {_number(low)} to {_number(high)}; {_perfect(spec().best())}\n"
        yield from _parameters(spec, leave_out=COMMON)


@block
def loss_presets() -> Lines:
    """The losses of the papers, ready to use."""
    rows = [
        (f"`{preset.name}`", preset.display_name, f"[`{preset.spec.kind}`](#{preset.spec.kind})", preset.note)
        for preset in losses.presets().values()
    ]
    yield from _table(("Preset", "Name", "Kind", "Note"), rows)


@block
def papers() -> Lines:
    """The papers that are cited everywhere by author and year."""
    rows = [
        (f"[{citation}](https://doi.org/{paper.doi})", paper.title, f"`{paper.prefix}_`")
        for citation, paper in PAPERS.items()
    ]
    yield from _table(("Paper", "Title", "Names begin with"), rows)


@block
def weightings_entries() -> Lines:
    """How the weights of a weighted sum move."""
    for kind, spec in _own(losses.weightings).items():
        yield f"## `{kind}`\n"
        yield f"**{spec.display_name}.** {_doc(spec)}\n"
        if spec.reference:
            yield f"Reference: {spec.reference}.\n"
        yield from _parameters(spec)


# ---- networks


@block
def networks_overview() -> Lines:
    """What every network costs with its defaults."""
    rows = []
    for kind, spec in _own(networks.registry).items():
        network = spec()
        needed = memory_estimate(network, COST_PATCH, 2, in_channels=1, out_channels=2)
        count = parameter_count(network, dimensions=3, in_channels=1, out_channels=2)
        rows.append(
            (
                f"[`{kind}`](#{kind})",
                spec.display_name,
                f"{count / 1e6:.1f} M",
                f"{cost(network, COST_PATCH).flops / 1e9:,.0f}",
                f"{needed / 2**30:.1f}",
                str(network.divisor(3)[0]),
                "yes" if isinstance(network, SupervisedNetwork) else "no",
            )
        )
    heads = ("Kind", "Name", "Parameters", "GFLOPs", "GiB", "Divisor", "Deep supervision")
    yield from _table(heads, rows)


@block
def networks_entries() -> Lines:
    """Description, source and parameters of every network."""
    for kind, spec in _own(networks.registry).items():
        yield f"### `{kind}`\n"
        yield f"**{spec.display_name}.** {_doc(spec)}\n"
        if spec.purposes:
            yield f"- **For:** {'; '.join(titles(spec.purposes))}"
        yield f"- **Reference:** {spec.reference}"
        if spec.papers:
            yield f"- **Used in:** {', '.join(spec.papers)}"
        if spec.packages:
            yield f"- **Needs:** `pip install {' '.join(spec.packages)}`"
        yield ""
        yield from _parameters(spec)


@block
def network_presets() -> Lines:
    """The networks of the papers, ready to use."""
    rows = [
        (f"`{name}`", preset.display_name, f"[`{preset.spec.kind}`](#{preset.spec.kind})", preset.note)
        for name, preset in sorted(networks.registry.presets().items())
        if _is_ours(type(preset.spec))
    ]
    yield from _table(("Preset", "Name", "Kind", "Note"), rows)


# ---- data


@block
def datasets_overview() -> Lines:
    """Every layout of a data set in one table."""
    rows = [
        (f"[`{kind}`](#{kind})", spec.display_name, _first_sentence(spec), _classes(spec))
        for kind, spec in _own(datasets.registry).items()
    ]
    yield from _table(("Kind", "Name", "What it is", "Classes"), rows)


@block
def datasets_entries() -> Lines:
    """Folder and settings of every layout."""
    common = {p.name for p in parameters(datasets.registry.base)}
    for kind, spec in _own(datasets.registry).items():
        yield f"### `{kind}`\n"
        yield f"**{spec.display_name}.** {_doc(spec)}\n"
        if "\n" in spec.layout:
            yield f"```text\n{spec.layout}\n```\n"
        yield from _parameters(spec, leave_out=common)


@block
def datasets_common() -> Lines:
    """The settings that every data set has."""
    yield from _parameters(datasets.registry.base)


@block
def formats() -> Lines:
    """Every file format, by suffix."""
    rows = [
        (
            known.name[0].upper() + known.name[1:],
            " ".join(f"`{suffix}`" for suffix in known.suffixes),
            " ".join(f"`{suffix}`" for suffix in known.writes) or "–",
            "yes" if known.named else "no",
            "yes" if known.folders else "no",
            "built in" if known.library == "own" else known.library,
        )
        for known in _own_declarations(readers.formats).values()
    ]
    yield from _table(("Format", "Read", "Written", "Label names", "Folders", "Library"), rows)


def _classes(spec: type[datasets.DatasetSpec]) -> str:
    """The classes that the kind itself knows, without any files."""
    try:
        named = spec.model_construct(root="no-such-folder").named_values()
    except (DataError, AttributeError, OSError):
        return "as the data set names them"
    values = ", ".join(f"{name} {'/'.join(map(str, given))}" for name, given in named.items())
    return values or "what the labels hold"


# ---- metrics


@block
def metrics_overview() -> Lines:
    """Every metric in one table."""
    rows = [
        (
            f"[`{name}`](#{name})",
            m.display_name,
            m.definition,
            m.unit or "–",
            m.range_text,
            {"zero": "nearer to 0"}.get(m.better, m.better),
            "default" if m.default else "on request",
            ", ".join(m.papers) or "–",
        )
        for name, m in _own_declarations(metrics.registry).items()
    ]
    yield from _table(
        ("Name", "What it is", "Definition", "Unit", "Range", "Better", "Computed", "Reported in"), rows
    )


@block
def metrics_edge_cases() -> Lines:
    """What every metric gives where a structure is missed, spurious or absent; computed."""
    here, there, nowhere = _mask((2, 2, 2)), _mask((7, 7, 7)), _mask()
    cases = {
        "Perfect": (here, here),
        "No overlap": (here, there),
        "Missed": (nowhere, here),
        "Spurious": (here, nowhere),
        "Absent": (nowhere, nowhere),
    }
    every, spacing = metrics.names(), (1.0, 1.0, 1.0)
    scored = [
        metrics.score_case(p, t, ("x",), spacing, surfaces=True, metrics=every)[0] for p, t in cases.values()
    ]
    rows = [
        (f"`{name}`", *(_score(score.metrics[name], metric) for score in scored))
        for name, metric in _own_declarations(metrics.registry).items()
        if not isinstance(metric, CalibrationMetric)
    ]
    yield from _table(("Name", *cases), rows)


@block
def metrics_example() -> Lines:
    """One pair of shapes under every definition of a surface distance."""
    axes = np.ogrid[:40, :80, :80]
    spacing = (2.5, 1.0, 1.0)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.uint8]:
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1
        return np.asarray(inside, np.uint8)

    truth, found = ellipsoid((20, 40, 40), (10, 26, 20)), ellipsoid((20, 41, 39), (9, 25, 20))
    found |= ellipsoid((20, 64, 40), (4, 12, 8))
    (score,) = metrics.score_case(found, truth, ("x",), spacing, surfaces=True)
    named = [
        name
        for name, m in _own_declarations(metrics.registry).items()
        if m.unit == "mm" and m.default and not name.endswith("_penalised")
    ]
    yield "| " + " | ".join(f"`{name}`" for name in named) + " |"
    yield "|" + "---:|" * len(named)
    yield "| " + " | ".join(f"{score.metrics[name]:.2f}" for name in named) + " |"


@block
def metrics_entries() -> Lines:
    """Formula and source of every metric."""
    for name, metric in _own_declarations(metrics.registry).items():
        yield f"### `{name}`\n"
        yield f"**{metric.title}.** {metric.note}".rstrip() + "\n"
        yield f"$$\n{metric.formula}\n$$\n"
        yield f"- **Reference:** {metric.reference}"
        if metric.papers:
            yield f"- **Reported in:** {', '.join(metric.papers)}"
        yield ""


@block
def metrics_tasks() -> Lines:
    """Which metrics are recommended for each task, and why."""
    for task in metrics.TASKS.values():
        yield f"## {task.title}\n"
        yield f"{task.advice}\n"
        rows = [
            (
                f"[`{m.name}`](../reference/metrics.md#{m.name})",
                m.display_name,
                m.tasks[task.name],
                "default" if m.default else "on request",
            )
            for m in metrics.metrics_for(task.name)
            if m.name in _own_declarations(metrics.registry)
        ]
        yield from _table(("Metric", "What it is", "Why", "Computed"), rows)
        yield ""


@block
def metrics_pitfalls() -> Lines:
    """Every pitfall, and the metrics that it misleads."""
    own = _own_declarations(metrics.registry)
    rows = [
        (
            pitfall.title,
            pitfall.explanation,
            ", ".join(
                f"`{name}`" for name, m in own.items() if pitfall.name in m.pitfalls and not m.protocol
            ),
        )
        for pitfall in metrics.PITFALLS.values()
    ]
    yield from _table(("Pitfall", "What to know", "Misleads"), rows)


@block
def metrics_options() -> Lines:
    """What the definitions of metrics on request leave open."""
    yield from _parameters(metrics.MetricOptions)


@block
def metrics_protocols() -> Lines:
    """Published scorers and the metrics that they compute."""
    for protocol in metrics.PROTOCOLS.values():
        yield f"**{protocol.title}**, `--protocol {protocol.name}`. {protocol.explanation}\n"
        rows = [(f"[`{m.name}`](#{m.name})", m.title, m.note) for m in metrics.metrics_for(protocol.name)]
        yield from _table(("Metric", "What it is", "Note"), rows)
        yield ""


def _mask(voxel: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    volume = np.zeros((10, 10, 10), np.uint8)
    if voxel is not None:
        volume[voxel] = 1
    return volume


def _score(value: float, metric: Metric) -> str:
    if math.isnan(value):
        return "–"
    if metric.unit == "mm" and math.isclose(value, math.sqrt(3) * 10):
        return "diagonal"
    return f"{value:.3g}" + (f" {metric.unit}" if metric.unit and value else "")


# ---- the experiment file


@block
def experiment_settings() -> Lines:
    """Every section of an experiment file with all of its settings."""
    declared = parameters(Experiment)
    single = [p for p in declared if p.shape.form not in ("kind", "group")]
    yield "## Settings without a section\n"
    yield from _settings_table(single, "")
    for p in declared:
        if p.shape.form == "group":
            assert p.shape.spec is not None
            yield f"## `{p.name}`\n"
            yield f"{p.description}\n"
            yield from _settings_table(parameters(p.shape.spec), f"{p.name}.")
        elif p.shape.form == "kind":
            family = p.shape.registry.family
            yield f"## `{p.name}`\n"
            chosen = f"Default: `{_default(p)}`." if not p.required else "It has to be given."
            yield f"{p.description} A kind of [{family}]({_page_of(family)}). {chosen}\n"


@block
def experiment_kinds() -> Lines:
    """The kinds that an experiment file chooses from, of every family without a page of its own."""
    chosen = set(_families_of(Experiment))
    for family, registry in _without_page().items():
        if family in chosen:
            yield from _family(family, registry)


@block
def other_kinds() -> Lines:
    """The kinds that no experiment file chooses from."""
    chosen = set(_families_of(Experiment))
    for family, registry in _without_page().items():
        if family not in chosen:
            yield from _family(family, registry)


@block
def window_keys() -> Lines:
    """The keys of the window."""
    yield from _table(("Key", "What it does"), [(f"`{key.key}`", key.title) for key in KEYS])


@block
def window_mouse() -> Lines:
    """What the mouse does over slices."""
    yield from _table(("Mouse", "What it does"), GESTURES)


def _without_page() -> dict[str, Registry[Any]]:
    """Our families that have no page of their own, by name.

    Panels are left out: they are settings of no experiment, and registered only where there is a window.
    """
    pages_of = {path.stem for path in (DOCS / "reference").glob("*.md")}
    return {
        family: registry
        for family, registry in sorted(known_families().items())
        if family not in pages_of
        and registry.base.__module__.startswith("segexplorer.")
        and not registry.base.__module__.startswith("segexplorer.frontends.")
    }


def _family(family: str, registry: Registry[Any]) -> Lines:
    yield f"## {family.capitalize()}\n"
    for kind, spec in _own(registry).items():
        yield f"### `{kind}`\n"
        yield f"**{spec.display_name}.** {_doc(spec)}\n"
        yield from _parameters(spec)


def _families_of(model: type[BaseModel]) -> Iterator[str]:
    """Yield the families that the settings of a spec choose from, those of nested groups included."""
    shapes = [p.shape for p in parameters(model)]
    while shapes:
        shape = shapes.pop()
        shapes += shape.items
        if shape.registry is not None:
            yield shape.registry.family
        elif shape.spec is not None:
            yield from _families_of(shape.spec)


@block
def experiment_defaults() -> Lines:
    """A complete file with every default written out."""
    plain = Experiment.of({"data": {"kind": "phantom"}}).plain()
    yield f"```yaml\n{yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).strip()}\n```"


def _page_of(family: str) -> str:
    own = DOCS / "reference" / f"{family}.md"
    return own.name if own.is_file() else f"#{family}"


# ---- rates and coverages of comparisons


@block
def aa_rates() -> Lines:
    """How often a condition differs from itself, by design and population, and whether the design allows stars."""
    rows = measured()["aa"]
    populations = measured()["populations"]
    table = []
    for seeds, folds, cases in sorted({(row["seeds"], row["folds"], row["cases"]) for row in rows}):
        these = {
            r["population"]: r for r in rows if (r["seeds"], r["folds"], r["cases"]) == (seeds, folds, cases)
        }
        rates = ["–" if these[p]["rate"] is None else _percent(these[p]["rate"]) for p in populations]
        failing = [
            p["failing"] for p in these.values() if not withheld(Design(cases, seeds, folds, p["failing"]))
        ]
        star = f"up to {100 * max(failing):.0f} % failing" if failing else "no"
        over_cases = _percent(max(r["over_cases"] for r in these.values()), 0)
        table.append((str(seeds), str(cases), str(folds), *rates, star, over_cases))
    heads = ("Seeds", "Cases", "Folds", *populations, "Star", "Wilcoxon over cases alone")
    yield from _table(heads, table)
    yield "The simulated populations are:\n"
    yield from (f"- **{name}**: {meaning}" for name, meaning in populations.items())


@block
def interval_coverage() -> Lines:
    """How often the 95 % interval of a difference contains the true one, by population, cases and seeds."""
    rows = measured()["coverage"]
    seeds = sorted({row["seeds"] for row in rows})
    table = []
    for population, cases in dict.fromkeys((row["population"], row["cases"]) for row in rows):
        these = {r["seeds"]: r for r in rows if (r["population"], r["cases"]) == (population, cases)}
        crossed = [_percent(these[s]["crossed"], 0) for s in seeds if s > 1]
        over_cases = [_percent(these[s]["over_cases"], 0) for s in (seeds[0], seeds[-1])]
        table.append((population, str(cases), *crossed, *over_cases))
    heads = [*(f"{s} seeds" for s in seeds if s > 1), "Over cases alone, 1 seed", f"... {seeds[-1]} seeds"]
    yield from _table(("Population", "Cases", *heads), table)
    yield from (f"- **{name}**: {meaning}" for name, meaning in measured()["truths"].items())


@block
def mean_coverage() -> Lines:
    """How often the 95 % interval of a condition's mean contains the true mean of its trained networks."""
    rows = measured()["means"]
    cases = sorted({row["cases"] for row in rows})
    table = [
        (
            name,
            *(
                _percent(r["coverage"], 0)
                for n in cases
                for r in rows
                if (r["population"], r["cases"]) == (name, n)
            ),
        )
        for name in dict.fromkeys(row["population"] for row in rows)
    ]
    yield from _table(("Population", *(f"{n} cases" for n in cases)), table)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


# ---- the command line


@block
def exit_codes() -> Lines:
    """Every exit code with its meaning."""
    yield from _table(("Exit code", "Meaning"), [(f"{code.value}", code.description) for code in ExitCode])


@block
def commands() -> Lines:
    """Every command with its arguments and options, by panel."""
    group: Any = typer.main.get_command(app)
    panels: dict[str, list[tuple[str, Any]]] = {}
    for name, command in group.commands.items():
        if not command.hidden:
            panels.setdefault(command.rich_help_panel, []).append((name, command))
    for panel, members in panels.items():
        yield f"## {panel}\n"
        for name, command in members:
            hints = get_type_hints(inspect.unwrap(command.callback))
            given = [p for p in command.params if p.param_type_name == "argument"]
            words = [_argument(p) if p.required else f"[{_argument(p)}]" for p in given]
            usage = ["[OPTIONS]"] * (len(given) < len(command.params)) + words
            yield f"### `{name}`\n"
            yield f"{_with_options_as_code(command.help)}\n"
            yield f"```text\n{' '.join(['segexplorer', name, *usage])}\n```\n"
            rows = [
                (_flags(p, hints.get(p.name)), _with_options_as_code(p.help or ""), _shown_default(p))
                for p in command.params
            ]
            yield from _table(("Argument or option", "What it does", "Default"), rows)


def _with_options_as_code(text: str) -> str:
    return re.sub(r"(?<![`\w-])(--[a-z][a-z-]*)", r"`\1`", text)


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _flags(parameter: Any, annotation: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    value = parameter.metavar or "|".join(map(str, choices))
    return f"{names} `{value}`" if value else names


def _shown_default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.required:
        return "required"
    if parameter.default in (None, "", False, True) or parameter.show_default is False:
        return ""
    return f"`{parameter.default}`"


# ---- Python


@block
def python_names() -> Lines:
    """Directives for the names of `import segexplorer`; the site fills them in from the docstrings."""
    for name in segexplorer.__all__:
        value = getattr(segexplorer, name)
        yield f"## `segexplorer.{name}`\n"
        if inspect.ismodule(value):
            yield f"{_doc(value)}\n"
            offered = ("names", "spec", "create", "presets", "parse")
            functions = [n for n in offered if callable(getattr(value, n, None))]
            homes = [(n, getattr(value, n)) for n in functions]
            for function, member in homes:
                if inspect.isfunction(member):
                    yield f"```{{eval-rst}}\n.. autofunction:: {value.__name__}.{function}\n   :no-index:\n```\n"
                else:  # a method of the registry
                    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(member)))
                    yield f"`segexplorer.{name}.{function}{signature}`"
                    yield f": {(inspect.getdoc(member) or '').splitlines()[0]}\n"
        elif inspect.isclass(value):
            yield f"```{{eval-rst}}\n.. autoclass:: {value.__module__}.{value.__qualname__}\n   :members:\n```\n"
        elif not inspect.isfunction(value):  # what is called, and has further functions
            of = f"{type(value).__module__}.{type(value).__qualname__}"
            yield f"```{{eval-rst}}\n.. autoclass:: {of}\n   :members:\n   :special-members: __call__\n```\n"
        else:
            yield f"```{{eval-rst}}\n.. autofunction:: {value.__module__}.{value.__qualname__}\n```\n"


# ---- what all of them share


def _is_ours(spec: type) -> bool:
    return spec.__module__.startswith(f"{segexplorer.__name__}.")


def _own(registry: Registry[S]) -> dict[str, type[S]]:
    """The kinds of this package by name; those of plug-ins document themselves."""
    return {kind: spec for kind, spec in sorted(registry.specs().items()) if _is_ours(spec)}


def _own_declarations(registry: Declarations[D]) -> dict[str, D]:
    """The metrics or formats of this package by name, in their own order."""
    return {name: member for name, member in registry.items() if not registry.package_of(name)}


def _doc(thing: object) -> str:
    return inspect.getdoc(thing) or ""


def _first_sentence(thing: object) -> str:
    return _doc(thing).split("\n\n")[0].replace("\n", " ")


def _parameters(spec: type[BaseModel], leave_out: Iterable[str] = ()) -> Lines:
    declared = [p for p in parameters(spec) if p.name not in set(leave_out)]
    if declared:
        yield from _settings_table(declared, "")


def _settings_table(declared: Iterable[Parameter], prefix: str) -> Lines:
    yield from _table(("Setting", "Default", "Range", "Meaning"), list(_rows(declared, prefix)))


def _rows(declared: Iterable[Parameter], prefix: str) -> Iterator[tuple[str, ...]]:
    """One row per setting; those of a nested group follow it under their dotted names."""
    for p in declared:
        if p.shape.form == "group" and p.shape.spec is not None and not p.shape.optional:
            yield f"`{prefix}{p.name}`", "", "", f"**{p.title}.** {p.description}"
            yield from _rows(parameters(p.shape.spec), f"{prefix}{p.name}.")
            continue
        called = f" Called {p.called}." if p.called else ""
        live = " *Live.*" if p.live else ""
        unit = f", {p.unit}" if p.unit and p.unit != p.title.lower() else ""
        description = f"**{p.title}{unit}.** {p.description}{called}{live}"
        yield f"`{prefix}{p.name}`", _default_text(p), _range(p), description


def _default_text(p: Parameter) -> str:
    if p.required:
        return "required"
    text = _default(p)
    return f"`{text}`" if text != "none" else text


def _default(p: Parameter) -> str:
    value = p.default
    if isinstance(value, str) and p.shape.form == "kind":
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return (
            ", ".join(str(getattr(v, "kind", getattr(getattr(v, "loss", v), "kind", v))) for v in value)
            or "none"
        )
    if isinstance(value, Mapping):
        return ", ".join(map(str, value)) or "none"
    text = str(getattr(value, "kind", value))
    return {"None": "none", "": "none"}.get(text, text)


def _range(p: Parameter) -> str:
    if p.range_text:
        return p.range_text
    if p.shape.form == "choice":
        return ", ".join(f"`{c}`" for c in p.shape.choices)
    if p.shape.form == "kind":
        return f"one of the {p.shape.registry.family}"
    return "true or false" if p.shape.form == "flag" else ""


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Lines:
    heads, rows = tuple(heads), tuple(rows)
    if rows and not any(row[-1] for row in rows):  # a column that nobody fills
        heads, rows = heads[:-1], tuple(row[:-1] for row in rows)
    if not rows:
        return
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    """Keep what would end a cell, or open an HTML tag outside code, from doing so."""
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(piece if i % 2 else piece.replace("<", "\\<") for i, piece in enumerate(pieces))


def _number(value: float) -> str:
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return f"{value:.4g}"


def _perfect(value: float) -> str:
    if math.isinf(value):
        return "the value of a perfect prediction depends on the target"
    return f"{_number(value)} for a perfect prediction"


def main() -> None:
    """Write every page whose generated part has changed, and name it."""
    importlib.import_module("segexplorer.training.experiment")  # registers every family
    changed = 0
    for path in pages():
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            sys.stdout.write(f"{path.relative_to(DOCS.parent)} is written anew.\n")
            changed += 1
    sys.stdout.write(f"{len(pages())} pages are up to date; {changed} of them changed.\n")


if __name__ == "__main__":
    main()

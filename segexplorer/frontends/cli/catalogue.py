"""`list`, `describe`, `plugins` and `schema`: what the registries and the declared parameters say, printed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from segexplorer.core import plugins
from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.fields import Parameter, Shape, parameters
from segexplorer.core.papers import citation_of, full_reference
from segexplorer.core.purposes import titles as purpose_titles
from segexplorer.core.registry import Declarations, Preset, Registry, declared_families, families
from segexplorer.core.schema import json_schema
from segexplorer.core.spec import Spec
from segexplorer.frontends.cli.terminal import print_json, remarks, results
from segexplorer.viewmodels.catalogue import purposes_of, with_citation

FACTS = ("formula", "reference", "penalises", "purposes", "papers", "requires")
"""Class variables that a spec may have for people to read."""


def known_families() -> dict[str, Registry[Any]]:
    """Return every family, registered: what an experiment can hold, and exporters."""
    # importing them registers every kind
    import segexplorer.data.results
    import segexplorer.training.experiment
    import segexplorer.training.exporters  # noqa: F401

    return dict(families())


def known_declarations() -> dict[str, Declarations[Any]]:
    """Return every family of declared objects."""
    import segexplorer.data.formats
    import segexplorer.metrics
    import segexplorer.training.doctor  # noqa: F401

    return dict(declared_families())


def find_family(name: str) -> Registry[Any]:
    """Return the registry of a family of kinds.

    Raises
    ------
    SpecError
        With the nearest names.
    """
    known = known_families()
    if name in known:
        return known[name]
    raise SpecError(f"There is no family {name!r}.", did_you_mean(name, [*known, *known_declarations()]))


def print_families(*, as_json: bool) -> None:
    """Print the families, and the names in each."""
    kinds, declared = known_families(), known_declarations()
    if as_json:
        print_json({name: registry.names() for name, registry in (*kinds.items(), *declared.items())})
        return
    table = _table("family", "kinds")
    for name, registry in kinds.items():
        table.add_row(name, ", ".join(_names(registry)))
    for name, declarations in declared.items():
        table.add_row(name, ", ".join(declarations))
    results().print(table)


def print_family(name: str, *, as_json: bool) -> None:
    """Print the kinds and presets of one family, or its declared objects."""
    if name in (declared := known_declarations()):
        _print_declarations(declared[name], as_json=as_json)
        return
    registry = find_family(name)
    specs, presets = registry.specs(), registry.presets()
    if as_json:
        rows: list[dict[str, Any]] = []
        for kind, spec in specs.items():
            rows.append({"kind": kind, "display_name": spec.display_name})
            if hasattr(spec, "purposes"):
                rows[-1] |= {
                    "citation": citation_of(getattr(spec, "reference", "")),
                    "purposes": list(spec.purposes),
                }
        rows += [
            {"preset": p.name, "display_name": p.display_name, "group": p.group} for p in presets.values()
        ]
        print_json(rows)
        return
    table = _table(registry.noun, "name", "what it is, and what for")
    for kind, spec in specs.items():
        purposes = "; ".join(purpose_titles(purposes_of(spec)))
        told = f"{_first_line(spec)}\nFor {purposes}." if purposes else _first_line(spec)
        table.add_row(kind, escape(with_citation(spec)), escape(told))
    if presets:
        table.add_section()
    for preset in presets.values():
        table.add_row(preset.name, escape(preset.display_name), escape(preset.note or preset.group))
    out = results()
    out.print(table)
    out.print(f"More about one: segexplorer describe {name} NAME")


def print_kind(family: str, kind: str, *, as_json: bool) -> None:
    """Print everything declared about a kind, a preset, or a declared object.

    Raises
    ------
    SpecError
        With the nearest names; for a kind before its family, with the order.
    """
    known, declared = known_families(), known_declarations()
    if family in declared:
        _print_declaration(declared[family].spec(kind).facts(), as_json=as_json)
        return
    if family not in known and (
        (kind in known and family in _names(known[kind])) or (kind in declared and family in declared[kind])
    ):
        raise SpecError("The family comes first.", f"Write: segexplorer describe {kind} {family}")
    registry = find_family(family)
    preset = registry.presets().get(kind)
    spec = type(preset.spec) if preset is not None else registry.spec(kind)
    if as_json:
        print_json(_kind_facts(spec, preset))
    else:
        _print_kind(spec, preset)


def print_task(family: str, kind: str | None, task: str, *, as_json: bool) -> None:
    """Print which metrics to report for a task and why, and the pitfalls that decide; or a protocol's metrics.

    Raises
    ------
    SpecError
        For another family than metrics, or beside the name of a metric.
    UnknownKindError
        With the nearest names of tasks.
    """
    from segexplorer.metrics.tasks import METRICS_RELOADED, PITFALLS, PROTOCOLS, TASKS, metrics_for

    if family != "metrics" or kind is not None:
        raise SpecError("Tasks belong to metrics.", "Write: segexplorer describe metrics --task lesions")
    chosen = metrics_for(task)
    protocol = PROTOCOLS.get(task)
    title, advice = (
        (protocol.title, protocol.explanation) if protocol else (TASKS[task].title, TASKS[task].advice)
    )
    reasons = {m.name: m.definition if protocol else m.tasks[task] for m in chosen}
    pitfalls = {
        name: [m.name for m in chosen if name in m.pitfalls]
        for name in PITFALLS
        if any(name in m.pitfalls for m in chosen)
    }
    if as_json:
        print_json(
            {
                "task": task,
                "title": title,
                "advice": advice,
                "metrics": reasons,
                "pitfalls": {
                    name: {"explanation": PITFALLS[name].explanation, "mislead": misled}
                    for name, misled in pitfalls.items()
                },
            }
        )
        return
    out = results()
    out.print(f"[bold]{escape(title)}[/bold]")
    out.print(escape(advice), soft_wrap=not out.is_terminal)
    out.print()
    table = _table("metric", "what it is", "definition" if protocol else "why", "by default")
    for metric in chosen:
        by_default = "yes" if metric.default else "on request"
        table.add_row(metric.name, escape(metric.title), escape(reasons[metric.name]), by_default)
    out.print(table)
    out.print()
    table = _table("pitfall", "what to know", "misleads")
    for name, misled in pitfalls.items():
        table.add_row(PITFALLS[name].title, escape(PITFALLS[name].explanation), ", ".join(misled))
    out.print(table)
    out.print()
    option = f"--protocol {task}" if protocol else f"--metrics {task}"
    out.print(f"Compute them: segexplorer evaluate PREDICTION TRUTH {option}")
    source = protocol.reference if protocol else METRICS_RELOADED
    out.print(f"More about one: segexplorer describe metrics NAME. After {source}.", soft_wrap=True)


def _print_declarations(declarations: Declarations[Any], *, as_json: bool) -> None:
    if as_json:
        print_json([member.facts() for member in declarations.values()])
        return
    table = _table(declarations.noun, "name", "what it is")
    for member in declarations.values():
        table.add_row(member.name, escape(member.title), escape(member.summary))
    out = results()
    out.print(table)
    if declarations.note:
        out.print(declarations.note)
    out.print(f"More about one: segexplorer describe {declarations.family} NAME")


def _print_declaration(facts: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(facts))
        return
    out = results()
    out.print(f"[bold]{escape(facts['title'])}[/bold]")
    table = _table("", "", header=False)
    for title, value in facts.items():
        if title not in ("name", "title") and value != "" and value != []:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(f"[bold]{title}[/bold]", escape(text))
    out.print(table)


def _names(registry: Registry[Any]) -> list[str]:
    return [*registry.names(), *registry.presets()]


def families_of(kind: str) -> list[str]:
    """Return the families that have a kind, a preset or a declared object of this name."""
    kinds, declared = known_families(), known_declarations()
    return [
        *(name for name, registry in kinds.items() if kind in _names(registry)),
        *(name for name, members in declared.items() if kind in members),
    ]


def print_kind_alone(kind: str, *, as_json: bool) -> None:
    """Print a kind whose family was left out; of several families, the first, and what the others are.

    Raises
    ------
    SpecError
        When it is the name of a family, or of nothing; with the nearest names.
    """
    known = known_families()
    if kind in known or kind in known_declarations():
        raise SpecError(
            f"Which of the {kind} is to be described?", f"segexplorer list {kind} prints their names."
        )
    found = families_of(kind)
    if not found:
        names = sorted({name for registry in known.values() for name in _names(registry)})
        raise SpecError(f"There is no {kind!r} in any family.", did_you_mean(kind, names))
    print_kind(found[0], kind, as_json=as_json)
    for other in found[1:]:
        remarks().print(
            f"There is one among the {other}, too: segexplorer describe {other} {kind}", markup=False
        )


def _kind_facts(spec: type[Spec], preset: Preset[Any] | None) -> dict[str, Any]:
    declared = [
        {
            "name": p.name,
            "title": p.title,
            "description": p.description,
            "unit": p.unit,
            "range": p.range_text,
            "default": _plain(p.default),
            "required": p.required,
            "live": p.live,
            "called": p.called,
        }
        for p in parameters(spec)
    ]
    facts: dict[str, Any] = {"kind": spec.model_fields["kind"].default, "display_name": spec.display_name}
    facts |= {name: value for name in FACTS if (value := _plain(getattr(spec, name, "")))}
    facts["parameters"] = declared
    if preset is not None:
        facts["preset"] = {
            "name": preset.name,
            "display_name": preset.display_name,
            "spec": preset.spec.plain(),
        }
    return facts


def _print_kind(spec: type[Spec], preset: Preset[Any] | None) -> None:
    out = results()
    title = preset.display_name if preset is not None else spec.display_name
    out.print(f"[bold]{escape(title or spec.__name__)}[/bold]")
    out.print(escape(inspect.getdoc(spec) or ""), soft_wrap=True)
    facts = _table("", "", header=False)
    for name in FACTS:
        value = _plain(getattr(spec, name, ""))
        if value:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            if name == "purposes":
                text = "; ".join(purpose_titles(value))
            elif name == "papers":
                text = "\n".join(map(full_reference, value))
            facts.add_row(f"[bold]{name}[/bold]", escape(text))
    if facts.row_count:
        out.print(facts)
    _print_parameters(spec)
    if preset is not None:
        out.print(f"\n[bold]{preset.name}[/bold] is this, and YAML takes the name alone:")
        out.print(escape(yaml.safe_dump(preset.spec.plain(), sort_keys=False)), soft_wrap=True)


def _print_parameters(spec: type[Spec]) -> None:
    declared = parameters(spec)
    if not declared:
        results().print("It has no parameters.")
        return
    table = _table("parameter", "default", "range", "description")
    for p in declared:
        description = (
            p.description + (f" Called {p.called}." if p.called else "") + (" Live." if p.live else "")
        )
        title = f"[bold]{p.name}[/bold]\n{escape(p.title)}"
        table.add_row(title, escape(_default_text(p)), escape(_range_text(p)), escape(description))
    results().print(table)
    if any(p.live for p in declared):
        results().print("Live: may be changed while a run goes on.")


def _default_text(p: Parameter) -> str:
    if p.required:
        return "(required)"
    value = _plain(p.default)
    if value is None or value == "" or value == []:
        return "none"
    if isinstance(value, dict):
        return str(value.get("kind", "..."))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{text} {p.unit}" if p.unit and len(text) < 12 else text


def _range_text(p: Parameter) -> str:
    return p.range_text or _shape_text(p.shape)


def _shape_text(shape: Shape) -> str:
    if shape.form == "choice":
        return " | ".join(str(c) for c in shape.choices)
    if shape.form == "kind":
        return f"one of {shape.registry.family}"
    if shape.form == "flag":
        return "true | false"
    return ""


def print_plugins(*, as_json: bool) -> None:
    """Print what became of each plug-in, and why one did not load."""
    reports = plugins.load()
    if as_json:
        print_json([vars(report) for report in reports])
        return
    if not reports:
        results().print(
            f"No plug-ins are installed. A plug-in names a module under the entry point {plugins.GROUP}."
        )
        return
    table = _table("plug-in", "package", "module", "state")
    for report in reports:
        state = f"[red]failed:[/red] {escape(report.error)}" if report.error else "loaded"
        table.add_row(report.name, f"{report.package} {report.version}", report.module, state)
    results().print(table)


def print_schema() -> None:
    """Print the JSON schema of an experiment with all kinds registered now."""
    from segexplorer.training.experiment import Experiment

    print_json(json_schema(Experiment))


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.plain()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _first_line(spec: type[Spec]) -> str:
    return (inspect.getdoc(spec) or "").split("\n\n")[0].replace("\n", " ")


def _table(*columns: str, header: bool = True) -> Table:
    table = Table(box=None, show_header=header, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

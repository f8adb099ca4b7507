"""Tab completion: commands, options, kinds, settings by their dotted path, shipped experiments, run folders.

`segexplorer --install-completion` (of Typer) makes the shell call this program at each Tab, and it has to answer
before one notices. Importing every kind takes seconds, so that what can be completed is kept in a file of the
user's cache folder, and made anew when the installation changes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

import segexplorer

VARIABLE = "_SEGEXPLORER_COMPLETE"
"""What the shell's script sets, to "complete_bash" for instance."""
RUNS = "segexplorer-runs"
RUN_FILES = ("experiment.yaml", "study.json")
"""A folder with one of them is a run folder or that of a study."""

Catalogue = dict[str, Any]
Entry = Mapping[str, Any]


# ---- what there is, kept in a file


def catalogue() -> Catalogue:
    """Return what can be completed: from the file, or collected now and kept there."""
    key = _installation()
    place = cache_file()
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, dict) and kept.get("installation") == key:
        return kept
    made = {"installation": key, **collect()}
    with contextlib.suppress(OSError):  # a read-only home: collected anew at each Tab
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump(made, file)
        Path(file.name).replace(place)
    return made


def cache_file() -> Path:
    """Return the file of what can be completed, in the folder for such files of this system."""
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "segexplorer" / "completion.json"


def _installation() -> list[Any]:
    """Return what changes when this package is changed, or any package is installed or removed."""
    package = Path(segexplorer.__file__).parent
    newest = max(file.stat().st_mtime_ns for file in package.rglob("*.py"))
    places = [p for p in map(Path, sys.path) if p.is_dir() and p.name in ("site-packages", "dist-packages")]
    return [segexplorer.__version__, str(package), newest, [[str(p), p.stat().st_mtime_ns] for p in places]]


def collect() -> Catalogue:
    """Collect what can be completed from the registries and from the declarations of their parameters."""
    from segexplorer.frontends.cli.catalogue import known_declarations, known_families
    from segexplorer.metrics import MetricOptions, tasks
    from segexplorer.training.experiment import Experiment, sample_configs

    types: dict[str, dict[str, Entry]] = {}
    families = known_families()
    return {
        "families": {
            name: {kind: _type_of(spec, types) for kind, spec in registry.specs().items()}
            for name, registry in families.items()
        },
        "presets": {
            name: {preset: getattr(held.spec, "kind", "") for preset, held in registry.presets().items()}
            for name, registry in families.items()
        },
        "declared": {name: list(declared) for name, declared in known_declarations().items()},
        "tasks": [*tasks.TASKS, *tasks.PROTOCOLS],
        "configs": sorted(path.stem for path in sample_configs().glob("*.yaml")),
        "roots": {"experiment": _type_of(Experiment, types), "metrics": _type_of(MetricOptions, types)},
        "types": types,
    }


def _type_of(model: Any, types: dict[str, dict[str, Entry]]) -> str:
    """Add a spec class and those inside it to the types, and return its key."""
    from segexplorer.core.fields import parameters

    key = f"{model.__module__}.{model.__qualname__}"
    if key not in types:
        types[key] = {}  # before its parameters, which may hold the class itself
        for declared in parameters(model):
            types[key][declared.name] = _entry(declared.shape, declared.default, types)
    return key


def _entry(shape: Any, default: Any, types: dict[str, dict[str, Entry]]) -> Entry:
    if shape.form == "group":
        return {"group": _type_of(shape.spec, types)}
    if shape.form == "kind":
        return {
            "family": shape.registry.family,
            "kind": default if isinstance(default, str) else getattr(default, "kind", ""),
        }
    if shape.form == "list":
        return {"item": _entry(shape.items[0], None, types)}
    if shape.form == "flag":
        return {"values": ["false", "true"] if default is False else ["true", "false"]}
    if shape.form == "choice":
        others = [str(choice) for choice in shape.choices if choice != default]
        return {"values": [*([str(default)] if len(others) < len(shape.choices) else []), *others]}
    if shape.form == "one_of":
        inner = [_entry(item, None, types) for item in shape.items]
        return next((entry for entry in inner if "group" in entry or "family" in entry), {})
    plain = isinstance(default, (int, float)) or (isinstance(default, str) and default.isidentifier())
    return {"values": [str(default)] if plain else []}


# ---- completions of arguments and options: each takes what is typed so far


def family_names(incomplete: str) -> list[str]:
    """Complete a family: losses, networks ..."""
    found = catalogue()
    return _beginning(incomplete, [*found["families"], *found["declared"]])


def family_or_kind(incomplete: str) -> list[str]:
    """Complete a family, or a kind of any: `describe` takes both."""
    found = catalogue()
    names = [kind for family in found["families"] for kind in _names(found, family)]
    names += [name for declared in found["declared"].values() for name in declared]
    return family_names(incomplete) + _beginning(incomplete, names)


def kinds_of_family(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a kind of the family named before it."""
    found, family = catalogue(), str(ctx.params.get("family"))
    return _beginning(incomplete, found["declared"].get(family) or _names(found, family))


def kinds_of(family: str) -> Callable[[str], list[str]]:
    """Return the completion of the kinds and presets of a family."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(incomplete, _names(catalogue(), family))

    return complete


def metric_names(incomplete: str) -> list[str]:
    """Complete the last of several metrics with commas; tasks and protocols count as metrics."""
    before, comma, last = incomplete.rpartition(",")
    found = catalogue()
    return [
        before + comma + name for name in _beginning(last, [*found["declared"]["metrics"], *found["tasks"]])
    ]


def config_names(incomplete: str) -> list[str]:
    """Complete the name of an experiment that comes with segexplorer."""
    return _beginning(incomplete, catalogue()["configs"])


def run_folders(incomplete: str) -> list[str]:
    """Complete a run folder or that of a study: beside what is typed, and in `segexplorer-runs`."""
    typed = Path(incomplete).expanduser()
    above = typed if incomplete.endswith("/") else typed.parent
    shown = incomplete[: incomplete.rfind("/") + 1]
    found: dict[str, None] = {}
    for prefix, folder in ((shown, above), *([(f"{RUNS}/", Path(RUNS))] if not shown else [])):
        for child in sorted(_folders(folder)):
            if any((child / name).is_file() for name in RUN_FILES):
                found[prefix + child.name] = None
    return _beginning(incomplete, found)


def _folders(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []


def experiment_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete NAME=VALUE of an experiment: sections, then settings, then values."""
    found = catalogue()
    chosen = _chosen(ctx)
    return list(_settings(found, {"group": found["roots"]["experiment"]}, incomplete, chosen))


def metric_settings(incomplete: str) -> list[str]:
    """Complete NAME=VALUE of the options of metrics."""
    found = catalogue()
    return list(_settings(found, {"group": found["roots"]["metrics"]}, incomplete, {}))


def exporter_settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete NAME=VALUE of the exporter that --format names."""
    found = catalogue()
    kind = str(ctx.params.get("kind") or "").replace("-", "_")
    key = found["families"]["exporters"].get(kind)
    return list(_settings(found, {"group": key}, incomplete, {})) if key else []


def _beginning(incomplete: str, names: Any) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _names(found: Catalogue, family: str) -> list[str]:
    return [*found["families"].get(family, ()), *found["presets"].get(family, ())]


def _chosen(ctx: typer.Context) -> dict[str, Any]:
    """Return what is known of the experiment by dotted path: kinds in its file, and settings given before."""
    chosen: dict[str, Any] = {}
    # of a command that is not whole yet, as after `--set`, arguments are not among the parameters
    given = [ctx.params.get(name) for name in ("config", "path", "resume")] + list(ctx.args)
    file = next((Path(str(each)).expanduser() for each in given if each), None)
    if file is not None and file.is_dir():
        file = file / RUN_FILES[0]
    if file is not None and file.suffix in (".yaml", ".yml") and file.is_file():
        from segexplorer.core.yaml_text import YamlError, load_yaml

        with contextlib.suppress(OSError, UnicodeDecodeError, YamlError):
            _flatten(load_yaml(file.read_text(encoding="utf-8")), "", chosen)
    for setting in ctx.params.get("settings") or ():
        name, _, value = str(setting).partition("=")
        chosen[name] = value
    return chosen


def _flatten(value: Any, path: str, into: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(inner, f"{path}.{name}" if path else str(name), into)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _flatten(inner, f"{path}.{place}", into)
    else:
        into[path] = value


def _settings(found: Catalogue, root: Entry, incomplete: str, chosen: Mapping[str, Any]) -> Iterator[str]:
    name, equals, value = incomplete.partition("=")
    parents = name.split(".")[:-1] if not equals else name.split(".")
    entry = root
    for depth, part in enumerate(parents):
        inside = _inside(found, entry, ".".join(parents[:depth]), chosen)
        if part not in inside:
            return
        entry = inside[part]
    if equals:
        yield from (f"{name}={text}" for text in _beginning(value, _values(found, entry)))
        return
    path = ".".join(parents)
    for part, inner in _inside(found, entry, path, chosen).items():
        full = f"{path}.{part}" if path else part
        if not full.startswith(name):
            continue
        if "group" in inner or "family" in inner or "item" in inner:
            yield f"{full}."  # a section: its settings follow
        if "group" not in inner:
            # with the default beside it, since the shell puts a blank behind a single answer
            yield f"{full}="
            default = [inner["kind"]] if inner.get("kind") else _values(found, inner)[:1]
            yield from (f"{full}={text}" for text in default)


def _inside(found: Catalogue, entry: Entry, path: str, chosen: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the settings inside a section; of a kind those of the one that was chosen, or of the default."""
    if "group" in entry:
        return dict(found["types"][entry["group"]])
    if "item" in entry:
        return {str(place): entry["item"] for place in range(10)}
    if "family" not in entry:
        return {}
    kinds, presets = found["families"][entry["family"]], found["presets"][entry["family"]]
    kind = str(chosen.get(f"{path}.kind") or chosen.get(path) or entry["kind"])
    kind = presets.get(kind, kind)
    own = found["types"][kinds[kind]] if kind in kinds else {}
    return {"kind": {"values": list(kinds)}, **own}


def _values(found: Catalogue, entry: Entry) -> list[str]:
    return _names(found, entry["family"]) if "family" in entry else list(entry.get("values", ()))


# ---- what the shell asks


@contextlib.contextmanager
def whole_words() -> Iterator[None]:
    """Put together what bash takes apart at "=", and leave out of the answers what is before it.

    For bash, `loss.kind=di` are three words, and it replaces the last one alone.
    """
    if os.environ.get(VARIABLE) != "complete_bash":
        yield
        return
    words = os.environ.get("COMP_WORDS", "").split("\n")
    at = int(os.environ.get("COMP_CWORD", "0") or 0)
    typed, whole = words[: at + 1], list[str]()
    for word in typed:
        if whole and (word == "=" or whole[-1].endswith("=")) and not whole[-1].startswith("--"):
            whole[-1] += word
        else:
            whole.append(word)
    before = whole[-1].rpartition("=")[0] + "=" if "=" in typed[-2:] else ""
    os.environ.update(COMP_WORDS="\n".join(whole), COMP_CWORD=str(len(whole) - 1))
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            yield
    finally:
        for line in answer.getvalue().splitlines():
            sys.stdout.write(f"{line.removeprefix(before)}\n")

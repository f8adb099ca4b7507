"""`--set NAME=VALUE`: values are YAML, so 0.7, true and [64, 64, 64] mean what they look like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from segexplorer.core.errors import SpecError, shorten
from segexplorer.core.yaml_text import YamlError, load_yaml


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return dotted path -> value for entries like "loss.alpha=0.7"; a later entry wins.

    Raises
    ------
    SpecError
        For an entry without "=" or with a value that is no YAML.
    """
    found: dict[str, Any] = {}
    for entry in settings:
        name, equals, text = entry.partition("=")
        name = name.strip()
        if not equals or not name:
            raise SpecError(
                f"--set {shorten(entry, 80)!r} is not NAME=VALUE.", "Write it like --set loss.alpha=0.7"
            )
        found[name] = parse_value(text, f"--set {name}")
    return found


def parse_value(text: str, where: str) -> Any:
    """Return the YAML value of a text, or the text itself where it is no YAML, as '{case}/seg.nii.gz'.

    1e-3, which YAML 1.1 takes for text, is the number it looks like.

    Raises
    ------
    SpecError
        For a list or mapping that is not closed.
    """
    try:
        value = load_yaml(text)
    except YamlError as error:
        if text.strip()[:1] == "[" or (text.strip()[:1] == "{" and ":" in text):
            remedy = "Close its brackets, or put it in quotes."
            shown = shorten(text, 80)
            raise SpecError(f"{where}: {shown!r} is not a value that YAML knows.", remedy) from error
        value = text
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def parse_classes(text: str | None) -> dict[str, tuple[int, ...]] | None:
    """Return class name -> label values for '{kidneys: [2, 3], liver: 5}'; braces may be left out.

    Raises
    ------
    SpecError
        When it is no mapping of names to whole numbers.
    """
    if text is None:
        return None
    value = parse_value(text if text.lstrip().startswith("{") else f"{{{text}}}", "--classes")
    if not isinstance(value, dict):
        raise SpecError(
            f"--classes {shorten(text, 80)!r} is no mapping.", "Write it like '{kidneys: [2, 3], liver: 5}'"
        )
    classes: dict[str, tuple[int, ...]] = {}
    for name, given in value.items():
        values = given if isinstance(given, list) else [given]
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise SpecError(
                f"--classes: {name} needs label values, whole numbers.", "Write it like 'liver: 5'"
            )
        classes[str(name)] = tuple(values)
    return classes

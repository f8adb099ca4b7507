"""Experiment files with reasons: settings as YAML, each with its comment above it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from segexplorer.core.printable import printable

_WIDTH = 110


def commented_yaml(settings: Mapping[str, Any], reasons: Mapping[str, str], heading: Sequence[str]) -> str:
    """Return settings as YAML, reasons as comments.

    Parameters
    ----------
    settings
        Nested plain data; sections are in this order.
    reasons
        Dotted path of a setting -> why; may quote names of files, which cannot end a comment.
    heading
        Sentences at the top, one paragraph each.
    """
    lines = [line for text in heading for line in _comment(text, 0)]
    for name, value in settings.items():
        lines += _entry(name, value, name, reasons, 0)
    return "\n".join(lines) + "\n"


def _entry(name: str, value: Any, path: str, reasons: Mapping[str, str], depth: int) -> list[str]:
    """Return the lines of a setting: a section where something inside has a reason of its own, else one value."""
    lines = _comment(reasons.get(path, ""), depth)
    pad = "  " * depth
    if isinstance(value, Mapping) and any(other.startswith(f"{path}.") for other in reasons):
        lines.append(f"{pad}{_plain(name)}:")
        for inner, item in value.items():
            lines += _entry(inner, item, f"{path}.{inner}", reasons, depth + 1)
        return lines
    block = yaml.safe_dump(
        {name: value}, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=False
    )
    one = yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True
    ).strip()
    one = one.removesuffix("...").strip()
    line = f"{pad}{_plain(name)}: {one}"
    if len(line) <= _WIDTH or not isinstance(value, (Mapping, list)):
        return [*lines, line]
    return [*lines, *(f"{pad}{text}" for text in block.rstrip().splitlines())]


def _plain(name: str) -> str:
    """Return a key as YAML writes it, in quotes where it needs them."""
    return yaml.safe_dump(name, allow_unicode=True, width=10**6).strip().removesuffix("...").strip()


def _comment(text: str, depth: int) -> list[str]:
    pad = "  " * depth
    shown = " ".join(printable(text).split())
    return [f"{pad}# {line}" for line in textwrap.wrap(shown, _WIDTH - len(pad) - 2)]

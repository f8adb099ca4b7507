"""YAML as people and strangers write it: safe, no key twice, not nested without end, errors with their line."""

from __future__ import annotations

from typing import Any

import yaml

DEEPEST = 64
"""Levels of nesting; an experiment has about eight. PyYAML recurses, and Python stops it only near 1000 levels."""


class YamlError(ValueError):
    """A text that is no YAML, or not what it seems to be; the message is the end of "NAME is not valid YAML"."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that is there twice and counts levels."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; called again for what is inside.

        Raises
        ------
        YamlError
            When there are too many levels.
        """
        if self.depth > DEEPEST:
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise YamlError(f" at line {line}: it is nested more than {DEEPEST} levels deep")
        self.depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping.

        Raises
        ------
        YamlError
            Naming the key that is there twice, and both lines.
        """
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (name := (key.tag, key.value)) in lines:
                text = key.value if len(key.value) <= 40 else f"{key.value[:40]}..."
                raise YamlError(f": {text!r} is there twice, in line {lines[name]} and in line {line}")
            lines[name] = line
        return super().construct_mapping(node, deep=deep)


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds: plain data.

    Raises
    ------
    YamlError
        Saying where it is not valid, e.g. " at line 3, column 5: mapping values are not allowed here".
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a subclass of the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it is not text"
        raise YamlError(f"{where}: {problem}") from error
    except RecursionError as error:
        raise YamlError(": it is nested too deeply") from error
    except YamlError:
        raise
    except (ValueError, OverflowError) as error:  # a date of month 13
        raise YamlError(f": {error}") from error

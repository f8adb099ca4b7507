"""What must not be left in a run's nameless copy: the second look, after `training.nameless`."""

from __future__ import annotations

import getpass
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segexplorer.core.events import event_kinds
from segexplorer.core.spec import json_schema, walk
from segexplorer.training.experiment import Experiment

SHORTEST, LONGEST = 4, 200
"""Characters of what can be looked for; shorter words are everywhere, longer ones are tracebacks."""

_WORD = re.compile(r"[^\W_]+")
_TELLING = re.compile(r"\d{5,}|\^")
"""In the name of a class: a number as long as a patient's, and what parts names in DICOM."""


@dataclass(frozen=True)
class Identifiers:
    """Texts that may name somebody, each with what it is; lower case.

    Attributes
    ----------
    whole
        Text -> what it is. They must be nowhere, as words.
    parts
        Word of a case's name -> that it is one. They must not be the name of a class.
    """

    whole: Mapping[str, str]
    parts: Mapping[str, str]

    @classmethod
    def of(
        cls, experiment: Experiment, folder: Path, cases: Iterable[str], dropped: Iterable[str]
    ) -> Identifiers:
        """Collect the names of cases, the parts of every path, what was left out, who and where we are."""
        known = set(cases)
        texts = dict.fromkeys(dropped, "a text that was left out")
        texts |= dict.fromkeys(known, "the name of a case")
        paths = [value for _, p, value in walk(experiment) if p.path and isinstance(value, str)]
        for path in (*paths, str(folder.resolve())):
            texts |= dict.fromkeys(Path(path).parts, "part of a path")
        texts |= {_user(): "the name of who is logged in", platform.node(): "the name of this machine"}
        ours = vocabulary()
        whole = {
            text.lower(): what
            for text, what in texts.items()
            if SHORTEST <= len(text) <= LONGEST and text.lower() not in ours
        }
        return cls(whole, {w: "a word of a case's name" for w in _telling_words(known) if w not in ours})

    def in_text(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield (what was found, what it is)."""
        lowered = text.lower()
        for name, what in self.whole.items():
            if name in lowered and re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", lowered):
                yield name, what

    def in_class(self, name: str) -> str:
        """Return why the name of a class may name somebody, "" when nothing speaks for it."""
        for found, what in self.in_text(name):
            return f"{found!r} is {what}"
        for word in _WORD.findall(name.lower()):
            if word in self.parts:
                return f"{word!r} is {self.parts[word]}"
        return "it looks like a patient's number or name" if _TELLING.search(name) else ""


def vocabulary() -> set[str]:
    """Return the words that stand in every run's files: settings, choices and events of ours, lower case."""
    words: set[str] = set(_schema_words(json_schema(Experiment)))
    for kind, event in event_kinds().items():
        words |= {kind, *event.__dataclass_fields__}
    words |= {
        "segexplorer",
        "torch",
        "monai",
        "napari",
        "python",
        "linux",
        "windows",
        "darwin",
        "step",
        "role",
    }
    words |= {part for word in tuple(words) for part in _WORD.findall(word)}
    return {word.lower() for word in words}


def _schema_words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (v for v in (*schema.get("enum", ()), schema.get("const")) if isinstance(v, str))
        for value in schema.values():
            yield from _schema_words(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _schema_words(value)


def _telling_words(cases: set[str]) -> set[str]:
    """Return the words that tell one case from most others: "mueller", not the "liver" of liver_12."""
    often = Counter(word for case in cases for word in set(_WORD.findall(case.lower())))
    most = len(cases) / 2
    return {word for word, n in often.items() if len(word) >= SHORTEST and (n <= most or len(cases) == 1)}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""

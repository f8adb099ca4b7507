"""What must not be left in a run's nameless copy: the second look, after `training.nameless`."""

from __future__ import annotations

import getpass
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from segexplorer.core.spec import walk
from segexplorer.training.experiment import Experiment
from segexplorer.training.vocabulary import words_of

SHORTEST, LONGEST = 4, 200
"""Characters of what can be looked for; shorter words are everywhere, longer ones are tracebacks."""

_TELLING = re.compile(r"\d{5,}|\^")
"""In the name of a class: a number as long as a patient's, and what parts names in DICOM."""
_STAND_IN = re.compile(r"(case|class|term|step)_\d+(\.\d+)?")
"""What every copy calls its cases, classes, terms and checkpoints."""
_IN_TEXT = re.compile(rf"(?<!\w){_STAND_IN.pattern}(?!\w)")
"""The same amid a text, where the number in it is no case called 1001."""
_YEAR = re.compile(r"\d{,4}")
"""A folder of a year or a number of the user's own; counters and sizes are in every copy."""
_HOMES = {"home", "users"}
"""Folders whose folders are called like people."""


@dataclass(frozen=True)
class Origin:
    """What a text is that may name somebody, and what helps where it is found in a copy."""

    what: str
    remedy: str


CASE = Origin("the name of a case", "A case's name should have become a number; please report it.")
LEFT_OUT = Origin(
    "a text that was left out",
    "Call that setting, or whatever else is called so, otherwise in a copy of the run.",
)
DATA = Origin(
    "part of a path to data or weights",
    "Let the paths in the experiment.yaml of a copy of the run lead elsewhere.",
)
RUN = Origin(
    "part of a path, the run's own",
    "Copy the run to a folder whose path has no such part, and share that.",
)
USER = Origin("the name of who is logged in", "Share the run from another account.")
MACHINE = Origin("the name of this machine", "Copy the run to another machine, and share it there.")


@dataclass(frozen=True)
class Identifiers:
    """Texts that may name somebody, each with where it comes from; lower case.

    Attributes
    ----------
    whole
        Text -> its origin, the longest first. They must be nowhere, as words.
    parts
        Words of cases' names. They must not be in the name of a class.
    """

    whole: Mapping[str, Origin]
    parts: frozenset[str]

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        folder: Path,
        *,
        cases: Iterable[str],
        dropped: Iterable[str],
        classes: Iterable[str] = (),
        ours: Iterable[str] = (),
    ) -> Identifiers:
        """Collect the names of cases, the parts of every path, what was left out, who and where we are.

        Parameters
        ----------
        classes
            Names of classes that stay in the copy. A folder or free text that is called like one, or like some
            words of one, names an organ; where there is a number in it, it may be a ward's.
        ours
            Words that are in every copy (`training.vocabulary`); called so, nothing names anybody.
        """
        known, ours = set(cases), set(ours)
        free = dict.fromkeys(dropped, LEFT_OUT)
        people = dict.fromkeys(known, CASE)
        paths = [(value, DATA) for _, p, value in walk(experiment) if p.path and isinstance(value, str)]
        for path, origin in (*paths, (str(folder.resolve()), RUN)):
            parts = Path(path).parts
            free |= {part: origin for part in parts if not _YEAR.fullmatch(part)}
            people |= {part: origin for above, part in pairwise(parts) if above.lower() in _HOMES}
        people |= {**dict.fromkeys(_user(), USER), platform.node(): MACHINE}
        telling = frozenset(_telling_words(known) - ours)
        organs = [set(words_of(name)) - telling for name in classes]
        texts = {text: origin for text, origin in free.items() if not _names_organ(text, organs)} | people
        whole = {
            text.lower(): origin
            for text, origin in sorted(texts.items(), key=lambda item: -len(item[0]))
            if SHORTEST <= len(text) <= LONGEST
            and text.lower() not in ours
            and not _STAND_IN.fullmatch(text.lower())
        }
        return cls(whole, telling)

    def in_text(self, text: str) -> Iterator[tuple[str, Origin]]:
        """Yield (what was found, where it comes from)."""
        lowered = text.lower()
        numbered = _IN_TEXT.sub(" ", lowered)
        for name, origin in self.whole.items():
            searched = numbered if name.isdigit() else lowered
            if name in searched and re.search(rf"(?<![^\W_])(?<!\d\.){re.escape(name)}(?![^\W_])", searched):
                yield name, origin

    def in_class(self, name: str) -> str:
        """Return why the name of a class may name somebody, "" when nothing speaks for it."""
        for found, origin in self.in_text(name):
            return f"{found!r} is {origin.what}"
        for word in words_of(name):
            if word in self.parts:
                return f"{word!r} is a word of a case's name"
        return "it looks like a patient's number or name" if _TELLING.search(name) else ""


def _names_organ(text: str, organs: Iterable[set[str]]) -> bool:
    words = set(words_of(text))
    return bool(words) and not re.search(r"\d", text) and any(words <= organ for organ in organs)


def _telling_words(cases: set[str]) -> set[str]:
    """Return the words that tell one case from most others: "mueller", not the "liver" of liver_12."""
    often = Counter(word for case in cases for word in set(words_of(case)))
    most = len(cases) / 2
    return {word for word, n in often.items() if len(word) >= SHORTEST and (n <= most or len(cases) == 1)}


def _user() -> Iterator[str]:
    """Yield what whoever is logged in is called, and their home folder."""
    for told in (getpass.getuser, lambda: Path.home().name):
        try:
            yield told()
        except (OSError, KeyError, RuntimeError):  # a container's user without a name
            continue

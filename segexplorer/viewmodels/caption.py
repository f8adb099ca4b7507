"""The caption on the canvas: which case, whether it was trained on, which class, which step, which side is right.

A long name is shortened in its middle; what must not be misread, whether the case was trained on and the step, is
never shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CONVENTIONS = {
    "radiological": "radiological (R on the left)",
    "neurological": "neurological (R on the right)",
}
"""Convention -> how the caption says it."""
MOST_LINES = 3
"""Of a remark."""
LEAST = 6
"""Characters that are left of a name, however narrow the canvas is."""
Measure = Callable[[str], float]
"""Returns the width of a text."""


@dataclass(frozen=True)
class Caption:
    """What is shown, in words; empty where there is no picture.

    Attributes
    ----------
    case, class_name
        Names, which may be long.
    held
        "not trained on", "training", or the badge of the case.
    step
        "step 40", or "" where there is none.
    convention
        Which side of the screen the patient's right is on; "" in 3D.
    remark
        What else must be known, e.g. that another scan is visible too.
    """

    case: str = ""
    held: str = ""
    class_name: str = ""
    step: str = ""
    convention: str = ""
    remark: str = ""

    def __bool__(self) -> bool:
        return bool(self.case)

    @property
    def text(self) -> str:
        """The whole caption in one line."""
        parts = [self.case, self.held, self.class_name, self.step, self.convention]
        said = ", ".join(part for part in parts if part)
        return f"{said}; {self.remark}" if self.remark else said

    def lines(self, room: float, measure: Measure) -> tuple[str, ...]:
        """Return the caption in lines that fit, as far as names can be shortened."""
        if not self:
            return ()
        found = _line(self.case, [self.held], room, measure)
        whole, brief = (
            _line(self.class_name, [self.step, convention], room, measure)
            for convention in (self.convention, self.convention.partition(" (")[0])
        )  # the letters at the edges say the rest
        found += brief if len(brief) < len(whole) else whole
        return (*found, *wrapped(self.remark, room, measure))

    def flowing(self, room: float, measure: Measure) -> tuple[str, ...]:
        """Return the caption in few lines across the whole room, one fact behind the other."""
        if not self:
            return ()
        whole, brief = (
            _flow(
                [
                    elided(self.case, room, measure),
                    self.held,
                    elided(self.class_name, room, measure),
                    self.step,
                    convention,
                    self.remark,
                ],
                room,
                measure,
            )
            for convention in (self.convention, self.convention.partition(" (")[0])
        )
        return min((whole, brief, self.lines(room, measure)), key=len)


def _line(name: str, facts: list[str], room: float, measure: Measure) -> list[str]:
    """Return a name with the facts behind it for which it leaves room, and the others below."""
    given = [fact for fact in facts if fact]
    for needed in (measure(name), measure("n" * 2 * LEAST)):  # whole, if that can be had by more lines
        for kept in range(len(given), -1, -1):
            behind = "".join(f" · {fact}" for fact in given[:kept])
            if room - measure(behind) >= needed:
                rest = " · ".join(given[kept:])
                below = [rest] if rest and measure(rest) <= room else given[kept:]
                return [elided(name, room - measure(behind), measure) + behind, *below]
    return [elided(name, room, measure), *given]


def _flow(facts: list[str], room: float, measure: Measure) -> tuple[str, ...]:
    """Return facts in lines, as many in each as have room; a wider one is broken between words."""
    found: list[str] = []
    for fact in filter(None, facts):
        longer = f"{found[-1]} · {fact}" if found else ""
        if longer and measure(longer) <= room:
            found[-1] = longer
        else:
            found += wrapped(fact, room, measure)
    return tuple(found)


def wrapped(text: str, room: float, measure: Measure) -> tuple[str, ...]:
    """Return a sentence in at most `MOST_LINES` lines; long words are shortened in their middle, then its end."""
    found: list[str] = []
    for word in text.split():
        longer = f"{found[-1]} {word}" if found else ""
        if longer and measure(longer) <= room:
            found[-1] = longer
        elif len(found) == MOST_LINES:
            found[-1] = f"{found[-1].rstrip(',;')} …"
            break
        else:
            found.append(elided(word, room, measure))
    return tuple(found)


def elided(text: str, room: float, measure: Measure) -> str:
    """Return a text that is at most so wide, shortened in its middle; at least `LEAST` characters are left."""
    if measure(text) <= room or len(text) <= LEAST:
        return text
    kept = next(
        (n for n in range(len(text) - 1, LEAST, -1) if measure(_without_middle(text, n)) <= room), LEAST
    )
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

"""Colours of text that means something, readable on dark and on light windows.

A text only knows its tone; the window that holds it sets one style sheet for all and changes it with its theme.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Tone = Literal["grey", "amber", "red", "green"]
_COLOURS: Mapping[Tone, tuple[str, str]] = {
    "grey": ("#a3a9b1", "#5b6068"),
    "amber": ("#e6b450", "#805300"),
    "red": ("#ff7b68", "#b3261e"),
    "green": ("#5fc08a", "#1a6e44"),
}
"""On dark, on light: each at least 4.5 to 1 against napari's backgrounds (WCAG 2.1, 1.4.3)."""


def set_tone(native: Any, tone: Tone) -> None:
    """Give a Qt label its tone; drawn anew where it had another."""
    if native.property("tone") == tone:
        return
    native.setProperty("tone", tone)
    style = native.style()
    style.unpolish(native)
    style.polish(native)


def colour(tone: Tone, *, dark: bool) -> str:
    """Return the colour of a tone, "#RRGGBB"."""
    return _COLOURS[tone][0 if dark else 1]


def style_sheet(*, dark: bool) -> str:
    """Return the style sheet for a window that holds texts with tones."""
    rules = (f'QLabel[tone="{tone}"] {{ color: {colour(tone, dark=dark)}; }}' for tone in _COLOURS)
    return "\n".join(rules)

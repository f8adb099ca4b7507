r"""Formulas of the specs: read from LaTeX, as plain text, and typeset in lines that fit a width.

latex2mathml reads the LaTeX into MathML, ziamath typesets MathML as SVG. Neither breaks lines, so the MathML is
cut here into pieces that stay whole, and each piece is typeset by itself; a narrower panel only arranges them anew.
Both packages are imported at the first formula that is shown, since a list of kinds needs neither.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree as ET

SIZE = 16.0
"""Type size in pixels that all lengths here refer to; whoever draws scales from it."""
INK = "currentColor"
"""How the SVG names its only colour; whoever draws puts the colour of the text in its place."""
_HANGING = 1.2 * SIZE
"""Indent of the lines that continue a statement."""

_RELATIONS = frozenset("=<>≤≥≠≈≡→←∝∼∈∉⊂⊆")
_OPERATORS = frozenset("+−±·⋅×∩∪∖⧵⊙∘")
_SIGNS = _RELATIONS | _OPERATORS
_LARGE = frozenset("∑∏∫")
_OPENING, _CLOSING = frozenset("([{⌊⌈"), frozenset(")]}⌋⌉")
_ACCENTS = {"^": "\u0302", "ˆ": "\u0302", "¯": "\u0304", "‾": "\u0304", "~": "\u0303", "˜": "\u0303"}
_SIZES = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
"""How many children elements have that need all of them."""
_SCRIPTS = frozenset(_SIZES) - {"mfrac"}
_DEEPEST = 8
"""Rows within rows that are typeset, for the time doubles with each; half a second at 8, two minutes at 16."""
_WIDE = 1.0
"""Em from which a space separates statements: that of `\\quad`."""


class UnreadableFormulaError(ValueError):
    """A formula that cannot be read or typeset; callers show its LaTeX instead."""


@dataclass(frozen=True)
class Piece:
    """A part of a formula that is never broken, typeset at `SIZE`.

    Attributes
    ----------
    svg
        Its drawing, in the colour `INK`, exactly as large as `width` times `ascent + descent`.
    width, ascent, descent
        Extent in pixels: from left to right, above the base line, below it.
    """

    svg: str
    width: float
    ascent: float
    descent: float


@dataclass(frozen=True)
class Line:
    """Pieces on one base line, `indent` pixels from the left."""

    indent: float
    pieces: tuple[Piece, ...]

    @property
    def width(self) -> float:
        """Pixels from the left edge of the formula to the end of the line."""
        return self.indent + sum(piece.width for piece in self.pieces)

    @property
    def ascent(self) -> float:
        """Pixels above the base line."""
        return max((piece.ascent for piece in self.pieces), default=0.0)

    @property
    def descent(self) -> float:
        """Pixels below the base line."""
        return max((piece.descent for piece in self.pieces), default=0.0)


def lines_of(latex: str, width: float) -> list[Line]:
    """Return the lines of a formula, none wider than `width` where it can be broken.

    Each statement begins a line. One that is too wide is broken before its relations and operators, and within
    brackets only where a part between two of them is too wide by itself.

    Parameters
    ----------
    latex
        The formula.
    width
        Room for a line, in pixels at the type size `SIZE`.

    Raises
    ------
    UnreadableFormulaError
        Where LaTeX is not understood.
    """
    lines: list[Line] = []
    for statement in statements(read_formula(latex)):
        whole = _typeset(statement)
        if whole.width <= width:
            lines.append(Line(0.0, (whole,)))
        else:
            lines += _broken(statement, width)
    return lines


def _broken(statement: Sequence[ET.Element], width: float) -> list[Line]:
    pieces: list[Piece] = []
    for part in parts(statement):
        piece = _typeset(part)
        if piece.width > width - _HANGING:
            pieces += [_typeset(shorter) for shorter in parts(_opened(part), depth=1)]
        else:
            pieces.append(piece)
    lines: list[Line] = []
    row: list[Piece] = []
    indent = 0.0
    for piece in pieces:
        if row and indent + sum(p.width for p in row) + piece.width > width:
            lines.append(Line(indent, tuple(row)))
            row, indent = [], _HANGING
        row.append(piece)
    return [*lines, Line(indent, tuple(row))]


def _opened(part: Sequence[ET.Element]) -> list[ET.Element]:
    r"""Return the elements with those between `\left` and `\right` beside the rest, so that they can be parted."""
    opened: list[ET.Element] = []
    for element in part:
        fenced = element.tag == "mrow" and len(element) > 0 and element[0].get("fence") == "true"
        opened += list(element) if fenced else [element]
    return opened


@lru_cache(maxsize=256)
def read_formula(latex: str) -> tuple[ET.Element, ...]:
    """Return the elements of a formula's outermost row as MathML; not to be modified.

    Raises
    ------
    UnreadableFormulaError
        Where LaTeX is not understood.
    """
    from latex2mathml.converter import convert

    # no document type with entities can come before the root element that latex2mathml writes
    root = _understood(latex, lambda: ET.fromstring(convert(latex, display="block")))  # noqa: S314
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if len(element) != _SIZES.get(element.tag, len(element)):
            raise UnreadableFormulaError(f"The formula {latex!r} cannot be read: something is missing in it.")
    _drop_rows_of_one(root)
    if _depth(root) > _DEEPEST:
        raise UnreadableFormulaError(f"The formula {latex!r} cannot be read: it is nested too deeply.")
    for row in root.iter():
        _mark_signs(row)
        if row.tag == "mfrac" or row.get("displaystyle") == "false":
            _set_low(row)
    return tuple(root[0] if len(root) == 1 and root[0].tag == "mrow" else root)


def _understood(latex: str, work: Callable[[], Any]) -> Any:
    """Return what a package makes of a formula; a formula from a plug-in can fail in it in any way."""
    try:
        return work()
    except Exception as error:
        raise UnreadableFormulaError(f"The formula {latex!r} cannot be read: {error!r}.") from error


def _mark_signs(row: ET.Element) -> None:
    """Say of each sign whether it takes two sides or is the sign of what follows, which sets the room around it.

    ziamath goes by the place in the row alone: it would set the minus of "= −x" as that of "y − x", and a sign
    that begins a broken line as that of "−x".
    """
    before = ""
    for element in row:
        text = _base_text(element)
        if element.tag == "mo" and text in _SIGNS:
            alone = not before or before in _SIGNS | _LARGE | _OPENING or before == ","
            element.set("form", "prefix" if alone and text in _OPERATORS else "infix")
        if element.tag != "mspace":
            before = text or "x"


def _drop_rows_of_one(parent: ET.Element) -> None:
    """Replace rows of one element by the element: ziamath takes twice as long for each level of rows."""
    for index, element in enumerate(parent):
        _drop_rows_of_one(element)
        if element.tag == "mrow" and len(element) == 1 and not element.attrib:
            parent[index] = element[0]


def _depth(element: ET.Element) -> int:
    """Return how many rows are within one another."""
    return (element.tag in {"mrow", "msqrt"}) + max(map(_depth, element), default=0)


def _set_low(row: ET.Element) -> None:
    """Set what is in a fraction or in text style as TeX does: sums are smaller, their limits beside them."""
    for element in row:
        element.set("displaystyle", "false")
    for element in row.iter():
        if element.tag in {"munder", "munderover"} and _base_text(element) in _LARGE:
            element.tag = "msub" if element.tag == "munder" else "msubsup"


def statements(row: Sequence[ET.Element]) -> list[list[ET.Element]]:
    """Return the statements of a formula: they end at a comma outside brackets or at a wide space."""
    found: list[list[ET.Element]] = [[]]
    depth = 0
    for element in row:
        ended = depth == 0 and bool(found[-1]) and _base_text(found[-1][-1]) == ","
        if (ended or _is_wide(element)) and found[-1]:
            found.append([])
        if not (_is_space(element) and not found[-1]):
            found[-1].append(element)
        depth += _bracket(element)
    return [statement for statement in found if statement]


def parts(row: Sequence[ET.Element], *, depth: int = 0) -> list[list[ET.Element]]:
    """Return the parts of a statement between its relations and operators, each beginning with its sign.

    Nothing is parted within more brackets than `depth`.
    """
    found: list[list[ET.Element]] = [[]]
    inside = 0
    for element in row:
        two_sided = element.tag == "mo" and _base_text(element) in _SIGNS and element.get("form") == "infix"
        if two_sided and found[-1] and inside <= depth:
            found.append([])
        found[-1].append(element)
        inside += _bracket(element)
    return [part for part in found if part]


def _base_text(element: ET.Element) -> str:
    """Return the text of a symbol, of one with scripts that of its base; "" for what has no single symbol."""
    while element.tag in _SCRIPTS and len(element):
        element = element[0]
    return (element.text or "").strip() if len(element) == 0 else ""


def _bracket(element: ET.Element) -> int:
    text = _base_text(element)
    return (text in _OPENING) - (text in _CLOSING)


def _is_space(element: ET.Element) -> bool:
    return element.tag == "mspace" or (element.tag == "mtext" and not (element.text or "").strip())


def _is_wide(element: ET.Element) -> bool:
    found = re.fullmatch(r"([0-9.]+)em", element.get("width", "")) if element.tag == "mspace" else None
    return found is not None and float(found[1]) >= _WIDE


def _typeset(row: Sequence[ET.Element]) -> Piece:
    math = ET.Element("math", {"display": "block", "mathcolor": INK})
    math.extend(row)
    return _piece(ET.tostring(math, encoding="unicode"))


@lru_cache(maxsize=1024)
def _piece(mathml: str) -> Piece:
    ziamath = _ziamath()
    inherited = ziamath.config.svg2
    # without SVG 2 glyphs are plain paths, which every version of Qt draws
    ziamath.config.svg2 = False
    try:
        root = ET.fromstring(mathml)  # noqa: S314  written by ourselves
        svg = _understood(mathml, lambda: ziamath.Math(root, size=SIZE, margin=0.0).svgxml())
    finally:
        ziamath.config.svg2 = inherited
    _, top, width, height = (float(number) for number in svg.get("viewBox").split())
    return Piece(ET.tostring(svg, encoding="unicode"), width, -top, top + height)


@lru_cache(maxsize=1)
def _ziamath() -> Any:
    with warnings.catch_warnings():
        # ziamath 0.13 finds its font by importlib.resources.path, which Python 3.11 and 3.12 call deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        import ziamath
    return ziamath


def spoken(latex: str) -> str:
    """Return a formula as one line of plain text, for tooltips, search and screen readers.

    One that cannot be read is returned as its LaTeX.
    """
    try:
        row = read_formula(latex)
    except UnreadableFormulaError:
        return " ".join(latex.split())
    # compatibility forms: the letters that people type and screen readers know, for script and lunate ones
    text = unicodedata.normalize("NFKC", "".join(map(_text, row)))
    for pattern, put in _TIDIED:
        text = re.sub(pattern, put, text)
    return text.strip()


_JOINED, _APPLIED = "\u2060", "\u2061"
"""Word joiner after the sign of a term, function application after a name: they only guide the tidying below."""
_TIDIED = (
    (rf"{_JOINED}\s*", ""),
    (rf"{_APPLIED}\s*(?=\()", ""),
    (_APPLIED, ""),
    (r"\s+", " "),
    (r"(?<=[(\[]) | (?=[)\],^_/])", ""),
)


def _text(element: ET.Element) -> str:
    tag, children = element.tag, list(element)
    if tag == "mspace":
        return " "
    if tag == "mfrac":
        return f" {'/'.join(map(_bracketed, children))} "
    if tag == "msqrt":
        return f"√{_in_brackets(''.join(map(_text, children)))}"
    if tag in _SCRIPTS and children:
        base = _text(children[0])
        bare = base.removesuffix(f"{_APPLIED} ").rstrip()
        return bare + "".join(_scripts(tag, children[1:])) + (f"{_APPLIED} " if _APPLIED in base else " ")
    if children:
        return "".join(map(_text, children))
    text = element.text or ""
    if tag == "mo" and text in _SIGNS:
        return f"{text}{_JOINED}" if element.get("form") == "prefix" else f" {text} "
    return f" {text}{_APPLIED} " if tag in {"mi", "mo"} and len(text) > 1 and text.isalpha() else text


def _scripts(tag: str, scripts: Sequence[ET.Element]) -> Iterator[str]:
    marks = "_^" if tag in {"msubsup", "munderover"} else "_" if tag in {"msub", "munder"} else "^"
    for mark, script in zip(marks, scripts, strict=False):
        accent = _ACCENTS.get((script.text or "").strip()) if tag == "mover" else None
        yield accent or mark + _bracketed(script)


def _bracketed(element: ET.Element) -> str:
    return _in_brackets(_text(element))


def _in_brackets(text: str) -> str:
    text = text.replace(_APPLIED, "").strip()
    single = len(text) <= 1 or text.isdigit() or text.isalpha()
    return text if single or re.fullmatch(r"\([^()]*\)", text) else f"({text})"

r"""Formulas read from the LaTeX of the specs into a small tree, which a face lays out and draws.

Only what the formulas of this project use is known: symbols, scripts, fractions, roots, accents, upright words.
A command that is not known stands under its own name, so that nothing is ever lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Style = Literal["italic", "upright"]
Role = Literal["ordinary", "relation", "operator", "punctuation", "space"]


@dataclass(frozen=True)
class Symbol:
    """One or more letters or signs. `role` tells the room around it; a space has a `text` of blanks."""

    text: str
    style: Style = "upright"
    role: Role = "ordinary"
    large: bool = False
    """A sum or product sign: drawn larger."""


@dataclass(frozen=True)
class Row:
    """Nodes beside one another."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Fraction:
    """One row over another."""

    top: Node
    bottom: Node


@dataclass(frozen=True)
class Scripts:
    """A base with what stands low and high behind it."""

    base: Node
    low: Node | None = None
    high: Node | None = None


@dataclass(frozen=True)
class Radical:
    """A square root."""

    body: Node


@dataclass(frozen=True)
class Accent:
    """A mark over its body."""

    body: Node
    mark: Literal["bar", "hat", "tilde"]


Node = Symbol | Row | Fraction | Scripts | Radical | Accent

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
}  # fmt: skip
_CAPITALS = {"Gamma": "Γ", "Delta": "Δ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Omega": "Ω"}
_RELATIONS = {
    "in": "∈", "notin": "∉", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠",
    "approx": "≈", "to": "→", "subset": "⊂", "propto": "∝", "sim": "∼", "mid": "|", "leftarrow": "←",
}  # fmt: skip
_OPERATORS = {
    "cdot": "·", "times": "×", "pm": "±", "cap": "∩", "cup": "∪", "setminus": "∖", "odot": "⊙", "circ": "∘",
}  # fmt: skip
_SIGNS = {
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "partial": "∂", "infty": "∞", "nabla": "∇",
    "ldots": "…", "dots": "…", "cdots": "⋯", "forall": "∀", "{": "{", "}": "}", "|": "‖", "%": "%", "_": "_",
    "lVert": "‖", "rVert": "‖", "langle": "⟨", "rangle": "⟩", "top": "⊤", "star": "⋆", "prime": "′", "ell": "ℓ",
}  # fmt: skip
_LARGE = {"sum": "∑", "prod": "∏", "int": "∫"}
_WORDS = frozenset(
    {"log", "ln", "exp", "min", "max", "cos", "sin", "cosh", "sinh", "tanh", "det", "arg", "tr"}
)
_SPACES = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "quad": "    ", "qquad": "        "}
_SIZES = frozenset(
    {"Big", "big", "Bigg", "bigg", "left", "right", "textstyle", "displaystyle", "limits", "nolimits"}
)
_UPRIGHT = frozenset({"mathrm", "text", "operatorname", "textrm", "mathbf", "mathit"})
_SCRIPT = dict(zip("DGHLMNPRST", "𝒟𝒢ℋℒℳ𝒩𝒫ℛ𝒮𝒯", strict=True))
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|[0-9]*\.?[0-9]+|.", re.DOTALL)


def read_formula(latex: str) -> Row:
    """Return the tree of a formula; anything that is written can be read."""
    return _Reader([t for t in _TOKEN.findall(latex) if not t.isspace()], latex).row(())


def unknown_commands(latex: str) -> list[str]:
    """Return the commands in a formula that would stand under their own names; for tests."""
    known = (
        {*_GREEK, *_CAPITALS, *_RELATIONS, *_OPERATORS, *_SIGNS, *_LARGE, *_SPACES}
        | _WORDS
        | _SIZES
        | _UPRIGHT
        | {"frac", "tfrac", "dfrac", "sqrt", "bar", "hat", "tilde", "mathcal"}
    )
    return [name for name in re.findall(r"\\([A-Za-z]+)", latex) if name not in known]


class _Reader:
    """Walks over the tokens once, from left to right."""

    def __init__(self, tokens: list[str], latex: str) -> None:
        self._tokens, self._at = tokens, 0
        self._words = re.findall(r"\\(?:mathrm|text|operatorname|textrm|mathbf|mathit)\{([^{}]*)\}", latex)

    def row(self, until: tuple[str, ...]) -> Row:
        """Read up to one of the closing tokens, and past it."""
        items: list[Node] = []
        while self._at < len(self._tokens):
            sign = self._tokens[self._at]
            if sign in until:
                self._at += 1
                break
            if sign in "_^":
                self._at += 1
                self._attach(items, sign)
                continue
            node = self._node()
            if node is not None:
                items.append(_unary(node) if _begins(items) else node)
        return Row(tuple(items))

    def _attach(self, items: list[Node], sign: str) -> None:
        base = items.pop() if items else Symbol("")
        script = self._argument()
        old = base if isinstance(base, Scripts) else Scripts(base)
        low = script if sign == "_" else old.low
        high = script if sign == "^" else old.high
        items.append(Scripts(old.base, low, high))

    def _argument(self) -> Node:
        """Read what a command applies to: a group in braces, or one sign."""
        return self._node() or Row(())

    def _node(self) -> Node | None:
        if self._at >= len(self._tokens):
            return None
        sign = self._tokens[self._at]
        self._at += 1
        if sign == "{":
            return self.row(("}",))
        if sign.startswith("\\"):
            return self._command(sign[1:])
        if sign == "&":
            return None
        return _plain(sign)

    def _command(self, name: str) -> Node | None:
        if name in {"frac", "tfrac", "dfrac"}:
            return Fraction(self._argument_of_fraction(), self._argument_of_fraction())
        if name == "sqrt":
            return Radical(self._argument())
        if name in {"bar", "hat", "tilde"}:
            return Accent(self._argument(), name)  # type: ignore[arg-type]
        if name in _UPRIGHT:
            self._argument()
            return Symbol(self._words.pop(0) if self._words else "")
        if name == "mathcal":
            return _calligraphic(self._argument())
        if name in _SIZES:
            return None
        return _sign(name)

    def _argument_of_fraction(self) -> Node:
        """Read one digit where a number without braces follows: the 1 and the 2 of "\\frac12"."""
        sign = self._tokens[self._at] if self._at < len(self._tokens) else ""
        if len(sign) > 1 and sign.isdigit():
            self._tokens[self._at] = sign[1:]
            return Symbol(sign[0])
        return self._argument()


def _begins(items: list[Node]) -> bool:
    """Whether what comes next has nothing before it to be taken from: a minus there is a sign, not an operator."""
    return not items or _is_sign(items[-1]) or _text(items[-1]) in {"(", "[", ","}


def _unary(node: Node) -> Node:
    return Symbol(node.text) if isinstance(node, Symbol) and node.role == "operator" else node


def _sign(name: str) -> Node | None:
    if name in _SPACES:
        return Symbol(_SPACES[name], role="space")
    if name in _GREEK:
        return Symbol(_GREEK[name], "italic")
    if name in _RELATIONS:
        return Symbol(_RELATIONS[name], role="relation")
    if name in _OPERATORS:
        return Symbol(_OPERATORS[name], role="operator")
    if name in _LARGE:
        return Symbol(_LARGE[name], large=True)
    if name in _WORDS:
        return Symbol(f"{name}\u2009")
    return Symbol({**_CAPITALS, **_SIGNS}.get(name, name))


def _plain(sign: str) -> Symbol:
    if sign.isalpha():
        return Symbol(sign, "italic")
    if sign in "=<>":
        return Symbol(sign, role="relation")
    if sign in "+-":
        return Symbol("−" if sign == "-" else sign, role="operator")
    if sign in ",;":
        return Symbol(sign, role="punctuation")
    return Symbol("∗" if sign == "*" else sign)


def _calligraphic(body: Node) -> Node:
    while isinstance(body, Row) and len(body.items) == 1:
        body = body.items[0]
    if isinstance(body, Symbol):
        return Symbol(_SCRIPT.get(body.text, body.text), "italic" if body.text not in _SCRIPT else "upright")
    return body


def break_points(row: Row) -> list[tuple[Node, ...]]:
    """Return the statements of a formula, each for a line of its own: they end at a comma or wide space."""
    lines: list[list[Node]] = [[]]
    depth = 0
    for node in row.items:
        wide = isinstance(node, Symbol) and node.role == "space" and len(node.text) > 1
        ended = bool(lines[-1]) and _text(lines[-1][-1]) == ","
        if (wide or (ended and depth == 0)) and lines[-1]:
            lines.append([])
        depth += _bracket(node)
        if not (isinstance(node, Symbol) and node.role == "space" and (wide or not lines[-1])):
            lines[-1].append(node)
    return [tuple(line) for line in lines if line]


def pieces(nodes: tuple[Node, ...], *, inside: bool = False) -> list[tuple[Node, ...]]:
    """Return the runs of a line between its relations and operators, each beginning with its sign.

    Nothing is broken inside brackets, unless `inside` allows it in the outermost ones.
    """
    found: list[list[Node]] = [[]]
    depth = 0
    for node in nodes:
        if _is_sign(node) and found[-1] and depth <= inside:
            found.append([])
        found[-1].append(node)
        depth += _bracket(node)
    return [tuple(piece) for piece in found if piece]


def _is_sign(node: Node) -> bool:
    return isinstance(node, Symbol) and node.role in {"relation", "operator"}


def _text(node: Node) -> str:
    base = node.base if isinstance(node, Scripts) else node
    return base.text if isinstance(base, Symbol) else ""


def _bracket(node: Node) -> int:
    return (_text(node) in {"(", "["}) - (_text(node) in {")", "]"})


def spoken(latex: str) -> str:
    """Return a formula as one line of plain text, for tooltips, search and screen readers."""
    return re.sub(r"\s+", " ", _line(read_formula(latex))).strip()


def _line(node: Node) -> str:
    if isinstance(node, Symbol):
        return f" {node.text} " if node.role in {"relation", "operator"} else node.text
    if isinstance(node, Row):
        return "".join(_line(item) for item in node.items)
    if isinstance(node, Fraction):
        return f"{_bracketed(node.top)}/{_bracketed(node.bottom)}"
    if isinstance(node, Radical):
        return f"√{_bracketed(node.body)}"
    if isinstance(node, Accent):
        return _line(node.body) + {"bar": "\u0304", "hat": "\u0302", "tilde": "\u0303"}[node.mark]
    low = f"_{_bracketed(node.low)}" if node.low is not None else ""
    high = f"^{_bracketed(node.high)}" if node.high is not None else ""
    return f"{_line(node.base)}{low}{high}"


def _bracketed(node: Node) -> str:
    text = _line(node).strip()
    return text if len(text) <= 1 or text.isalnum() else f"({text})"

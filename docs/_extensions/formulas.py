"""Formulas as SVG in the page itself, drawn by ziamath as the site is built: no script and no font is loaded."""

from __future__ import annotations

import html
from typing import Any

import ziamath
from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)
PIXELS = 17.0


def draw(latex: str, *, inline: bool) -> str:
    """Return a formula as an SVG element that takes the colour of the text around it.

    Raises
    ------
    ValueError
        When ziamath cannot read the LaTeX.
    """
    ziamath.config.svg2 = False  # paths in place: identifiers of glyphs would repeat within a page
    formula = ziamath.Latex(latex, size=PIXELS, color="currentColor", inline=inline)
    element = formula.svgxml()
    element.set("role", "img")
    element.set("aria-label", latex)
    if inline:
        element.set("style", f"vertical-align: {formula.getyofst():.2f}px")
    drawn: str = ziamath.zmath.ET.tostring(element, encoding="unicode")
    return drawn


def _visit(translator: Any, node: nodes.math | nodes.math_block, *, inline: bool) -> None:
    latex = " ".join(node.astext().split())
    try:
        drawn = draw(latex, inline=inline)
    except Exception as error:  # noqa: BLE001  ziamath raises whatever it stumbles over; the build then fails
        logger.warning("This formula cannot be drawn: %s (%s)", latex, error, location=node)
        drawn = f"<code>{html.escape(latex)}</code>"
    tag = "span" if inline else "div"
    translator.body.append(f'<{tag} class="formula">{drawn}</{tag}>')
    raise nodes.SkipNode


def _visit_inline(translator: Any, node: nodes.math) -> None:
    _visit(translator, node, inline=True)


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    _visit(translator, node, inline=False)


def setup(app: Any) -> dict[str, Any]:
    """Offer the renderer as "svg"."""
    app.add_html_math_renderer("svg", (_visit_inline, None), (_visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

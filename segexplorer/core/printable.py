"""Text from others, made safe to show: control characters, escapes and bidirectional overrides become visible.

A name in somebody else's file may hold an escape sequence that rewrites a terminal, or an override that shows
"gpj.exe" as "exe.jpg". Every such text passes through `printable` once: where a run folder is read, where an error
is made, and where the command line writes.
"""

from __future__ import annotations

import re
from typing import Any

_HIDDEN = "\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
"""Line and paragraph separators; bidirectional embeddings, overrides and isolates (Unicode Technical Report 36,
section 3.3); annotations; halves of surrogate pairs, which no encoding writes; invisible tags."""
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f{_HIDDEN}]")
_UNSAFE_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HIDDEN}]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text without characters that act on a terminal or a label; each becomes its escape, "\x1b" for one.

    Parameters
    ----------
    lines
        Whether line breaks and tabulators stay as they are.
    """
    if text.isprintable():
        return text
    if lines:
        return _UNSAFE_IN_LINES.sub(_escape, text.replace("\r\n", "\n"))
    return _UNSAFE.sub(_escape, text)


def is_printable(text: str) -> bool:
    """Whether a text is shown as it is."""
    return text.isprintable() or _UNSAFE.search(text) is None


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_HIDDEN}]")


def printable_json(text: str) -> str:
    """Return a JSON text that means the same without such characters; JSON itself escapes those below U+0020."""
    return _UNSAFE_IN_JSON.sub(lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def printable_values(value: Any, *, keep_lines: frozenset[str] = frozenset()) -> Any:
    """Return what a JSON or YAML file holds with every text and every key made printable.

    Parameters
    ----------
    keep_lines
        Keys whose texts keep their line breaks.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {
            printable(k) if isinstance(k, str) else k: printable(v, lines=True)
            if k in keep_lines and isinstance(v, str)
            else printable_values(v, keep_lines=keep_lines)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [printable_values(v, keep_lines=keep_lines) for v in value]
    return value

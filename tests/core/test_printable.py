"""Texts of others: what acts on a terminal or a label is written out, everything else stays as it is."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexplorer.core.errors import DataError
from segexplorer.core.events import Notice, from_json, to_json
from segexplorer.core.printable import is_printable, printable, printable_json, printable_values
from segexplorer.frontends.cli.terminal import _Console

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egnp\u2066\x9b1A\x7f\ud800\U000e0041\u2028"
KEPT = ("Leber, Größe 3 × 4 µl", "肝臓", "כבד", "a b", "👩‍⚕️", "left-right \u200f mark")


def test_what_acts_on_a_terminal_is_written_out() -> None:
    shown = printable(EVIL)
    assert shown == ("\\x1b]0;owned\\x07\\x1b[2J\\u202egnp\\u2066\\x9b1A\\x7f\\ud800\\U000e0041\\u2028")
    assert is_printable(shown) and not is_printable(EVIL) and shown.encode()


@pytest.mark.parametrize("text", KEPT)
def test_texts_of_any_language_stay(text: str) -> None:
    assert printable(text) == text and is_printable(text)


@given(st.text(alphabet=st.characters()))
def test_it_is_done_once(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert is_printable(printable(text))
    assert printable(text, lines=True).count("\n") == text.replace("\r\n", "\n").count("\n")


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_means_the_same(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(printable_json(text)) == value
    assert is_printable(printable_json(text))


def test_values_and_keys_of_documents() -> None:
    found = printable_values(
        {EVIL: [EVIL, {"cause": "a\nb"}], "cause": "a\nb"}, keep_lines=frozenset({"cause"})
    )
    assert found == {printable(EVIL): [printable(EVIL), {"cause": "a\nb"}], "cause": "a\nb"}


def test_errors_events_and_the_console_pass_through_it() -> None:
    error = DataError(f"The case {EVIL} is odd.", f"Rename {EVIL}.")
    assert is_printable(error.message) and is_printable(error.remedy) and is_printable(str(error))
    evil = EVIL.replace("\ud800", "")
    event = from_json(json.dumps({"event": "Notice", "message": evil}))
    assert isinstance(event, Notice) and event.message == printable(evil)
    # a file name that is no UTF-8 has halves of surrogate pairs, which a reader of JSON refuses
    written = from_json(to_json(Notice(message="a\udcff.nii is odd.", remedy="x\ny")))
    assert isinstance(written, Notice) and written.message == "a\\udcff.nii is odd."
    out = io.StringIO()
    console = _Console(file=out, force_terminal=True, color_system="standard", width=200)
    console.print(f"[red]{EVIL}", "second")
    shown = out.getvalue()
    assert (
        "owned" in shown and "]0;owned\x07" not in shown and "\x1b[2J" not in shown and "\u202e" not in shown
    )
    assert "\x1b[31m" in shown  # rich's own colour

"""YAML of strangers: no key twice, no bottomless nesting, and the place of every error."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core.yaml_text import YamlError, load_yaml
from segexplorer.frontends.cli.app import run as cli

BEGINNING = "data: {kind: phantom, count: 3, size: 32}\n"


def test_plain_yaml_is_read_as_ever() -> None:
    text = "a: &x {b: 1, c: [2, 3]}\nd: {<<: *x, c: 4}\ne: {1: one, '1': text}\n"
    assert load_yaml(text) == {
        "a": {"b": 1, "c": [2, 3]},
        "d": {"b": 1, "c": 4},
        "e": {1: "one", "1": "text"},
    }
    assert load_yaml("") is None and load_yaml("0.7") == 0.7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nloss: dice\nseed: 2\n", "'seed' is there twice, in line 1 and in line 3"),
        (
            "loss:\n  kind: dice\n  smooth: 1\n  kind: tversky\n",
            "'kind' is there twice, in line 2 and in line 4",
        ),
        ("data: {classes: {liver: 1, liver: 2}}", "'liver' is there twice, in line 1 and in line 1"),
        ("a:\n - " + "[" * 5000, "nested more than 64 levels"),
        ("a: " + "{a: " * 500 + "1" + "}" * 500, "nested more than 64 levels"),
        ("a: [1\nb: 2", "at line 2"),
        ("day: 2020-13-45", "month must be in"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_is_no_yaml_says_where(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(YamlError) as caught:
        load_yaml(text)
    assert told in str(caught.value) and len(str(caught.value)) < 200
    file = tmp_path / "experiment.yaml"
    file.write_text(BEGINNING + text)
    assert cli(["check", str(file), "--quick"]) == 2
    shown = "".join(capsys.readouterr())
    assert "Traceback" not in shown and len(shown) < 600

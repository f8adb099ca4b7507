"""`list`, `describe`, `plugins` and `schema` print what the registries hold, all of it, by iteration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from segexplorer.core import plugins
from segexplorer.core.fields import parameters
from segexplorer.core.registry import Registry
from segexplorer.frontends.cli.app import run
from segexplorer.frontends.cli.catalogue import known_families


def every_kind() -> list[tuple[str, str]]:
    """Return (family, kind or preset) of everything there is."""
    families: dict[str, Registry[Any]] = known_families()
    return [(name, kind) for name, r in families.items() for kind in [*r.names(), *r.presets()]]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_families_are_those_of_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    listed = answer(capsys, "list")
    assert {"losses", "networks", "datasets", "optimisers", "schedules"} <= set(listed)
    assert run(["list"]) == 0
    assert "losses" in capsys.readouterr().out


@pytest.mark.slow
def test_every_kind_is_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    for family, registry in known_families().items():
        assert run(["list", family]) == 0
        listed = capsys.readouterr().out
        assert all(kind in listed for kind in [*registry.names(), *registry.presets()])
    for family, kind in every_kind():
        assert run(["describe", family, kind]) == 0
        told = " ".join(capsys.readouterr().out.split())
        registry = known_families()[family]
        preset = registry.presets().get(kind)
        spec = registry.spec(kind) if preset is None else type(preset.spec)
        assert all(p.name in told for p in parameters(spec)), (family, kind)


def test_loss_is_described_with_formula_and_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    facts = answer(capsys, "describe", "losses", "tversky")
    assert facts["formula"]
    assert facts["reference"]
    assert facts["penalises"]
    alpha = next(p for p in facts["parameters"] if p["name"] == "alpha")
    assert alpha["range"]
    assert "false positive" in (alpha["title"] + alpha["description"]).lower()
    assert run(["describe", "losses", "tversky"]) == 0
    assert "formula" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "loses"], "losses"),
        (["describe", "losses", "tverski"], "tversky"),
        (["describe", "network", "unet"], "networks"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert "Did you mean" in error
    assert told in error


def test_schema_names_every_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    for kind in known_families()["losses"].names():
        assert f"losses.{kind}" in schema["$defs"]


def test_plugin_that_failed_is_reported_not_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = plugins.PluginReport(
        "bad", "bad_module", "bad-package", "1.0", "ImportError: no torch2", "Traceback"
    )
    monkeypatch.setattr(plugins, "load", lambda: (report,))
    assert run(["plugins"]) == 0
    assert "ImportError: no torch2" in capsys.readouterr().out
    monkeypatch.setattr(plugins, "load", lambda: ())
    assert run(["plugins"]) == 0
    assert plugins.GROUP in capsys.readouterr().out


def test_a_kind_before_its_family_is_told_the_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "tversky", "losses"]) == 2
    assert "segexplorer describe losses tversky" in capsys.readouterr().err

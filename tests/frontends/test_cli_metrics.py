"""`list metrics` and `describe metrics NAME` print what every metric declares."""

from __future__ import annotations

import json

import pytest

from segexplorer import metrics
from segexplorer.frontends.cli.app import run


def test_metrics_are_listed_beside_the_families(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == metrics.names()
    assert run(["list", "metrics"]) == 0
    listed = capsys.readouterr().out
    assert all(m.name in listed for m in metrics.ALL_METRICS.values())
    wide = " ".join(listed.split())
    assert all(m.definition in wide for m in metrics.ALL_METRICS.values() if len(m.definition) < 30)


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "metrics", name]) == 0
    told = " ".join(capsys.readouterr().out.split())
    metric = metrics.spec(name)
    for text in (metric.title, metric.definition, metric.formula, metric.reference, *metric.papers):
        assert text and " ".join(text.split()) in told
    assert run(["describe", "metrics", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["better"] == metric.better


def test_an_unknown_metric_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "metrics", "hd59"]) == 2
    assert "hd95" in capsys.readouterr().err
    assert run(["list", "metric"]) == 2
    assert "metrics" in capsys.readouterr().err


@pytest.mark.parametrize("task", [*metrics.TASKS, *metrics.PROTOCOLS])
def test_a_task_is_explained_by_its_metrics_and_pitfalls(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["describe", "metrics", "--task", task]) == 0
    told = capsys.readouterr().out
    for metric in metrics.metrics_for(task):
        assert metric.name in told
    assert run(["describe", "metrics", "--task", task, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["metrics"]) == [metric.name for metric in metrics.metrics_for(task)]
    assert "resolution" in facts["pitfalls"]


def test_an_unknown_task_or_a_task_of_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe", "metrics", "--task", "lesion"]) == 2
    assert "lesions" in capsys.readouterr().err
    assert run(["describe", "losses", "--task", "lesions"]) == 2
    assert run(["describe", "metrics", "dice", "--task", "lesions"]) == 2
    assert "Tasks belong to metrics" in capsys.readouterr().err
    assert run(["describe", "metrics"]) == 2
    assert "list metrics" in capsys.readouterr().err

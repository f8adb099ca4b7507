"""The page about a run: what it shows, what it must not show, and that it needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.frontends.cli.app import run as command
from segexplorer.frontends.report.drawing import nice_ticks
from segexplorer.frontends.report.writing import MOST_BYTES
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.verdicts import keep_verdict
from segexplorer.viewmodels.error_navigator import verdict_on
from segexplorer.viewmodels.error_pieces import error_pieces
from segexplorer.viewmodels.report import run_report
from segexplorer.viewmodels.watched_case import RunHistoryLoader

CLASS = "<img src=http://evil.example/a onerror=alert(1)>"
CASE = "</script><script>alert('x')</script>"
NOTE = '"><svg onload=alert(2)>'
TRAINER = "<b>my loop</b> {{ 7 * 7 }} {% raw %}"


class Page(HTMLParser):
    """The elements of a page, with the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def films(self) -> list[dict[str, Any]]:
        found = [
            json.loads(text)
            for (_, attributes), text in zip(
                [e for e in self.elements if e[0] == "script"], self.inside["script"], strict=True
            )
            if attributes.get("type") == "application/json" and "id" not in attributes
        ]
        assert all("frames" in one for one in found)
        return found


def pixels(uri: str) -> np.ndarray:
    """Decode an embedded picture."""
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that another program recorded, with markup for names; a corner is extra at step 2."""
    place = tmp_path_factory.mktemp("hostile") / "run <i>of</i> Maier"
    image = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(np.float32)
    label = np.zeros((6, 8, 4), np.uint8)
    label[1:3, 2:5, 1:3] = 1
    with segexplorer.Recorder(place, {CLASS: 1}, trainer=TRAINER, network=NOTE, epochs=1) as recorder:
        for step in (1, 2):
            recorder.step(1.0 / step, {NOTE: 1.0 / step}, cases=[CASE])
            prediction = label.copy()
            prediction[1, 2, 1] = 0
            if step == 2:
                prediction[4:, 6:, 2] = 1
            recorder.watch(
                CASE, image=image, label=label, prediction=prediction, affine=np.diag([2.0, 3.0, 4.0, 1.0])
            )
    record = open_run(place)
    frame = record.watched("validation")[-1]
    shown = RunHistoryLoader(record.experiment).snapshot(frame)
    assert shown.truth is not None
    piece = error_pieces(shown.prediction, shown.truth, shown.class_names, shown.affine)[0]
    keep_verdict(
        place, verdict_on(piece, shown).model_copy(update={"judgement": "label_error", "note": NOTE})
    )
    return place


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of our own: four phantoms of which two validate, six steps of a regional loss."""
    experiment = Experiment.of(
        {
            "data": {
                "kind": "phantom",
                "count": 4,
                "size": 32,
                "seed": 1,
                "classes": {"liver": 1, "kidneys": 3},
            },
            "split": {"validation_count": 2},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": {"kind": "adaptive_region_tversky", "a": 0.25},
            "schedule": {"kind": "polynomial", "epochs": 2},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    run = Run(RunFolder.create(experiment, tmp_path_factory.mktemp("trained") / "run"))
    list(run)
    return run.folder


def test_texts_of_a_run_are_texts_on_its_page(hostile: Path, tmp_path: Path) -> None:
    page = Page(segexplorer.report(hostile, tmp_path / "r.html", names=True).read_text("utf-8"))
    for text in (CLASS, CASE, NOTE, TRAINER, hostile.name):
        assert text in page.text
    assert [a for tag, a in page.elements if tag == "img"] == []
    assert sum(tag == "script" for tag, _ in page.elements) == 3  # a film, the colours, ours
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:image/png;base64,", "#"))
    assert "49" not in page.text.partition("my loop")[2][:12]  # a template in a name is not run


def test_the_policy_allows_our_own_style_and_script_alone(hostile: Path, tmp_path: Path) -> None:
    page = Page(segexplorer.report(hostile, tmp_path / "r.html").read_text("utf-8"))
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None

    def sha(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    (style,) = page.inside["style"]
    assert dict(part.strip().split(" ", 1) for part in policy.split(";")) == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": sha(style),
        "script-src": sha(page.inside["script"][-1]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in style
    assert "@import" not in style


def test_without_names_nothing_names_anybody(hostile: Path, trained: Path, tmp_path: Path) -> None:
    text = segexplorer.report(hostile, tmp_path / "a.html").read_text("utf-8")
    page = Page(text)
    for private in ("Maier", "my loop", "alert('x')", "onload", str(hostile.parent)):
        assert private not in text
    assert "case_001" in page.text
    assert "label error" in page.text  # the verdict stays, its note does not
    own = segexplorer.report(trained, tmp_path / "b.html").read_text("utf-8")
    assert "phantom_0" not in own
    assert str(trained.parent) not in own
    assert "phantom_0" in segexplorer.report(trained, tmp_path / "c.html", names=True).read_text("utf-8")


def test_film_shows_each_frame_as_the_window_does(hostile: Path, tmp_path: Path) -> None:
    (film,) = Page(segexplorer.report(hostile, tmp_path / "r.html", names=True).read_text("utf-8")).films()
    assert film["steps"] == [1, 2]
    assert film["pixel"] == [3.0, 2.0]
    assert film["letters"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    shape = (len(film["slices"]), film["height"], film["width"])
    assert shape == (4, 8, 6)
    frames = [pixels(uri).reshape(shape) for uri in film["frames"]]
    record = open_run(hostile)
    for frame, recorded in zip(frames, record.watched("validation"), strict=True):
        # an identity of axes: x runs to the right of the patient, which is the left of the page, y and z upwards
        expected = recorded.prediction().transpose(2, 1, 0)[:, ::-1, ::-1]
        np.testing.assert_array_equal(frame, expected)
    assert frames[1][film["slices"].index(2), 0, 0] == 1  # the most right and anterior voxel
    assert frames[0][film["slices"].index(2), 0, 0] == 0


def test_report_of_a_run_of_our_own_has_every_part(trained: Path, tmp_path: Path) -> None:
    report = run_report(trained, named=True)
    watched, train = report.watched
    assert watched.held == "not trained on"
    assert train.held == "training case, not held out"
    assert len(watched.panels) == 3
    balance, asked = (m.title for m in watched.maps)
    assert balance.startswith("FP-FN balance, ")
    assert "asks: more or less" in asked
    words = [section.about.split()[0] for section in report.extremes]
    assert words == ["Worst", "Best"]
    # of two validation cases one was watched; the other one was predicted anew
    predicted = next(
        section for section in report.extremes if section.panels or section.title != watched.title
    )
    assert len(predicted.panels) == 3
    assert predicted.scores is not None
    assert "Of 4 cases, 2 for training and 2 for validation were used" in report.methods
    assert "base penalty A 0.25" in report.methods
    assert "Chen 2023" in report.methods
    assert "2 epochs, 6 steps in all" in report.methods
    keys = [chart.plot.key for chart in report.charts]
    assert {"loss", "dice", "validation_loss"} <= set(keys)
    (table,) = report.tables
    assert {row[0] for row in table.rows} == {"liver", "kidneys", "mean of classes"}
    path = segexplorer.report(trained, tmp_path / "r.html")
    assert path.stat().st_size < MOST_BYTES


def test_predicted_case_has_the_dice_that_validation_recorded(trained: Path) -> None:
    report = run_report(trained, named=True)
    for section in report.extremes:
        if section.scores is None:
            continue
        dice = [float(row[1]) for row in section.scores.rows if row[1] not in ("–", "")]
        said = re.search(r"mean Dice ([\d.]+)", section.about)
        assert said is not None
        assert np.mean(dice) == pytest.approx(float(said[1]), abs=0.002)


def test_pages_without_images_hold_no_voxel(trained: Path, tmp_path: Path) -> None:
    text = segexplorer.report(trained, tmp_path / "r.html", images=False).read_text("utf-8")
    page = Page(text)
    assert "data:image/png" not in text
    assert page.films() == []
    assert "Slices of cases were left out" in page.text
    assert "can identify" not in page.text


def test_command_numbers_cases_where_nobody_can_be_asked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.html"
    assert command(["report", str(trained), "-o", str(path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(path)
    assert "numbered" in said.err
    assert "can identify a person" in said.err
    assert "phantom_0" not in path.read_text("utf-8")
    assert command(["report", str(trained), "-o", str(path)]) != 0  # it is there already
    assert command(["report", str(trained), "-o", str(path), "--overwrite", "--names"]) == 0
    assert "phantom_0" in path.read_text("utf-8")


def test_refusals_are_sentences(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(SpecError, match=r"not written as r\.docx"):
        segexplorer.report(trained, tmp_path / "r.docx")
    with pytest.raises(DataError, match="not a run folder"):
        segexplorer.report(tmp_path, tmp_path / "r.html")


def test_pdf_without_a_browser_is_a_sentence(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="Chromium or Chrome, which is not installed"):
        segexplorer.report(trained, tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_even_and_inside(low: float, width: float) -> None:
    high = low + width
    if high - low < 1e-9 * max(abs(low), abs(high)):
        return
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 8
    slack = 1e-6 * (high - low)
    assert all(low - slack <= t <= high + slack for t in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[:1])

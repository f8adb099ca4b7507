"""Figures of a run: their size, what is in them, and what they are not."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segexplorer
from segexplorer.core import colours
from segexplorer.core.errors import DataError, SpecError
from segexplorer.frontends.cli.app import run as command

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of two predictions: everything is missed at first, then a block too much is found."""
    place = tmp_path_factory.mktemp("figures") / "run"
    label = np.zeros((24, 30, 12), np.uint8)
    label[6:16, 8:20, 4:9] = 1
    later = label.copy()
    later[16:20, 8:20, 4:9] = 1
    image = np.random.default_rng(0).normal(size=label.shape).astype(np.float32)
    with segexplorer.Recorder(place, {"lesion": 1}, epochs=1) as recorder:
        for prediction in (np.zeros_like(label), later):
            recorder.step(1.0)
            recorder.watch(
                "Maier", image=image, label=label, prediction=prediction, affine=np.diag([2.0, 2.0, 5.0, 1.0])
            )
    return place


def near(pixels: np.ndarray, colour: str, within: int = 60) -> int:
    """Count pixels of about a colour."""
    wanted = 255 * np.array(colours.rgba(colour)[:3])
    return int((np.abs(pixels[..., :3].astype(float) - wanted).max(axis=-1) < within).sum())


def test_montage_has_the_width_that_is_asked_for_and_the_colours_of_errors(run: Path, tmp_path: Path) -> None:
    path = segexplorer.figure(run, tmp_path / "m.png", width_mm=127, dpi=100)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape[1] == 500
    assert near(pixels, colours.FALSE_POSITIVE) > 100
    # the whole label was found, so blue is in the legend alone
    assert near(pixels, colours.FALSE_NEGATIVE) < near(pixels, colours.FALSE_POSITIVE)


def test_svg_keeps_letters_as_letters_and_names_nobody_unasked(run: Path, tmp_path: Path) -> None:
    plain, named = (
        segexplorer.figure(run, tmp_path / f"{names}.svg", names=names).read_text("utf-8")
        for names in (False, True)
    )
    texts = [e.text for e in ET.fromstring(plain).iter() if e.tag.endswith("}text")]
    assert {"R", "L", "A", "P", "S", "I", "extra (false positive)"} <= set(texts)
    assert any(text and text.endswith(" mm") for text in texts)
    assert "Maier" not in plain
    assert "Maier" in named
    width = ET.fromstring(plain).get("width")
    assert width is not None
    assert float(width.removesuffix("pt")) == pytest.approx(180 / 25.4 * 72)


def test_pdf_and_curves_are_written(run: Path, tmp_path: Path) -> None:
    assert segexplorer.figure(run, tmp_path / "m.pdf").read_bytes().startswith(b"%PDF-")
    curves = segexplorer.figure(run, tmp_path / "c.svg", of="curves").read_text("utf-8")
    assert "optimiser step" in curves


def test_history_is_a_frame_per_prediction(run: Path, tmp_path: Path) -> None:
    path = segexplorer.figure(run, tmp_path / "h.gif", width_mm=50.8, dpi=150)
    moving = Image.open(io.BytesIO(path.read_bytes()))
    assert (moving.n_frames, moving.width) == (2, 300)
    assert moving.height == round(300 * 30 / 24)
    first, last = [], []
    for frame, found in ((0, first), (1, last)):
        moving.seek(frame)
        pixels = np.asarray(moving.convert("RGB"))
        found += [near(pixels, colours.FALSE_POSITIVE), near(pixels, colours.FALSE_NEGATIVE)]
    # 10 x 12 voxels were missed, then 4 x 12 are too much; a voxel has 12.5 x 12.5 pixels
    assert first[0] < 50
    assert first[1] == pytest.approx(120 * 12.5**2, rel=0.2)
    assert last[0] == pytest.approx(48 * 12.5**2, rel=0.25)
    assert last[1] < 50


def test_history_of_overlapping_classes_has_the_errors_of_each(tmp_path: Path) -> None:
    """An organ and a tumour that crosses it: where the tumour is missed within the organ is no other organ."""
    masks = np.zeros((2, 24, 30, 4), np.uint8)
    masks[0, 2:16, 2:20] = 1
    masks[1, 8:22, 10:28] = 1
    predicted = masks.copy()
    predicted[1, 8:16] = 0  # missed: 8 x 18 voxels, of which 8 x 10 are in the organ
    with segexplorer.Recorder(tmp_path / "run", ["organ", "tumour"], overlapping=True) as recorder:
        for guess in (masks, predicted):
            recorder.step(1.0)
            recorder.watch("a", image=np.zeros(masks.shape[1:], np.float32), label=masks, prediction=guess)
    path = segexplorer.figure(tmp_path / "run", tmp_path / "h.gif", width_mm=50.8, dpi=150)
    moving = Image.open(io.BytesIO(path.read_bytes()))
    moving.seek(1)
    pixels = np.asarray(moving.convert("RGB"))
    assert near(pixels, colours.FALSE_NEGATIVE) == pytest.approx(144 * 12.5**2, rel=0.25)
    assert near(pixels, colours.FALSE_POSITIVE) < 50
    assert near(pixels, colours.WRONG_CLASS) < 500  # a voxel has 156


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("m.docx", {}, "not written as"),
        ("m.png", {"of": "history"}, r"ends with \.gif"),
        ("m.gif", {"of": "curves"}, r"\.svg or"),
        ("m.png", {"width_mm": 1}, "not 1 mm wide"),
        ("m.png", {"dpi": 5}, "5 pixels per inch"),
    ],
)
def test_refusals_are_sentences(
    run: Path, tmp_path: Path, name: str, settings: dict[str, object], why: str
) -> None:
    with pytest.raises(SpecError, match=why):
        segexplorer.figure(run, tmp_path / name, **settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Watched, worst and best: case_001\."):
        segexplorer.figure(run, tmp_path / "x.png", case="nobody")


def test_command_draws_a_case_by_its_number(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.png"
    assert command(["figure", str(run), "-o", str(path), "--case", "case_001", "--dpi", "60"]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert command(["figure", str(run), "-o", str(path)]) != 0

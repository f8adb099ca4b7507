"""The page in a real browser: its script runs under its own policy, draws the right voxels, and asks nobody."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segexplorer
from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.frontends.report.writing import BROWSERS, browser_options
from segexplorer.training.history import open_run

BROWSER = next((place for name in BROWSERS if (place := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")
CLASS = "<img src=http://evil.example/a onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of random labels in voxels of 2 x 3 x 4 mm, two frames."""
    place = tmp_path_factory.mktemp("browser") / "run"
    random = np.random.default_rng(1)
    label = random.integers(0, 3, (9, 7, 5)).astype(np.uint8)
    with segexplorer.Recorder(place, {CLASS: 1, "liver": 2}, epochs=1) as recorder:
        for _ in (1, 2):
            recorder.step(1.0)
            prediction = np.where(random.random(label.shape) < 0.4, random.integers(0, 3, label.shape), label)
            recorder.watch(
                "case",
                image=random.normal(size=label.shape).astype(np.float32),
                label=label,
                prediction=prediction.astype(np.uint8),
                affine=np.diag([2.0, 3.0, 4.0, 1.0]),
            )
    return place


def browse(page: Path, place: str, folder: Path, *options: str) -> str:
    """Return the elements of a page after its script has run."""
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        *browser_options(folder),
        "--virtual-time-budget=6000",
        *options,
        "--dump-dom",
        f"{page.as_uri()}{place}",
    ]
    # the page's time may run out while a picture is decoded in real time: its sentence is empty until then
    for _ in range(3):
        dom = subprocess.run(command, capture_output=True, timeout=90, check=True).stdout.decode()
        if not re.search(r'class="told"[^>]*></', dom):
            break
    return dom


def test_film_counts_the_voxels_of_the_slice_and_no_request_leaves(run: Path, tmp_path: Path) -> None:
    page = segexplorer.report(run, tmp_path / "r.html", names=True)
    log = tmp_path / "net.json"
    dom = browse(page, "#film=0&step=0&slice=3&class=2", tmp_path, f"--log-net-log={log}")
    said = re.search(r'class="told"[^>]*>([^<]*)<', dom)
    assert said is not None
    first = open_run(run).watched("validation")[0]
    label = np.random.default_rng(1).integers(0, 3, (9, 7, 5)).astype(np.uint8)
    truth, prediction = (volume[:, :, 3] == 2 for volume in (label, first.prediction()))
    extra, missed = (int(found.sum()) * 6 / 100 for found in (prediction & ~truth, truth & ~prediction))
    assert said[1] == f"Step 1, slice 3: extra {extra:.2f} cm², missed {missed:.2f} cm² in this slice."
    assert "Copy" in dom
    assert hosts(log) == set()
    # the log would show it: the same picture without our policy and escaping is asked for
    control = tmp_path / "control.html"
    control.write_text("<img src=http://evil.example/a>")
    browse(control, "", tmp_path, f"--log-net-log={log}")
    assert hosts(log) == {"evil.example"}


def hosts(log: Path) -> set[str]:
    """Return whom a browser asked, but for what the browser itself asks its maker."""
    asked = re.findall(r'"url":\s*"(?:https?|wss?|ftp)://([^/:"]+)', log.read_text())
    makers = (".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com")
    return {host for host in asked if not host.endswith(makers)}


def test_page_is_printed(run: Path, tmp_path: Path) -> None:
    printed = segexplorer.report(run, tmp_path / "r.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 20_000


def test_film_of_overlapping_classes_counts_and_draws_each(tmp_path: Path) -> None:
    """Two boxes cross, and a part of the second one is missed: both are shown, not the last one alone."""
    masks = np.zeros((2, 12, 10, 4), np.uint8)
    masks[0, 1:8, 1:8] = 1
    masks[1, 4:11, 3:9] = 1
    predicted = masks.copy()
    predicted[1, 8:] = 0
    with segexplorer.Recorder(tmp_path / "run", ["organ", "tumour"], overlapping=True) as recorder:
        for guess in (masks[:, ::-1], predicted):
            recorder.step(1.0)
            recorder.watch("a", image=masks.sum(0) * 9.0, label=masks, prediction=guess)
    page = segexplorer.report(tmp_path / "run", tmp_path / "r.html", names=True)
    missed = 3 * 6 / 100
    for chosen, lacking in ((0, missed), (1, 0), (2, missed)):
        dom = browse(page, f"#film=0&step=1&slice=2&class={chosen}", tmp_path)
        said = re.search(r'class="told"[^>]*>([^<]*)<', dom)
        assert said is not None
        assert said[1] == f"Step 2, slice 2: extra 0.00 cm², missed {lacking:.2f} cm² in this slice."
    assert BROWSER is not None
    picture = tmp_path / "shown.png"
    browse(
        page,
        "#film=0&step=1&slice=2&show=prediction",
        tmp_path,
        f"--screenshot={picture}",
        "--window-size=1000,3000",
    )
    seen = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3).astype(int)
    found = {tuple(row) for row in np.unique(seen, axis=0).tolist()}
    lines = [tuple(round(255 * c) for c in colours.rgba(ClassColours().colour(i))[:3]) for i in (1, 2)]
    assert set(lines) <= found  # the border of each, in its own colour

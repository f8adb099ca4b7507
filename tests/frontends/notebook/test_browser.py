"""Cells in a real browser: JupyterLab and Notebook 7 on 127.0.0.1 and chromium.

The tour from opening the notebook to Stop; a recorded run before and after its kernel has gone, and when it was
saved; a browser without WebGL. `make test-notebook` runs them; pictures of every scene are kept in
`build/notebook-pictures`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2400)]
ROOT = Path(__file__).resolve().parents[3]
PICTURES = ROOT / "build" / "notebook-pictures"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PATIENCE_MS = 240_000
CURVES = "document.querySelectorAll('.js-line')"
"""Lines of the figure."""


def copy_tour(folder: Path) -> None:
    """Write the tour with so many epochs that it is still training when it is paused."""
    tour = json.loads((ROOT / "docs" / "notebooks" / "tour.ipynb").read_text(encoding="utf-8"))
    first = next(cell for cell in tour["cells"] if cell["cell_type"] == "code")
    first["source"] = "".join(first["source"]).replace('"epochs": 6', '"epochs": 60')
    assert '"epochs": 60' in first["source"]
    tour["cells"] = [first]
    (folder / "tour.ipynb").write_text(json.dumps(tour), encoding="utf-8")


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook of code cells."""
    made = [
        {"cell_type": "code", "id": f"cell{n}", "source": cell, "outputs": [], "metadata": {}}
        | {"execution_count": None}
        for n, cell in enumerate(cells)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path.write_text(
        json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}),
        encoding="utf-8",
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a Jupyter server of `tmp_path` that knows nobody's settings."""
    pytest.importorskip("jupyterlab", reason="needs JupyterLab (make test-notebook)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {
        name: str(tmp_path / ".jupyter" / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    settings = tmp_path / ".jupyter" / "JUPYTER_CONFIG_DIR" / "lab" / "user-settings" / "@jupyterlab"
    (settings / "apputils-extension").mkdir(parents=True)
    (settings / "apputils-extension" / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false"}'
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
            *(f"--port={port}", f"--ServerApp.root_dir={tmp_path}", "--IdentityProvider.token=none"),
            *("--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        ],
        env={**os.environ, **places, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/api", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < until and process.poll() is None, "JupyterLab did not start"
                time.sleep(0.3)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_GL = ("--disable-gpu", "--disable-3d-apis")
LATE = """
const timeout = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (ms) => timeout(ms === 2000 ? 1 : ms);
"""
"""Every widget takes longer to begin than anywidget waits, as on a busy computer."""


OURS = re.compile(r"^(https?|wss?)://127\.0\.0\.1[:/]|^(data|blob):")


@pytest.fixture
def open_page() -> Iterator[Any]:
    """Makes a page of a chromium with the given switches; none may ask for anything from elsewhere."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright (make test-notebook)")
    PICTURES.mkdir(parents=True, exist_ok=True)
    if not CHROMIUM:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browsers: list[Any] = []
        pages: list[Any] = []
        outside: list[str] = []

        def asked(request: Any) -> None:
            if not OURS.match(request.url):
                outside.append(request.url)

        def made(*switches: str) -> Any:
            browsers.append(
                playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *switches])
            )
            page = browsers[-1].new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(PATIENCE_MS)
            pages.append(page)
            page.on("request", asked)
            page.on("websocket", asked)
            return page

        yield made
        for number, page in enumerate(pages):
            if not page.is_closed():  # the picture tells why, where a test has failed
                page.screenshot(path=PICTURES / f"last-{number}.png")
        for browser in browsers:
            browser.close()
        assert outside == [], "a request left the machine"


def run_cell(page: Any, number: int = 0) -> None:
    """Run a cell; a kernel that says that it is idle may not be connected yet, and then nothing happens."""
    cell = page.locator(".jp-CodeCell").nth(number)
    cell.evaluate("cell => cell.querySelectorAll('.jp-OutputArea-child').forEach(e => e.dataset.old = '1')")
    begun = """number => {
        const cell = document.querySelectorAll('.jp-CodeCell')[number];
        return cell.querySelector('.jp-InputPrompt').textContent.includes('*')
            || cell.querySelector('.jp-OutputArea-child:not([data-old])') !== null;
    }"""
    sync_api = pytest.importorskip("playwright.sync_api")
    for _ in range(40):
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        try:
            page.wait_for_function(begun, arg=number, timeout=5000)
        except sync_api.TimeoutError:
            continue
        return
    pytest.fail("the cell does not run")


def go_to_notebook(page: Any, address: str) -> None:
    """Open a notebook and wait until its kernel is there."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")


def end_kernels(address: str) -> None:
    """End every kernel of a server."""
    with urllib.request.urlopen(f"{address}/api/sessions?token=none") as answer:
        sessions = json.load(answer)
    for session in sessions:
        request = urllib.request.Request(
            f"{address}/api/sessions/{session['id']}?token=none", method="DELETE"
        )
        urllib.request.urlopen(request).close()


def top_of_output(page: Any) -> None:
    page.locator(".jp-OutputArea").first.evaluate("e => e.scrollIntoView({block: 'start'})")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("front_end", ["lab/tree", "notebooks"])
def test_a_recorded_run_with_its_kernel_without_it_and_saved(
    front_end: str, server: str, open_page: Any, tmp_path: Path, finished: Path
) -> None:
    name = front_end.partition("/")[0]
    explore = f"import segexplorer as sx\nexplorer = sx.explore({str(finished)!r})\nexplorer"
    write_notebook(
        tmp_path / "look.ipynb", explore, "'Saved picture' in explorer._still_bundle()['text/html']"
    )
    page = open_page(*SOFTWARE_GL)
    address = f"{server}/{front_end}/look.ipynb?token=none"
    go_to_notebook(page, address)
    run_cell(page)

    # planes, curves and surfaces are there, and nothing says that it has gone
    page.locator(".segexplorer-caption", has_text="step 4").first.wait_for()
    page.locator("[data-drawn] .legend").first.wait_for()
    assert not page.locator(".segexplorer-gone").first.is_visible()
    page.locator(".lm-TabBar-tab", has_text="3D").last.click()
    page.locator("[data-drawn] .gl-container canvas").first.wait_for()
    offered = {button.get_attribute("data-title") for button in page.locator(".modebar-btn").all()}
    assert offered and not any("hare" in str(title) or "loud" in str(title) for title in offered), (
        "a button of plotly's sends the figure to its maker"
    )
    top_of_output(page)
    page.screenshot(path=PICTURES / f"6-{name}-3d.png")
    saved = tmp_path / "look.ipynb"
    until = time.monotonic() + 60
    while "data:image/png;base64" not in saved.read_text(encoding="utf-8"):
        assert time.monotonic() < until, "the notebook is not saved with its picture"
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)

    # a kernel that is restarted: the old widget says what it is, its buttons are dead, and the run opens again
    page.get_by_role("menuitem", name="Kernel", exact=True).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Restart Kernel…$")).first.click()
    page.locator(".jp-Dialog button", has_text="Restart").first.click()
    gone = page.locator(".segexplorer-gone").first
    gone.wait_for()
    assert "Run the cell again" in str(gone.text_content()) and finished.name in str(gone.text_content())
    style = page.locator("button", has_text="Go on").first.evaluate("b => getComputedStyle(b).pointerEvents")
    assert style == "none"
    top_of_output(page)
    page.screenshot(path=PICTURES / f"6-{name}-gone.png")
    run_cell(page)
    gone.wait_for(state="hidden")
    page.locator(".segexplorer-caption", has_text="step 4").first.wait_for()

    # opened again without that kernel: the still is there, and nothing else of ours
    page.close()
    end_kernels(server)
    again = open_page(*SOFTWARE_GL)
    again.goto(address)
    again.wait_for_selector(".jp-Notebook .jp-CodeCell")
    kept = again.locator(".jp-OutputArea")
    for still in (
        kept.get_by_text("Saved picture"),
        kept.locator("img"),
        kept.locator("table", has_text="Dice"),
    ):
        still.first.wait_for()
    again.locator(".segexplorer-planes:visible").first.wait_for(state="hidden")
    again.screenshot(path=PICTURES / f"6-{name}-saved.png")


def test_without_webgl_and_late_planes_and_curves_are_there_and_3d_says_why(
    server: str, open_page: Any, tmp_path: Path, finished: Path
) -> None:
    curves = f"curves = sx.explore.curves({str(finished)!r})\ncurves"
    write_notebook(
        tmp_path / "look.ipynb", f"import segexplorer as sx\nsx.explore({str(finished)!r})", curves
    )
    page = open_page(*NO_GL)
    page.add_init_script(LATE)
    go_to_notebook(page, f"{server}/lab/tree/look.ipynb?token=none")
    assert not page.evaluate("() => Boolean(document.createElement('canvas').getContext('webgl2'))")
    run_cell(page)
    page.locator(".segexplorer-caption", has_text="step 4").first.wait_for()
    page.locator("[data-drawn] .legend").first.wait_for()
    inks = page.locator(".segexplorer-plane canvas").first.evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert inks > 20, "the plane is not empty"
    page.locator(".lm-TabBar-tab", has_text="3D").last.click()
    page.get_by_text("This browser has no WebGL").first.wait_for()
    top_of_output(page)
    page.screenshot(path=PICTURES / "7-no-webgl.png")

    # a figure alone: plotly is in the page already, and the still below it is hidden
    run_cell(page, 1)
    second = page.locator(".jp-CodeCell").nth(1)
    second.locator("[data-drawn] .legend").first.wait_for()
    second.locator("[class^=segexplorer-still]").first.wait_for(state="hidden")


def test_the_tour_in_a_browser(server: str, open_page: Any, tmp_path: Path) -> None:
    copy_tour(tmp_path)
    page = open_page(*SOFTWARE_GL)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))

    def picture(name: str) -> None:
        page.screenshot(path=PICTURES / f"{name}.png")

    def caption() -> str:
        return str(page.locator(".segexplorer-caption").first.text_content())

    def until(what: str, script: str, argument: Any = None) -> None:
        page.wait_for_function(script, arg=argument, timeout=PATIENCE_MS)

    def shown() -> Any:
        return page.locator(".segexplorer-planes canvas").first.evaluate("c => c.toDataURL()")

    go_to_notebook(page, f"{server}/lab/tree/tour.ipynb?token=none")
    run_cell(page)
    start = page.locator("button", has_text="Start").first
    start.wait_for()
    start.click()

    # curves move, and the errors of the first prediction appear
    until("curves", f"() => {CURVES}.length > 0")
    before = page.evaluate(f"() => {CURVES}[0].outerHTML")
    until("moving", f"old => {CURVES}[0].outerHTML !== old", before)
    until("picture", "() => /step \\d/.test(document.querySelector('.segexplorer-caption').textContent)")
    assert "not trained on" in caption() and "radiological" in caption()
    page.locator(".segexplorer-legend", has_text="missed (false negative)").first.wait_for()
    page.locator(".jp-OutputArea").first.evaluate("e => e.scrollIntoView({block: 'start'})")
    picture("1-errors")

    # nothing of the planes is cut: neither by a scrolled output nor by the edge of a laptop's screen
    assert page.locator(".jp-mod-outputsScrolled").count() == 0
    planes = [plane.bounding_box() for plane in page.locator(".segexplorer-plane").all()]
    assert len(planes) == 3 and all(box["y"] + box["height"] <= 800 for box in planes)

    # pause, go back in the history, and look at one class
    until("two predictions", "() => /Prediction [2-9] of/.test(document.body.textContent)")
    page.locator("button", has_text="Pause").first.click()
    page.locator("button", has_text="Resume").first.wait_for()
    newest = caption()
    slider = page.locator(".widget-hslider .noUi-handle").first
    slider.focus()
    page.keyboard.press("ArrowLeft")
    until("history", "old => document.querySelector('.segexplorer-caption').textContent !== old", newest)
    page.get_by_label("Class", exact=True).select_option("liver")
    until("class", "() => document.querySelector('.segexplorer-caption').textContent.includes('liver')")
    page.locator(".segexplorer-bar", has_text="balance").first.wait_for()
    picture("2-class")

    # ask why at a voxel
    page.locator(".lm-TabBar-tab", has_text="Why").last.click()
    page.locator("button", has_text="Asked").first.click()
    page.locator(".segexplorer-bar").first.wait_for()
    plane = page.locator(".segexplorer-plane canvas").first
    before_click = shown()
    box = plane.bounding_box()
    plane.click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.45})
    page.locator("i", has_text="asks for").first.wait_for()
    assert shown() != before_click, "the crosshair has moved"
    picture("3-why")

    # change alpha and beta, which depend on each other, while it is paused; go on; stop
    page.locator(".lm-TabBar-tab", has_text="Settings").last.click()
    penalties = page.locator(".widget-hslider:visible", has_text=re.compile("positives|negatives"))
    for number, way in ((0, "ArrowRight"), (1, "ArrowLeft")):
        penalties.nth(number).locator(".noUi-handle").focus()
        page.keyboard.press(way)
    page.locator("button", has_text="Resume").first.click()
    page.locator(".lm-TabBar-tab", has_text="Log").last.click()
    page.get_by_text(re.compile("alpha changed from")).first.wait_for()
    page.locator("button", has_text="Stop").first.click()
    page.get_by_text(re.compile("stopped by the user|finished: ")).first.wait_for()
    picture("4-stopped")
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").first.fill("JupyterLab Dark")
    page.locator(".lm-CommandPalette-item", has_text="JupyterLab Dark").first.click()
    page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    for tab, drawn in (("Curves", ".js-line"), ("3D", ".gl-container canvas")):
        page.locator(".lm-TabBar-tab", has_text=tab).last.click()
        page.locator(f"[data-drawn] {drawn}").first.wait_for(state="attached")
        picture(f"5-dark-{tab.lower()}")
    # a widget that begins late is helped (`listen.js`)
    assert [error for error in broken if "Failed to initialize model" not in error] == []

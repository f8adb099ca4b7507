"""What a cell costs: the first picture, bytes of an update, and steps per second with a view open against none.

A kernel is started as Jupyter does, and this script is its page: it asks for what widgets have to show, and counts
what comes. Views are opened and closed in turn while one run trains, so that whatever else happens on the computer
is on both sides; processor time is that of the kernel without the thread that trains. At last, every notebook of
docs/notebooks is run from start to end in a kernel of its own, lectures without a recorded run.

    python benchmarks/notebooks.py [--small]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from segexplorer.data.cache_folder import VARIABLE

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
EXPERIMENT = {
    "data": {"kind": "phantom", "anatomy": "ct_abdomen", "count": 4, "size": 48, "seed": 0},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [32, 32, 32], "batch_size": 2, "steps_per_epoch": 8},
    "network": {"kind": "unet", "base_features": 8, "levels": 3},
    "loss": {"kind": "tversky", "alpha": 0.5, "beta": 0.5},
    "schedule": {"epochs": 10_000},
    "validation": {"every_epochs": 4, "overlap": 0.25},
}
"""The training of the tour, with a validation about every ten seconds."""
SMALL = {
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
}
METER = """
import json, threading, time
from segexplorer.core.events import StepDone

steps = 0

def count(event):
    global steps
    steps += isinstance(event, StepDone)

run.events.connect(count)

def reading():
    trainer = next(t for t in threading.enumerate() if t.name.startswith("run "))
    training = time.clock_gettime(time.pthread_getcpuclockid(trainer.ident))
    return steps, time.perf_counter(), time.process_time() - training
"""
UPDATE_S = 0.25
"""What comes within this time is one update."""


class Page:
    """A kernel and its page.

    Attributes
    ----------
    heard
        (time, bytes) of every message of the kernel.
    pictures
        Times at which planes had something to draw.
    printed
        What was printed last.
    """

    def __init__(self, folder: Path) -> None:
        self._manager, self._client = start_new_kernel(cwd=str(folder))
        self.heard: list[tuple[float, int]] = []
        self.pictures: list[float] = []
        self.printed = ""

    def run(self, code: str, *, picture: bool = False, timeout: float = 300.0) -> float:
        """Run a cell, and wait for its end or for its first picture; return the seconds that took."""
        begun, pictures = time.perf_counter(), len(self.pictures)
        asked = self._client.execute(code)
        done = False
        while not done or (picture and len(self.pictures) == pictures):
            if time.perf_counter() - begun > timeout:
                raise TimeoutError(code)
            message = self._next(1.0)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
            if message["msg_type"] == "stream":
                self.printed = message["content"]["text"]
            done = done or message["content"].get("execution_state") == "idle"
        return (self.pictures[pictures] if picture else time.perf_counter()) - begun

    def listen(self, seconds: float) -> None:
        """Take what comes for a while."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            self._next(left)

    def reading(self) -> tuple[float, ...]:
        """Return steps, time and processor time beside training."""
        self.run("print(json.dumps(reading()))")
        return tuple(json.loads(self.printed))

    def close(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _next(self, seconds: float) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=seconds)
        except Exception as error:  # queue.Empty of the client's own making
            if type(error).__name__ != "Empty":
                raise
            return None
        content, now = message["content"], time.perf_counter()
        size = sum(map(len, message["buffers"])) + len(json.dumps(content, default=str))
        self.heard.append((now, size))
        data = content.get("data", {}) if message["msg_type"].startswith("comm") else {}
        if message["msg_type"] == "comm_open" and data.get("state", {}).get("_model_module") == "anywidget":
            self._say(content["comm_id"], {"kind": "ready", "webgl": True, "code": False})
            self._say(content["comm_id"], {"kind": "views", "count": 1})
        said = data.get("content", {}) if data.get("method") == "custom" else {}
        if said.get("kind") == "scene" and said["layers"]:
            self.pictures.append(now)
        return message

    def _say(self, comm: str, said: Mapping[str, Any]) -> None:
        content = {"comm_id": comm, "data": {"method": "custom", "content": said}}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))


def updates(heard: list[tuple[float, int]]) -> list[int]:
    """Return the bytes of each update."""
    sizes: list[int] = []
    last = -1.0
    for moment, size in heard:
        if moment - last > UPDATE_S or not sizes:
            sizes.append(0)
        sizes[-1] += size
        last = moment
    return sizes


def measure_cell(folder: Path, trained: Mapping[str, Any], rounds: int, seconds: float) -> None:
    """Print what a cell costs that shows a run, while it trains and afterwards."""
    page = Page(folder)
    try:
        page.run("import segexplorer as sx; import segexplorer.frontends.notebook.explorer")
        page.run(
            f"experiment = sx.Experiment.of({dict(trained)!r})\n"
            "explorer = sx.explore(experiment, output='run'); explorer.controls.begin(); explorer"
        )
        page.run(f"import time\nwhile explorer.run is None: time.sleep(0.1)\nrun = explorer.run\n{METER}")
        page.run("while steps < 1 or explorer.display.screen.seen is None: time.sleep(0.1)")
        rates: dict[bool, list[float]] = {True: [], False: []}
        others: dict[bool, list[float]] = {True: [], False: []}
        sizes: list[int] = []
        for _ in range(rounds):
            for shown in (True, False):
                page.run("explorer.close()")
                if shown:
                    page.run("explorer = sx.explore(run); explorer", picture=True)
                page.listen(1.0)
                begun, heard = page.reading(), len(page.heard)
                page.listen(seconds)
                if shown:
                    sizes += updates(page.heard[heard:])
                ended = page.reading()
                steps, wall, other = (b - a for a, b in zip(begun, ended, strict=True))
                rates[shown].append(steps / wall)
                others[shown].append(other / wall)
        ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True) if b]
        added = statistics.median(others[True]) - statistics.median(others[False])
        print(
            f"while it trains: {len(sizes) / (rounds * seconds):.1f} updates a second, median "
            f"{statistics.median(sizes) / 1e3:.1f} kB, largest {max(sizes) / 1e3:.0f} kB; "
            f"{statistics.median(rates[True]):.2f} steps/s with a view, {statistics.median(rates[False]):.2f} "
            f"without, ratio {statistics.median(ratios or [0]):.2f} (median of {rounds} pairs); a view takes "
            f"{1000 * added:.0f} ms of processor time a second",
            flush=True,
        )
        page.run("explorer.close(); run.stop()\nwhile run.state != 'stopped': time.sleep(0.1)")
        recorded = [page.run("explorer = sx.explore('run'); explorer", picture=True)]
        for _ in range(rounds - 1):
            page.run("explorer.close()")
            recorded.append(page.run("explorer = sx.explore('run'); explorer", picture=True))
    finally:
        page.close()
    page = Page(folder)
    try:
        fresh = page.run("import segexplorer as sx\nexplorer = sx.explore('run')\nexplorer", picture=True)
    finally:
        page.close()
    print(
        f"from explore() of a recorded run to its first picture: {statistics.median(recorded):.2f} s, in a "
        f"fresh kernel with its imports {fresh:.1f} s",
        flush=True,
    )


def measure_notebook(path: Path, folder: Path) -> None:
    """Print how long a notebook takes, and its processor time."""
    notebook = nbformat.read(path, as_version=4)
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{path.name}: {seconds:.0f} s, {processor:.0f} s of processor time", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for variable in (VARIABLE, "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            os.environ[variable] = str(folder / variable)
        trained = EXPERIMENT | (SMALL if small else {})
        measure_cell(folder, trained, 1 if small else 6, 1.5 if small else 12.0)
        for path in sorted(NOTEBOOKS.glob("own-loss.ipynb" if small else "*.ipynb")):
            measure_notebook(path, folder)


if __name__ == "__main__":
    main()

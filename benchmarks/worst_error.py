"""From a folder of 100 predictions to the worst error: clicks and seconds in the real window, by real events.

    python -m segexplorer.frontends.cli.screen python benchmarks/worst_error.py [--cases 100] [--size 160]
        [--window 1280x800] [--pictures DIR] [--small]

The folder is `predictions` beside `labels` and `images`: phantoms of an abdomen, whose predictions are shifted and
lack or add pieces, each case worse than the one before. The clock starts with the program, as somebody who types
`segexplorer open predictions`. Then the mouse clicks on the first row of the case table, and the key N flies to the
first error of that case. A second folder is added for the page Side by side. Scores are not remembered beforehand.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from segexplorer.data.cache_folder import VARIABLE  # noqa: E402
from segexplorer.data.datasets.phantom import Phantoms  # noqa: E402
from segexplorer.data.io import save_volume  # noqa: E402

DRAWN = 4
"""Phantoms that are drawn; each case turns one of them over and predicts it in its own way."""
PATIENCE_S = 600


def predicted(label: NDArray[Any], number: int, of: int) -> NDArray[Any]:
    """Return a label with errors, more of them the higher its number is."""
    rng = np.random.default_rng(number)
    found = np.roll(label, round(3 * number / of), axis=0)
    for _ in range(4 + 20 * number // of):
        low = [int(rng.integers(0, n - n // 6)) for n in label.shape]
        place = tuple(
            slice(a, a + int(rng.integers(3, max(4, n // 6)))) for a, n in zip(low, label.shape, strict=True)
        )
        inside = found[place]
        found[place] = (
            np.where(inside > 0, 0, rng.integers(1, 5)) if rng.random() < 0.5 else np.where(inside, 0, 0)
        )
    return found


def write(folder: Path, cases: int, size: int) -> None:
    """Write images, labels, and two folders of predictions."""
    drawn = [ref.open() for ref in Phantoms(count=DRAWN, size=(size, size, size)).listing().cases]
    for name in ("images", "labels", "predictions", "predictions of another network"):
        (folder / name).mkdir()
    for number in range(cases):
        case = drawn[number % DRAWN]
        assert case.label is not None
        turn = (slice(None), slice(None, None, -1 if number // DRAWN % 2 else 1))
        image, label = case.images[0], np.minimum(np.asarray(case.label.array)[turn], 5)
        name = f"patient_{(7 * number) % cases:03}.nii.gz"  # the worst is not the last in the folder
        save_volume(image.with_array(np.asarray(image.array)[turn]), folder / "images" / name)
        save_volume(case.label.with_array(label), folder / "labels" / name, integer=True)
        for place, worse in (("predictions", number), ("predictions of another network", cases - number)):
            guess = case.label.with_array(predicted(label, worse, cases))
            save_volume(guess, folder / place / name, integer=True)


class Walk:
    """What a person does in the window, and how long it answers.

    Parameters
    ----------
    window
        The main window.
    pictures
        Folder for pictures of the window; None takes none.
    """

    def __init__(self, window: Any, pictures: Path | None) -> None:
        self.window, self.pictures = window, pictures
        self.clicks, self.keys = 0, 0

    def wait(self, until: Callable[[], object]) -> float:
        """Let the window live until something is so; return the seconds."""
        from qtpy.QtWidgets import QApplication

        begun = time.perf_counter()
        while not until():
            if time.perf_counter() - begun > PATIENCE_S:
                raise TimeoutError("The window did not come to the next stage.")
            QApplication.processEvents()
            time.sleep(0.005)
        return time.perf_counter() - begun

    def click(self, widget: Any, at: Any = None) -> None:
        """Press and release the left button on a widget, in its middle or at a point."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.clicks += 1
        place = widget.rect().center() if at is None else at
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, place)

    def key(self, widget: Any, key: Any) -> None:
        """Press a key where the focus is."""
        from qtpy.QtTest import QTest

        self.keys += 1
        QTest.keyClick(widget, key)

    def picture(self, name: str) -> None:
        """Keep what the window shows."""
        if self.pictures is not None:
            end = time.perf_counter() + 1.0
            self.wait(lambda: time.perf_counter() > end)
            self.window.grab().save(str(self.pictures / f"{name}.png"))


def walk(folder: Path, size: tuple[int, int], pictures: Path | None) -> None:
    """Open the window, go to the worst error, and print what it took."""
    from qtpy.QtCore import Qt

    from segexplorer.frontends.napari.panels.results import Asked
    from segexplorer.frontends.viewing import view_results

    made = time.perf_counter()
    viewer = view_results([{"folder": folder / "predictions"}], block=False)
    window = viewer.window._qt_window
    window.resize(*size)
    window.show()
    person = Walk(window, pictures)
    dock = next(
        w.inner_widget() if hasattr(w, "inner_widget") else w for w in viewer.window.dock_widgets.values()
    )
    person.wait(lambda: getattr(dock, "cases", None) is not None and dock.cases.results.dock is not None)
    results = dock.cases.results.dock
    person.wait(lambda: results.events)
    print(
        f"window and first scores after {time.perf_counter() - made + IMPORTED:.1f} s from the command",
        flush=True,
    )
    person.picture("1-scores-come-in")
    person.wait(lambda: not results.busy)
    print(
        f"all {len(results.events)} cases scored after {time.perf_counter() - made + IMPORTED:.1f} s",
        flush=True,
    )
    person.picture("2-case-table")
    worst = results.rows.cells.rows[0].case
    view = results.rows
    person.click(view.viewport(), view.visualRect(view.model().index(0, 0)).center())

    def shown() -> bool:
        seen = results.display.seen
        return seen is not None and seen.snapshot.case == worst and not results.display.busy

    print(f"1 click: the worst case, {worst}, is shown after {person.wait(shown):.2f} s", flush=True)
    person.picture("3-worst-case")
    before = tuple(viewer.dims.current_step)
    person.key(window, Qt.Key.Key_N)
    person.wait(lambda: results.display.displayed.error is not None)
    after = person.wait(lambda: not results.display.busy)
    print(
        f"1 key: at its first error after {after:.2f} s, slice {before[0]} -> {viewer.dims.current_step[0]}",
        flush=True,
    )
    person.picture("4-worst-error")
    results.add([Asked(folder / "predictions of another network")])
    person.wait(lambda: not results.busy and len(results.folders) == 2 and results.comparison is not None)
    tabs = results.pages.tabBar()
    person.click(tabs, tabs.tabRect(1).center())
    person.picture("5-side-by-side")
    person.click(tabs, tabs.tabRect(0).center())
    person.picture("6-two-sets")
    viewer.close()


def main() -> None:
    """Measure and print."""
    global IMPORTED
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--window", default="1280x800")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    if given.small:
        given.cases, given.size = 6, 32
    warnings.simplefilter("ignore")
    width, height = (int(part) for part in given.window.split("x"))
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
    IMPORTED = time.perf_counter() - STARTED
    with tempfile.TemporaryDirectory() as place:
        os.environ[VARIABLE] = str(Path(place) / "cache")
        write(Path(place), given.cases, given.size)
        print(f"{given.cases} cases of {given.size}^3 voxels", flush=True)
        walk(Path(place), (width, height), given.pictures)


IMPORTED = 0.0
"""Seconds that the imports of this script took, which the command's take too."""

if __name__ == "__main__":
    main()

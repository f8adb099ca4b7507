"""The widget of a cell: parts of one display, put together; closed as a whole.

While the cell is shown, widgets exist; when it is run again, cleared or closed, they and everything that listened
or worked for them are gone, and the run goes on.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import ipywidgets as w
import numpy as np

from segexplorer.core.errors import SegExplorerError, did_you_mean
from segexplorer.core.events import Event
from segexplorer.frontends.notebook import cells, html, solid
from segexplorer.frontends.notebook.controls import Controls
from segexplorer.frontends.notebook.curves import DEFAULT_PLOTS, CurvesFigure
from segexplorer.frontends.notebook.display import Display
from segexplorer.frontends.notebook.forms import close_all
from segexplorer.frontends.notebook.inspector import ErrorsBox, ScoresBox, ShowBar, WhyBox
from segexplorer.frontends.notebook.planes import PlanesWidget, words_of
from segexplorer.frontends.notebook.scenes import SceneMaker
from segexplorer.frontends.notebook.still import still_html
from segexplorer.frontends.notebook.subjects import Subject, know
from segexplorer.frontends.notebook.training import is_training
from segexplorer.viewmodels.caption import CONVENTIONS
from segexplorer.viewmodels.case_preview import CasePreview, preview_case
from segexplorer.viewmodels.errors import class_legend
from segexplorer.viewmodels.planes import Scene
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.why import Look

Part = Literal["controls", "planes", "curves", "errors", "why"]
ALL: tuple[Part, ...] = ("controls", "planes", "curves", "errors", "why")
STILL_S = 5.0
"""The still picture of a saved notebook is drawn anew at most so often."""
GONE_S = 4.0
"""So long after its last view has gone, a cell is closed: a page that draws it anew is quicker."""
FEW = 8
"""So many classes of a case are named in its caption, and their volumes listed without being asked for."""
SAVED = "Saved picture. Run the cell to make it live."
FIRST_STILL_S = 5.0
"""So long a cell waits for its first picture, so that it is kept where nothing runs after the cell."""
_WIDGET = "application/vnd.jupyter.widget-view+json"


class Explorer:
    """What `segexplorer.explore` returns; the last line of a cell shows it.

    Attributes
    ----------
    display
        What is displayed, and the commands (`display.issue`).
    run
        The run that is followed; None where there is none, or before Start.
    """

    def __init__(
        self,
        subject: Subject,
        parts: Sequence[Part] = ALL,
        *,
        output: Path | None = None,
        plots: Sequence[str] = DEFAULT_PLOTS,
    ) -> None:
        self._subject, self._plots, self._output = subject, tuple(plots), output
        self._parts = tuple(parts) if subject.case is None else ("planes",)
        if subject.results is not None:
            self._parts = tuple(part for part in self._parts if part not in {"controls", "curves"})
        self.display = Display()
        self._uid = uuid.uuid4().hex
        self._scenes, self._scene = SceneMaker(), Scene()
        self._preview: CasePreview | None = None
        self._place = (0.0, 0.0, 0.0)
        self._placed: Any = None
        self._stilled, self._still_due = 0.0, False
        self._closing: threading.Timer | None = None
        self._closed, self._shown = False, False
        self._build()
        self.display.changed.connect(self._on_changed)
        self.display.heard.connect(self._on_heard)
        self.display.flown.connect(self._on_flown)
        self._open()

    # -- the parts ----------------------------------------------------------------------------------------

    def _build(self) -> None:
        has = self._parts.__contains__
        self.planes = PlanesWidget() if has("planes") else None
        self.controls = (
            Controls(self.display, self._subject.experiment, self._output, lambda: self._place)
            if has("controls")
            else None
        )
        self.curves = CurvesFigure(self._plots) if has("curves") else None
        looks = has("planes") and self._subject.case is None
        self.show = ShowBar(self.display) if looks else None
        self.scores = ScoresBox(self.display) if has("errors") else None
        self.errors = ErrorsBox(self.display) if has("errors") else None
        self.why = WhyBox(self.display) if has("why") else None
        self.solid: solid.SolidFigure | None = None
        self._solid_box = w.VBox([w.HTML(solid.EMPTY)])
        self.facts = w.HTML() if self._subject.case is not None else None
        if self.planes is not None:
            self.planes.clicked = self._on_click
            self.planes.viewed = self._on_views
            self.planes.observe(self._on_place, "place")
        elif self.curves is not None:
            self.curves.view.viewed = self._on_views
        self.widget = self._arranged()
        self.widget.add_class("segexplorer-cell")

    def _arranged(self) -> Any:
        """Return the widget: planes on the left, everything else in tabs beside them."""
        rows = [part.widget for part in (self.controls, self.show) if part is not None]
        left = [part for part in (self.planes, self.facts) if part is not None]
        tabs: list[tuple[str, Any]] = []
        if self.curves is not None:
            tabs.append(("Curves", self.curves.widget))
        if self.errors is not None and self.scores is not None:
            tabs.append(("Errors", w.VBox([self.errors.widget, self.scores.widget])))
        if self.why is not None:
            tabs.append(("Why", self.why.widget))
        if self.show is not None and len(self._parts) > 1:
            tabs.append(("3D", self._solid_box))
        if self.controls is not None:
            tabs.append(("Settings", self.controls.settings.widget))
            tabs.append(("Log", self.controls.log))
        if len(tabs) == 1 and not left:
            self.tabs = None
            return w.VBox([*rows, tabs[0][1]])
        if not tabs:
            self.tabs = None
            return w.VBox([*rows, *left])
        # both side by side in the cell of a laptop (848 px beside JupyterLab's file list): nothing of the planes
        # is below the edge of its screen; on a narrower page the tabs come below them
        self.tabs = w.Tab(
            [body for _, body in tabs],
            titles=[title for title, _ in tabs],
            layout={"flex": "1 1 380px", "min_width": "320px"},
        )
        self.tabs.selected_index = 0
        self.tabs.add_class("segexplorer-tabs")
        self.tabs.observe(self._on_tab, "selected_index")
        planes = w.VBox(left, layout={"flex": "1 1 430px", "min_width": "320px", "overflow": "hidden"})
        both = w.HBox(
            [planes, self.tabs], layout={"flex_flow": "row wrap", "width": "100%", "grid_gap": "8px"}
        )
        return w.VBox([*rows, both])

    @property
    def _gone(self) -> str:
        """What is said of this cell once its kernel has gone."""
        facts, again = self.display.reality.run, "Run the cell again."
        if facts is None:
            return f"The kernel of this picture has gone. {again}"
        opened = f"segexplorer.explore({facts.key!r}) opens the run as it was last saved."
        trained = ", and the training with it" if self.display.reality.busy else ""
        return f"The kernel of this picture has gone{trained}. {again} {opened}"

    def tab(self, title: str) -> None:
        """Bring a tab to the front, by its title."""
        if self.tabs is not None:
            self.tabs.selected_index = self.tabs.titles.index(title)

    def _open(self) -> None:
        subject, display = self._subject, self.display
        if subject.run is not None:
            display.follow(subject.run)
        elif subject.folder is not None:
            display.open_folder(subject.folder)
        elif subject.results is not None:
            display.open_results(subject.results)
        elif subject.case is not None:
            self._show_case()
        with display.lock:
            self._draw(display.screen, None)

    def _show_case(self) -> None:
        """Show an image with its label, as training will see them."""
        case = self._subject.case
        assert case is not None and self.planes is not None and self.facts is not None
        self._preview = made = preview_case(case, {})
        self._scene = self._scenes.of_pictures(made.pictures)
        names = list(made.classes)
        entries = class_legend(names, range(1, len(names) + 1), "fill") if names else ()
        self.planes.show(self._scene)
        self.planes.say(
            caption=[
                ["case", case.id],
                ["class", ", ".join(names) if len(names) <= FEW else f"{len(names)} classes"],
                ["convention", CONVENTIONS["radiological"]],
            ],
            legend=[[entry.name, entry.colour, entry.form] for entry in entries],
            read="",
            gone=self._gone,
        )
        volumes = {} if made.examination is None else made.examination.volumes_ml or {}
        rows = [
            [html.swatch(entry.colour) + html.text(entry.name), html.number(_volume(volumes, values), 1)]
            for entry, values in zip(entries, made.classes.values(), strict=True)
        ]
        said = f"<div>{html.text(made.facts)}; {html.text(made.verdict)}</div>"
        listed = html.table(["Class", "Volume (ml)"], rows) if rows else ""
        if len(rows) > FEW:
            listed = f"<details><summary>Volumes of {len(rows)} classes</summary>{listed}</details>"
        self.facts.value = said + listed
        self._go_to_fullest()

    def _go_to_fullest(self) -> None:
        opened = (
            next((p for p in self._preview.pictures if p.open_at is not None), None)
            if self._preview
            else None
        )
        middle = self._scene.middle
        z = middle[0] if opened is None else opened.translate[0] + opened.scale[0] * (opened.open_at or 0)
        self.go_to((z, middle[1], middle[2]))

    # -- what comes from the display ----------------------------------------------------------------------

    @property
    def run(self) -> Any:
        """The run that is followed."""
        return self.display.run

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        if not self._closed:
            self._draw(screen, parts)

    def _draw(self, screen: Screen, parts: frozenset[str] | None) -> None:
        """Draw the parts of the screen that differ; all where `parts` is None."""
        if self.planes is not None and self._subject.case is None:
            self._draw_planes(screen, parts)
        for part in (self.show, self.scores, self.errors, self.why):
            if part is not None:
                part.draw(screen)
        if self.controls is not None and (parts is None or "controls" in parts):
            self.controls.draw(screen)
        if self.curves is not None and (parts is None or parts & {"cursor", "class_names"}):
            self._draw_curves(screen, self._classes(screen))
        if self.solid is not None:
            self._draw_solid(screen)
        if parts is None or "seen" in parts:
            self._renew_still()
        if self.planes is not None and self._subject.case is None:
            self._open_at(screen)

    def _draw_planes(self, screen: Screen, parts: frozenset[str] | None) -> None:
        assert self.planes is not None
        drawn = {"layers", "outlines", "mark", "map", "image", "seen", "displayed", "scene"}
        scene = self._scenes.of_screen(screen, self.display.image)
        known, new = self._scene.parts, scene.parts
        same = len(known) == len(new) and all(a is b for a, b in zip(known, new, strict=True))
        if parts is None or (not same and drawn & parts) or scene.neurological != self._scene.neurological:
            self._scene = scene
            self.planes.show(scene)
        self.planes.say(**words_of(screen), gone=self._gone)

    def _open_at(self, screen: Screen) -> None:
        """Go to the slice with most of what is looked at, once for each case and class."""
        if self._scene.base is None:
            return
        of = (screen.scene, screen.displayed.cls, bool(screen.layers))
        if of == self._placed:
            return
        first = self._placed is None or self._placed[0] != screen.scene
        self._placed = of
        opened = [
            p
            for p in sorted(screen.layers.values(), key=lambda p: p.key != "errors")
            if p.open_at is not None
        ]
        if opened:
            picture = opened[0]
            z = picture.translate[0] + picture.scale[0] * (picture.open_at or 0)
            self.go_to(_centre(picture, z) or (z, *self._scene.middle[1:]))
        elif first:
            self.go_to(self._scene.middle)

    def _on_heard(self, events: Sequence[Event]) -> None:
        if self._closed:
            return
        screen = self.display.screen
        if self.controls is not None:
            self.controls.hear(events)
        if self.curves is not None:
            self._draw_curves(screen, self._classes(screen))

    def _draw_curves(self, screen: Screen, classes: Sequence[str]) -> None:
        assert self.curves is not None
        self.curves.draw(self.display.curves, classes, screen.cursor)

    def _classes(self, screen: Screen) -> Sequence[str]:
        if screen.class_names:
            return screen.class_names
        plan = getattr(self.display.run, "plan", None)
        return tuple(getattr(plan, "class_names", ()) or ())

    # -- places -------------------------------------------------------------------------------------------

    def _go_to(self, place: Sequence[float]) -> None:
        self._place = self._scene.inside(place)
        if self.planes is not None:
            self.planes.go_to(self._place)

    def go_to(self, place: Sequence[float]) -> None:
        """Move the crosshair to (z, y, x) in mm."""
        with self.display.lock:
            self._go_to(place)
            self._read()

    def _read(self) -> None:
        """Say what is at the crosshair."""
        if self._preview is None:
            self.display.point_at(self._place)
        elif self.planes is not None:
            self.planes.say(read=self._preview.at(self._place))

    def click(self, place: Sequence[float]) -> None:
        """Ask what is at (z, y, x) in mm, as a click there does."""
        self.go_to(place)
        if self._preview is None:
            self.display.point_at(self._place, ask=True)

    def _on_flown(self, place: tuple[float, float, float]) -> None:
        self.go_to(place)

    def _on_place(self, change: Any) -> None:
        z, y, x = (float(v) for v in change["new"])
        if (z, y, x) != self._place and not self._closed:
            with self.display.lock:
                self._place = (z, y, x)
                self._read()

    def _on_click(self, place: tuple[float, float, float]) -> None:
        with self.display.lock:
            self._place = place
            if self._subject.case is None:
                self.display.point_at(place, ask=True)
            else:
                self._read()
            self._renew_still()

    # -- 3D -----------------------------------------------------------------------------------------------

    def _on_tab(self, _: Any) -> None:
        tabs = self.tabs
        title = "" if tabs is None or tabs.selected_index is None else tabs.titles[tabs.selected_index]
        with self.display.lock:
            self.display.learn(solid=title == "3D")
            if title == "3D":
                self._open_solid()
            if title == "Settings" and self.controls is not None:
                self.controls.settings.open()
            if title == "Why" and self.display.screen.displayed.bias is None and self.display.screen.seen:
                self.display.issue("look_at_decision", True)

    def _open_solid(self) -> None:
        if self.planes is not None and self.planes.webgl is False:
            self._put_solid(w.HTML(solid.NO_WEBGL))
        elif self.solid is None:
            self.solid = solid.SolidFigure()
            self._draw_solid(self.display.screen)

    def _put_solid(self, widget: Any) -> None:
        old = self._solid_box.children
        if old != (widget,):
            self._solid_box.children = [widget]
            for one in old:
                close_all(one)

    def _draw_solid(self, screen: Screen) -> None:
        assert self.solid is not None
        if screen.seen is None or not screen.displayed.overlays & {"errors", "prediction"}:
            return
        made = screen.seen.surfaces
        if made:
            self.solid.draw(made)
            self._put_solid(self.solid.widget)

    # -- showing and closing ------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        from IPython.display import display as ipython_display

        display: Any = ipython_display
        if self._closed:
            self._reopen()
        cell = cells.present_cell()
        cells.show_in(cell, self)
        bundle = {"text/plain": repr(self), _WIDGET: _view_of(self.widget)}
        display(bundle, raw=True)
        with self.display.lock:
            self._shown = True
            self._stilled = time.monotonic()
            display(self._still_bundle(), raw=True, display_id=self._uid)
        if not is_training(self.run) and self.display.wait(FIRST_STILL_S):
            # a notebook that a program executes ends with its last cell: what comes later is not kept
            self._update_still()

    def _still_bundle(self) -> dict[str, str]:
        part = self.planes or (self.curves.view if self.curves is not None else None)
        uid = "" if part is None else part.uid
        said = f'<div style="font-size:12px;opacity:.8">{SAVED}</div>'
        kept = f'<div class="segexplorer-still-{uid}">{said}{self.still()}</div>'
        return {"text/html": kept, "text/plain": repr(self)}

    def still(self) -> str:
        """Return what is shown now as HTML that needs no kernel: planes, legend, curves, scores."""
        with self.display.lock:
            screen, scene = self.display.screen, self._scene
            curves = self.display.curves if self.curves is not None else None
            facts = self.display.reality.run
            head = "" if facts is None else f"{facts.title}: {self.display.status.headline}"
            made = still_html(screen, scene, self._place, curves, head)
        return made if self.facts is None else made + self.facts.value

    def _renew_still(self) -> None:
        """Draw the still of a saved notebook anew, now and then; a timer does the last one."""
        if not self._shown or self._still_due or self._closed:
            return
        wait = max(0.0, self._stilled + STILL_S - time.monotonic())
        self._still_due = True
        self._still_timer = threading.Timer(wait, self._update_still)
        self._still_timer.name, self._still_timer.daemon = "segexplorer notebook: still", True
        self._still_timer.start()

    def _update_still(self) -> None:
        from IPython.display import update_display as ipython_update

        update: Any = ipython_update
        with self.display.lock:
            self._still_due = False
            if self._closed or cells.shell() is None:
                return
            self._stilled = time.monotonic()
            bundle = self._still_bundle()
        update(bundle, raw=True, display_id=self._uid)

    def _on_views(self, count: int) -> None:
        """Close some seconds after the last view has gone, unless one has come back by then."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if count == 0 and not self._closed:
            self._closing = threading.Timer(GONE_S, self.close)
            self._closing.name, self._closing.daemon = "segexplorer notebook: closing", True
            self._closing.start()

    # -- what can be clicked, for cells -------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Folder of the run that is shown.

        Raises
        ------
        SegExplorerError
            When there is none.
        """
        self._require_run()
        facts = self.display.reality.run
        if facts is None:
            raise SegExplorerError("There is no run folder of this.", "Explore a run or its folder.")
        return Path(facts.key)

    def choose_class(self, name: str | None) -> None:
        """Look at one class; None for all of them.

        Raises
        ------
        SegExplorerError
            When nothing is predicted yet, or there is no such class.
        """
        self._require_prediction()
        names = self.display.screen.class_names
        if name is not None and name not in names:
            raise SegExplorerError(f"There is no class {name!r}.", did_you_mean(name, names))
        self.display.issue("choose_class", None if name is None else 1 + names.index(name))
        self.display.wait()

    def next_error(self, way: int = 1) -> str:
        """Go to the next error of the list, or to the previous one (-1), and return what is known of it.

        Raises
        ------
        SegExplorerError
            When nothing is predicted yet.
        """
        self._require_prediction()
        self.display.look_at_next_error(way)
        self.display.wait()
        return self.display.screen.error_text or self.display.screen.errors_note

    def ask(self, look: Look = "asked") -> str:
        """Ask why the loss wants what it wants at the crosshair, and return its answer.

        Raises
        ------
        SegExplorerError
            When nothing is predicted yet, or it cannot be said.
        """
        self._require_prediction()
        self.display.issue("look_at", look)
        self.click(self._place)
        self.display.wait()
        screen = self.display.screen
        if screen.answer is None or not screen.answer.sentence:
            raise SegExplorerError(screen.answer_note or "There is no answer here.", "Choose a class first.")
        return screen.answer.sentence

    def _require_run(self) -> None:
        begun = self.controls is None or self.controls.busy or self.run is not None
        if self._subject.experiment is not None and not begun:
            raise SegExplorerError("There is no run yet.", "Press Start, or call explorer.controls.begin().")

    def _require_prediction(self) -> None:
        if self._subject.case is not None:
            raise SegExplorerError("This case has no prediction.", "Explore (image, label, prediction).")
        self._require_run()
        self.display.wait()
        if self.display.screen.seen is None:
            said = "Wait for the first validation, for example with explorer.wait()."
            raise SegExplorerError("Nothing is predicted yet.", said)

    def wait(self, seconds: float = 600.0) -> None:
        """Wait until the training has ended and everything is drawn; Esc or "Interrupt" ends the waiting alone.

        Raises
        ------
        SegExplorerError
            When there is a run to begin that nobody has begun.
        """
        self._require_run()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            making = self.controls is not None and self.controls.busy
            if not making and not is_training(self.run) and not self.display.busy:
                break
            time.sleep(0.1)
        with self.display.lock:
            self.display.look()
        self.display.wait(max(0.0, until - time.monotonic()))
        if self._shown and not self._closed:
            self._update_still()

    def close(self) -> None:
        """Close the widgets with their comms, listen to nothing and end all threads; a run goes on."""
        with self.display.lock:
            if self._closed:
                return
            self._closed = True
            subject = self._subject
            if self.display.run is not None:
                self._subject = Subject(run=self.display.run)
                know(self.display.run)
            elif self.display.reality.run is not None:
                self._subject = Subject(folder=Path(self.display.reality.run.key))
            elif subject.experiment is not None and self.controls is not None:
                self._subject = Subject(experiment=self.controls.settings.experiment)
        for timer in (self._closing, getattr(self, "_still_timer", None)):
            if timer is not None:
                timer.cancel()
        if self.controls is not None:
            self.controls.close()
        self.display.close()
        close_all(self.widget)
        figures = [one.widget for one in (self.curves, self.solid) if one is not None]
        for part in (self._solid_box, *figures):
            close_all(part)
        cells.forget(self)

    def _reopen(self) -> None:
        """Make everything anew, for a cell that shows it again."""
        self.__init__(self._subject, self._parts, output=self._output, plots=self._plots)  # type: ignore[misc]

    def __repr__(self) -> str:
        what = next(
            (
                text
                for text in (
                    "" if self.display.run is None else f"run {Path(self.display.run.folder).name}",
                    "" if self._subject.folder is None else f"run {self._subject.folder.name}",
                    "" if self._subject.case is None else f"case {self._subject.case.id}",
                    "" if self._subject.results is None else f"results {self._subject.results.title}",
                )
                if text
            ),
            "a new run",
        )
        return f"<segexplorer: {what}{', closed' if self._closed else ''}>"


def _view_of(widget: Any) -> dict[str, Any]:
    return {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}


def _volume(volumes: Any, values: Sequence[int]) -> float:
    return float(sum(volumes.get(value, 0.0) for value in values))


def _centre(picture: Any, z: float) -> tuple[float, float, float] | None:
    """Return the middle of what is drawn in a slice; None where nothing is."""
    index = round((z - picture.translate[0]) / picture.scale[0])
    rows, columns = np.nonzero(picture.data[index])
    if not len(rows):
        return None
    y, x = (
        t + s * float(np.median(p))
        for t, s, p in zip(picture.translate[1:], picture.scale[1:], (rows, columns), strict=True)
    )
    return z, y, x

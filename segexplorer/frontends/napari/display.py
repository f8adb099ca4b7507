"""The one place that holds what a window displays, and draws the difference between two screens into the viewer.

Panels issue commands and draw the parts of the screen that are theirs. Pictures are prepared by a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QEvent, QObject

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Planned, ValidationDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.error_review import ErrorReview
from segexplorer.frontends.napari.layers import CaseLayers, seen_layers
from segexplorer.frontends.napari.linked_views import FROM_THE_FRONT
from segexplorer.frontends.napari.racing import RaceKeeper
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.losses.base import penalty_range
from segexplorer.training.doctor import Diagnosis, Finding, diagnose_run
from segexplorer.training.explanation import Explanation, explain_snapshot
from segexplorer.training.history import open_run
from segexplorer.training.run import ACCEPTED, SliceView
from segexplorer.training.scores import recorded_scores
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.step_columns import events_of
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.commands import COMMANDS
from segexplorer.viewmodels.displayed import Displayed
from segexplorer.viewmodels.reality import Reality, Request, Results, RunFacts
from segexplorer.viewmodels.resolve import resolve
from segexplorer.viewmodels.screen import Screen, differences
from segexplorer.viewmodels.surfaces import ORDER, Part, SurfacePicture
from segexplorer.viewmodels.watched_case import (
    LAYER_ORDER,
    SWITCHES,
    ImageOfCase,
    RunHistoryLoader,
    Seen,
    frames_of,
)
from segexplorer.viewmodels.why import PULL, Answer, WhyRequest

LEAST_VIEW_MM = 30.0
DRAWN = (PULL, *SWITCHES)
"""Keys of the layers that are drawn over the image."""
_RUN_COMMANDS = frozenset[str]().union(*ACCEPTED.values())


class Display(QObject):  # type: ignore[misc, unused-ignore]
    """What one window displays.

    Parameters
    ----------
    viewer
        The napari viewer.
    bridge
        Where the run's events and snapshots come from.
    layers
        The layers that show cases in this viewer.

    Attributes
    ----------
    changed
        psygnal signal (screen, names of its parts that differ): panels draw these parts.
    flown
        psygnal signal (place, size; both (z, y, x) in mm): views go there, see `look_at`.
    races, review
        Plans, trains and opens races; looks into the listed errors and keeps what is said of them.
    displayed, reality, screen
        What is wanted, what exists, and what follows from both. Nobody else sets them.
    """

    changed = Signal(object, frozenset)
    flown = Signal(tuple, tuple)

    def __init__(self, viewer: Any, bridge: RunBridge, layers: CaseLayers) -> None:
        super().__init__()
        self.viewer, self.bridge, self.layers = viewer, bridge, layers
        self.displayed = Displayed(convention=layers.convention)
        self.reality = Reality(axes=_axes(viewer), point=_point(viewer))
        self.screen: Screen = resolve(self.displayed, self.reality)
        self._run: Any = None
        self._past: RunHistoryLoader | None = None
        self._asked: Request | None = None
        self._questioned: WhyRequest | None = None
        self._patch_asked: tuple[str, int | None] | None = None
        self._destination: tuple[tuple[str, str] | None, tuple[float, float, float]] | None = None
        self._drawn: dict[str, tuple[Any, tuple[Any, ...]]] = {}
        self._followed: dict[str, Any] = {}
        self._away: list[Any] = []
        self._others: list[Any] = []
        self._own_layers: list[Any] = []
        self._left_alone: Any = None
        self._surfaces: dict[Part, SurfacePicture] = {}
        self._heard: list[Any] = []
        self._updating = self._again = self._drawing = self._closed = False
        self._canvas: Any = None
        self._work = LatestWork(self._on_answer, self._on_defect)
        self._why = LatestWork(self._on_why, self._on_unanswered)
        self._doctor = LatestWork(self._on_diagnosis, self._on_no_diagnosis, newest_only=True)
        self._image = LatestWork(self._on_image, self._on_defect, newest_only=True)
        self._reading = LatestWork(self._on_frames, self.refuse, newest_only=True)
        self._recorded = LatestWork(self._on_recorded, self.refuse, newest_only=True)
        self.races = RaceKeeper(self)
        self.review = ErrorReview(self)
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.watched_arrived.connect(self._on_watched)
        bridge.patch_arrived.connect(self._on_patch)
        bridge.trained_arrived.connect(self._on_trained)
        bridge.ended.connect(self._on_ended)
        viewer.mouse_move_callbacks.append(self._on_mouse)
        viewer.dims.events.point.connect(self._on_point)
        viewer.dims.events.order.connect(self._on_axes)
        viewer.dims.events.ndisplay.connect(self._on_axes)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(self._on_others)

    # -- commands and facts -------------------------------------------------------------------------------

    def issue(self, command: str, *arguments: Any) -> None:
        """Follow a command of `viewmodels.commands`, by its name."""
        self.displayed = COMMANDS[command](self.displayed, self.reality, *arguments)
        self._update()
        self.review.follow(self.displayed.run)

    def learn(self, **facts: Any) -> None:
        """Take over facts of `Reality`."""
        self.reality = replace(self.reality, **facts)
        self._update()

    def open_results(self, results: Results, case: str | None = None) -> None:
        """Show predictions that other programs made, one case of them or the first."""
        self.reality = replace(
            self.reality, results=results, seen=None, refusal=None, answer=None, image_of=None
        )
        self.issue("open_results", results.key, case)

    @property
    def busy(self) -> bool:
        """Whether a picture or an image is being prepared."""
        return self._work.busy or self._image.busy or self._why.busy

    @property
    def seen(self) -> Seen | None:
        """The picture that is shown."""
        return self.screen.seen

    @property
    def finder(self) -> Callable[[str], Any] | None:
        """What finds the `CaseRef` of a case that is displayed, by its id; for a worker. None without a source."""
        return self._finder()

    def slice_view(self) -> SliceView | None:
        """Return the plane of the watched case that the viewer shows; None in 3D, or where no case is watched."""
        dims, role = self.viewer.dims, self.displayed.role
        if dims.ndisplay != 2 or dims.ndim != 3 or role is None or self.screen.patch is not None:
            return None
        axis = int(dims.order[0])
        return SliceView(role=role, axis=2 - axis, world=float(dims.point[axis]))

    # -- what comes from the run --------------------------------------------------------------------------

    def _know(self, **facts: Any) -> None:
        """Take over facts of the run."""
        if self.reality.run is not None:
            self.learn(run=replace(self.reality.run, **facts))

    def set_owner(self, owner: str) -> None:
        """Say which other process trains the run that is open."""
        self._know(owner=owner)

    def refresh_run(self, **facts: Any) -> None:
        """Ask the run which commands it accepts now."""
        run = self.bridge.run
        accepts = frozenset() if run is None else frozenset(c for c in _RUN_COMMANDS if run.accepts(c))
        self.learn(accepts=accepts, busy=self.bridge.busy, **facts)

    def _on_begun(self, run: Any) -> None:
        folder = getattr(run, "folder", None)
        key = "" if folder is None else str(folder)
        if run is not self._run or self.reality.run is None:
            self._take(run, key)
        self.reality = replace(self.reality, busy=self.bridge.busy)
        self.issue("start_run" if self.bridge.busy else "open_run", key)

    def _take(self, run: Any, key: str) -> None:
        """Know another run; the old one goes before it comes, also where both have the same folder."""
        self._run, self._past = run, None if run is None else RunHistoryLoader(run.experiment)
        self.review.forget()
        load = None if self._past is None else self._past.snapshot
        self.reality = replace(
            self.reality,
            run=RunFacts(
                key,
                title=Path(key).name,
                load=load,
                penalties=_penalties(run),
                explain=_explainer(key),
            ),
            results=None,
            race=None,
            offer=None,
            seen=None,
            refusal=None,
            answer=None,
            diagnosis=None,
            examined=None,
            image_of=None,
            image_problem="",
            judged=None,
            since=None,
            suspicion=None,
            life=None,
        )
        self.issue("close")
        if key and Path(key).is_dir():
            self._recorded.send(lambda: (run, recorded_scores(Path(key), "test")))

    def _on_events(self, events: Sequence[Event]) -> None:
        run = self.reality.run
        if run is None:
            self._on_begun(self.bridge.run)
            run = self.reality.run
            assert run is not None
        facts: dict[str, Any] = {}
        if events_of(events, Planned):
            plan = getattr(self._run, "plan", None)
            if plan is not None:
                facts["planned"] = dict(plan.watched)
        found = {event.step: event for event in events_of(events, ValidationDone)}
        if found:
            facts["validations"] = {**run.validations, **found}
        if facts:
            self._know(**facts)
        if found:
            self._read_history()

    def _read_history(self) -> None:
        """Find the frames on the disk; the newest may come with the next validation."""
        run, facts = self._run, self.reality.run
        if facts is not None and facts.key and Path(facts.key).is_dir():
            folder = Path(facts.key)
            self._reading.send(lambda: (run, frames_of(folder)))

    def _on_frames(self, answer: tuple[Any, Any]) -> None:
        run, frames = answer
        if run is self._run:
            self._know(frames=frames)

    def _on_recorded(self, answer: tuple[Any, Any]) -> None:
        run, tests = answer
        if run is self._run:
            self._know(tests=tests)

    def _on_watched(self, snapshots: dict[str, WatchedSnapshot]) -> None:
        if self.reality.run is None:
            self._on_begun(self.bridge.run)
        run = self.reality.run
        assert run is not None
        for snapshot in snapshots.values():
            if self._past is not None:
                self._past.know(snapshot)
        self._know(newest={**run.newest, **{s.role: s for s in snapshots.values()}})

    def _on_patch(self, patch: PatchSnapshot) -> None:
        self._know(patch=patch)

    def _on_trained(self, trained: TrainedPatch | str) -> None:
        self._know(trained=trained)

    def _ask_for_patch(self, request: tuple[str, int | None] | None) -> None:
        """Have the next step keep its patch; once, however often the screen is resolved until it is there."""
        if request is not None and request != self._patch_asked:
            self._run.show_patch()
        self._patch_asked = request

    def _on_ended(self, _: Any = None) -> None:
        self.refresh_run()
        self._read_history()

    # -- going to errors ----------------------------------------------------------------------------------

    def look_at_error(self, number: int) -> None:
        """Look at an error by its number in the list, and go there."""
        self.issue("choose_error", number)
        self.fly()

    def look_at_next_error(self, way: int = 1) -> None:
        """Look at the next (1) or previous (-1) error of the list, and go there."""
        self.issue("next_error", way)
        self.fly()

    def fly(self) -> None:
        """Show the error that is looked at in the middle of every view, with its surroundings."""
        entry = self.screen.navigator.entry
        if entry is None or self.viewer.dims.ndim < 3:
            return
        place, size = entry.piece.centre, entry.piece.size_mm
        for axis, position in enumerate(place, start=self.viewer.dims.ndim - 3):
            self.viewer.dims.set_point(axis, position)
        look_at(self.viewer, place, size)
        self.flown.emit(place, size)

    # -- what comes from the viewer -----------------------------------------------------------------------

    def watch_canvas(self, canvas: Any) -> None:
        """Notice when the mouse leaves the canvas."""
        self._canvas = canvas
        canvas.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Forget the point under the mouse when it leaves."""
        if event.type() == QEvent.Type.Leave:
            self.point_at(None)
        return False

    def point_at(self, world: tuple[float, ...] | None) -> None:
        """Say which point is under the mouse, (z, y, x) in mm; None when it has left."""
        mouse = None if world is None or len(world) != 3 else (world[0], world[1], world[2])
        if mouse != self.reality.mouse:
            self.learn(mouse=mouse)

    def _on_mouse(self, viewer: Any, event: Any) -> None:
        self.point_at(tuple(float(v) for v in viewer.cursor.position))

    def ask_at(self, world: tuple[float, ...]) -> None:
        """Ask why at a point that was clicked, (z, y, x) in mm, while a map of the loss is looked at."""
        if self.displayed.question.look is not None and len(world) == 3:
            self.issue("ask_at", (world[0], world[1], world[2]))

    def _on_axes(self, _: Any = None) -> None:
        # with fewer axes the layers are being taken away: nothing is to be drawn anew
        turned = (self.viewer.dims.ndisplay == 3) != (self.reality.axes is None)
        if self.viewer.dims.ndim == 3 or turned:
            self.learn(axes=_axes(self.viewer), point=_point(self.viewer))

    def _on_point(self, _: Any = None) -> None:
        here = _point(self.viewer)
        if self.viewer.dims.ndim == 3 and here != self.reality.point:
            self.learn(point=here)

    def go_to(self, axis: int, world: float) -> None:
        """Move the viewer to a slice, by its place in mm."""
        self.viewer.dims.set_point(axis, world)

    def _on_removed(self, _: Any = None) -> None:
        if self._drawing:
            return
        for key in [key for key in self._drawn if self.layers.layer(key) is None]:
            self._forget(key)
            self.issue("delete_layer", key)  # first of all: what is missing would be drawn anew
        self._on_others()

    def _on_visible(self, key: str) -> None:
        layer = self.layers.layer(key)
        if not self._drawing and layer is not None:
            self.issue("toggle", key, bool(layer.visible))

    def _on_others(self, _: Any = None) -> None:
        """Know which layers of the user's can be seen beside the case, and hear when that changes."""
        if self._drawing:
            return  # a layer of ours is coming; asked again afterwards
        present = self._layers_of_the_user()
        for layer in [old for old in self._heard if not any(old == new for new in present)]:
            layer.events.visible.disconnect(self._on_others)
            self._heard = [other for other in self._heard if other != layer]
        for layer in present:
            if not any(layer == old for old in self._heard):
                layer.events.visible.connect(self._on_others)
                self._heard.append(layer)
        own = self._own_layers
        others = (str(layer.name) for layer in present if layer.visible and not any(layer == o for o in own))
        found = () if self.screen.scene is None else tuple(others)
        ours = [self.layers.layer(key) for key in self.layers.keys]
        ours += [layer for layer in present if any(layer == o for o in own)]
        gone = not any(layer is not None and layer.visible for layer in ours)
        if (found, gone) != (self.reality.others, self.reality.gone):
            self.learn(others=found, gone=gone)

    # -- from one screen to the next ----------------------------------------------------------------------

    def _update(self) -> None:
        """Resolve and draw; what drawing itself brings about is resolved afterwards."""
        if self._updating or self._closed:
            self._again = True
            return
        self._updating = True
        try:
            self._again = True
            while self._again:
                self._again = False
                screen = resolve(self.displayed, self.reality)
                self.displayed = screen.displayed
                old, self.screen = self.screen, screen
                parts = differences(screen, old)
                if parts:
                    self._drawing = True
                    try:
                        self._draw(screen, old)
                    finally:
                        self._drawing = False
                    self._on_others()
                    self._travel()
                    self.changed.emit(screen, parts)
                self._send(screen.request)
                self.review.look_into(screen)
                self._send_question(screen.why_request)
                self._ask_for_patch(screen.patch_request)
                self.races.ask(screen.race_request)
        finally:
            self._updating = False

    def _send(self, request: Request | None) -> None:
        if request is not None and request != self._asked:
            # what is known is asked when the work begins: the answer before it may have come meanwhile
            self._work.send(lambda: (request, _answered(lambda: request.answer(self.reality.seen))))
        self._asked = request

    def _send_question(self, request: WhyRequest | None) -> None:
        if request is not None and request != self._questioned:
            before = self.reality.answer
            self._why.send(lambda: (request, request.answer(before)))
            self._questioned = request

    def examine(self) -> None:
        """Send the loss doctor to the run that is displayed."""
        run = self.reality.run
        if run is None or not run.key or self.displayed.source == "race":
            return
        key = run.key
        self._doctor.send(lambda: (key, _answered(lambda: diagnose_run(key))))
        self.learn(examined=key)

    def _on_diagnosis(self, answer: tuple[str, Diagnosis | SegExplorerError]) -> None:
        key, found = answer
        if key == self.reality.examined:
            said = str(found) if isinstance(found, SegExplorerError) else found
            self.learn(diagnosis=(key, said), examined=None)

    def _on_no_diagnosis(self, error: SegExplorerError) -> None:
        examined = self.reality.examined
        if examined is not None:
            self.learn(diagnosis=(examined, str(error)), examined=None)

    def show_finding(self, finding: Finding) -> None:
        """Go to the prediction, the case, the class and the place of a finding, as far as it has them."""
        place = finding.place
        if place.role is not None and place.role != self.displayed.role:
            self.issue("choose_case", place.role)
        if finding.step is not None:
            self.issue("scrub", float(finding.step))
        if place.class_name in self.screen.class_names:
            self.issue("choose_class", self.screen.class_names.index(place.class_name) + 1)
        if place.world is not None and place.case in ("", self.displayed.case):
            self.go_to_world(place.world)

    def go_to_world(self, world: Sequence[float]) -> None:
        """Show the slices through a point, (x, y, z) in RAS mm, once the picture of the case is there."""
        x, y, z = (float(v) for v in world)
        self._destination = (self.screen.scene, (z, y, x))
        self._travel()

    def _travel(self) -> None:
        """Go where a finding is, once the picture of its case is there; nowhere when another case came instead."""
        if self._destination is None:
            return
        scene, point = self._destination
        if scene != self.screen.scene:
            self._destination = None
        elif self.screen.layers and self.screen.request is None and self.viewer.dims.ndim == 3:
            self._destination = None
            self.viewer.dims.set_point(range(3), point)

    def _on_why(self, answer: tuple[WhyRequest, Answer]) -> None:
        self._questioned = None  # asked anew where the screen still lacks an answer
        self.learn(answer=answer)

    def _on_unanswered(self, error: SegExplorerError) -> None:
        asked, self._questioned = self._questioned, None
        if asked is not None:
            self.learn(answer=(asked, Answer(asked.class_index or 1, problem=str(error))))

    def _on_answer(self, answer: tuple[Request, Seen | SegExplorerError]) -> None:
        request, found = answer
        asked = self._asked
        if asked is None or request.subject != asked.subject:
            return  # it is of something that is displayed no more
        if isinstance(found, SegExplorerError):
            if request == asked:
                self.learn(refusal=(request, str(found)))
            return
        self.learn(seen=(request, found))

    def _on_defect(self, error: SegExplorerError) -> None:
        if self._asked is not None:
            self.learn(refusal=(self._asked, str(error)))

    def refuse(self, error: SegExplorerError) -> None:
        """Say why something of the case that is displayed cannot be read."""
        self.learn(image_problem=str(error), image_of=self.screen.scene)

    # -- drawing ------------------------------------------------------------------------------------------

    def _draw(self, screen: Screen, old: Screen) -> None:
        if screen.scene != old.scene:
            if "race" in (screen.displayed.source, old.displayed.source):
                self._stay(screen, old)
            self._change_scene(screen)
        if screen.displayed.convention != self.layers.convention:
            self.layers.set_convention(screen.displayed.convention)
        first = not any(key in self._drawn for key in DRAWN)
        for key in DRAWN:
            self._draw_layer(key, screen)
        self._draw_surfaces(screen, old)
        self.layers.arrange((PULL, *LAYER_ORDER))
        if first and self._drawn:
            self._put_labels_away()
        if screen.layers and (first or screen.displayed.cls != old.displayed.cls or old.seen is None):
            self._open_at(screen, fit=first)

    def _stay(self, screen: Screen, old: Screen) -> None:
        """Come back to the slices that are shown, once the same case is there as that of a race, or of its run."""
        same = screen.scene is not None and screen.displayed.case == old.displayed.case
        if same and old.seen is not None and self.viewer.dims.ndim == 3:
            z, y, x = (float(v) for v in self.viewer.dims.point)
            self._destination = (screen.scene, (z, y, x))

    def _draw_layer(self, key: str, screen: Screen) -> None:
        picture = screen.layers.get(key)  # type: ignore[call-overload]
        state = _state(screen)
        if picture is None:
            # while an answer is under way it is hidden: to take it out and put it in again stops the window
            if key in self._drawn and (self._drawn[key][1] == state or screen.request is not None):
                self.layers.set_visible(key, False)
            elif key in self._drawn:
                self.layers.remove(key)
                self._forget(key)
            return
        drawn = self._drawn.get(key)
        if drawn is None or drawn[0] is not picture or self.layers.layer(key) is None:
            layer = self.layers.show(picture)
            self._drawn[key] = (picture, state)
            self._follow(key, layer)
        self._drawn[key] = (picture, state)
        self.layers.set_visible(key, True)

    def _draw_surfaces(self, screen: Screen, old: Screen) -> None:
        """Show surfaces while the viewer is in 3D, and the image as the slice that was looked at."""
        solid = self.viewer.dims.ndisplay == 3
        shown = screen.surfaces if solid else {}
        first = bool(shown) and not any(self.layers.layer(f"surface/{part}") for part in ORDER)
        for part in ORDER:
            picture, key = shown.get(part), f"surface/{part}"
            layer = self.layers.layer(key)
            if picture is None and layer is not None and solid and screen.request is not None:
                layer.visible = False
            elif picture is None and layer is not None:
                self.layers.remove(key)
            elif picture is not None and (layer is None or picture is not self._surfaces.get(part)):
                self.layers.show_surface(picture).visible = True
        if solid:
            self.layers.arrange([f"surface/{part}" for part in ORDER])
        self._surfaces = dict(shown)
        self._cut_image(solid and bool(shown))
        if first:
            # from the front and a little above, so that the slice of the image is seen too
            self.viewer.reset_view(layers=seen_layers(self.viewer))
            self.viewer.scene.camera.set_view_direction(*FROM_THE_FRONT)

    def _cut_image(self, cut: bool) -> None:
        """Show the image of the case as one slice in 3D; a projection of a body would hide everything in it."""
        image = self.layers.layer("image")
        for layer in [*([] if image is None else [image]), *self._own_layers]:
            if layer.as_layer_data_tuple()[2] != "image" or layer.ndim != 3:
                continue
            if cut and layer.depiction != "plane":
                place = layer.world_to_data(self.viewer.dims.point)
                layer.plane.position, layer.plane.normal = tuple(place), (1, 0, 0)
                layer.depiction = "plane"
            elif not cut and layer.depiction == "plane":
                layer.depiction = "volume"

    def _follow(self, key: str, layer: Any) -> None:
        """Hear when the user shows or hides a layer by napari's own eye."""
        if self._followed.get(key, (None,))[0] is not layer:
            self._forget_visible(key)

            def heard(_: Any = None) -> None:
                self._on_visible(key)

            layer.events.visible.connect(heard)
            self._followed[key] = (layer, heard)
            # napari's own P of a labels layer paints; over what was predicted it is free for the list of errors
            layer.bind_key("p", lambda _: self.look_at_next_error(-1), overwrite=True)

    def _forget_visible(self, key: str) -> None:
        if key in self._followed:
            layer, heard = self._followed.pop(key)
            layer.events.visible.disconnect(heard)

    def _forget(self, key: str) -> None:
        self._drawn.pop(key, None)
        self._forget_visible(key)

    def _open_at(self, screen: Screen, *, fit: bool) -> None:
        """Go to the slice with most of what is looked at; the errors know the chosen class."""
        if fit:
            self.layers.fit(anew=bool(self._away))
        for picture in sorted(screen.layers.values(), key=lambda p: p.key != "errors"):
            if picture.open_at is not None:
                self.layers.open_at(picture)
                return

    # -- the image under it all ---------------------------------------------------------------------------

    def _change_scene(self, screen: Screen) -> None:
        """Take everything of the old case away, and send for the image of the new one."""
        for key in list(self._drawn):
            self._forget(key)
        self.layers.clear()
        self._own_layers = []
        self.reality = replace(self.reality, image_of=None, image_problem="", others=())
        self._again = True
        scene = screen.scene
        if scene is None:
            self._bring_back()
            return
        find = self._finder()
        patch = screen.patch
        if find is None and patch is None:
            self.reality = replace(self.reality, image_of=scene)
            return
        self._others = self._layers_of_the_user()
        there = [layer.data for layer in self._others]
        case = scene[1]

        def work() -> ImageOfCase:
            if patch is not None:
                return watched_case.image_of_patch(patch)
            ref = None if find is None else find(case)
            return ImageOfCase() if ref is None else watched_case.image_of(ref.open, case, there)

        self._image.send(lambda: (scene, _answered(work)))

    def _finder(self) -> Callable[[str], Any] | None:
        plan = getattr(self._run, "plan", None)
        if self.displayed.source == "results":
            return None if self.reality.results is None else self.reality.results.find
        if self.displayed.source == "race":
            return None if self.reality.race is None else self.reality.race.find
        if plan is not None:
            found: Callable[[str], Any] = plan.refs.get
            return found
        return None if self._past is None else self._past.ref

    def _on_image(self, answer: tuple[tuple[str, str], ImageOfCase | SegExplorerError]) -> None:
        scene, found = answer
        if scene != self.screen.scene:
            return
        problem = ""
        if isinstance(found, SegExplorerError):
            problem, found = str(found), ImageOfCase()
        self._drawing = True
        try:
            self._put_away(found.own)
            if found.picture is not None:
                layer = self.layers.show(found.picture)
                layers = self.viewer.layers
                layers.move(layers.index(layer.name), 0)
                self.layers.fit(anew=bool(self._away))
        finally:
            self._drawing = False
        self._own_layers = [self._others[place] for place in found.own]
        self.learn(image_of=scene, image_problem=problem)
        self._on_others()

    def _layers_of_the_user(self) -> list[Any]:
        ours = [self.layers.layer(key) for key in self.layers.keys] + [self._left_alone]
        return [
            layer
            for layer in self.viewer.layers
            if layer.as_layer_data_tuple()[2] in {"image", "labels"} and not any(layer == o for o in ours)
        ]

    def _put_away(self, own: frozenset[int]) -> None:
        """Hide the user's layers that do not belong to the case; they come back when it is no longer shown."""
        for place, layer in enumerate(self._others):
            away = any(layer == other for other in self._away)
            if place in own and away:
                self._away = [other for other in self._away if other != layer]
                layer.visible = True
            elif place not in own and layer.visible:
                layer.visible = False
                self._away.append(layer)

    def _put_labels_away(self) -> None:
        """Hide the case's own label: its outline is drawn over the errors, and fills of two kinds would mix."""
        for layer in self._own_layers:
            if layer.as_layer_data_tuple()[2] == "labels" and layer.visible:
                layer.visible = False
                self.keep_away([layer])

    def class_values(self) -> dict[str, tuple[int, ...]]:
        """Return the label values of the run's classes; it may read files."""
        experiment = getattr(self._run, "experiment", None)
        return {} if experiment is None else dict(experiment.data.class_values())

    def leave_alone(self, layer: Any | None) -> None:
        """Let somebody else decide when this layer is seen; None: there is none any more."""
        self._left_alone = layer
        self._on_others()

    @contextmanager
    def own_drawing(self) -> Iterator[None]:
        """Add a layer without taking it for something that the user did."""
        before, self._drawing = self._drawing, True
        try:
            yield
        finally:
            self._drawing = before

    def keep_away(self, layers: Sequence[Any]) -> None:
        """Bring further layers of the user, which are hidden, back when no case is shown any more."""
        self._away += [layer for layer in layers if not any(layer == other for other in self._away)]

    def _bring_back(self) -> None:
        for layer in self._away:
            if any(layer == other for other in self.viewer.layers):
                layer.visible = True
        self._away = []

    def leave_viewer(self) -> None:
        """Take what is ours out of the viewer; the user's own layers come back, the right way up."""
        self._drawing = True
        self.layers.clear()
        self._bring_back()
        self.layers.close()

    def closing(self) -> None:
        """Let go of the viewer and of work under way; nothing more is drawn."""
        if self._closed:
            return
        self._closed = True
        self.races.closing()
        self.review.closing()
        for work in (
            self._work,
            self._why,
            self._doctor,
            self._image,
            self._reading,
            self._recorded,
        ):
            work.close()
        for key in list(self._followed):
            self._forget_visible(key)
        for layer in self._heard:
            layer.events.visible.disconnect(self._on_others)
        self.viewer.layers.events.inserted.disconnect(self._on_others)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.dims.events.point.disconnect(self._on_point)
        self.viewer.dims.events.order.disconnect(self._on_axes)
        self.viewer.dims.events.ndisplay.disconnect(self._on_axes)
        if self._on_mouse in self.viewer.mouse_move_callbacks:
            self.viewer.mouse_move_callbacks.remove(self._on_mouse)
        if self._canvas is not None:
            self._canvas.removeEventFilter(self)


def look_at(viewer: Any, place: Sequence[float], size: Sequence[float]) -> None:
    """Put a place into the middle of a viewer, and zoom a slice so that its surroundings are seen.

    What has this size fills a third of the slice at most; a quarter of the volume is seen at least.

    Parameters
    ----------
    place, size
        (z, y, x), mm.
    """
    camera = viewer.scene.camera
    if viewer.dims.ndisplay == 2:
        seen = seen_layers(viewer)
        viewer.reset_view(layers=seen)
        axes = viewer.dims.displayed
        first, last = viewer.layers.get_extent(seen or viewer.layers).world
        whole = max(float(last[axis] - first[axis]) for axis in axes)
        large = 3 * max(size[axis] for axis in axes)
        if large >= whole > LEAST_VIEW_MM:
            return  # all of the slice is needed: it stays in the middle
        camera.zoom *= max(1.0, whole / max(LEAST_VIEW_MM, whole / 4, large))
    camera.center = tuple(float(p) for p in place)


def _penalties(run: Any) -> tuple[float, float] | None:
    loss = getattr(getattr(run, "experiment", None), "loss", None)
    return None if loss is None else penalty_range(loss)


def _explainer(key: str) -> Callable[..., Explanation] | None:
    """Return what makes explanations of a run; a worker calls it, so the folder is opened there, as it is then."""
    if not key:
        return None

    def explain(
        snapshot: WatchedSnapshot, after: WatchedSnapshot | None, known: Explanation | None
    ) -> Explanation:
        return explain_snapshot(open_run(key), snapshot, after, known=known)

    return explain


def _axes(viewer: Any) -> tuple[int, ...] | None:
    """Return the axes of the slice that is shown, also before there is a volume; None in 3D."""
    dims = viewer.dims
    if dims.ndisplay == 3:
        return None
    return tuple(int(a) for a in dims.order[1:]) if dims.ndim == 3 else (1, 2)


def _point(viewer: Any) -> tuple[float, float, float]:
    """Return where the planes meet, also before there is a volume."""
    z, y, x = (0.0, 0.0, 0.0, *(float(v) for v in viewer.dims.point))[-3:]
    return z, y, x


def _state(screen: Screen) -> tuple[Any, ...]:
    """Return what a hidden layer must agree with, not to be taken away."""
    seen = screen.seen
    of = None if seen is None else (seen.snapshot.case, seen.snapshot.step, seen.snapshot.partial)
    return screen.scene, screen.displayed.role, screen.displayed.cls, of


def _answered(work: Callable[[], Any]) -> Any:
    """A user's mistake is an answer too, so that it is known what it belongs to."""
    try:
        return work()
    except SegExplorerError as error:
        return error

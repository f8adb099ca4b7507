"""The tab "Inspect": what a watched case looks like now, what the loss makes of it, and where it is wrong."""

from __future__ import annotations

from typing import Any, get_args

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QListWidget, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, Planned, ValidationDone
from segexplorer.core.types import Role
from segexplorer.faces.napari import watching
from segexplorer.faces.napari.bridge import RunBridge
from segexplorer.faces.napari.latest_work import LatestWork
from segexplorer.faces.napari.layers import CaseLayers
from segexplorer.faces.napari.legend import Legend
from segexplorer.faces.napari.panels import parts
from segexplorer.faces.napari.panels.score_table import ScoreTable, counts_sentence
from segexplorer.faces.napari.watching import SWITCHES, Seen, Switch, Wanted
from segexplorer.training.run import SliceView
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot

_ON_AT_FIRST: frozenset[Switch] = frozenset({"errors", "balance"})
_EMPTY = "The watched cases appear here after the first prediction."
_SOME_ERRORS = "Pieces of error, the largest first; click one, or press N or P, to go there."
_KEYS = {"n": 1, "p": -1}
"""Keys that fly to the next and the previous piece of error."""
_ROLES: dict[Role, str] = {"validation": "Validation case", "train": "Training case"}


class InspectPanel(QWidget):  # type: ignore[misc, unused-ignore]
    """Shows a watched case in the viewer, and its figures here.

    Parameters
    ----------
    session, viewer
        As in every panel.
    bridge
        Where the run's events and snapshots come from.
    layers
        The layers that show cases in this viewer.
    """

    def __init__(self, session: Any, viewer: Any, bridge: RunBridge, layers: CaseLayers) -> None:
        super().__init__()
        self.session, self.viewer, self.bridge, self.layers = session, viewer, bridge, layers
        self._snapshots: dict[str, WatchedSnapshot] = {}
        self._patch: PatchSnapshot | None = None
        self._validation: ValidationDone | None = None
        self._seen: Seen | None = None
        self._imaged = ""
        self._asked: set[str] = set()
        self._work = LatestWork(self._on_seen, self._on_refused)
        self._imaging = LatestWork(self._on_image, self._on_refused)
        self._build()
        bridge.begun.connect(self._on_begun)
        bridge.events_arrived.connect(self._on_events)
        bridge.watched_arrived.connect(self._on_watched)
        bridge.patch_arrived.connect(self._on_patch)
        viewer.mouse_move_callbacks.append(self._on_cursor)
        viewer.dims.events.order.connect(self._on_order)
        for key, way in _KEYS.items():
            viewer.bind_key(key, lambda _, w=way: self.fly_on(w), overwrite=True)

    # -- widgets ------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._message = parts.guidance(_EMPTY)
        self._badge = parts.guidance("", parts.AMBER)
        self.role_picker, self.class_picker = QComboBox(), QComboBox()
        for role, title in _ROLES.items():
            self.role_picker.addItem(title, role)
        self.role_picker.currentIndexChanged.connect(lambda _: self._on_role())
        self.class_picker.addItem("All classes", None)
        self.class_picker.currentIndexChanged.connect(lambda _: self._look())
        self.switches: dict[Switch, QCheckBox] = {}
        boxes = QWidget()
        grid = QGridLayout(boxes)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        for number, (switch, title) in enumerate(SWITCHES.items()):
            box = self.switches[switch] = QCheckBox(title)
            box.setChecked(switch in _ON_AT_FIRST)
            box.toggled.connect(lambda on, s=switch: self._on_switch(s, on))
            grid.addWidget(box, number, 0)
        self._cursor = parts.guidance("Move the mouse over the picture to read errors and penalties here.")
        self._cursor.setMinimumHeight(44)
        self._cursor.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.score_source = QComboBox()
        self.score_source.addItem("All validation cases, whole volumes", "validation")
        self.score_source.addItem("The watched case, whole volume", "watched")
        self.score_source.currentIndexChanged.connect(lambda _: self._show_scores())
        self.table = ScoreTable()
        self._counts = parts.guidance("Scores come with the first validation.")
        self.errors = QListWidget()
        self.errors.setMinimumHeight(120)
        self.errors.itemClicked.connect(lambda _: self.fly(self.errors.currentRow()))
        self._errors_note = parts.guidance(_SOME_ERRORS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            parts.scrolled(
                self._message,
                _pair(self.role_picker, self.class_picker),
                self._badge,
                boxes,
                Legend(),
                parts.heading("Under the cursor"),
                self._cursor,
                parts.heading("Scores"),
                self.score_source,
                self.table,
                self._counts,
                parts.heading("Errors"),
                self._errors_note,
                self.errors,
            )
        )

    # -- what is chosen -----------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Which watched case is shown."""
        chosen: Role = self.role_picker.currentData()
        return chosen

    @property
    def class_index(self) -> int | None:
        """The class that is looked at; None for all."""
        chosen: int | None = self.class_picker.currentData()
        return chosen

    @property
    def snapshot(self) -> WatchedSnapshot | None:
        """The newest snapshot of the chosen role."""
        return self._snapshots.get(self.role)

    def slice_view(self) -> SliceView | None:
        """Return the plane of the watched case that the viewer shows; None in 3D."""
        dims = self.viewer.dims
        if dims.ndisplay != 2 or dims.ndim != 3:
            return None
        axis = int(dims.order[0])
        return SliceView(role=self.role, axis=2 - axis, world=float(dims.point[axis]))

    def _wanted(self) -> Wanted:
        dims = self.viewer.dims
        flat = dims.ndisplay == 2 and dims.ndim == 3
        return Wanted(
            switches=frozenset(s for s, box in self.switches.items() if box.isChecked()),
            class_index=self.class_index,
            axes=tuple(int(a) for a in dims.order[1:]) if flat else None,
        )

    # -- what comes from the run --------------------------------------------------------------------------

    def _on_begun(self, run: Any) -> None:
        self._validation = None
        self._patch = None

    def _on_events(self, events: list[Event]) -> None:
        if self.snapshot is None and any(isinstance(event, Planned) for event in events):
            self._show_planned()
        found = [event for event in events if isinstance(event, ValidationDone)]
        if found:
            self._validation = found[-1]
            self._show_scores()

    def _on_watched(self, snapshots: dict[str, WatchedSnapshot]) -> None:
        self._snapshots.update(snapshots)
        if self.role in snapshots:
            self._offer_classes(snapshots[self.role].class_names)
            self._look()
        elif self.snapshot is None and snapshots:
            self.role_picker.setCurrentIndex(list(_ROLES).index(next(iter(snapshots))))  # type: ignore[arg-type]

    def _on_patch(self, patch: PatchSnapshot) -> None:
        self._patch = patch
        if self.switches["patch"].isChecked():
            self._look()

    # -- looking ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        snapshot, patch, wanted = self.snapshot, self._patch, self._wanted()
        if snapshot is None:
            return
        parts.say(self._message, "")
        self._send_for_image(snapshot.case)
        self._work.send(lambda: watching.see(snapshot, patch, wanted))

    def _show_planned(self) -> None:
        """Show the image of the case that will be watched; a lone case is watched in one role only."""
        plan = getattr(self.bridge.run, "plan", None)
        watched = {} if plan is None else plan.watched
        case = watched.get(self.role) or next(iter(watched.values()), None)
        if case is not None:
            self._send_for_image(case)
            parts.say(
                self._message, f"{case} is watched; its first prediction comes with the first validation."
            )

    def _send_for_image(self, case: str) -> None:
        plan = getattr(self.bridge.run, "plan", None)
        if case == self._imaged or plan is None or case not in plan.refs:
            return
        self._imaged = case
        ours = [self.layers.layer(key) for key in self.layers.keys]
        there = [
            layer.data
            for layer in self.viewer.layers
            if layer.as_layer_data_tuple()[2] == "image" and not any(layer == mine for mine in ours)
        ]
        self._imaging.send(lambda: watching.image_of(plan.refs[case].open, case, there))

    def _on_image(self, picture: Any) -> None:
        if picture is None:
            self.layers.remove("image")
            return
        layer = self.layers.show(picture)
        layers = self.viewer.layers
        layers.move(layers.index(layer.name), 0)

    def _on_seen(self, seen: Seen) -> None:
        self._seen = seen
        first = not any(key in self.layers.keys for key in get_args(Switch))
        for picture in seen.pictures:
            if not self.switches[picture.key].isChecked():  # type: ignore[index]
                continue
            asked = picture.key in self._asked
            self._asked.discard(picture.key)
            layer = self.layers.show(picture) if asked else self.layers.offer(picture)
            if layer is not None and asked:
                layer.visible = True
        if first and seen.pictures:
            self._open_at(seen)
        parts.say(self._badge, _badge(seen.snapshot), parts.AMBER)
        parts.say(self._message, seen.note)
        self._show_scores()
        self._show_errors(seen)

    def _open_at(self, seen: Seen) -> None:
        for picture in seen.pictures:
            if picture.open_at is not None:
                self.layers.open_at(picture)
                return

    def _on_refused(self, error: SegExplorerError) -> None:
        parts.say(self._message, str(error), parts.RED)

    def _on_switch(self, switch: Switch, on: bool) -> None:
        if on:
            self._asked.add(switch)
            self._look()
        else:
            self.layers.set_visible(switch, False)

    def _on_role(self) -> None:
        if self.snapshot is None:
            parts.say(self._message, "This case has not been predicted yet.")
            return
        self._offer_classes(self.snapshot.class_names)
        self._look()

    def _on_order(self, _: Any = None) -> None:
        # with fewer axes the layers are being taken away: nothing is to be drawn anew
        if self.viewer.dims.ndim == 3 and self.switches["errors"].isChecked():
            self._look()

    def _offer_classes(self, names: tuple[str, ...]) -> None:
        known = tuple(self.class_picker.itemText(i) for i in range(1, self.class_picker.count()))
        if known == names:
            return
        self.class_picker.blockSignals(True)
        self.class_picker.clear()
        self.class_picker.addItem("All classes", None)
        for index, name in enumerate(names, start=1):
            self.class_picker.addItem(name, index)
        self.class_picker.blockSignals(False)

    # -- figures ------------------------------------------------------------------------------------------

    def _show_scores(self) -> None:
        if self.score_source.currentData() == "watched":
            scores = self._seen.scores if self._seen is not None else ()
            where = f"{self._seen.snapshot.case}, step {self._seen.snapshot.step}" if self._seen else ""
        else:
            scores = self._validation.scores if self._validation is not None else ()
            where = f"step {self._validation.step}" if self._validation is not None else ""
        self.table.show_scores(scores)
        badges = {score.badge for score in scores if score.badge}
        told = (counts_sentence(scores), where, *badges)
        parts.say(self._counts, "; ".join(t for t in told if t) or "Scores come with the first validation.")

    def _show_errors(self, seen: Seen) -> None:
        chosen = self.errors.currentRow()
        self.errors.clear()
        for piece in seen.pieces:
            self.errors.addItem(piece.sentence)
        if 0 <= chosen < len(seen.pieces):
            self.errors.setCurrentRow(chosen)
        none = (
            "No error of 0.05 ml or more." if seen.snapshot.truth is not None else "This case has no label."
        )
        some = _SOME_ERRORS
        parts.say(self._errors_note, some if seen.pieces else none)

    def fly(self, row: int) -> None:
        """Move the viewer to a piece of error."""
        if self._seen is None or not 0 <= row < len(self._seen.pieces):
            return
        z_y_x = self._seen.pieces[row].world[::-1]
        for axis, position in enumerate(z_y_x):
            self.viewer.dims.set_point(axis, position)
        self.viewer.scene.camera.center = z_y_x

    def fly_on(self, way: int) -> None:
        """Fly to the next (1) or previous (-1) piece of error in the list."""
        count = self.errors.count()
        if count == 0:
            return
        chosen = self.errors.currentRow()
        row = (0 if way > 0 else count - 1) if chosen < 0 else (chosen + way) % count
        self.errors.setCurrentRow(row)
        self.fly(row)

    def read(self, world: tuple[float, ...]) -> str:
        """Return the sentence for a point in the viewer's world, (z, y, x) in mm."""
        if self._seen is None or len(world) != 3:
            return ""
        return watching.under_cursor(self._seen.snapshot, self.class_index, world)

    def _on_cursor(self, viewer: Any, event: Any) -> None:
        text = self.read(tuple(float(v) for v in viewer.cursor.position))
        if text:
            self._cursor.setText(text)

    def closing(self) -> None:
        """Let go of the viewer and of work under way."""
        self._work.close()
        self._imaging.close()
        if self._on_cursor in self.viewer.mouse_move_callbacks:
            self.viewer.mouse_move_callbacks.remove(self._on_cursor)
        self.viewer.dims.events.order.disconnect(self._on_order)
        for key in _KEYS:
            self.viewer.bind_key(key, None, overwrite=True)


def _badge(snapshot: WatchedSnapshot) -> str:
    held = snapshot.badge or ("training case, not held out" if snapshot.role == "train" else "not trained on")
    return f"{snapshot.case}: {held}"


def _pair(left: QWidget, right: QWidget) -> QWidget:
    row = QWidget()
    layout = QGridLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(left, 0, 0)
    layout.addWidget(right, 0, 1)
    layout.setColumnStretch(0, 1)
    layout.setColumnStretch(1, 1)
    return row

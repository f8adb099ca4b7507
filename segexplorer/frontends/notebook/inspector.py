"""What is said of a picture: which case, class and step is shown, scores, errors with a jump, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ipywidgets as w

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.spec import get_value, replace_value, walk
from segexplorer.frontends.notebook import html
from segexplorer.frontends.notebook.display import Display
from segexplorer.frontends.notebook.forms import ITEM_STYLE, SliderField, close_all, under_owners
from segexplorer.losses.base import LossSpec
from segexplorer.viewmodels.decision import REACH, counts_text
from segexplorer.viewmodels.error_navigator import ORDERS, ErrorEntry
from segexplorer.viewmodels.regions import millilitres
from segexplorer.viewmodels.screen import DecisionShown, Screen
from segexplorer.viewmodels.sliders import PENALTIES, slider_of
from segexplorer.viewmodels.watched_case import SWITCHES
from segexplorer.viewmodels.why import LOOKS, MEANINGS, Answer

_SHORT = {
    "prediction": "Prediction",
    "errors": "Errors",
    "balance": "Balance",
    "alpha": "Alpha",
    "beta": "Beta",
}
_OFF = "off"
_KINDS = {
    "missed_object": "missed",
    "spurious_object": "spurious",
    "too_little": "too little",
    "too_much": "too much",
    "wrong_organ": "wrong organ",
}
_ORDERS = ("volume", "depth", "kind", "class", "place", "since")


class Silent:
    """Sets widgets without taking that for something the user did."""

    def __init__(self) -> None:
        self.on = False

    def __enter__(self) -> None:
        self.on = True

    def __exit__(self, *_: object) -> None:
        self.on = False


class ShowBar:
    """Which case, class and overlays are shown, and the slider through the history."""

    def __init__(self, display: Display) -> None:
        self._display, self._silent = display, Silent()
        self.case = w.Dropdown(
            description="Case",
            # the rest of the row, so that the toggles stay in one line on a laptop
            layout={"flex": "1 1 200px", "width": "auto", "min_width": "150px", "max_width": "306px"},
            style={"description_width": "36px"},
        )
        self.cls = w.Dropdown(
            description="Class", layout={"width": "164px"}, style={"description_width": "38px"}
        )
        self.overlays = {
            key: w.ToggleButton(
                description=title,
                tooltip=SWITCHES[key],  # type: ignore[index]
                layout={"width": "auto", "height": "28px"},
            )
            for key, title in _SHORT.items()
        }
        self.threshold = w.BoundedFloatText(
            min=0,
            max=1000,
            step=0.05,
            description="Regions from (ml)",
            tooltip="Regions with less error volume are not drawn",
            layout={"width": "190px", "display": "none"},
            style={"description_width": "122px"},
        )
        self.history = w.SelectionSlider(
            options=[("–", -1)],
            description="Step",
            readout=False,
            layout={"width": "300px"},
            style={"description_width": "36px"},
        )
        self.where = w.HTML()
        self.case.observe(self._on(lambda key: display.issue("choose_case", key)), "value")
        self.cls.observe(self._on(lambda cls: display.issue("choose_class", cls or None)), "value")
        self.threshold.observe(self._on(lambda ml: display.issue("set_threshold", ml)), "value")
        self.history.observe(self._on(lambda step: display.issue("scrub", step)), "value")
        for key, button in self.overlays.items():
            button.observe(self._on(partial(self._toggle, key)), "value")
        flow = {"flex_flow": "row wrap", "align_items": "center"}
        rows = [
            [self.case, self.cls, *self.overlays.values()],
            [self.history, self.where, self.threshold],
        ]
        self.widget = w.VBox([w.HBox(row, layout={**flow, "grid_gap": "0 4px"}) for row in rows])

    def _toggle(self, key: str, on: bool) -> None:
        self._display.issue("toggle", key, on)

    def _on(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        def heard(change: Any) -> None:
            if not self._silent.on:
                with self._display.lock:
                    act(change["new"])

        return heard

    def draw(self, screen: Screen) -> None:
        """Show what is displayed."""
        now = screen.displayed
        with self._silent:
            _choose(self.case, [(title, key) for key, title in screen.choices] or [("–", "")], _key(screen))
            names = [("all classes", 0), *((n, i) for i, n in enumerate(screen.class_names, 1))]
            _choose(self.cls, names, now.cls or 0)
            for key, button in self.overlays.items():
                toggle = screen.toggles.get(key)  # type: ignore[call-overload]
                button.value = bool(toggle and toggle.on and toggle.enabled)
                button.disabled = toggle is not None and not toggle.enabled
                why = "" if toggle is None else toggle.why
                button.tooltip = why or SWITCHES[key]  # type: ignore[index]
            self.threshold.value = now.threshold_ml
            self.threshold.layout.display = "flex" if screen.map is not None else "none"
            history = screen.history
            if history is None:
                _choose(self.history, [("–", -1)], -1)
            else:
                steps = [(str(step), step) for step in history.steps]
                _choose(self.history, steps, history.steps[history.place])
            self.history.disabled = history is None or len(history.steps) < 2
            # predictions of other programs have no steps
            self.history.layout.display = "none" if now.source == "results" else "flex"
            self.where.value = "" if history is None else html.text(history.text)


def _key(screen: Screen) -> str:
    return screen.choices[screen.chosen][0] if 0 <= screen.chosen < len(screen.choices) else ""


def _choose(widget: Any, options: list[tuple[str, Any]], value: Any) -> None:
    if list(widget.options) != options:
        widget.options = options
    if value in [v for _, v in options]:
        widget.value = value


class ScoresBox:
    """Scores per class, and what they were measured on."""

    def __init__(self, display: Display) -> None:
        self._silent = Silent()
        options = [
            ("all validation cases", "validation"),
            ("the case shown", "watched"),
            ("test cases", "test"),
        ]
        self.of = w.Dropdown(
            options=options,
            description="Scores of",
            layout={"width": "280px"},
            style={"description_width": "70px"},
        )
        self.table = w.HTML()
        self.of.observe(
            lambda c: None if self._silent.on else display.issue("choose_scores", c["new"]), "value"
        )
        self.widget = w.VBox([self.of, self.table])

    def draw(self, screen: Screen) -> None:
        """Show the scores."""
        with self._silent:
            self.of.value = screen.displayed.scored_on
        self.of.layout.display = "none" if screen.displayed.source == "results" else "flex"
        said = screen.scores_of or "Scores come with the first validation."
        self.table.value = html.scores(screen.scores, said, screen.class_names)


class ErrorsBox:
    """The list of errors; choosing one goes there."""

    def __init__(self, display: Display) -> None:
        self._display, self._silent = display, Silent()
        self.order = w.Dropdown(
            options=[(ORDERS[order], order) for order in _ORDERS],  # type: ignore[index]
            description="Sorted",
            layout={"width": "230px"},
            style={"description_width": "50px"},
        )
        button = {"width": "44px"}
        self.previous = w.Button(description="◀", tooltip="Previous error", layout=button)
        self.next = w.Button(description="▶", tooltip="Next error", layout=button)
        self.list = w.Select(options=[], rows=8, layout={"width": "98%"})
        self.list.add_class("segexplorer-errors")
        self.summary, self.text = w.HTML(), w.HTML()
        self.order.observe(self._on_order, "value")
        self.list.observe(self._on_choice, "value")
        self.previous.on_click(lambda _: display.look_at_next_error(-1))
        self.next.on_click(lambda _: display.look_at_next_error(1))
        row = w.HBox([self.order, self.previous, self.next, self.summary], layout={"flex_flow": "row wrap"})
        self.widget = w.VBox([row, self.list, self.text])

    def _on_order(self, change: Any) -> None:
        if not self._silent.on:
            listing = self._display.screen.displayed.listing
            self._display.issue("arrange_errors", replace(listing, order=change["new"]))

    def _on_choice(self, change: Any) -> None:
        if not self._silent.on and change["new"] is not None:
            self._display.look_at_error(change["new"])

    def draw(self, screen: Screen) -> None:
        """List what the screen lists."""
        navigator = screen.navigator
        with self._silent:
            by_age = screen.displayed.listing.order == "since"
            options = [(error_line(entry, since=by_age), entry.number) for entry in navigator.shown]
            if list(self.list.options) != options:
                self.list.options = options
                self.list.value = None
            if navigator.chosen in [number for _, number in options]:
                self.list.value = navigator.chosen
            elif options:
                self.list.value = None
        self.summary.value = html.text(navigator.summary) if navigator.entries else ""
        note = screen.errors_note or (
            "" if navigator.entries else "Errors are listed with the first prediction."
        )
        self.text.value = html.text(screen.error_text or note)


def error_line(entry: ErrorEntry, *, since: bool = False) -> str:
    """Return an error in one line that fits beside the planes: number, class, kind, volume, depth, place.

    Parameters
    ----------
    since
        Whether to say since which step it is there; the text of a chosen error says it always.
    """
    piece = entry.piece
    age = f" · since step {entry.since}" if since and entry.since is not None else ""
    return (
        f"{entry.number}. {piece.class_name} · {_KINDS[piece.kind]} · {millilitres(piece.volume_ml)} · "
        f"{piece.depth_mm:.0f} mm deep · {piece.place.short}{age}"
    )


class WhyBox:
    """Asked against got, why at the voxel that was clicked, and what if: another decision, another loss."""

    def __init__(self, display: Display) -> None:
        self._display, self._silent = display, Silent()
        self.look = w.ToggleButtons(
            options=[("Off", _OFF), *((title, look) for look, title in LOOKS.items())],
            tooltips=["Draw no map of the loss", *MEANINGS.values()],
            style={"button_width": "auto"},
        )
        self.meaning, self.shares, self.sentence = w.HTML(), w.HTML(), w.HTML()
        self.bias = w.FloatSlider(
            min=-REACH,
            max=REACH,
            step=0.1,
            description="Bias",
            readout_format="+.1f",
            tooltip="Added to the logit of the chosen class before the decision: the picture moves at once",
            layout={"width": "98%"},
        )
        self.decision = w.HTML()
        self.sliders = w.VBox([])
        self.reset = w.Button(description="Back to the run's loss", layout={"width": "170px"})
        self.problem = w.HTML()
        self._loss: LossSpec | None = None
        self._paths: dict[str, Any] = {}
        self.look.observe(self._on_look, "value")
        self.bias.observe(self._on_bias, "value")
        self.reset.on_click(lambda _: display.issue("ask_loss", None))
        self.widget = w.VBox(
            [
                self.look,
                self.meaning,
                self.shares,
                self.sentence,
                w.HTML("<b>What if the class were predicted more readily?</b>"),
                self.bias,
                self.decision,
                w.HTML(
                    "<b>What if the loss had other parameters?</b> The prediction changes only by training."
                ),
                self.sliders,
                self.problem,
                self.reset,
            ]
        )

    def _on_look(self, change: Any) -> None:
        if not self._silent.on:
            self._display.issue("look_at", None if change["new"] == _OFF else change["new"])

    def _on_bias(self, change: Any) -> None:
        if not self._silent.on:
            self._display.issue("move_bias", change["new"])

    def _on_slider(self, path: str, value: float) -> None:
        if self._silent.on or self._loss is None:
            return
        try:
            asked = replace_value(self._loss, path, value)
        except SegExplorerError as error:
            self.problem.value = html.text(error)
            return
        self.problem.value = ""
        self._display.issue("ask_loss", asked)

    def draw(self, screen: Screen) -> None:
        """Show the answer."""
        look, answer = screen.displayed.question.look, screen.answer
        with self._silent:
            self.look.value = look or _OFF
            if self.bias.value != (screen.displayed.bias or 0.0):
                self.bias.value = screen.displayed.bias or 0.0
        self.meaning.value = html.text(screen.answer_note or ("" if look is None else MEANINGS[look]))
        self.shares.value = _shares(answer)
        hint = (
            "Choose “Asked” and click a voxel to hear why." if look is None else "Click a voxel to hear why."
        )
        hint = hint if screen.seen is not None else "There is nothing to ask before the first prediction."
        self.reset.disabled = screen.displayed.question.loss is None
        self.sentence.value = f"<i>{html.text((answer.sentence if answer else '') or hint)}</i>"
        self._draw_decision(screen.decision)
        self._draw_sliders(None if answer is None else answer.loss)

    def _draw_decision(self, shown: DecisionShown | None) -> None:
        problem = "There is no prediction yet." if shown is None else shown.problem
        self.bias.disabled = bool(problem)
        if shown is not None and not problem and shown.now is not None and shown.before is not None:
            about = " Approximate: from probabilities of 8 bits." if shown.approximate else ""
            self.decision.value = html.text(
                f"{shown.class_name}: {counts_text(shown.now, shown.before)}{about}"
            )
        else:
            self.decision.value = html.text(problem or "Move the slider: the decision is looked at then.")

    def _draw_sliders(self, loss: LossSpec | None) -> None:
        """Show the numbers of the loss that is asked about; made anew only where it is of another sort."""
        if loss is None:
            return
        if self._loss is None or type(loss) is not type(self._loss):
            for child in self.sliders.children:
                close_all(child)
            self._paths = {}
            for path, declared, _ in walk(loss):
                slider = slider_of(declared)
                if slider is None or len(slider.stops) > 300 or declared.shape.optional or declared.advanced:
                    continue
                letter = PENALTIES.get(path.rpartition(".")[2], "")
                title = declared.title if declared.title.endswith(letter) else f"{declared.title} {letter}"
                titled = {
                    "description": title,
                    "tooltip": declared.description,
                    "style": ITEM_STYLE,
                    "layout": {"width": "98%"},
                }
                field = SliderField(slider, titled, partial(self._moved, path), get_value(loss, path))
                self._paths[path] = field
            shown = {path: field.widget for path, field in self._paths.items()}
            self.sliders.children = under_owners(loss, shown)
        self._loss = loss
        with self._silent:
            for path, field in self._paths.items():
                if field.get() != get_value(loss, path):
                    field.set(get_value(loss, path))

    def _moved(self, path: str) -> None:
        self._on_slider(path, self._paths[path].get())


def _shares(answer: Answer | None) -> str:
    if answer is None or not answer.shares:
        return ""
    rows = [[html.text(row.texts[0]), *row.texts[1:]] for row in answer.shares]
    made = html.table(["Share of the pull", "inside", "boundary", "elsewhere"], rows)
    return f"{html.text(answer.finding)}{made}"

"""Start, pause, step, stop and extend a run from a cell; its progress, its log, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import Event, ParameterApplied
from segexplorer.frontends.notebook import html
from segexplorer.frontends.notebook.background import Background
from segexplorer.frontends.notebook.display import Display
from segexplorer.frontends.notebook.forms import LiveForm, SpecForm, close_all
from segexplorer.frontends.notebook.subjects import know
from segexplorer.frontends.notebook.training import train_in_background
from segexplorer.session import Session
from segexplorer.training.experiment import Experiment
from segexplorer.training.run import SliceView
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels.screen import Screen

_LOG_LINES = 12
_AMBER, _RED = "var(--jp-warn-color0, #b35900)", "var(--jp-error-color1, #c62828)"
"""In the colours of the page's theme, where it has one."""


class Controls:
    """The buttons, and what they are about.

    Parameters
    ----------
    display
        What the cell displays.
    experiment
        What a new run is made of; None where there is a run already, or none can be begun.
    output
        Folder of the new run.
    place
        Returns (z, y, x) in mm of the slice that is looked at, for Step.

    Attributes
    ----------
    settings
        The form of the experiment before it starts, and of what may be changed afterwards.
    """

    def __init__(
        self,
        display: Display,
        experiment: Experiment | None,
        output: Path | None,
        place: Callable[[], tuple[float, float, float]],
    ) -> None:
        self._display, self._output, self._place = display, output, place
        self._making = Background("segexplorer notebook: start")
        self.settings = Settings(display, experiment, self.say)

        def button(title: str, tip: str, icon: str, act: Callable[[], None]) -> Any:
            made = w.Button(description=title, tooltip=tip, icon=icon, layout={"width": "92px"})
            made.on_click(lambda _: self._obey(act))
            return made

        self.start = button("Start", "Begin to train, in the background", "play", self.begin)
        self.pause = button("Pause", "Hold before the next step", "pause", self._pause)
        self.step = button(
            "Step", "One training step, then predict the slice shown", "step-forward", self._step
        )
        self.stop = button("Stop", "Finish this step, save, and end", "stop", lambda: self._run.stop())
        self.extend = button("Extend", "Train longer", "plus", self._extend)
        self.epochs = w.BoundedIntText(value=5, min=1, max=10_000, layout={"width": "64px"})
        self.bar = w.FloatProgress(min=0, max=1, layout={"width": "90px", "height": "14px"})
        self.headline, self.progress, self.message = w.HTML(), w.HTML(), w.HTML()
        self.log = w.HTML()
        flow = {"flex_flow": "row wrap", "align_items": "center"}
        further = w.HBox([self.extend, self.epochs, w.Label("epochs")], layout={"align_items": "center"})
        buttons = [self.start, self.pause, self.step, self.stop, further]
        self.widget = w.VBox(
            [
                w.HBox([self.headline, self.bar, self.progress], layout={**flow, "grid_gap": "0 12px"}),
                w.HBox(buttons, layout=flow),
                self.message,
            ]
        )

    # -- commands -----------------------------------------------------------------------------------------

    @property
    def _run(self) -> Any:
        run = self._display.run
        if run is None:
            raise SegExplorerError("There is no run yet.", "Press Start first.")
        return run

    def say(self, sentence: str, colour: str = _AMBER) -> None:
        """Show a sentence below the buttons; "" for none."""
        self.message.value = f'<span style="color:{colour}">{html.text(sentence)}</span>' if sentence else ""

    def _obey(self, act: Callable[[], None]) -> None:
        """Do what a button says; what is refused becomes a sentence."""
        self.say("")
        try:
            act()
        except SegExplorerError as error:
            self.say(str(error))

    def begin(self) -> None:
        """Begin a new run of the experiment, or go on with the run that is shown."""
        display, run = self._display, self._display.run
        if self._making.busy or display.reality.busy:
            raise SegExplorerError("A run is going on already.", "Stop it first.")
        if run is not None:
            if not run.accepts("start"):
                raise SegExplorerError(
                    "This run has done all its epochs.", "Extend it, or explore the experiment again."
                )
            self._train(run)
            return
        folder = display.reality.run.key if display.reality.run is not None else None
        experiment = None if folder is not None else self.settings.experiment
        if folder is None and experiment is None:
            raise SegExplorerError("There is nothing to train here.", "Give explore an experiment.")
        output = self._output
        display.learn(making="Making the run folder…")
        self.draw(display.screen)

        def work() -> Any:
            if folder is not None:
                return Session().resume(folder)
            assert experiment is not None
            return Session().prepare(experiment, output)

        self._making.send("run", work, self._on_made)

    def _on_made(self, made: Any) -> None:
        display = self._display
        with display.lock:
            display.learn(making="")
            if isinstance(made, SegExplorerError):
                self.say(str(made), _RED)
                self.draw(display.screen)
                return
            know(made)
            display.follow(made)
            self._train(made)

    def _train(self, run: Any) -> None:
        with self._display.lock:
            train_in_background(run)
            self._display.learn(busy=True)
            self.draw(self._display.screen)

    @property
    def busy(self) -> bool:
        """Whether a run is being made."""
        return self._making.busy

    def _pause(self) -> None:
        run = self._run
        if run.state == "paused":
            run.unpause()
        else:
            run.pause()

    def _step(self) -> None:
        role = self._display.screen.displayed.role
        # a slice across the head-foot axis of RAS
        view = None if role is None else SliceView(role=role, axis=2, world=self._place()[0])
        self._run.step(view)

    def _extend(self) -> None:
        if self._display.run is None and self._display.reality.run is not None:
            run = Session().resume(self._display.reality.run.key)
            know(run)
            self._display.follow(run)
        run = self._run
        run.extend(self.epochs.value)
        if not self._display.reality.busy:
            self._train(run)

    # -- drawing ------------------------------------------------------------------------------------------

    def hear(self, events: Sequence[Event]) -> None:
        """Take notice of what has happened."""
        run = self._display.run
        if run is not None and events_of(events, ParameterApplied):
            self.settings.show_effective(run.experiment)
        self.draw(self._display.screen)

    def draw(self, screen: Screen) -> None:
        """Show the state of the run, and what can be done now."""
        display, status = self._display, self._display.status
        run, facts = display.run, display.reality.run
        busy = display.reality.busy
        self.settings.draw(run)
        if facts is None:
            self.headline.value = "<b>A new run</b>: change its settings, then press Start."
        else:
            badges = "".join(
                f' <span style="color:{_AMBER}">· {html.text(badge)}</span>' for badge in status.badges
            )
            self.headline.value = f"<b>{html.text(facts.title)}</b>: {html.text(status.headline)}{badges}"
        self.bar.value = status.fraction
        figures = [status.progress, status.rate, status.memory]
        making = display.reality.making
        self.progress.value = html.text(making or " · ".join(f for f in figures if f))
        able = _able(run, facts, busy, bool(making), self.settings.experiment is not None, status.state)
        for name in ("start", "pause", "step", "stop", "extend"):
            getattr(self, name).disabled = not able[name]
        self.epochs.disabled = not able["extend"]
        fresh = run is None or run.state == "idle"
        self.start.description = (
            "Start" if (fresh and facts is None) or (run is not None and fresh) else "Go on"
        )
        paused = run is not None and run.state == "paused"
        self.pause.description, self.pause.icon = ("Resume", "play") if paused else ("Pause", "pause")
        lines = [html.text(line.sentence) for line in list(status.log)[-_LOG_LINES:]]
        self.log.value = "<br>".join(lines) or "What is applied, validated and saved is listed here."
        if status.failure:
            self.say(status.failure, _RED)

    def close(self) -> None:
        """End what is being made."""
        self._making.close()


def _able(
    run: Any, facts: Any, busy: bool, making: bool, has_experiment: bool, state: str
) -> Mapping[str, bool]:
    """Return which buttons can be pressed."""
    held = facts is not None and bool(facts.owner)
    recorded = run is None and facts is not None and not held
    accepts = (lambda command: False) if run is None else run.accepts
    new = run is None and facts is None and has_experiment
    return {
        # a run that has done all its epochs goes on by Extend alone
        "start": not busy and not making and (new or (recorded and state != "finished") or accepts("start")),
        "pause": busy and (accepts("pause") or accepts("unpause")),
        "step": busy and accepts("step"),
        "stop": busy and accepts("stop"),
        "extend": not making and (recorded or (run is not None and accepts("extend"))),
    }


class Settings:
    """The form of an experiment before it starts; afterwards, of what may be changed while it trains."""

    def __init__(self, display: Display, experiment: Experiment | None, say: Callable[[str], object]) -> None:
        self._display, self._say = display, say
        self._live: LiveForm | None = None
        self._of: Any = None
        self._waiting: dict[str, Any] = {}
        self._known = experiment
        self._form: SpecForm[Experiment] | None = None
        self.note = w.HTML()
        self.body = w.VBox([])
        self.widget = w.VBox([self.note, self.body])

    @property
    def experiment(self) -> Experiment | None:
        """The experiment as the form is filled in.

        Raises
        ------
        SpecError
            When a field is filled in wrongly.
        """
        return self._known if self._form is None else self._form.value

    def open(self) -> None:
        """Make the form of the experiment, once it is looked at: every field is a message to the browser."""
        if self._known is None and self._display.run is None:
            self.note.value = (
                "This run is recorded. “Go on” or “Extend” makes it a run whose settings can be changed."
            )
        if self._form is None and self._known is not None and self._display.run is None:
            self._form = SpecForm(self._known, self._judge, exclude=("changes",))
            self.body.children = [self._form.widget]
            self.note.value = "Every setting of the experiment; a tooltip says what it does."

    def _judge(self) -> None:
        try:
            _ = self.experiment
        except SegExplorerError as error:
            self._say(str(error))
        else:
            self._say("")

    @property
    def form(self) -> SpecForm[Experiment] | None:
        """The form before the start, once it was looked at."""
        return self._form

    @property
    def live(self) -> LiveForm | None:
        """The form while it trains."""
        return self._live

    def draw(self, run: Any) -> None:
        """Show the form that belongs to the run."""
        if run is None or run is self._of:
            return
        self._of, self._form = run, None
        for child in self.body.children:
            close_all(child)
        if hasattr(run, "set"):
            self._live = LiveForm(run.experiment, self._change)
            self.body.children = [self._live.widget]
            self.note.value = "What may be changed while it trains; it applies from the next step on."

    def show_effective(self, experiment: Experiment) -> None:
        """Show the settings in effect."""
        if self._live is not None and not self._waiting:
            self._live.set(experiment)

    def _change(self, path: str, value: Any) -> None:
        run = self._display.run
        if run is None:
            return
        # of settings that depend on each other, the first one moved waits for the second
        self._waiting[path] = value
        try:
            run.set_values(self._waiting)
        except SegExplorerError as error:
            self._say(f"Not applied yet: {error}")
        else:
            self._waiting = {}
            self._say("")

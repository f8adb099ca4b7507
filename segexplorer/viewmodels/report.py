"""What a report of a run shows: facts, curves, cases with errors and maps, findings, tables, methods, provenance.

Everything is gathered here as plain arrays, numbers and sentences; `frontends.report` makes a page of it. Where
cases may not be named, the report is made from de-identified copies of what the run wrote, as `segexplorer share`
makes them (`training.deidentification`): built anew from what is known to be harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

import segexplorer
from segexplorer.core.colours import ClassColours
from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import CaseScore, Event, Planned, Role, RunFinished, ValidationDone
from segexplorer.data.geometry import DisplayGrid, spacing
from segexplorer.data.volume import Volume
from segexplorer.losses.base import penalty_range
from segexplorer.metrics import score_case, values_by_case
from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.deidentification import (
    Pseudonyms,
    deidentify_events,
    deidentify_experiment,
    deidentify_provenance,
    deidentify_verdict,
    identifying_part,
    own_badges,
    paths_in,
)
from segexplorer.training.doctor import Diagnosis, diagnose_run
from segexplorer.training.experiment import Experiment
from segexplorer.training.explanation import (
    Explanation,
    explain_arrays,
    explain_snapshot,
    loss_at,
    loss_name,
)
from segexplorer.training.flight_recorder import Flight, FlightStep
from segexplorer.training.history import HistoryFrame, RunRecord, open_run
from segexplorer.training.recorded import RecordedRun
from segexplorer.training.run_files import AttemptFacts, read_pointer, read_provenance
from segexplorer.training.scores import SplitScores
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.step_columns import events_of
from segexplorer.training.verdicts import Verdict, read_verdicts
from segexplorer.viewmodels import errors
from segexplorer.viewmodels.case_slices import PLANES, CaseSlice, Film, Plane, World, case_slice, film, spread
from segexplorer.viewmodels.curves import Curves, Floats, Mark, Plot, line_colour, line_title
from segexplorer.viewmodels.error_navigator import STATES, ErrorNavigator, first_steps
from segexplorer.viewmodels.error_pieces import KINDS, ErrorPiece, error_pieces
from segexplorer.viewmodels.errors import LegendEntry
from segexplorer.viewmodels.layer_images import Picture, fullest_slice, image_picture
from segexplorer.viewmodels.methods import methods
from segexplorer.viewmodels.outlines import Outlines
from segexplorer.viewmodels.regions import Scale
from segexplorer.viewmodels.status import duration
from segexplorer.viewmodels.tables import Table, case_scores_table, mean_scores_table
from segexplorer.viewmodels.watched_case import (
    RunHistoryLoader,
    balance_picture,
    errors_picture,
    held_of,
)
from segexplorer.viewmodels.why import PullScale, Question, WhyRequest, answer

if TYPE_CHECKING:
    from segexplorer.training.predict import Predictor

CURVE_POINTS = 600
"""Most points of a curve on the page."""
MOST_FRAMES = 40
"""Most recorded predictions of a case that can be scrubbed through."""
MOST_ERRORS = 15
"""Errors of a case that are listed, the largest."""
FILM_BYTES = 4_000_000
"""About how much the image slices of a case that can be scrubbed may take, uncompressed."""
MOST_EXPLAINED = 60_000_000
"""Numbers of a predicted case (classes x voxels) up to which a loss is asked about it."""
SURFACE_VOXELS = 20_000_000
"""Voxels of a case up to which its surface distances are measured."""
OnProgress = Callable[[str], object]


# ---- parts of a page


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve of a chart; `colour` None is that of the text."""

    name: str
    colour: str | None
    dashed: bool
    steps: Floats
    values: Floats


@dataclass(frozen=True)
class Chart:
    """Curves on one pair of axes."""

    plot: Plot
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Panel:
    """A slice with what is drawn over it."""

    title: str
    shown: CaseSlice
    scale: Scale | PullScale | None = None


@dataclass(frozen=True)
class CaseSection:
    """A case: slices through its largest error, maps of the loss, scores, list of errors, and its film.

    Attributes
    ----------
    title, held, about
        What it is called, whether it was trained on, and which prediction is shown, in a sentence.
    panels, maps
        Slices with errors; slices with maps of the loss.
    legend
        Of the errors.
    scores, listed
        Tables of its scores and of its errors.
    film
        Its recorded predictions; None where there are fewer than two, or images are left out.
    notes
        What could not be shown, and why.
    """

    title: str
    held: str
    about: str
    panels: tuple[Panel, ...] = ()
    maps: tuple[Panel, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    scores: Table | None = None
    listed: Table | None = None
    film: Film | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """Everything that a page about a run shows; see the parts."""

    title: str
    headline: str
    badges: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    diagnosis: Diagnosis | None
    charts: tuple[Chart, ...]
    watched: tuple[CaseSection, ...]
    extremes: tuple[CaseSection, ...]
    tables: tuple[Table, ...]
    methods: str
    provenance: tuple[tuple[str, str], ...]
    settings: str
    notes: tuple[str, ...]
    named: bool
    images: bool


# ---- what a run wrote, as it may be shown


class ShownRun(RunRecord):
    """A run as a report shows it: with the names of its cases, or with numbers in their place."""

    def __init__(self, folder: Path, *, named: bool) -> None:
        super().__init__(folder)
        self.named = named
        self._real = RunRecord(folder)
        self.real_experiment = self._real.experiment
        cases = [case for attempt in read_provenance(folder) for case in (attempt.roles or {})]
        self.names = Pseudonyms()
        if not named:
            self.names = Pseudonyms(number_classes=self._classes_identify(cases))
            for case in cases:
                self.names.case(case)

    def _classes_identify(self, cases: Sequence[str]) -> bool:
        folders = [str(self.folder.absolute()), *paths_in(self.real_experiment)]
        return any(
            identifying_part(name, cases, folders) for name in self.real_experiment.data.class_values()
        )

    def case(self, name: str) -> str:
        """Return what a case is called in the report."""
        return name if self.named else self.names.case(name)

    def real_case(self, shown: str) -> str:
        """Return the case that is called so in the report."""
        return shown if self.named else next((k for k, v in self.names.cases.items() if v == shown), shown)

    @cached_property
    def _events(self) -> Sequence[Event]:
        written: Sequence[Event] = self._real.events()
        if self.named:
            return written
        foreign = self._real.recorded is not None
        return deidentify_events(written, self.real_experiment, self.names, recorded=foreign)

    def events(self) -> Sequence[Event]:
        """Return the events of the run, as they may be shown."""
        return self._events

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment, as it may be shown."""
        real = self.real_experiment
        return real if self.named else deidentify_experiment(real, self.names)

    @property
    def recorded(self) -> RecordedRun | None:
        """Who trained it; words of the user's are left out where cases are not named."""
        found = self._real.recorded
        return found if found is None or self.named else RecordedRun(trainer="another program")

    def attempts(self) -> list[AttemptFacts]:
        """Return what each attempt ran on, as it may be shown."""
        read = read_provenance(self.folder)
        if self.named:
            return read
        plain = deidentify_provenance([a.model_dump(exclude_unset=True) for a in read], self.names)
        return [AttemptFacts.model_validate(entry) for entry in plain]

    def watched(self, role: Role) -> Sequence[HistoryFrame]:
        """Return the recorded frames of a role, as they may be shown."""
        frames = self._real.watched(role)
        if self.named:
            return frames
        return [
            replace(
                frame,
                facts=frame.facts.model_copy(
                    update={
                        "case": self.names.case(frame.facts.case),
                        "class_names": [self.names.class_(n) for n in frame.facts.class_names],
                        "badge": own_badges(frame.facts.badge),
                    }
                ),
            )
            for frame in frames
        ]

    def scores(self, split: Role = "test") -> tuple[SplitScores, ...]:
        """Return the recorded scores of a split, as they may be shown."""
        return tuple(
            record.model_copy(update={"scores": tuple(map(self.score, record.scores))})
            for record in self._real.scores(split)
        )

    def score(self, score: CaseScore) -> CaseScore:
        """Return a score, as it may be shown."""
        if self.named:
            return score
        names = self.names
        return replace(
            score,
            case=names.case(score.case),
            class_name=names.class_(score.class_name),
            badge=own_badges(score.badge),
        )

    def flights(self) -> tuple[Flight, ...]:
        """Return what the flight recorder kept, as it may be shown."""
        if self.named:
            return self._real.flights()
        return tuple(
            replace(flight, message="", steps=tuple(map(self._step, flight.steps)))
            for flight in self._real.flights()
        )

    def _step(self, step: FlightStep) -> FlightStep:
        return FlightStep(
            step=step.step,
            loss=step.loss,
            terms=self.names.by_term(step.terms),
            term_gradients=self.names.by_term(step.term_gradients),
            gradient_norm=step.gradient_norm,
            learning_rate=step.learning_rate,
            cases=list(map(self.names.case, step.cases)),
        )

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return what readers said of errors; their notes are free text, and shown only beside names."""
        read = read_verdicts(self.folder)
        if self.named:
            return read
        return tuple(deidentify_verdict(verdict, self.names, note=False, voxels=True) for verdict in read)


# ---- a run


def run_report(
    folder: str | Path,
    *,
    named: bool = False,
    images: bool = True,
    on_progress: OnProgress = lambda _: None,
    budget: float = 1.0,
) -> RunReport:
    """Gather the report of a run, finished or still going on, of our own or recorded from another program.

    Parameters
    ----------
    named
        Whether cases may be named, and free text of the user's may be shown.
    images
        Whether slices of cases are shown.
    on_progress
        Called with what is being done.
    budget
        Share of the usual number of slices and frames of films.

    Raises
    ------
    DataError
        When it is not a run folder, or is damaged.
    """
    record = ShownRun(open_run(folder).folder, named=named)
    on_progress("reading the run")
    events = record.events()
    planned = next(reversed(events_of(events, Planned)), None)
    names = planned.classes if planned is not None else ()
    chosen = _chosen_validation(events)
    notes: list[str] = []
    on_progress("asking the doctor")
    try:
        diagnosis: Diagnosis | None = diagnose_run(record)
    except SegExplorerError as error:
        diagnosis = None
        notes.append(f"The doctor could not look at the run: {error}")
    cases = _Cases(record, on_progress, budget)
    watched = tuple(cases.watched(images=images))
    extremes = tuple(cases.extremes(chosen, images=images)) if chosen is not None else ()
    if not images:
        notes.append("Slices of cases were left out of this page.")
    test = record.scores("test")
    return RunReport(
        title=record.folder.name if named else "Run",
        headline=_headline(record, events, chosen),
        badges=planned.badges if planned is not None else (),
        facts=_facts(record, planned, events),
        diagnosis=diagnosis,
        charts=charts(events, names),
        watched=watched,
        extremes=extremes,
        tables=tuple(_tables(chosen, test, names, named=named)),
        methods=methods(
            record.experiment,
            record.attempts(),
            planned.summary if planned is not None else {},
            recorded=record.recorded,
            chosen_step=chosen.step if chosen is not None and chosen.best else None,
        ),
        provenance=_provenance(record, events, test),
        settings=record.experiment.to_yaml(),
        notes=(*notes, *cases.notes),
        named=named,
        images=images,
    )


def case_section(folder: str | Path, case: str = "", *, named: bool = False) -> CaseSection:
    """Return one case of a run as a report shows it.

    Parameters
    ----------
    case
        A watched case, or the worst or the best validation case, by its name or as the report calls it; by default
        the watched one that was not trained on.

    Raises
    ------
    DataError
        When it is none of them; the sentence names those that there are.
    """
    record = ShownRun(open_run(folder).folder, named=named)
    wanted = case if named or not case else record.names.cases.get(case, case)
    cases = _Cases(record, lambda _: None, 1.0)
    seen: list[str] = []
    for section in cases.watched(images=True):
        if wanted in ("", section.title):
            return section
        seen.append(section.title)
    chosen = _chosen_validation(record.events())
    for section in cases.extremes(chosen, images=True) if chosen is not None else ():
        if wanted == section.title:
            return section
        seen.append(section.title)
    if not seen:
        raise DataError(
            f"{record.folder.name} has no recorded prediction of a case yet.",
            "Wait for the first validation.",
        )
    known = ", ".join(dict.fromkeys(seen))
    raise DataError(f"There is no picture of a case {case!r}.", f"Watched, worst and best: {known}.")


def _chosen_validation(events: Sequence[Event]) -> ValidationDone | None:
    """Return the validation of the best checkpoint; the last one where none is best."""
    done = [e for e in events_of(events, ValidationDone) if e.scores]
    return next((e for e in reversed(done) if e.best), done[-1] if done else None)


def _headline(record: ShownRun, events: Sequence[Event], chosen: ValidationDone | None) -> str:
    end = events[-1] if events else None
    state = record.state if not isinstance(end, RunFinished) else end.state
    text = f"The run is {state} at step {end.step if end is not None else 0}."
    if isinstance(end, RunFinished) and end.error:
        text += f" {end.error}"
    if chosen is None:
        return f"{text} Nothing was validated yet."
    cases = len({s.case for s in chosen.scores})
    classes = ", ".join(f"{name} {dice:.3f}" for name, dice in chosen.class_dice.items())
    which = "best" if chosen.best else "last"
    noun = "case" if cases == 1 else "cases"
    several = f" ({classes})" if len(chosen.class_dice) > 1 else ""
    return (
        f"{text} {which.capitalize()} validation, step {chosen.step}: mean Dice {chosen.mean_dice:.3f}{several} "
        f"over {cases} whole {noun}."
    )


def _facts(record: ShownRun, planned: Planned | None, events: Sequence[Event]) -> tuple[tuple[str, str], ...]:
    first = {"Loss": loss_name(record.experiment.loss)}
    if record.recorded is not None:
        own = record.recorded
        first = {
            "Trained by": own.trainer or "another program",
            "Loss": own.loss or "not said by the recording",
        }
    told = {} if planned is None else dict(planned.summary)
    rows = list({**first, **{k: v for k, v in told.items() if v and k not in first}}.items())
    if record.named and planned is not None:
        rows += [("Note", warning) for warning in planned.warnings]
    changes = [f"{c.field} = {c.value} at step {c.step}" for c in record.experiment.changes]
    if changes:
        rows.append(("Changed while it trained", "; ".join(changes)))
    begun, ended = (events[i].time if events else 0.0 for i in (0, -1))
    if ended > begun:
        rows.append(("From first to last event", duration(ended - begun)))
    return tuple(rows)


def charts(events: Iterable[Event], class_names: Sequence[str]) -> tuple[Chart, ...]:
    """Return the curves of a run, plot by plot, as the window draws them."""
    model, palette = Curves(CURVE_POINTS), ClassColours(tuple(class_names))
    model.extend(events)
    found = []
    for plot in model.plots():
        if model.why_empty(plot):
            continue
        series = model.series(plot.key)
        curves = tuple(
            Curve(
                line_title(name, palette),
                line_colour(name, series, palette),
                name.endswith(", missed"),
                steps,
                values,
            )
            for name, (steps, values) in series.items()
        )
        found.append(Chart(plot, curves, model.marks(), model.remark(plot.key)))
    return tuple(found)


def _tables(
    chosen: ValidationDone | None, test: Sequence[SplitScores], class_names: Sequence[str], *, named: bool
) -> Iterable[Table]:
    if chosen is not None:
        badge = f"; {chosen.badge}" if chosen.badge else ""
        yield mean_scores_table(chosen.scores, class_names, f"Validation, step {chosen.step}{badge}")
    for record in test:
        when = f", {record.when}" if named else ""
        weights = f"{record.checkpoint} weights of step {record.step}"
        about = f"Test, scoring {record.number} of {len(test)}{when}, {weights}"
        yield mean_scores_table(record.scores, class_names, about)


def _provenance(
    record: ShownRun, events: Sequence[Event], test: Sequence[SplitScores]
) -> tuple[tuple[str, str], ...]:
    rows: list[tuple[str, str]] = []
    for attempt in record.attempts():
        extra = attempt.model_extra or {}
        versions = ", ".join(f"{name} {version}" for name, version in attempt.versions.items())
        parts = (extra.get("device"), attempt.precision, attempt.platform, versions)
        seed = None if attempt.seed is None else f"seed {attempt.seed}"
        said = "; ".join(str(part) for part in (*parts, seed) if part)
        rows.append((f"Attempt {attempt.attempt}", said))
    if record.named:
        rows.insert(0, ("Run folder", str(record.folder)))
        begun = next((e.time for e in events if e.time > 0), None)
        if begun is not None:
            rows.insert(1, ("Begun", datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%d %H:%M UTC")))
    rows += [
        (f"Test scoring {r.number}", f"{r.when if record.named else ''} weights {r.sha256[:12]}".strip())
        for r in test
    ]
    made = datetime.now(UTC).strftime("%Y-%m-%d")
    rows.append(("This page", f"segexplorer {segexplorer.__version__}, {made}"))
    return tuple(rows)


# ---- cases


class _Cases:
    """Makes the sections of cases of one run."""

    def __init__(self, record: ShownRun, on_progress: OnProgress, budget: float) -> None:
        self.record, self.on_progress, self.budget = record, on_progress, budget
        self.loader = RunHistoryLoader(record.real_experiment)
        self.verdicts = record.verdicts()
        self.notes: list[str] = []
        self._images: dict[str, Picture | None] = {}
        self._shown: dict[int, set[str]] = {}
        self._predictor: Predictor | None = None

    def watched(self, *, images: bool) -> Iterable[CaseSection]:
        """Yield a section for each case that the run watched, the one that was not trained on first."""
        roles: tuple[Role, ...] = ("validation", "test", "train")
        for role in roles:
            by_case: dict[str, list[HistoryFrame]] = {}
            for frame in self.record.watched(role):
                by_case.setdefault(frame.facts.case, []).append(frame)
            for case, frames in by_case.items():
                self.on_progress(f"drawing {case}")
                snapshot = self._snapshot(frames[-1])
                self._shown.setdefault(snapshot.step, set()).add(case)
                yield self._section(snapshot, frames, images=images, through_time=True)

    def extremes(self, chosen: ValidationDone, *, images: bool) -> Iterable[CaseSection]:
        """Yield the worst and the best validation case by mean Dice, predicted anew where that is needed."""
        means = values_by_case(chosen.scores, "dice")
        if len(means) < 2 or not images:
            return
        order = sorted(means, key=lambda case: means[case])
        picked: tuple[tuple[Literal["Worst", "Best"], str], ...] = (("Worst", order[0]), ("Best", order[-1]))
        for word, case in picked:
            self.on_progress(f"{word.lower()} case: {case}")
            about = (
                f"{word} of {len(means)} validation cases: mean Dice {means[case]:.3f} at step {chosen.step}."
            )
            if case in self._shown.get(chosen.step, ()):
                yield CaseSection(
                    case, held_of("validation"), about, notes=("It is the watched case, shown above.",)
                )
                continue
            try:
                snapshot, explanation = self._predicted(case, chosen)
            except SegExplorerError as error:
                scores = case_scores_table(
                    [s for s in chosen.scores if s.case == case], self.record.experiment.data.class_values()
                )
                yield CaseSection(case, held_of("validation"), about, scores=scores, notes=(str(error),))
                continue
            yield self._section(snapshot, (), images=True, about=about, explanation=explanation)

    def _snapshot(self, frame: HistoryFrame) -> WatchedSnapshot:
        """Return a frame with its label; without it where the data is not here."""
        loaded = frame.load()
        real = self.record.real_case(loaded.case)
        try:
            truth = self.loader.truth(real)
        except SegExplorerError as error:
            self.notes.append(f"The label of {loaded.case} could not be read{self._why(error)}.")
            return loaded
        fits = truth is not None and truth.shape == loaded.prediction.shape
        return replace(loaded, truth=truth if fits else None)

    def _why(self, error: SegExplorerError) -> str:
        # the sentence may hold a path or a name
        return f": {error}" if self.record.named else ""

    def image(self, case: str) -> Picture | None:
        """Return the image of a case, None where it is not here."""
        if case not in self._images:
            self._images.clear()  # one at a time: they may be large
            try:
                ref = self.loader.ref(self.record.real_case(case))
                opened = None if ref is None else ref.open()
                found = None if opened is None else image_picture(opened.images[0], case)
            except SegExplorerError as error:
                found = None
                self.notes.append(f"The image of {case} could not be read{self._why(error)}.")
            self._images[case] = found
        return self._images[case]

    def _section(
        self,
        snapshot: WatchedSnapshot,
        frames: Sequence[HistoryFrame],
        *,
        images: bool,
        through_time: bool = False,
        about: str = "",
        explanation: Explanation | None = None,
    ) -> CaseSection:
        pieces = _pieces(snapshot)
        navigator = ErrorNavigator().with_pieces(pieces, self.verdicts, snapshot.case)
        if frames:
            navigator = navigator.with_since(first_steps(pieces, snapshot.step, frames))
        section = CaseSection(
            snapshot.case,
            held_of(snapshot.role, snapshot.badge),
            about or f"The case that was watched while it trained, at step {snapshot.step}.",
            legend=errors.legend(),
            scores=_scores_of(snapshot),
            listed=_errors_table(navigator, named=self.record.named),
        )
        if not images:
            return section
        at = _place(snapshot, pieces)
        image = self.image(snapshot.case)
        notes = []
        if image is None:
            notes.append("The image is not on this computer, so predictions are drawn without it.")
        if snapshot.truth is None:
            notes.append("The case has no label here, so its errors are unknown.")
        maps, why = self._maps(snapshot, explanation, image, at)
        section = replace(
            section,
            panels=tuple(_error_panels(snapshot, image, at, pieces)),
            maps=tuple(maps),
            notes=(*notes, *why),
        )
        return replace(section, film=self._film(snapshot, frames, image)) if through_time else section

    def _film(
        self, snapshot: WatchedSnapshot, frames: Sequence[HistoryFrame], image: Picture | None
    ) -> Film | None:
        if len(frames) < 2:
            return None
        kept = [frames[i] for i in spread(0, len(frames) - 1, max(2, round(MOST_FRAMES * self.budget)))]
        grid = DisplayGrid.of(Volume.from_array(snapshot.prediction, affine=snapshot.affine))
        predictions = [f.prediction() for f in kept]
        fitting = [
            (f.step, grid.to_display(p))
            for f, p in zip(kept, predictions, strict=True)
            if p.shape == snapshot.prediction.shape
        ]
        pixels = max(1, int(np.prod(grid.shape[1:])))
        return film(
            [step for step, _ in fitting],
            [p for _, p in fitting],
            None if snapshot.truth is None else grid.to_display(snapshot.truth),
            image,
            snapshot.class_names,
            grid.scale,
            snapshot.scheme,
            most_slices=max(3, round(FILM_BYTES * self.budget / pixels)),
        )

    def _maps(
        self,
        snapshot: WatchedSnapshot,
        explanation: Explanation | None,
        image: Picture | None,
        at: World,
    ) -> tuple[list[Panel], list[str]]:
        """Return what the loss asks for and how its regions are balanced, and why one of them is not shown."""
        panels: list[Panel] = []
        notes: list[str] = []
        if snapshot.truth is None:
            return panels, notes
        lines = Outlines.of(snapshot, None)
        index = _most_wrong(snapshot)
        try:
            loss = loss_at(self.record, snapshot.step)
            balance = balance_picture(snapshot, index, penalties=penalty_range(loss), key="balance")
            at = _fullest(balance, at)
            cut = case_slice("axial", at, image, [balance], lines, rims=True)
            if cut is not None:
                panels.append(
                    Panel(
                        f"{balance.colour_scale.title}; axial, slice {cut.index}", cut, balance.colour_scale
                    )
                )
        except SegExplorerError as error:
            if snapshot.regions is not None:
                notes.append(str(error))
        try:
            found = self._explained(snapshot) if explanation is None else explanation
        except SegExplorerError as error:
            return panels, [*notes, f"What the loss asks for is not shown{self._why(error) or '.'}"]
        request = WhyRequest(
            "", snapshot.role, snapshot.case, snapshot.step, None, index, Question("asked"), _none
        )
        asked = answer(found, request)
        if asked.picture is None:
            return panels, [*notes, asked.problem]
        cut = case_slice("axial", at, image, [asked.picture], lines, rims=True)
        if cut is not None:
            panels.append(Panel(f"{asked.title}; axial, slice {cut.index}", cut, asked.picture.colour_scale))
        return panels, notes

    def _explained(self, snapshot: WatchedSnapshot) -> Explanation:
        # the explanation reads the label by the real name of the case
        real = replace(snapshot, case=self.record.real_case(snapshot.case))
        made = explain_snapshot(RunRecord(self.record.folder), real)
        return replace(made, case=snapshot.case, class_names=snapshot.class_names, badge=snapshot.badge)

    def _predicted(self, case: str, chosen: ValidationDone) -> tuple[WatchedSnapshot, Explanation | None]:
        """Return the prediction of a validation case by the weights that were validated.

        Raises
        ------
        DataError
            When the run has no such weights, or the case is not here.
        """
        for frame in self.record.watched("validation"):
            if frame.facts.case == case and frame.step == chosen.step:
                found = self._snapshot(frame)
                if found.truth is not None:
                    return found, None
        predictor = self._weights(chosen)
        real = self.record.real_case(case)
        ref = self.loader.ref(real)
        if ref is None or ref.label is None:
            raise DataError("The case is not on this computer, so it could not be predicted for its picture.")
        opened = ref.open()
        source = predictor.class_steps(opened.images, probabilities=True)
        while True:
            try:
                next(source)
            except StopIteration as end:
                predicted = end.value
                break
        names = tuple(
            n if self.record.named else self.record.names.class_(n) for n in predictor.classes.names
        )
        truth = predictor.classes.encode(np.asarray(opened.label.array))  # type: ignore[union-attr]
        affine = opened.images[0].affine
        explanation = None
        if predicted.probabilities.size <= MOST_EXPLAINED:
            explanation = replace(
                explain_arrays(
                    truth,
                    probabilities=predicted.probabilities,
                    loss=loss_at(self._real_record, chosen.step),
                    class_names=names,
                    affine=affine,
                    scheme=predictor.classes.scheme,
                ),
                case=case,
                role="validation",
                step=chosen.step,
            )
        regions = None if explanation is None else explanation.regions()
        snapshot = WatchedSnapshot(
            case=case,
            role="validation",
            step=chosen.step,
            index=0,
            class_names=names,
            scheme=predictor.classes.scheme,
            affine=affine,
            prediction=predicted.classes,
            truth=truth,
            regions=regions,
            regions_affine=None if regions is None else affine,
        )
        return snapshot, explanation

    @cached_property
    def _real_record(self) -> RunRecord:
        return RunRecord(self.record.folder)

    def _weights(self, chosen: ValidationDone) -> Predictor:
        from segexplorer.training.predict import load_predictor

        root = self.record.folder / "checkpoints"
        pointer: Literal["best", "last"] = "best" if read_pointer(root, "best") is not None else "last"
        if read_pointer(root, pointer) is None:
            raise DataError("The run has no weights, so the case could not be predicted for its picture.")
        if open_checkpoint(root, pointer)[0].step != chosen.step:
            raise DataError(
                f"The weights of step {chosen.step} were not kept, so there is no picture of the case."
            )
        if self._predictor is None:
            self._predictor = load_predictor(self.record.folder, pointer)
        return self._predictor


def _none(_: Explanation | None) -> Explanation:
    raise DataError("There is no explanation.")  # pragma: no cover  the answer is made of a known one


def _pieces(snapshot: WatchedSnapshot) -> tuple[ErrorPiece, ...]:
    if snapshot.truth is None:
        return ()
    return error_pieces(
        snapshot.prediction,
        snapshot.truth,
        snapshot.class_names,
        snapshot.affine,
        limit=10_000,
        scheme=snapshot.scheme,
    )


def _most_wrong(snapshot: WatchedSnapshot) -> int:
    """Return the class with most wrong voxels."""
    assert snapshot.truth is not None
    classes = len(snapshot.class_names)
    return snapshot.scheme.most_wrong(snapshot.prediction, snapshot.truth, classes)


def _place(snapshot: WatchedSnapshot, pieces: Sequence[ErrorPiece]) -> World:
    """Return the deepest point of the largest error; else the middle of what is in the fullest slice."""
    if pieces:
        z, y, x = pieces[0].centre
        return z, y, x
    grid = DisplayGrid.of(Volume.from_array(snapshot.prediction, affine=snapshot.affine))
    shown = grid.to_display(snapshot.prediction if snapshot.truth is None else snapshot.truth)
    shown = np.where(shown == errors.IGNORED, 0, shown)
    axial = fullest_slice(shown, range(1, snapshot.scheme.indices(len(snapshot.class_names))))
    if axial is None:
        index: list[float] = [n // 2 for n in shown.shape]
    else:
        rows, columns = np.nonzero(shown[axial])
        index = [axial, float(np.median(rows)), float(np.median(columns))]
    z, y, x = (t + i * s for t, i, s in zip(grid.translate, index, grid.scale, strict=True))
    return z, y, x


def _fullest(picture: Picture, at: World) -> World:
    """Return a point in the axial slice with most of a map; where the map is empty, the point that is given."""
    counts = np.count_nonzero(picture.data, axis=(1, 2))
    if not counts.any():
        return at
    return picture.translate[0] + int(counts.argmax()) * picture.scale[0], at[1], at[2]


def _error_panels(
    snapshot: WatchedSnapshot, image: Picture | None, at: World, pieces: Sequence[ErrorPiece]
) -> Iterable[Panel]:
    drawn = [] if snapshot.truth is None else [errors_picture(snapshot)]
    lines = Outlines.of(snapshot, None)
    if lines is None:  # the prediction alone
        lines = Outlines.of(replace(snapshot, truth=snapshot.prediction), None)
    for plane in PLANES:
        cut = case_slice(plane, at, image, drawn, lines)
        if cut is not None:
            yield Panel(_slice_title(plane, cut), cut)


def _slice_title(plane: Plane, cut: CaseSlice) -> str:
    return f"{plane.capitalize()}, slice {cut.index} of {cut.count}"


def _scores_of(snapshot: WatchedSnapshot) -> Table | None:
    if snapshot.truth is None:
        return None
    scores = score_case(
        snapshot.prediction,
        snapshot.truth,
        snapshot.class_names,
        spacing(snapshot.affine),
        case=snapshot.case,
        role=snapshot.role,
        badge=snapshot.badge,
        surfaces=snapshot.truth.size <= SURFACE_VOXELS,
        scheme=snapshot.scheme,
    )
    return case_scores_table(scores, snapshot.class_names)


def _errors_table(navigator: ErrorNavigator, *, named: bool) -> Table | None:
    entries = navigator.shown[:MOST_ERRORS]
    if not entries:
        return None
    notes = named and any(e.verdict is not None and e.verdict.note for e in entries)
    rows = tuple(
        (
            KINDS[e.piece.kind],
            f"{e.piece.class_name}{f' ({e.piece.instead})' if e.piece.instead else ''}",
            e.piece.place.words,
            STATES[e.state],
            *((e.verdict.note if e.verdict is not None else "",) if notes else ()),
            f"{e.piece.volume_ml:.2f}",
            f"{e.piece.depth_mm:.1f}",
            "" if e.since is None else str(e.since),
        )
        for e in entries
    )
    heads = (
        "Error",
        "Class",
        "Place",
        "Verdict",
        *(("Note",) if notes else ()),
        "ml",
        "Depth, mm",
        "Since step",
    )
    more = f" The {len(entries)} largest." if len(navigator.shown) > len(entries) else ""
    return Table(heads, rows, f"{navigator.summary}.{more}", words=5 if notes else 4)

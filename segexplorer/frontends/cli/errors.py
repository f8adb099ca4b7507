"""`segexplorer errors`: the errors of a run's watched cases, and what readers said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.table import Table

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import Role
from segexplorer.frontends.cli.terminal import print_json, remark, results

if TYPE_CHECKING:
    from segexplorer.training.history import HistoryFrame
    from segexplorer.training.snapshots import WatchedSnapshot
    from segexplorer.training.verdicts import Verdict
    from segexplorer.viewmodels.error_navigator import ErrorNavigator, Filter


@dataclass(frozen=True)
class _Listed:
    """The errors of one case, the prediction that has them, and verdicts on errors that it does not have."""

    snapshot: WatchedSnapshot
    navigator: ErrorNavigator
    gone: tuple[Verdict, ...]


def run_errors(
    run: Path,
    *,
    step: int | None,
    kinds: Sequence[str],
    classes: Sequence[str],
    states: Sequence[str],
    smallest_ml: float,
    search: str,
    csv: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print the errors of every watched case as a table or JSON, or write them as CSV."""
    from segexplorer.viewmodels.error_navigator import csv_text, records

    wanted = _filter(kinds, classes, states, smallest_ml, search)
    if csv is not None and csv.exists() and not overwrite:
        raise SpecError(f"{csv} already exists.", "Choose another file name, or add --overwrite.")
    listed = list(_listed(run, step, wanted))
    rows = [row for one in listed for row in records(one.navigator, one.snapshot, run.name)]
    if csv is not None:
        atomic_write(csv.absolute(), csv_text(rows).encode())
        print(csv)
    if as_json:
        gone = [verdict.model_dump(mode="json") for one in listed for verdict in one.gone]
        print_json({"run": str(run), "errors": [asdict(row) for row in rows], "verdicts_without_error": gone})
    elif csv is None:
        for one in listed:
            _print(one)


def run_suspects(runs: Sequence[Path], *, smallest_ml: float, as_json: bool, most: int = 50) -> None:
    """Print where labels may be wrong: errors that stay, in many of the runs, on the cases that they watched."""
    from segexplorer.viewmodels.error_pieces import KINDS
    from segexplorer.viewmodels.suspect_labels import observed_in, suspects

    observed = [
        one
        for run in dict.fromkeys(path.resolve() for path in runs)
        for one in observed_in(run, minimum_ml=smallest_ml)
    ]
    if not observed:
        raise DataError(
            "None of these runs has a recorded prediction of a case with a label.",
            "Predictions are recorded at every validation; train further.",
        )
    found = suspects(observed)[:most]
    if as_json:
        rows = [
            {
                "case": s.case, "class_name": s.piece.class_name, "kind": s.piece.kind, "score": round(s.score, 4),
                "runs": s.runs, "of_runs": s.of, "trained_on": s.trained_on, "lasting": round(s.lasting, 4),
                "volume_ml": round(s.piece.volume_ml, 6), "depth_mm": round(s.piece.depth_mm, 4),
                "place": s.piece.place.words, "world_mm": [round(mm, 3) for mm in s.piece.world],
            }
            for s in found
        ]  # fmt: skip
        print_json({"suspects": rows})
        return
    table = Table(
        "#", "case", "class", "kind", "ml", "depth mm", "place", "why",
        title="Suspect labels: errors that stay, the most suspect first", title_justify="left", box=None,
    )  # fmt: skip
    for column in (0, 4, 5):
        table.columns[column].justify = "right"
    for number, s in enumerate(found, start=1):
        piece = s.piece
        table.add_row(
            str(number), s.case, piece.class_name, KINDS[piece.kind], f"{piece.volume_ml:.2f}",
            f"{piece.depth_mm:.1f}", piece.place.words, s.sentence,
        )  # fmt: skip
    results().print(table)
    remark("A suspect is where to look, no finding: what a network never learns looks the same.")


def _filter(
    kinds: Sequence[str], classes: Sequence[str], states: Sequence[str], smallest_ml: float, search: str
) -> Filter:
    from segexplorer.viewmodels.error_navigator import STATES, Filter
    from segexplorer.viewmodels.error_pieces import KINDS

    for given, known, what in ((kinds, KINDS, "kind"), (states, STATES, "state")):
        for name in given:
            if name not in known:
                raise SpecError(f"There is no {what} {name!r}.", f"Known: {', '.join(known)}.")
    return Filter(
        kinds=frozenset(k for k in KINDS if k in kinds),
        class_names=frozenset(classes),
        states=frozenset(s for s in STATES if s in states),
        smallest_ml=smallest_ml,
        text=search,
    )


def _listed(run: Path, step: int | None, wanted: Filter) -> Iterator[_Listed]:
    from segexplorer.training.history import open_run
    from segexplorer.training.verdicts import read_verdicts
    from segexplorer.viewmodels.error_navigator import ErrorNavigator, first_steps
    from segexplorer.viewmodels.error_pieces import error_pieces
    from segexplorer.viewmodels.watched_case import RunHistoryLoader

    record = open_run(run)
    verdicts = read_verdicts(run)
    loader = RunHistoryLoader(record.experiment)
    any_frame = False
    for role in get_args(Role):
        for case, frames in _by_case(record.watched(role)).items():
            any_frame = True
            frame = frames[-1] if step is None else min(frames, key=lambda f: abs(f.step - step))
            snapshot = loader.snapshot(frame)
            if snapshot.truth is None:
                remark(f"{case} has no label, so its errors are unknown.")
                continue
            _require_classes(wanted.class_names, snapshot.class_names)
            pieces = error_pieces(
                snapshot.prediction,
                snapshot.truth,
                snapshot.class_names,
                snapshot.affine,
                limit=10_000,
            )
            navigator = ErrorNavigator(filter=wanted).with_pieces(pieces, verdicts, case)
            navigator = navigator.with_since(first_steps(pieces, snapshot.step, frames))
            found = {entry.verdict.id for entry in navigator.entries if entry.verdict is not None}
            gone = tuple(v for v in verdicts if v.case == case and v.id not in found)
            yield _Listed(snapshot, navigator, gone)
    if not any_frame:
        raise DataError(
            f"{run.name} has no recorded prediction of a case.",
            "Predictions are recorded at every validation; train it further.",
        )


def _by_case(frames: Sequence[HistoryFrame]) -> dict[str, list[HistoryFrame]]:
    cases: dict[str, list[HistoryFrame]] = {}
    for frame in frames:
        cases.setdefault(frame.facts.case, []).append(frame)
    return cases


def _require_classes(wanted: frozenset[str], known: Sequence[str]) -> None:
    for name in sorted(wanted - set(known)):
        raise SpecError(f"There is no class {name!r} in this run.", f"Its classes: {', '.join(known)}.")


def _print(listed: _Listed) -> None:
    from segexplorer.viewmodels.error_navigator import STATES
    from segexplorer.viewmodels.error_pieces import KINDS
    from segexplorer.viewmodels.watched_case import trained

    table = Table(
        "#", "kind", "class", "ml", "depth mm", "place", "since step", "state", "note",
        title=f"{trained(listed.snapshot)}: {listed.navigator.summary}", title_justify="left", box=None,
    )  # fmt: skip
    for column in (0, 3, 4, 6):
        table.columns[column].justify = "right"
    for entry in listed.navigator.shown:
        piece = entry.piece
        other = f" ({'is' if piece.family == 'extra' else 'called'} {piece.instead})" if piece.instead else ""
        table.add_row(
            str(entry.number),
            KINDS[piece.kind],
            f"{piece.class_name}{other}",
            f"{piece.volume_ml:.2f}",
            f"{piece.depth_mm:.1f}",
            piece.place.words,
            "" if entry.since is None else str(entry.since),
            STATES[entry.state],
            "" if entry.verdict is None else entry.verdict.note,
        )
    out = results()
    out.print(table)
    for verdict in listed.gone:
        what = STATES[verdict.judgement or ("done" if verdict.done else "open")]
        note = f": {verdict.note}" if verdict.note else ""
        out.print(
            f"Not among them any more: {verdict.class_name}, {verdict.place} (step {verdict.step}), {what}{note}",
            markup=False,
            soft_wrap=True,
        )

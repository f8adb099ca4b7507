"""What IPython shows of our objects when they are the last line of a cell: small, and quickly made.

Formatters are registered by the names of classes, so that nothing is imported before such an object exists; the
classes themselves know nothing of HTML. They work wherever a kernel of IPython runs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

_MOST_ROWS = 20


def register(shell: Any) -> None:
    """Teach a shell of IPython to show our objects."""
    formatter = shell.display_formatter.formatters["text/html"]
    for name, shown in SHOWN.items():
        module, _, cls = name.rpartition(".")
        formatter.for_type_by_name(module, cls, shown)


def volume(shown: Any) -> str:
    """Return three slices through the middle, and the facts of the header."""
    from segexplorer.viewmodels.layer_images import image_picture, label_picture

    labelled = bool(shown.label_names)
    picture = label_picture(shown, "label", shown.label_names) if labelled else image_picture(shown, "image")
    return f"<div>{_facts(shown)}</div>{_planes([picture])}"


def case(shown: Any) -> str:
    """Return an image with its label, the volumes of its classes, and whether both fit."""
    from segexplorer.core.colours import ClassColours
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.case_preview import preview_case

    made = preview_case(shown, {})
    volumes: Mapping[int, float] = {} if made.examination is None else made.examination.volumes_ml or {}
    palette = ClassColours(tuple(made.classes))
    rows = [
        [
            html.swatch(palette.colour(name)) + html.text(name),
            html.number(sum(volumes.get(value, 0.0) for value in values), 1),
        ]
        for name, values in made.classes.items()
    ]
    table = html.table(["Class", "Volume (ml)"], rows) if rows else ""
    said = f"<b>{html.text(shown.id)}</b>: {html.text(made.facts)}; {html.text(made.verdict)}"
    return f"<div>{said}</div>{_planes(made.pictures)}{table}"


def dataset(shown: Any) -> str:
    """Return the cases of a data set, the first of many."""
    from segexplorer.frontends.notebook import html

    cases = list(shown.cases())
    heads = ["Case", "Patient", "Images", "Label", "Role"][: 5 if any(ref.role for ref in cases) else 4]
    rows = [
        [
            html.text(ref.id),
            html.text(ref.patient),
            html.text(len(ref.images)),
            "yes" if ref.label is not None else "no",
            html.text(ref.role or ""),
        ][: len(heads)]
        for ref in cases[:_MOST_ROWS]
    ]
    more = f", the first {_MOST_ROWS} of them" if len(cases) > _MOST_ROWS else ""
    said = f"{type(shown).display_name or shown.kind}: {len(cases)} cases{more}"
    return html.table(heads, rows, numbers_from=9, caption=said)


def experiment(shown: Any) -> str:
    """Return what differs from the defaults, and the whole YAML folded."""
    from segexplorer.core.spec import differences
    from segexplorer.frontends.notebook import html

    default = type(shown).of({"data": shown.data.plain()})
    rows = [
        [html.text(path), html.text(_short(after)), html.text(_short(before))]
        for path, (before, after) in differences(default, shown).items()
    ]
    table = html.table(["Setting", "Here", "Default"], rows, numbers_from=9)
    whole = f"<details><summary>All settings</summary><pre>{escape(shown.to_yaml())}</pre></details>"
    name = shown.name or getattr(type(shown.loss), "display_name", "") or shown.loss.kind
    return f"<div><b>Experiment</b>: {html.text(name)}</div>{table}{whole}"


def run(shown: Any) -> str:
    """Return the state of a run with its curves and last scores."""
    from segexplorer.core.events import ValidationDone
    from segexplorer.frontends.notebook import html
    from segexplorer.frontends.notebook.still import curves_svg
    from segexplorer.training.history import open_run
    from segexplorer.training.step_columns import events_of
    from segexplorer.viewmodels.curves import Curves
    from segexplorer.viewmodels.status import Status

    events = open_run(shown.folder).events()
    curves, status = Curves(), Status()
    curves.extend(events)
    status.extend(events)
    scored = events_of(events, ValidationDone)
    names = tuple(shown.experiment.data.class_values())
    figures = html.scores(scored[-1].scores, f"step {scored[-1].step}", names) if scored else ""
    head = f"<div><b>{html.text(shown.folder.name)}</b>: {html.text(status.headline)}</div>"
    return head + curves_svg(curves, names, None) + figures


def loss_output(shown: Any) -> str:
    """Return the value of a loss with its terms."""
    from segexplorer.frontends.notebook import html

    rows = [
        [
            html.text(name),
            f"{float(value):.4g}",
            f"{float(weight):.3g}",
            f"{float(value) * float(weight):.4g}",
        ]
        for name, (value, weight) in shown.terms.items()
    ]
    maps = f"; maps of {', '.join(shown.maps)}" if shown.maps else ""
    said = f"Loss {float(shown.value):.4g}{maps}"
    return html.table(["Term", "Value", "Weight", "Product"], rows, caption=said)


def split_scores(shown: Any) -> str:
    """Return means over the cases of a split, with their intervals."""
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.tables import class_means_table

    about = f"{shown.split}, {shown.checkpoint} weights, step {shown.step}"
    names = list(dict.fromkeys(score.class_name for score in shown.scores))
    return html.data_table(class_means_table(shown.scores, names, about))


def case_scores(shown: Any) -> str:
    """Return the scores of a case, every metric that was measured."""
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.tables import every_score_table

    return html.data_table(every_score_table(shown)) if shown else "No class is in either volume."


def comparison(shown: Any) -> str:
    """Return what a comparison of conditions shows, its tables, and the sentences beside them."""
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.tables import differences_table, means_table, study_sentences

    said = html.sentences(study_sentences(shown))
    overall, *single = shown.class_names[::-1]
    tables = [html.data_table(make(shown, overall)) for make in (means_table, differences_table)]
    folded = "".join(
        html.data_table(make(shown, name))
        for name in single[::-1]
        for make in (means_table, differences_table)
    )
    more = f"<details><summary>Each class</summary>{folded}</details>" if folded else ""
    return said + "".join(tables) + more + html.sentences(shown.notes, small=True)


def grouped_comparison(shown: Any) -> str:
    """Return the comparison of every group, conditions that are alone, and why there are groups."""
    from segexplorer.frontends.notebook import html

    parts = [comparison(one) for one in shown.comparisons]
    alone = [f"{one.label}: no other condition can be compared with it." for one in shown.alone]
    return "<hr>".join(parts) + html.sentences([*alone, *shown.notes], small=True)


def set_comparison(shown: Any) -> str:
    """Return sets of results side by side, and what that says and does not say."""
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.tables import sets_sentences, sets_table

    made = html.data_table(sets_table(shown))
    return html.sentences(sets_sentences(shown)) + made + html.sentences(shown.notes, small=True)


def race(shown: Any) -> str:
    """Return the lanes of a race with their Dice, and how B differs from A and from the control."""
    from segexplorer.frontends.notebook import html
    from segexplorer.viewmodels.tables import race_table

    said = [" ".join(shown.class_sentences(name)) for name in shown.class_names] if shown.steps() else []
    return html.data_table(race_table(shown)) + html.sentences(said)


def lane_difference(shown: Any) -> str:
    """Return how the lanes of a race differ in one class."""
    from segexplorer.frontends.notebook import html

    return html.sentences(shown.sentences())


SHOWN: Mapping[str, Callable[[Any], str]] = {
    "segexplorer.data.volume.Volume": volume,
    "segexplorer.data.case.Case": case,
    "segexplorer.data.datasets.base.DatasetSpec": dataset,
    "segexplorer.training.experiment.Experiment": experiment,
    "segexplorer.training.run.Run": run,
    "segexplorer.training.history.RunRecord": run,
    "segexplorer.losses.base.LossOutput": loss_output,
    "segexplorer.training.scores.SplitScores": split_scores,
    "segexplorer.metrics.scoring.CaseScores": case_scores,
    "segexplorer.study.comparison.Comparison": comparison,
    "segexplorer.study.compare.GroupedComparison": grouped_comparison,
    "segexplorer.study.result_comparison.SetComparison": set_comparison,
    "segexplorer.viewmodels.race.RaceView": race,
    "segexplorer.viewmodels.race.LaneDifference": lane_difference,
}
"""Full name of a class -> its HTML; subclasses have that of their base."""


def _facts(shown: Any) -> str:
    size = " × ".join(map(str, shown.shape))
    spacing = " × ".join(f"{s:.3g}" for s in shown.spacing)
    return escape(f"{size} voxels of {spacing} mm, {shown.orientation}, {shown.modality}")


def _planes(pictures: Any) -> str:
    from segexplorer.frontends.notebook.scenes import SceneMaker
    from segexplorer.frontends.notebook.still import png_of

    found = list(pictures)
    if all(picture.kind == "labels" for picture in found):
        first = found[0]
        black = np.zeros(first.data.shape, np.float32)
        image = replace(
            first, key="black", kind="image", data=black, colours="grey", contrast_limits=(0.0, 1.0)
        )
        found.insert(0, image)
    scene = SceneMaker().of_pictures(found)
    z, y, x = scene.middle
    opened = next((p for p in found if p.open_at is not None), None)
    if opened is not None and opened.open_at is not None:
        z = opened.translate[0] + opened.scale[0] * opened.open_at
    encoded = base64.b64encode(png_of(scene, (z, y, x))).decode()
    source = f"data:image/png;base64,{encoded}"
    return f'<img alt="axial, coronal and sagittal slice" src="{source}" style="max-width:100%">'


def _short(value: Any) -> str:
    text = str(getattr(value, "kind", value))
    return text if len(text) <= 60 else f"{text[:57]}…"

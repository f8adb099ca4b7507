"""`segexplorer.explore`: what a notebook calls. Heavy parts are imported when something is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import require

if TYPE_CHECKING:
    from segexplorer.frontends.notebook.explorer import Explorer, Part

PathLike = str | Path
_NEEDED = ("ipywidgets", "anywidget", "plotly")


class Explore:
    """Show a run, a case or results in a cell; see `__call__`.

    >>> segexplorer.explore("runs/liver")  # doctest: +SKIP
    >>> segexplorer.explore.curves(run)  # doctest: +SKIP
    """

    def __call__(self, thing: Any, *, output: PathLike | None = None, **settings: Any) -> Explorer:
        """Show something with everything that can be asked of it.

        Parameters
        ----------
        thing
            A `Run` or its folder, an `Experiment` or its YAML file, a `Case` or the path of an image, a folder of
            predictions, or (image, label) or (image, label, prediction) as volumes, arrays or paths.
        output
            Folder of a run that is begun from the cell; by default `./segexplorer-runs/<time>-<loss>`.
        settings
            For predictions: `classes`, `labels`, `images`, `kind`, `pattern`, `resample`.

        Returns
        -------
        Explorer
            The last line of a cell shows it.

        Raises
        ------
        DataError, SpecError
            When it cannot be shown, in one sentence.
        MissingExtraError
            When a package of the extra "notebook" is not installed.
        """
        return _made(thing, None, output=output, **settings)

    def curves(self, run: Any, plots: Sequence[str] = ()) -> Explorer:
        """Show the curves of a run alone; they move while it trains.

        Parameters
        ----------
        plots
            Keys of `viewmodels.curves.PLOTS`, one below the other.
        """
        return _made(run, ("curves",), plots=plots)

    def volume(self, *things: Any, **settings: Any) -> Explorer:
        """Show three linked planes alone: of a run, of a case, or of image, label and prediction."""
        return _made(things[0] if len(things) == 1 else tuple(things), ("planes",), **settings)

    def errors(self, *things: Any, **settings: Any) -> Explorer:
        """Show the planes with the list of errors and the scores."""
        return _made(things[0] if len(things) == 1 else tuple(things), ("planes", "errors"), **settings)


def _made(
    thing: Any,
    parts: Sequence[Part] | None,
    *,
    output: PathLike | None = None,
    plots: Sequence[str] = (),
    **settings: Any,
) -> Explorer:
    for package in _NEEDED:
        require(package, "notebook", "A notebook")
    from segexplorer.frontends.notebook.curves import DEFAULT_PLOTS, plots_named
    from segexplorer.frontends.notebook.explorer import ALL, Explorer
    from segexplorer.frontends.notebook.subjects import subject_of

    plots_named(plots or DEFAULT_PLOTS)
    return Explorer(
        subject_of(thing, **settings),
        parts or ALL,
        output=None if output is None else Path(output),
        plots=plots or DEFAULT_PLOTS,
    )


explore = Explore()

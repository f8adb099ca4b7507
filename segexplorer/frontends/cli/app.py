"""The command line: its groups of commands, and the exit code and the sentence that each error ends with."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

import segexplorer
from segexplorer.core.errors import (
    ExitCode,
    NotEnoughMemoryError,
    PlaceError,
    SegExplorerError,
    disk_error,
)
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.commands import look, start_here, train_and_use, what_there_is
from segexplorer.frontends.cli.streams import standard_streams

app = typer.Typer(
    name="segexplorer",
    help="Train medical segmentation networks and see what the [bold]loss[/bold] does inside the volume.",
    epilog="For research and teaching; not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (start_here, train_and_use, look, what_there_is):
    app.add_typer(group.commands)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its `ExitCode`; what is no defect ends with a sentence, not a traceback."""
    with completion.whole_words(), standard_streams(), _preemption():
        try:
            try:
                app(list(arguments) if arguments is not None else None, prog_name="segexplorer")
            finally:
                sys.stdout.flush()  # a full disk is found out here, not as the interpreter ends
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except MemoryError:
            return _tell(
                NotEnoughMemoryError("There is not enough memory for this.", "Close other programs.")
            )
        except SegExplorerError as error:
            return _tell(error)
        except RuntimeError as error:
            if not str(error).startswith("Symlink loop"):  # of pathlib, until Python 3.13
                raise
            return _tell(PlaceError(f"Links lead in a circle: {error}.", "Name the file itself."))
        except OSError as error:
            if (known := disk_error(error)) is None:
                raise
            return _tell(known)
    return ExitCode.DONE


def _tell(error: SegExplorerError) -> int:
    sys.stderr.write(f"segexplorer: {error}\n")
    return error.exit_code


@contextmanager
def _preemption() -> Iterator[None]:
    """End with `ExitCode.PREEMPTED` at a scheduler's SIGTERM; training saves its state first (`cli.train`)."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(ExitCode.PREEMPTED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"segexplorer {segexplorer.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""

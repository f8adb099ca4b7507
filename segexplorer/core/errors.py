"""Errors that a user can act on.

Every error raised on purpose carries one sentence that says what is wrong and one that says what to do.
The command line prints both and exits with the error's `exit_code`; the window shows both; neither has a traceback.
Anything else that reaches a user is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import enum
import errno
import importlib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from segexplorer.core.printable import printable

if TYPE_CHECKING:
    from pydantic import ValidationError


class ExitCode(enum.IntEnum):
    """What the exit code of every command says, so that a script or a scheduler can act on it.

    74 and 75 are EX_IOERR and EX_TEMPFAIL of sysexits.h (Allman 1980); 130 is what shells report of Ctrl-C.

    Attributes
    ----------
    description
        For the documentation: when a command ends with it.
    """

    description: str

    def __new__(cls, code: int, description: str) -> Self:
        """Give a code its description."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.description = description
        return member

    DONE = 0, "The command did what it was asked to do."
    FAILED = 1, "Training failed, e.g. because the loss was not finite, or segexplorer has a defect."
    MISTAKE = 2, "Something has to be corrected first: a setting, a path, a data set."
    MACHINE = 74, "The machine is at fault: no space left, a failing disk, too little memory."
    PREEMPTED = 75, "It was asked to make room (SIGTERM) and saved its state. Start the same command again."
    INTERRUPTED = 130, "Ctrl-C ended it."


_LONGEST = 400
"""Characters of a sentence that are shown; what is quoted in it may be as long as its author liked."""


class SegExplorerError(Exception):
    """A problem in one sentence, with its remedy.

    Parameters
    ----------
    message
        What is wrong, naming the offender, as a sentence.
    remedy
        What the user can do about it, as a sentence; empty where the message says it already.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.MISTAKE
    """Exit code of a command that ends with this error."""

    def __init__(self, message: str, remedy: str = "") -> None:
        # both may quote a name from somebody else's file, and are shown in terminals and labels
        self.message = clip(printable(message, lines=True), _LONGEST)
        self.remedy = clip(printable(remedy, lines=True), _LONGEST)
        super().__init__(self.message if not remedy else f"{self.message} {self.remedy}")

    def __reduce__(self) -> tuple[type[SegExplorerError], tuple[str, str]]:
        return type(self), (self.message, self.remedy)

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the sentences and the line of the cell, as nothing else can be corrected.

        Where code of somebody else is between the cell and the package, its traceback is shown.
        """
        stack = traceback.extract_tb(self.__traceback__)
        cells = [place for place, frame in enumerate(stack) if _is_cell(frame.filename)]
        inner = stack[cells[0] :] if cells else stack  # before it are IPython's own
        if not cells or any(_is_of_others(frame.filename) for frame in inner):
            return traceback.format_exception(self)
        line = stack[cells[-1]]
        where = f"Line {line.lineno} of the cell: {line.line}"
        return [text for text in (f"{type(self).__name__}: {self.message}", self.remedy, where) if text]


def _is_cell(filename: str) -> bool:
    """Whether code was typed into a cell; ipykernel has a file for each, IPython in a terminal has none."""
    return "ipykernel_" in filename or filename.startswith("<ipython-input")


def _is_of_others(filename: str) -> bool:
    """Whether code is neither of a cell nor of this package, nor made by Python (<string>, <frozen importlib>)."""
    own = Path(filename).is_relative_to(Path(__file__).parents[1])
    return not (own or _is_cell(filename) or filename.startswith("<"))


class DataError(SegExplorerError, ValueError):
    """A file, volume, label or data set that cannot be used as it is."""


class SpecError(SegExplorerError, ValueError):
    """An experiment, parameter or command that cannot be understood."""


class UnknownKindError(SpecError):
    """A kind that no registry knows; the remedy names the nearest ones."""


class LossInputError(SegExplorerError, ValueError):
    """Logits or a target that a loss cannot take: wrong shape, label out of range, NaN."""


class MissingExtraError(SegExplorerError, ImportError):
    """An optional dependency that is not installed; the remedy is the command that installs it."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """Name the package, what it is needed for, and the command that installs it: the extra, or itself."""
        wanted = f'"segexplorer[{extra}]"' if extra else package
        return cls(
            f"{purpose} needs the package {package}, which is not installed.", f"Run: pip install {wanted}"
        )


def require(module: str, extra: str, purpose: str = "This") -> Any:
    """Return a module of an optional dependency.

    Parameters
    ----------
    module
        Its full name, e.g. "plotly.graph_objects"; the package named in the error is the first part.
    extra
        The extra of `pyproject.toml` that installs it; empty for a package that is installed by its own name.
    purpose
        What it is needed for, as the subject of "needs the package": "Live figures in a notebook".

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError.of(module.partition(".")[0], extra, purpose) from error


class TrainingError(SegExplorerError, RuntimeError):
    """Training could not go on, e.g. because the loss was not finite."""

    exit_code = ExitCode.FAILED


class MachineError(SegExplorerError, RuntimeError):
    """The machine cannot do it, whatever the settings' merits: its memory or its disk is at an end."""

    exit_code = ExitCode.MACHINE


class NotEnoughMemoryError(MachineError, TrainingError):
    """A step or a prediction that does not fit into the memory."""

    exit_code = ExitCode.MACHINE


class DiskError(MachineError):
    """A file that cannot be written or read: no space left, a broken disk, a network drive that is gone."""


class PlaceError(DiskError):
    """A place where files cannot be: no permission, a name too long, a loop of links; the user names another."""

    exit_code = ExitCode.MISTAKE


class RunStateError(SegExplorerError, RuntimeError):
    """A command that the run cannot follow in its present state."""


class RunActiveError(RunStateError):
    """A run was to be started or opened while another one is active."""

    def __init__(
        self, message: str = "A run is already in progress.", remedy: str = "Stop it first."
    ) -> None:
        super().__init__(message, remedy)


class RunHeldError(RunActiveError):
    """Another process trains a run; the message says which one and since when."""


class OwnershipLostError(RunStateError):
    """Another process took a run over from this one, which had shown no sign of life."""

    exit_code = ExitCode.FAILED


class FolderGoneError(DiskError):
    """A run folder that was deleted, moved or replaced while the run was going on."""


# ---- what the operating system says

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PLACE = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "links lead in a circle",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "a file of that name exists",
    errno.ENOTEMPTY: "the folder is not empty",
}
_BROKEN = {
    errno.EIO: "the disk reports an input or output error",
    errno.ESTALE: "the network drive has lost it (stale file handle)",
    errno.ENODEV: "the drive is gone",
    errno.ENXIO: "the drive is gone",
    errno.ETIMEDOUT: "the network drive does not answer",
    errno.ENOTCONN: "the network drive is not connected",
    errno.EHOSTDOWN: "the network drive does not answer",
    errno.ENOMEM: "there is not enough memory",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open on this machine",
    errno.EBADF: "it is closed",
}


def disk_error(error: OSError, path: Path | None = None, verb: str = "opened") -> DiskError | None:
    """Return what the operating system refused as a sentence, or None for an error that is not of the disk.

    Parameters
    ----------
    path
        What was being written or read, where the error does not name it.
    verb
        What was being done to it: "written", "read".
    """
    place = path if path is not None else Path(error.filename) if isinstance(error.filename, str) else None
    if place is None and error.errno in _FORBIDDEN | _PLACE.keys():
        return None
    name = shorten(place.name, 80) if place is not None else "the file"
    folder = shorten(str(place.parent), 200) if place is not None else "its folder"
    if error.errno in _FULL:
        return DiskError(
            f"There is no space left for {name} in {folder}.",
            "Free some space or choose another output folder; what was saved before is unharmed.",
        )
    if error.errno in _FORBIDDEN:
        why = "the disk is read-only" if error.errno == errno.EROFS else "permission denied"
        return PlaceError(
            f"{name} cannot be {verb} in {folder}: {why}.",
            "Choose another folder, or change its permissions.",
        )
    if error.errno in _PLACE:
        return PlaceError(
            f"{name} cannot be {verb} in {folder}: {_PLACE[error.errno]}.", "Choose another folder or name."
        )
    if error.errno in _BROKEN:
        return DiskError(
            f"{name} cannot be {verb} in {folder}: {_BROKEN[error.errno]}.",
            "Check the drive; what was saved before is unharmed.",
        )
    return None


# ---- words


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names most like `name`, best first; what it begins comes first, substrings count as near."""
    names = list(known)
    like = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    begun = [k for k in names if len(name) > 2 and k.lower().startswith(name.lower())]
    close = list(dict.fromkeys([*(k for k in like if k == name), *begun, *like]))
    inside = [k for k in names if k not in close and len(name) > 2 and (name in k or k in name)]
    return (close + inside)[:count]


def clip(text: str, length: int) -> str:
    """Return a text without its middle where it is too long to read; its beginning and end say the most."""
    if len(text) <= length:
        return text
    end = length // 4
    return f"{text[: length - end].rstrip()} ... {text[-end:].lstrip()}"


def shorten(text: str, length: int = 40) -> str:
    """Return the beginning of a text of somebody else's, on one line; a header may hold megabytes of it."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]}..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return 'Did you mean a or b?', or the list of what there is when nothing is near."""
    names = list(known)
    close = nearest(name, names)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}." if names else ""


_WORDING = {
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be one of {expected}",
    "finite_number": "must be a finite number",
    "too_short": "needs at least {min_length} entries",
    "too_long": "takes at most {max_length} entries",
    "string_too_short": "must not be empty",
}


def validation_problems(error: ValidationError) -> list[tuple[str, str]]:
    """Return (dotted field path, sentence fragment) for every problem of a pydantic error.

    Branches of a plain union ("a number or three numbers") are folded into one problem for the field.
    """
    found: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path = ".".join(str(p) for p in item["loc"] if not _is_union_branch(p))
        template = _WORDING.get(item["type"])
        context = item.get("ctx", {})
        if item["type"] == "value_error":
            text = str(context.get("error", item["msg"]))
        else:
            text = template.format(**context) if template else item["msg"]
        given = item.get("input")
        if template and item["type"] != "missing" and isinstance(given, (int, float, str, bool)):
            text += f" (got {shorten(repr(given))})"
        texts = found.setdefault(path, [])
        if text not in texts:
            texts.append(text)
    return [(path, " or ".join(texts)) for path, texts in found.items()]


def _is_union_branch(part: int | str) -> bool:
    """Whether a location part is pydantic's name for a branch of a union rather than a field."""
    if isinstance(part, int):
        return False
    return part in {"int", "float", "str", "bool", "none"} or part.startswith(
        ("tuple[", "list[", "dict[", "constrained-", "function-", "literal[")
    )


_TOLD_AT_ONCE = 5
"""Problems of one validation that are told; a file of something else has hundreds."""


def explain_validation(error: ValidationError, where: str = "") -> SpecError:
    """Turn a pydantic error into one `SpecError` naming each field and what it must be."""
    parts = [
        f"{shorten(path, 80)} {shorten(text, 200)}" if path else shorten(text, 200)
        for path, text in validation_problems(error)
    ]
    start = f"{where}: " if where else ""
    more = f"; and {len(parts) - _TOLD_AT_ONCE} more" if len(parts) > _TOLD_AT_ONCE else ""
    message = start + "; ".join(parts[:_TOLD_AT_ONCE]) + more
    return SpecError(message if message.endswith((".", "?")) else message + ".")

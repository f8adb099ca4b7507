"""A screen for windows on a machine without one: Xvfb on a free display, OpenGL in software.

`python -m segexplorer.frontends.cli.screen COMMAND ...` runs a command with a screen (`make test`, `make bench`).
Needs the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from segexplorer.core.errors import ExitCode, SegExplorerError

USAGE = "python -m segexplorer.frontends.cli.screen COMMAND [ARGUMENT ...]"
SIZE = "1600x1000x24"
QT = {
    "LIBGL_ALWAYS_SOFTWARE": "1",
    "QT_QPA_PLATFORM": "xcb",
}


def has_screen(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether windows can open: always on Windows and macOS, elsewhere where a display is named."""
    if not platform.startswith("linux"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


@contextmanager
def virtual_screen() -> Iterator[dict[str, str]]:
    """Yield the environment variables of a virtual screen that lives as long as the context.

    Raises
    ------
    SegExplorerError
        When Xvfb is not installed or does not start.
    """
    program = shutil.which("Xvfb")
    if program is None:
        raise SegExplorerError(
            "There is no screen here, and Xvfb, which makes a virtual one, is not installed.",
            "Install it (Debian: apt-get install xvfb libgl1-mesa-dri), or run this on a desktop.",
        )
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", SIZE, "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(write,), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()  # ends at once when the server dies
        if not number:
            raise SegExplorerError(
                "Xvfb, which makes a virtual screen, did not start.", "Run Xvfb by hand to see why."
            )
        yield {"DISPLAY": f":{number}", **QT}
    finally:
        server.terminate()
        server.wait()


def run_with_screen(command: Sequence[str]) -> int:
    """Run a command, on a virtual screen where there is none, and return its exit code.

    Raises
    ------
    SegExplorerError
        When there is no such program, or no screen can be made.
    """
    if shutil.which(command[0]) is None:
        raise SegExplorerError(f"There is no program {command[0]}.", f"Usage: {USAGE}")
    environment = {"NAPARI_ENSURE_PLUGIN_MAIN_THREAD": "1", **os.environ}
    if has_screen():
        return subprocess.run(command, env=environment, check=False).returncode
    with virtual_screen() as variables:
        return subprocess.run(command, env={**environment, **variables}, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments are, or say how this is used."""
    if not arguments or arguments[0] in ("-h", "--help"):
        stream = sys.stdout if arguments else sys.stderr
        stream.write(f"Usage: {USAGE}\n\n{__doc__}")
        return ExitCode.DONE if arguments else ExitCode.MISTAKE
    try:
        return run_with_screen(arguments)
    except SegExplorerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # the command had it, too, and had its say
        raise SystemExit(ExitCode.INTERRUPTED) from None

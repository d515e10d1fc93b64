"""What the person sees: one result on standard output, everything else on standard error, and a progress line if that is a terminal."""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from flux_demo import folders
from flux_demo.backends import Route
from flux_demo.progress import Status
from flux_demo.streams import discard_output

BAR = 24  # characters
KEPT = " What was generated is kept."


class Terminal:
    """Standard output and standard error of one command."""

    def __init__(self, *, as_json: bool):
        self.as_json = as_json
        self.done: Mapping[str, Any] = {}  # what is finished already, to be said with an error
        self.interrupted = False  # the next progress raises KeyboardInterrupt
        self._shown = 0  # characters of the progress line, if there is one
        self._updated = 0.0  # when the progress line was last updated
        self._began: tuple[float, int] | None = None  # when progress was first reported, and how much was done by then

    def silence_libraries(self) -> None:
        """Keep libraries from printing to standard error. What matters is raised as an error."""
        if not sys.flags.dev_mode:
            warnings.simplefilter("ignore")

    def result(self, text: str, value: Mapping[str, Any], otherwise: str = "") -> bool:
        """Print the one result: the text, or with ``--json`` the object.

        False, and a sentence followed by ``otherwise``, if standard output does not take it.
        """
        return self._print(json.dumps(value) if self.as_json else text, otherwise)

    def file(self, path: str, value: Mapping[str, Any]) -> bool:
        """``result`` for the path of the one file that was written."""
        return self.result(path, value, f" It is {path}")

    def line(self, text: str) -> None:
        """One of several results, as soon as it is there."""
        self._print(text, KEPT)

    def _print(self, text: str, otherwise: str = "") -> bool:
        """Print to standard output. What was done is not lost because it cannot be reported: where that takes nothing, this says so once."""
        self._clear()
        try:
            print(text, flush=True)
        except BrokenPipeError:  # nobody reads standard output any more
            discard_output()
        except OSError as error:
            discard_output()
            self.say(f"The result cannot be written to standard output: {folders.reason(error)}.{otherwise}")
            return False
        return True

    def fail(self, sentence: str, code: int, before: str = "") -> int:
        """Print what went wrong, after ``before``, and return the exit code. As JSON it is one line, as those of a list are."""
        self._clear()
        _to_standard_error(f"{before}{sentence}\n")
        if self.as_json:
            try:
                print(json.dumps({"error": sentence, "exit_code": code, **self.done}), flush=True)
            except OSError:
                discard_output()
        return code

    def say(self, sentence: str) -> None:
        """Print a line to standard error that stays."""
        self._clear()
        _to_standard_error(f"{sentence}\n")

    def say_where(self, route: Route) -> None:
        """Say where a mode runs, and why it does not where the person may expect it."""
        self.say(f"Runs on: {route.backend.title}.")
        for passed_over in route.passed_over:
            if passed_over.configured:
                self.say(str(passed_over))

    def status(self, status: Status) -> None:
        """Show what a run is doing."""
        self.say_status(status.text)

    def say_status(self, sentence: str) -> None:
        """Show what is being done now, on a terminal only, until the next thing is shown."""
        self._update(sentence)

    def steps(self, done: int, of: int, preview: object = None) -> None:
        """Show how many denoising steps are done."""
        self._update(f"{_bar(done, of)} step {done} of {of}{self._left(done, of)}", always=done == of)

    def bytes(self, done: int, total: int) -> None:
        """Show how much of a download has arrived."""
        self._update(f"{_bar(done, total)} {in_gb(done)} of {in_gb(total)}{self._left(done, total)}", always=done == total)

    def _left(self, done: int, of: int) -> str:
        """The time left at the pace so far; empty if unknown."""
        now = time.monotonic()
        if self._began is None or done <= self._began[1]:  # the first image, or another one, has begun
            self._began = (now, done)
        began, first = self._began
        if done <= first or done >= of:
            return ""
        seconds = (now - began) / (done - first) * (of - done)
        return time_left(seconds)

    def _update(self, line: str, *, always: bool = False) -> None:
        """Replace the progress line, at most 20 times a second unless ``always``. Raises KeyboardInterrupt after a Ctrl+C."""
        if self.interrupted:
            raise KeyboardInterrupt
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._updated < 0.05 and not always):
            return
        width = shutil.get_terminal_size().columns - 1
        line = line[:width]
        # Spaces, not an escape sequence, over what is left of the last one: cmd.exe may know none.
        _to_standard_error(f"\r{line.ljust(min(self._shown, width))}")
        self._updated, self._shown = now, len(line)

    def _clear(self) -> None:
        if self._shown:
            _to_standard_error(f"\r{' ' * self._shown}\r")
            self._shown = 0


def _to_standard_error(text: str) -> None:
    """What is printed beside the work never ends it."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        pass


def in_gb(count: int) -> str:
    """Bytes in decimal units: ``23.8 GB``, ``140 MB``, ``9 kB``."""
    if count >= 999.5e6:  # less would be rounded to 999 MB at most
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 999.5e3 else f"{count / 1e3:.0f} kB"


def time_left(seconds: float) -> str:
    """What follows a step: ``, 40 s left`` or ``, 3 min left``."""
    return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"


def _bar(done: int, of: int) -> str:
    filled = BAR * done // of if of else BAR
    return "[" + "#" * filled + "." * (BAR - filled) + "]"

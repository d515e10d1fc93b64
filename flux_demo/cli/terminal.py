"""What the person sees: one result on standard output, everything else on standard error, a progress line on a terminal only."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from flux_demo.progress import Status

BAR = 24  # characters


class Terminal:
    """Standard output and standard error of one command."""

    def __init__(self, *, as_json: bool):
        self.as_json = as_json
        self._line = False  # whether a progress line is showing
        self._drawn = 0.0  # when it was drawn last
        self._began: tuple[float, int] | None = None  # when the first progress came, and how much was done then
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="surrogateescape")  # file names need not be text

    def hush(self) -> None:
        """Keep libraries from talking on standard error. What matters comes as an error of ours."""
        quiet = {
            "TRANSFORMERS_VERBOSITY": "error",
            "DIFFUSERS_VERBOSITY": "error",
            "HF_HUB_VERBOSITY": "error",
            "TOKENIZERS_PARALLELISM": "false",
        }
        for name, value in quiet.items():
            os.environ.setdefault(name, value)
        if not sys.flags.dev_mode:
            warnings.simplefilter("ignore")

    def result(self, text: str, value: Mapping[str, Any]) -> None:
        """The one result: text, or with ``--json`` the object."""
        self._clear()
        print(json.dumps(value, indent=2) if self.as_json else text, flush=True)

    def fail(self, sentence: str, code: int, before: str = "") -> int:
        """Say what went wrong and return the exit code."""
        self._clear()
        print(f"{before}{sentence}", file=sys.stderr, flush=True)
        if self.as_json:
            try:
                print(json.dumps({"error": sentence, "exit_code": code}, indent=2), flush=True)
            except BrokenPipeError:
                self.forget_output()
        return code

    def say(self, sentence: str) -> None:
        """A line that stays, on standard error."""
        self._clear()
        print(sentence, file=sys.stderr, flush=True)

    def status(self, status: Status) -> None:
        """What a run is doing."""
        self.say_status(status.text)

    def say_status(self, sentence: str) -> None:
        """What is being done now; on a terminal only, and gone when the next thing is shown."""
        self._draw(sentence)

    def steps(self, done: int, of: int, preview: object = None) -> None:
        """One more denoising step."""
        self._draw(f"{_bar(done, of)} step {done} of {of}{self._left(done, of)}", always=done == of)

    def bytes(self, done: int, total: int) -> None:
        """How much of a download has come."""
        self._draw(f"{_bar(done, total)} {in_gb(done)} of {in_gb(total)}{self._left(done, total)}", always=done == total)

    def forget_output(self) -> None:
        """Standard output has no reader any more: nothing that is flushed later may fail on it."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _left(self, done: int, of: int) -> str:
        """How long the rest will take at the pace so far."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
        began, first = self._began
        if done <= first or done >= of:
            return ""
        seconds = (now - began) / (done - first) * (of - done)
        return f", {seconds / 60:.0f} min left" if seconds >= 90 else f", {seconds:.0f} s left"

    def _draw(self, line: str, *, always: bool = False) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._drawn < 0.05 and not always):
            return
        self._drawn, self._line = now, True
        width = shutil.get_terminal_size().columns - 1
        print(f"\r\x1b[K{line[:width]}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._line:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._line = False


def in_gb(count: int) -> str:
    """Bytes as people are told them: ``23.8 GB``, ``140 MB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _bar(done: int, of: int) -> str:
    filled = BAR * done // of if of else BAR
    return "[" + "#" * filled + "." * (BAR - filled) + "]"

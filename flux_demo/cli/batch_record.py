"""The record of a list in the outputs folder, a row for each result. It tells the same list which seeds its lines were given."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flux_demo.cli import output
from flux_demo.cli.terminal import Terminal
from flux_demo.settings import expanded

SUFFIX = ".results.jsonl"


class BatchRecord:
    """Lists of the same name share a file, and each row names its list. A failure to write one is reported once and stops nothing."""

    def __init__(self, outputs: Path, source: str, terminal: Terminal) -> None:
        self._file = outputs / f"{output.shortened_stem(source, output.MAX_NAME - len(SUFFIX))}{SUFFIX}"
        self._list = os.path.abspath(expanded(source))
        self._terminal = terminal
        self._refused = False

    def seeds(self) -> dict[str, int]:
        """The seeds that this list's lines without one were given before."""
        try:
            rows = self._file.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return {}
        seeds = {}
        for row in rows:
            try:
                noted = json.loads(row)
                key, seed = noted["key"], noted["recipe"]["seed"]
            except (ValueError, KeyError, TypeError, RecursionError):  # a row that was cut off, or is not ours
                continue
            if noted.get("list", self._list) == self._list:  # earlier versions did not name the list
                seeds[key] = seed
        return seeds

    def append(self, values: Mapping[str, Any]) -> None:
        try:
            with self._file.open("a+b") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                torn = file.read() not in (b"", b"\n")  # a row that was being written when the program was killed
                file.write(b"\n" * torn + json.dumps({"list": self._list, **values}).encode() + b"\n")
        except OSError as error:
            if not self._refused:
                why = (error.strerror or "the disk refuses it").lower()
                self._terminal.say(
                    f"{self._file.name!r} cannot be written: {why}. "
                    "The images are in the outputs folder all the same, but running the same command again would regenerate the lines without a seed."
                )
            self._refused = True

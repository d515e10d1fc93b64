"""Lists of requests as files: what each line of a .jsonl or .csv file holds, before anything is made of it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.reading import parse_json, parse_number
from flux_demo.settings import expanded

MAX_BYTES = 256 * 2**20  # of a list
MAX_LINE = 1_000_000  # characters
DECIMAL_COMMA = re.compile(r"-?\d+,\d+", re.ASCII)
WHOLE = re.compile(r"(?<=\d)\.0+$", re.ASCII)  # as tables write whole numbers in a column with gaps: 7.0
TEXTS = ("mode", "prompt", "photo", "map", "size", "preset", "fit")  # the fields that hold text


def read(file: str | os.PathLike) -> Iterator[tuple[int, Any]]:
    """Number and content of each line of a .jsonl or .csv file; a broken line's content is the error. Raises InvalidRequest for the file."""
    path = expanded(file)
    kind = path.suffix.lower()
    if kind not in (".jsonl", ".ndjson", ".csv"):
        raise InvalidRequest(
            f"{path.name[:80]!r} is not a list that can be read. Give a file that ends in .jsonl, one object per line, or in .csv."
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(f"{path.name!r} is larger than {MAX_BYTES // 2**20} MiB. Split it into several lists.")
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise InvalidRequest(f"There is no file {path.name[:80]!r}. Check the name and the folder.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name!r} is not UTF-8 text. Save it as UTF-8 and try again.") from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path.name[:80]!r} cannot be read. Check that it is a file, and its permissions.") from error
    if kind != ".csv" and text.lstrip().startswith("["):
        raise InvalidRequest(
            f"{path.name!r} is a JSON array. Write one object per line, with no brackets around them and no commas between."
        )
    rows = list(_csv(text) if kind == ".csv" else _jsonl(text))
    if not rows:
        raise InvalidRequest(f"{path.name!r} has no requests. Write one per line, with at least mode and prompt.")
    return iter(rows)


def _jsonl(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError
            yield number, parse_json(line, object_pairs_hook=_once)
        except InvalidRequest as error:
            yield number, error
        except (ValueError, RecursionError):
            yield number, InvalidRequest('The line is not JSON. Write one object per line, as {"mode": "text", "prompt": "a red cube"}.')


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which JSON itself would take the last of two values."""
    names = [name for name, _ in pairs]
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise InvalidRequest(f"The line has the field {shortened(twice)} twice. Leave one of them out.")
    return dict(pairs)


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    first = text.lstrip().partition("\n")[0]  # which may come after blank ones
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    after = 1  # the line after the last record, where the next one begins: text in quotes may hold line breaks
    try:
        for cells in reader:
            number, after = after, reader.line_num + 1
            if not any(cell.strip() for cell in cells) or (not names and cells[0].strip().lower() == "sep="):  # for Excel
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                if twice := next((name for i, name in enumerate(names) if name and name in names[:i]), None):
                    raise InvalidRequest(f"The first line names the column {twice[:40]!r} twice. Leave one of them out, or rename it.")
                if "mode" not in names:
                    raise InvalidRequest(
                        "The first line has no column mode. Write the names of the fields there, such as mode,prompt,seed."
                    )
                continue
            if len(cells) != len(names):
                how = "Quote texts with commas in them" if len(cells) > len(names) else "Write a comma for each cell that is empty"
                yield number, InvalidRequest(f"The line has {len(cells)} columns, and the first has {len(names)}. {how}.")
                continue
            yield number, {name: _typed(name, cell, separator) for name, cell in zip(names, cells, strict=True) if cell.strip()}
    except csv.Error:
        yield (
            after,
            InvalidRequest(
                "The line is not CSV: a quote is not closed, or the line is too long. Check the quotes; lines after it were not read."
            ),
        )


def _typed(name: str, cell: str, separator: str) -> Any:
    """A CSV cell as JSON would have it; texts stay as they are. Where semicolons separate, numbers may have a decimal comma."""
    if name in TEXTS:
        return cell if name == "prompt" else cell.strip()
    text = cell.strip()
    if separator == ";" and DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if name == "seed":
        return WHOLE.sub("", text)
    for read_as in (parse_number, json.loads):
        try:
            return read_as(text.lower())
        except ValueError:
            continue
    return cell

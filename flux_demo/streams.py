"""Standard streams that can always be written to: closed ones lead nowhere, and characters that the encoding lacks are escaped.

Work that was done must not fail because it cannot be reported.
"""

from __future__ import annotations

import codecs
import os
import sys

HANDLER = "flux_demo.escape"


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character that an encoding lacks: the byte of a file name that is not text as that byte, anything else as ``\\u72d0``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.backslashreplace_errors(one)


codecs.register_error(HANDLER, _escape)


def make_writable() -> None:
    """Open standard streams that were closed at the start, and let none of them fail on a character."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one; else the next image would take it
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  for as long as the process lives
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def discard_output() -> None:
    """Discard what is still buffered for standard output: its reader has gone, or its disk is full."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # not a file of the system, as in a notebook or a test
        pass


def takes_any_text() -> bool:
    """Whether standard output can show every character as it is."""
    return codecs.lookup(getattr(sys.stdout, "encoding", None) or "utf-8").name.startswith("utf")


def exit_now(code: int) -> None:
    """End the process. Libraries keep threads that would be waited for, which a person who pressed Ctrl+C does not want."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed from the start, or the reader has gone, as in ``| head -1``
    os._exit(code)

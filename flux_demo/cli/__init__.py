"""The command line: parse, do the one thing that was asked, print the result.

Results go to standard output, all else to standard error. Takes the same path as the page: the Studio.
"""

from __future__ import annotations

import signal
import sys
import threading

from flux_demo.cli.parser import NotUnderstood, parse
from flux_demo.cli.terminal import Terminal
from flux_demo.errors import Cancelled, FluxDemoError

INSTALL = "Install what requirements.txt names, or start with the Python that has it: .venv/bin/python -m flux_demo."
DONE, NOT_UNDERSTOOD, REFUSED, INTERRUPTED = 0, 2, 3, 130


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    terminal = Terminal(as_json="--json" in arguments)
    before = _interruptible()
    try:
        return _run(arguments, terminal)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _run(arguments: list[str], terminal: Terminal) -> int:
    try:
        asked = parse(arguments)
        if asked is None:  # --help has been printed
            return DONE
        from flux_demo.cli.commands import run_command

        terminal.hush()
        return run_command(asked, terminal)
    except NotUnderstood as error:
        return terminal.fail(str(error), NOT_UNDERSTOOD, before=error.usage)
    except FluxDemoError as error:
        return terminal.fail(str(error), REFUSED)
    except (KeyboardInterrupt, Cancelled):
        return terminal.fail("Interrupted.", INTERRUPTED)
    except BrokenPipeError:  # whoever read standard output has gone; the work is done
        terminal.forget_output()
        return DONE
    except ImportError as error:
        return terminal.fail(f"{error.name or 'A library'} cannot be imported: {error}. {INSTALL}", REFUSED)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        what = f"{type(error).__name__}: {error}".strip(": ")
        return terminal.fail(
            f"An error that the program does not know ended it ({what}). python -X dev -m flux_demo … shows where.", REFUSED
        )


def _interruptible():
    """Let Ctrl+C stop the work, and a second Ctrl+C everything. Returns the handler that was there; None off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum, frame) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a library that swallows the first one does not get the second
    raise KeyboardInterrupt

"""The command line: parses the arguments, runs one command and prints its result.

Results go to standard output and everything else to standard error; with ``--json`` an error goes to both. Maps, images, downloads and
``check`` go through the Studio, as on the page; ``recipe`` only reads a file.
"""

from __future__ import annotations

import signal
import sys
import threading

from flux_demo import environment
from flux_demo.cli.parser import NotUnderstood, parse
from flux_demo.cli.terminal import Terminal
from flux_demo.errors import Cancelled, FluxDemoError
from flux_demo.exit_codes import DONE, INTERRUPTED, NOT_UNDERSTOOD, REFUSED
from flux_demo.streams import make_writable

INSTALL = "Install requirements.txt, or use the Python that has it installed: .venv/bin/python -m flux_demo."


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    make_writable()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    terminal = Terminal(as_json="--json" in options)
    before = _interruptible(terminal)
    try:
        return _run(arguments, terminal)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _run(arguments: list[str], terminal: Terminal) -> int:
    try:
        args = parse(arguments)
        if args is None:  # --help has been printed
            return DONE
        from flux_demo.cli.commands import run_command

        terminal.silence_libraries()
        for note in environment.prepare():
            terminal.say(note)
        return run_command(args, terminal)
    except NotUnderstood as error:
        return terminal.fail(str(error), NOT_UNDERSTOOD, before=error.usage)
    except FluxDemoError as error:
        return terminal.fail(str(error), REFUSED)
    except (KeyboardInterrupt, Cancelled):
        return terminal.fail("Interrupted.", INTERRUPTED)
    except ImportError as error:
        return terminal.fail(f"{error.name or 'A library'} cannot be imported: {error}. {INSTALL}", REFUSED)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        what = f"{type(error).__name__}: {error}".strip(": ")
        return terminal.fail(
            f"An unexpected error occurred ({what}). Run python -X dev -m flux_demo with the same arguments to see where.", REFUSED
        )


def _interruptible(terminal: Terminal):
    """Make the first Ctrl+C stop the work and the second end the process. Returns the previous handler; None off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def interrupt(signum, frame) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        terminal.interrupted = True  # a library may swallow what is raised here
        raise KeyboardInterrupt

    return signal.signal(signal.SIGINT, interrupt)

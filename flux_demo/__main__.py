"""``python -m flux_demo``: the command line. What it can do lies in ``flux_demo.cli``."""

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 not understood, 3 refused or failed, 130 interrupted."""
    try:
        from flux_demo.cli import run
        from flux_demo.libraries import collect_seldom

        collect_seldom()
        return run(arguments)
    except KeyboardInterrupt:  # before or after the command itself
        return 130


def leave(code: int) -> None:
    """End the process. Libraries keep threads that would be waited for, which a person who pressed Ctrl+C does not want."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # closed from the start, or the reader has gone, as in ``| head -1``
    os._exit(code)


if __name__ == "__main__":
    leave(main())

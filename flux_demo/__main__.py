"""``python -m flux_demo``: the command line. What it can do is in ``flux_demo.cli``."""

from flux_demo.exit_codes import INTERRUPTED
from flux_demo.streams import exit_now


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 not understood, 3 refused or failed, 130 interrupted."""
    try:
        from flux_demo.cli import run
        from flux_demo.libraries import raise_gc_threshold

        raise_gc_threshold()
        return run(arguments)
    except KeyboardInterrupt:  # before or after the command itself
        return INTERRUPTED


if __name__ == "__main__":
    exit_now(main())

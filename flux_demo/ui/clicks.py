"""A click on Generate whose image never came: the next page that opens says what became of it.

The window keeps when it was clicked, and tells how long ago that was when it opens anew; clocks need not agree. The server keeps when a
visitor's last click arrived, and whether its run has ended. The program may have ended before the run did.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flux_demo.modes import MODES
from flux_demo.ui.run import StillRunning
from flux_demo.ui.visitor_store import VisitorStore, is_key

NOT_ARRIVED = "Your last click did not reach the program. Click again."
CUT_SHORT = "The program ended during this run, and the image is lost. Generate it again."
UNWATCHED = "Your last run was stopped, because no page had watched it for a minute. Generate the image again."
SLACK_S = 2.0  # by which either clock may be set meanwhile
LONGEST_S = 24 * 3600.0

_KEY = "flux_demo_click_"
CLICKED_JS = f"""try {{ sessionStorage.setItem("{_KEY}MODE", Date.now()); }} catch {{ /* the browser keeps nothing */ }}"""
# By mode, how many seconds ago it was clicked. It is told once.
SINCE_JS = """() => Object.fromEntries(MODES.flatMap((mode) => {
    try {
        const at = sessionStorage.getItem(`KEY${mode}`);
        sessionStorage.removeItem(`KEY${mode}`);
        return at ? [[mode, (Date.now() - at) / 1000]] : [];
    } catch {
        return [];
    }
}))""".replace("MODES", json.dumps(list(MODES))).replace("KEY", _KEY)


@contextmanager
def starting(visitors: VisitorStore, visitor: Any, mode: str) -> Iterator[None]:
    """Around what a click starts: it has arrived, and unless this raises, its run is under way."""
    if not is_key(visitor):
        yield
        return
    visitors.save_record(visitor, _name(mode), {"at": time.time(), "running": True})
    try:
        yield
    except StillRunning:  # in another window
        raise
    except BaseException:
        record_end(visitors, visitor, mode)
        raise


def record_end(visitors: VisitorStore, visitor: str, mode: str, unwatched: bool = False) -> None:
    """The run that the visitor's last click started has ended, however it did: ``unwatched`` where nobody looked."""
    visitors.update_record(visitor, _name(mode), {"running": False, "unwatched": unwatched})


def keep_refusal(visitors: VisitorStore, visitor: Any, mode: str, said: str) -> None:
    """Keep why the last click started no run, until its stream has ended: the browser may not yet show it then."""
    if is_key(visitor):
        visitors.update_record(visitor, _name(mode), {"refusal": said})


def take_refusal(visitors: VisitorStore, visitor: Any, mode: str) -> str:
    """Why the last click started no run; empty if it started one, if its refusal was taken already, or if it never arrived."""
    said = visitors.record(visitor, _name(mode)).get("refusal", "") if is_key(visitor) else ""
    if said:
        visitors.update_record(visitor, _name(mode), {"refusal": ""})
    return said


def lost_click_message(visitors: VisitorStore, visitor: str, mode: str, clicked: Any = None, now: float = 0.0) -> str:
    """What to say of the last click where no run of this visitor is known; empty if its run has ended by itself.

    ``clicked`` is what ``SINCE_JS`` found at the time ``now``. Anybody may send anything in its place.
    """
    kept = visitors.record(visitor, _name(mode))
    ago = clicked.get(mode) if isinstance(clicked, dict) else None
    if isinstance(ago, int | float) and 0 <= ago < LONGEST_S and kept.get("at", 0.0) < now - ago - SLACK_S:
        return NOT_ARRIVED
    if kept.get("running") or kept.get("unwatched"):
        record_end(visitors, visitor, mode)
        return UNWATCHED if kept.get("unwatched") else CUT_SHORT
    return ""


def _name(mode: str) -> str:
    return f"click-{mode}"

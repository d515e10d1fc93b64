"""What all tabs of a page share."""

from dataclasses import dataclass

from flux_demo.studio import Studio
from flux_demo.ui.history import History
from flux_demo.ui.run import Runs
from flux_demo.ui.turns import Turns
from flux_demo.ui.visitor_store import VisitorStore


@dataclass(frozen=True)
class Services:
    """Handed to whatever makes a handler."""

    studio: Studio
    visitors: VisitorStore
    history: History
    runs: Runs
    turns: Turns

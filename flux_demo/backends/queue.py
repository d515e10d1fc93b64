"""The queue in which runs wait for a backend: fair between clients, as many at once as the backend takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flux_demo.background import HEARTBEAT_S
from flux_demo.errors import Busy
from flux_demo.progress import OnStatus, Phase, Status
from flux_demo.texts import Text

if TYPE_CHECKING:
    from flux_demo.backends import Backend

MAX_PER_CLIENT = 3  # one run under way and two that wait
MAX_PER_ADDRESS = 24  # many people may share an address, and one person may pretend to be many
MAX_TOTAL = 48
A_ROUND, AN_ADDRESS_ROUND = 1 / 8, 1 / 4  # by how much each run advances the rounds
MAX_PAUSE_S = 0.2  # between two reports of a run that waits; the next in line reports at every heartbeat


class Client(NamedTuple):
    """Who asks, as far as a page can know."""

    address: str  # of the network
    session: str = ""  # the browser tab or the client; empty for calls that name none


@dataclass(eq=False)
class _Run:
    client: Client | None  # None: the command line or Python, which may run as they like
    round: int = 0  # of the clients' turns; a client's second run is in the next round
    address_round: int = 0  # of the addresses' turns within a round
    under_way: bool = False
    thread: int = field(default_factory=threading.get_ident)


class RunQueue:
    """The runs of one backend, from the page, the command line and Python alike.

    Clients take turns: a client's second run comes after the first ones of the others, and each has one run under way at a time.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._runs: list[_Run] = []  # in the order in which they came
        self._round = self._address_round = 0.0  # advanced by each run that comes
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, on_status: OnStatus, client: Client | None = None) -> Iterator[None]:
        """Wait for a place and hold it until the end of the block; ``on_status`` hears how many runs are ahead, and may raise to leave.

        Raises Busy when this client, or everybody together, has too many runs in the queue, and when it would wait for a run of its own thread.
        """
        with self._lock:
            self._check(client)
            run = self._arrived(client)
            self._runs.append(run)
        try:
            while ahead := self._ahead(run):
                if any(each.under_way and each.thread == run.thread for each in list(self._runs)):  # a callback of that run asks
                    raise Busy("A run cannot wait for an image that it starts itself. Generate it after the run, or in another thread.")
                on_status(
                    Status(Phase.QUEUED, "1 image ahead of you" if ahead == 1 else Text("{ahead} images ahead of you", ahead=ahead), ahead)
                )
                time.sleep(min(HEARTBEAT_S * ahead, MAX_PAUSE_S))  # dozens of waiting runs would keep a processor busy just reporting
            yield
        finally:
            with self._lock:
                self._runs.remove(run)

    def _check(self, client: Client | None) -> None:
        if client is None:
            return
        theirs = [each.client for each in self._runs if each.client and each.client.address == client.address]
        if theirs.count(client) >= MAX_PER_CLIENT:
            why = "You already have {most} images under way or waiting. Wait until one is finished, or stop one."
            raise Busy(why, most=MAX_PER_CLIENT)
        if len(theirs) >= MAX_PER_ADDRESS or len(self._runs) >= MAX_TOTAL:
            raise Busy("Too many images are waiting at the moment. Try again in a minute.")

    def _ahead(self, run: _Run) -> int:
        """How many runs must end before this one begins; at 0 it counts as under way."""
        with self._lock:
            if run.under_way:
                return 0
            under_way = [each for each in self._runs if each.under_way]
            ahead = self._order().index(run) + 1 + len(under_way) - self._backend.concurrency
            if ahead > 0:
                return ahead
            if run.client and any(each.client == run.client for each in under_way):
                return 1
            run.under_way = True
            # Rounds go on slowly even while new clients keep coming, so that nobody waits for ever behind them.
            self._round = max(self._round + A_ROUND, run.round)
            self._address_round = max(self._address_round + AN_ADDRESS_ROUND, run.address_round)
            return 0

    def _arrived(self, client: Client | None) -> _Run:
        """A run at the end of its client's and its address's own runs, and of nobody else's."""
        theirs = [run for run in self._runs if client and run.client == client]
        nearby = [run for run in self._runs if client and run.client and run.client.address == client.address]
        return _Run(
            client,
            max([int(self._round), *(run.round + 1 for run in theirs)]),
            max([int(self._address_round), *(run.address_round + 1 for run in nearby)]),
        )

    def _order(self) -> list[_Run]:
        """The runs that wait, the next one first; within a round whoever came first. Where several run at once, those that may not yet
        begin, because their client has one under way, let the others pass.
        """
        busy = {run.client for run in self._runs if run.under_way and run.client} if self._backend.concurrency > 1 else set()
        waiting = [run for run in self._runs if not run.under_way]
        return sorted(waiting, key=lambda run: (run.client in busy, run.round, run.address_round))

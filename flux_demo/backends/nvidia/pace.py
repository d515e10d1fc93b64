"""How long to wait for NVIDIA's services, when to try again, and what to say meanwhile."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from flux_demo.backends.nvidia.errors import Service
from flux_demo.texts import Text

MAX_CONNECTIONS = 8  # runs at one service at once
MAX_RETRY_AFTER_S = 120.0  # a longer Retry-After is reported to the person instead of waited for
RETRY_STATUSES = {429: "is busy", 500: "had an error", 502: "is not reachable at the moment", 503: "is busy", 504: "is busy"}
START_OVER = (500, 504)  # while polling: the work itself failed, or no worker took it; after the others the same result is polled for again


@dataclass(frozen=True)
class Pace:
    """Timeouts and pauses, in seconds."""

    connect: float = 10.0
    read: float = 300.0
    whole: float = 600.0  # for one image, retries included
    retries: tuple[float, ...] = (2.0, 8.0)  # before the second and the third try, each plus or minus a fifth
    server_poll: int = 240  # how long NVIDIA's gateway may hold a call before it answers 202; must stay below read
    between_polls: float = 1.0
    probe: float = 2.0  # for each request to a NIM while routes are chosen
    probe_again: float = 5.0  # how soon a NIM that did not answer in full is probed again
    remember_missing: float = 300.0  # after that, a NIM that lacked a mode may have been restarted with it
    check_alive: float = 15.0  # between two checks, while a NIM generates, whether it still answers at all
    silence: float = 300.0  # after that long without any answer to those checks, a NIM is given up

    def unhurried(self) -> Self:
        """For a service of the person's own: the gateway's limits are not its own, and an image takes what its queue and its GPU need.

        Six hours end a run that hangs there while the health check still answers.
        """
        return replace(self, read=math.inf, whole=6 * 3600.0)


def in_words(seconds: float) -> str:
    """A wait that the person is asked for: ``150 seconds``, ``60 minutes``, ``5 hours``."""
    for unit, length in (("seconds", 1), ("minutes", 60), ("hours", 3600)):
        if (count := math.ceil(seconds / length)) <= 180:
            return f"{count} {unit}"
    return "a week or more"


class Waiting:
    """What a request is waiting for. The connection's thread writes it, the caller's thread reads it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.since = time.monotonic()
        self.retry: tuple[str, float] | None = None  # what happened, and when the next try begins

    def sentence(self) -> str:
        now, retry = time.monotonic(), self.retry
        if retry:
            left = max(1, math.ceil(retry[1] - now))
            return Text("{who} {what}, trying again in {seconds} s", who=Text(self.service.name), what=Text(retry[0]), seconds=left)
        return Text("Waiting for {who}, {seconds} s", who=Text(self.service.who), seconds=int(now - self.since))


def pause_before_retry(headers: Mapping[str, str], planned_s: float) -> float:
    """Seconds until the service's own Retry-After; without one, the planned pause with jitter, so that clients do not return together."""
    from email.utils import parsedate_to_datetime

    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)  # which may be as long as an infinite one
    if text:
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return planned_s * random.uniform(0.8, 1.2)

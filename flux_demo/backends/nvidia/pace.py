"""How long to wait for NVIDIA's services, when to ask them again, and what the page says meanwhile."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from flux_demo.backends.nvidia.errors import Service

MAX_RETRY_AFTER_S = 120.0  # longer than that is told to the person instead of waited for
RETRIED = {429: "is busy", 500: "had an error", 502: "is not reachable at the moment", 503: "is busy", 504: "is busy"}
BEGIN_AGAIN = (500, 504)  # while polling: the work itself failed, or nobody took it up; after the others the same result is asked for again


MAX_CONNECTIONS = 8  # to one service at once


@dataclass(frozen=True)
class Pace:
    """Timeouts and pauses, in seconds."""

    connect: float = 10.0
    read: float = 300.0
    whole: float = 600.0  # for one image with all its retries
    retries: tuple[float, ...] = (2.0, 8.0)  # before the second and the third try, each plus or minus a fifth
    server_poll: int = 240  # how long NVIDIA's gateway may hold a call before it answers 202; must stay under read
    between_polls: float = 1.0
    probe: float = 2.0  # for each request to a NIM while routes are chosen
    probe_again: float = 5.0  # how long a NIM that did not answer is believed to be away


class Waiting:
    """What a request is waiting for; written by the connection's thread, read by the caller's."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.since = time.monotonic()
        self.retry: tuple[str, float] | None = None  # what happened, and when the next try begins

    def sentence(self) -> str:
        now, retry = time.monotonic(), self.retry
        if retry:
            return f"{self.service.name} {retry[0]}, trying again in {max(1, math.ceil(retry[1] - now))} s"
        return f"Waiting for {self.service.who}, {int(now - self.since)} s"


def pause_before_retry(headers: Mapping[str, str], planned_s: float) -> float:
    """The service's own Retry-After, in seconds or as a date; else the planned pause with jitter, so that many clients do not come back at once."""
    from email.utils import parsedate_to_datetime

    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 7:
        return float(text)
    if text:
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return planned_s * random.uniform(0.8, 1.2)

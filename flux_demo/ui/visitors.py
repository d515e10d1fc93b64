"""Who calls: kept for each event while its handler runs, for the queue's fairness and for runs that nobody listens to."""

import time
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from flux_demo.backends.queue import Client
from flux_demo.errors import GenerationFailed

GRACE_S = 20.0  # between an event's call and the request that listens to its answers, and when a connection is made again


class Listeners:
    """The streams of answers that are open, by session and by event."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self.watched = False  # True once somebody counts the streams

    def opened(self, name: str) -> None:
        self._open[name] += 1

    def closed(self, name: str) -> None:
        self._open[name] -= 1
        if self._open[name] <= 0:
            del self._open[name]

    def has(self, *names: str) -> bool:
        return any(name in self._open for name in names)


@dataclass
class Caller:
    """The caller of one event."""

    client: Client
    names: tuple[str, ...]  # under which its answers can be listened to
    listeners: Listeners
    language: str = ""  # one that the page is translated into, or English
    heard: float = field(default_factory=time.monotonic)

    def check_listening(self) -> None:
        """Raise GenerationFailed when nobody has listened to the event's answers for a while."""
        if not self.listeners.watched or self.listeners.has(*self.names):
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > GRACE_S:
            raise GenerationFailed("The run was stopped because no client read its results. Open the event stream right after the call.")


current_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_window() -> str:
    """The window whose event is handled: its session at Gradio, which a reload makes anew; "" for a call from elsewhere."""
    caller = current_caller.get()
    return caller.client.session if caller else ""


def client_of(address: str, session: str | None, event: str | None) -> Client:
    """A call without a session of its own, whose name is then the event's, counts for its address."""
    return Client(address, "" if session == event else session or "")


def token_of(request: Any) -> str | None:
    """The token of whoever signed in with Gradio's LoginButton; None for everybody else, and once it has expired."""
    signed_in = request.request.session.get("oauth_info") if isinstance(request, gr.Request) and request.request else None
    return signed_in["access_token"] if signed_in and signed_in.get("expires_at", 0) > time.time() else None

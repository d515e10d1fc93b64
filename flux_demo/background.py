"""Stoppable work in a thread of its own, once for loading, runs and downloads.

The caller waits in short steps and does something at each: report, or raise to stop waiting. A generator can be closed only
where it yields, so whoever streams to a browser yields at each step too.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, TypeVar

from flux_demo.errors import Cancelled, GenerationFailed

HEARTBEAT_S = 0.1  # between two signs of life while something is waited for
NICENESS = 10  # of a thread that gives way: it gets about a tenth of a processor that another thread wants too

_threads_of: int | None = None  # the process in which PyTorch has started its threads

Result = TypeVar("Result")
Event = TypeVar("Event")


def start(work: Callable[[], Result], name: str) -> Future[Result]:
    """Run ``work`` in a daemon thread of that name. The Future holds its result, or what it raised.

    The caller's context variables go along: on ZeroGPU, Gradio's request in them says whose quota an image takes.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    return future


def refuse_after_fork() -> None:
    """Call this before PyTorch works on the processor: it notes that PyTorch's threads belong to this process.

    Raises GenerationFailed in a process that was forked from another where they had started: threads do not survive a fork, and
    what waits for them would hang.
    """
    global _threads_of
    if _threads_of not in (None, os.getpid()):
        raise GenerationFailed(
            "This process was forked from one in which PyTorch had already worked, so it cannot work here. "
            "Start processes with multiprocessing's spawn."
        )
    _threads_of = os.getpid()


def give_way() -> None:
    """Let every other thread go before this one, and before those that torch starts for it, where they want the same processor.

    Only on Linux: elsewhere niceness belongs to the whole process.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def wait_for(future: Future[Result], on_heartbeat: Callable[[], object]) -> Result:
    """The future's result, calling ``on_heartbeat()`` at every heartbeat until it is ready. What either raises comes through; the work goes on."""
    while not wait([future], timeout=HEARTBEAT_S).done:
        on_heartbeat()
    return future.result()


class Reporter(Generic[Event]):
    """Carries events from the thread that works to the generator that follows it."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopped = threading.Event()

    def __call__(self, event: Event) -> None:
        """Report from within the work. Raises Cancelled once nobody follows any more."""
        if self._stopped.is_set():
            raise Cancelled
        self._events.put(event)

    def stop(self) -> None:
        """Let the next report raise Cancelled."""
        self._stopped.set()

    def newest(self, timeout_s: float = HEARTBEAT_S) -> Event | None:
        """The latest event since the last call, without those that it makes stale; None when none comes in time."""
        event: Event | None = None
        try:
            event = self._events.get(timeout=timeout_s)
            while True:
                event = self._events.get_nowait()
        except queue.Empty:
            return event


def consume(events: Generator[Event, None, Result], on_event: Callable[[Event], object]) -> Result:
    """Hand every event of a generator to ``on_event``, and return the generator's value. Whatever ``on_event`` raises closes it."""
    try:
        while True:
            on_event(next(events))
    except StopIteration as end:
        return end.value
    finally:
        events.close()


def follow(work: Callable[[Reporter[Event]], Result], name: str) -> Generator[Event | None, None, Result]:
    """Run ``work(report)`` in a thread and yield its newest event, or None as a heartbeat; the generator's value is the result.

    Raises what the work raises. Closing the generator makes the work's next report raise Cancelled.
    """
    report: Reporter[Event] = Reporter()
    future = start(lambda: work(report), name)
    try:
        while not future.done():
            yield report.newest()
        yield report.newest(timeout_s=0)
        return future.result()
    finally:
        report.stop()

"""A run, as a generator: closing it stops the run. That is the one signal for Stop, a closed page, and a cancelled API job."""

import queue
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from PIL.Image import Image

from flux_demo.backends.queue import line_of
from flux_demo.errors import Cancelled, GenerationFailed
from flux_demo.request import GeneratedImage, GenerationRequest
from flux_demo.studio import Studio

HEARTBEAT_S = 0.1  # a generator can be closed only where it yields


@dataclass(frozen=True)
class Step:
    done: int
    of: int
    preview: Image | None


@dataclass(frozen=True)
class Waiting:
    text: str


def follow(studio: Studio, request: GenerationRequest) -> Generator[Step | Waiting | GeneratedImage | None]:
    """Wait in the backend's line, run the request in a thread of its own, and report: the newest step or status, None as a heartbeat,
    the result at the end.

    Raises what the run raises. Closing the generator leaves the line, or stops the run at its next step.
    """
    with line_of(studio.route(request.mode).backend).stand() as before:
        while count := before():
            yield Waiting("1 picture is before yours" if count == 1 else f"{count} pictures are before yours")
            time.sleep(HEARTBEAT_S)
        yield from _running(studio, request)


def _running(studio: Studio, request: GenerationRequest) -> Generator[Step | Waiting | GeneratedImage | None]:
    events: queue.Queue = queue.Queue()
    stopped = threading.Event()

    def tell(event: Step | Waiting) -> None:
        if stopped.is_set():
            raise Cancelled
        events.put(event)

    def work() -> None:
        try:
            events.put(studio.generate(request, lambda done, of, preview: tell(Step(done, of, preview)), lambda text: tell(Waiting(text))))
        except BaseException as error:  # carried over to the thread that follows
            events.put(error)

    threading.Thread(target=work, daemon=True, name=f"run-{request.mode}").start()
    try:
        while True:
            event = _newest(events)
            if isinstance(event, Cancelled):
                raise GenerationFailed("The run was stopped before it ended. Start it again.") from event
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, GeneratedImage):
                return
    finally:
        stopped.set()


def _newest(events: queue.Queue):
    """The last event that waits, without those it makes stale; None when there is none for a heartbeat's time."""
    event = None
    try:
        event = events.get(timeout=HEARTBEAT_S)
        while isinstance(event, Step | Waiting):
            event = events.get_nowait()
    except queue.Empty:
        pass
    return event

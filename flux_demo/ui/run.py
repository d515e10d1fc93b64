"""A run follows a request in a thread of its own, so that it goes on when nobody looks, for a while, and can be found again.

The page's runs are kept by visitor and mode. A reload, a second tab or a cut connection finds them there and follows on.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image

from flux_demo import background
from flux_demo.backends.queue import MAX_TOTAL, Client
from flux_demo.errors import Cancelled, GenerationFailed, InvalidRequest
from flux_demo.gallery import GeneratedImage
from flux_demo.progress import OnStatus, OnStep, Phase, Status, Step
from flux_demo.request import GenerationRequest
from flux_demo.studio import Studio
from flux_demo.ui.visitor_store import is_key
from flux_demo.ui.visitors import current_caller, current_window

MAX_IMAGES = 4  # images of one click
MAX_RUNS = MAX_TOTAL + 4  # runs that hold a thread of Gradio's: all that a queue takes, and some that it is about to refuse
UNWATCHED_S = 60.0  # how long a run continues with no page watching
WATCH_S = 0.18  # between two answers of a stream: with more than 0.2 s it closes too late, and each costs the browser a step of the mini
KEPT_S = 10.0  # how long a page that missed a run's end can still find the run


class StillRunning(InvalidRequest):
    """The visitor's run before this one has not ended."""


@dataclass
class Run:
    """Requests that run one after another, as one click started them."""

    requests: Sequence[GenerationRequest]
    client: Client | None = None  # for the queue's fairness
    tab: str = ""  # the mode in whose tab it was started
    maps: Mapping[str, Any] = field(default_factory=dict)  # by mode what is followed, as the page shows it
    latest_event: Step | Status | None = None
    images: list[GeneratedImage] = field(default_factory=list)
    strip: str | None = None  # of a comparison: its images side by side, as a file that the browser may fetch
    no_strip: OSError | None = None  # why it could not be written
    error: BaseException | None = None
    last_step: Step | None = None  # of the request that is running
    began_at: float | None = None  # when that request left the queue
    seconds: float = 0.0  # from there to its last step
    stopping: bool = False
    unwatched: bool = False  # it was ended because nobody looked
    looking_back: set[str] = field(default_factory=set)  # the windows that show an earlier image meanwhile, and no previews
    done: threading.Event = field(default_factory=threading.Event)
    done_at: float = math.inf
    watched_at: float = field(default_factory=time.monotonic)

    @property
    def request(self) -> GenerationRequest:
        """The request that is running, or ran last."""
        return self.requests[min(len(self.images), len(self.requests) - 1)]

    @property
    def latest_preview(self) -> Step | None:
        """The last step of the image that is being made, if it has a preview."""
        return self.last_step if self.last_step and self.last_step.preview else None

    @property
    def is_looking_back(self) -> bool:
        """Whether the run goes on, and the window whose event is handled shows an earlier image meanwhile."""
        return current_window() in self.looking_back and not self.done.is_set()

    def look_back(self) -> None:
        """Send no previews to this window, which shows an earlier image."""
        self.looking_back.add(current_window())

    def show_previews(self) -> None:
        """Send previews to this window again."""
        self.looking_back.discard(current_window())

    @property
    def stopped_at(self) -> Step | None:
        """The step at which the run was stopped; None if it was not, or before its first step."""
        return self.last_step if isinstance(self.error, Cancelled) else None

    def stop(self) -> None:
        """Let the run end at its next step."""
        self.stopping = True

    def watch(self) -> Iterator[None]:
        """Yield now and then until the run has ended, and once more; whoever iterates is watching."""
        caller = current_caller.get()
        while not self.done.is_set():
            if caller:
                caller.check_listening()
            self.watched_at = time.monotonic()
            yield
            self.done.wait(WATCH_S)
        yield

    def work(self, studio: Studio, on_image: Callable[[GeneratedImage], object], at_end: Callable[["Run"], object] | None = None) -> None:
        """Run the requests; ``on_image`` is called with each image as soon as it is there, ``at_end`` once all are."""
        try:
            for request in self.requests:
                self.last_step = self.began_at = None
                clock = _TimeLeft()
                made = _generate(studio, request, lambda *step, clock=clock: self._report(clock.step(*step)), self._report, self.client)  # type: ignore[misc]
                on_image(made)
                self.images.append(made)
                self.last_step = None
            if at_end:
                at_end(self)
        except BaseException as error:  # shown by whoever follows
            self.error = error

    def _report(self, event: Step | Status) -> None:
        self.unwatched = not self.stopping and time.monotonic() - self.watched_at > UNWATCHED_S
        if self.stopping or self.unwatched:
            raise Cancelled
        if self.began_at is None and not (isinstance(event, Status) and event.phase is Phase.QUEUED):
            self.began_at = time.monotonic()
        if isinstance(event, Step) and self.began_at is not None:
            self.last_step, self.seconds = event, time.monotonic() - self.began_at
        self.latest_event = event


class Runs:
    """The runs that are under way, and those that ended a moment ago, by visitor and mode."""

    def __init__(self, studio: Studio, on_end: Callable[[str, Run], object] | None = None) -> None:
        """``on_end`` is called with the visitor's key and each run that ends, however it does, just before whoever watches sees the end."""
        self._studio, self._on_end = studio, on_end
        self._runs: dict[tuple[str, str], Run] = {}
        self._lock = threading.Lock()

    def start(
        self,
        visitor: str,
        requests: Sequence[GenerationRequest],
        on_image: Callable,
        mode: str | None = None,
        maps: Mapping[str, Any] | None = None,
        at_end: Callable[[Run], object] | None = None,
    ) -> Run:
        """Start a run in a mode's tab, that of the first request unless another is named. ``on_image`` and ``at_end`` as in ``Run.work``.

        Raises StillRunning while the visitor has one there, in another window of the browser perhaps.
        """
        if not is_key(visitor):
            raise InvalidRequest("The page has not finished loading. Try again in a moment, or reload it.")
        key = (visitor, mode or requests[0].mode)
        caller = current_caller.get()
        run = Run(requests, caller.client if caller else None, key[1], maps or {})
        with self._lock:
            known = self._runs.get(key)
            if known and not known.done.is_set():
                raise StillRunning("Your last image in this tab is not finished yet. Wait for it, or stop it.")
            self._forget_old()
            self._runs[key] = run

        def work() -> None:
            try:
                run.work(self._studio, on_image, at_end)
                if self._on_end:
                    self._on_end(visitor, run)
            finally:
                run.done_at = time.monotonic()
                run.done.set()

        background.start(work, f"run-{key[1]}")
        return run

    def find(self, visitor: Any, mode: str) -> Run | None:
        """The visitor's newest run in that mode, under way or just ended."""
        with self._lock:
            self._forget_old()
            return self._runs.get((visitor, mode)) if is_key(visitor) else None

    def _forget_old(self) -> None:
        before = time.monotonic() - KEPT_S
        self._runs = {each: run for each, run in self._runs.items() if run.done_at > before}


def _generate(studio: Studio, request: GenerationRequest, on_step: OnStep, on_status: OnStatus, client: Client | None) -> GeneratedImage:
    """``Studio.generate``; where the processor generates, the page's answers go first."""
    if studio.route(request.mode).backend.on_cpu:
        background.give_way()
    return studio.generate(request, on_step, on_status, client)


class _TimeLeft:
    """Adds the time that is left to each step."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def step(self, done: int, of: int, preview: Image | None) -> Step:
        now = time.monotonic()
        if self._first is None:
            self._first = (done, now)
            return Step(done, of, preview)
        first, then = self._first
        return Step(done, of, preview, (now - then) / max(done - first, 1) * (of - done))


def follow(studio: Studio, request: GenerationRequest) -> Generator[Step | Status | GeneratedImage | None]:
    """Run the request for a program: the newest step or status, None as a heartbeat, the result at the end.

    Raises what the run raises, and GenerationFailed where it was cancelled. Closing the generator leaves the queue, or stops the run at its next step.
    """

    caller = current_caller.get()
    client = caller.client if caller else None

    def run(report: background.Reporter[Step | Status]) -> GeneratedImage:
        return _generate(studio, request, lambda done, of, preview: report(Step(done, of, preview)), report, client)

    queued = False
    events = background.follow(run, f"run-{request.mode}")
    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                yield end.value
                return
            if caller:
                caller.check_listening()
            if isinstance(event, Status):
                queued = event.phase is Phase.QUEUED
            if event is not None or not queued:  # while it waits, the queue's own reports are the heartbeat
                yield event
    except Cancelled as error:
        raise GenerationFailed("The run was stopped before it ended. Start it again.") from error
    finally:
        events.close()

"""FLUX through this project's engine: one class, two sets of weights. ``local`` is FLUX on an NVIDIA GPU, ``mini`` the built-in one on the CPU.

Models load at the first picture, or before it by ``warm_up``, in a thread of their own, so that waiting can always be stopped; what
was begun is then loaded to its end and waits for the next picture.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from flux_demo.backends.local import Local
from flux_demo.backends.mini import LIBRARIES, Mini
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import BackendUnavailable, GenerationFailed, OutOfMemory
from flux_demo.model_files import ModelFiles
from flux_demo.modes import Mode, find_mode
from flux_demo.request import Dials, DrawnImage, GenerationRequest, OnStatus, OnStep, Size
from flux_demo.settings import Settings

if TYPE_CHECKING:
    from flux_demo.engine.model_cache import ModelCache

HEARTBEAT_S = 0.15  # between two sentences while something is waited for
NOT_LOADED = "Not loaded yet: the first picture waits for it"
GPU_FAILED = "The GPU reported an error in the middle of the run. Try again; if it stays, restart this program or the machine."


class Weights(Protocol):
    """A set of weights: where it is, whether it can run, what may be asked of it."""

    name: str
    title: str
    sides: range
    max_pixels: int
    sizes: tuple[Size, ...]

    def refusal(self, mode: str) -> str | None: ...

    def parts(self, mode: str, say: Callable[[str], None]) -> ModelFiles: ...

    def planned(self) -> str | None: ...

    def model_cache(self) -> ModelCache: ...

    def ran_out(self, model_cache: ModelCache | None) -> OutOfMemory:
        """What to say when memory ran out, and what to do otherwise the next time."""


def local(settings: Settings) -> Diffusion:
    """FLUX on this machine's GPU."""
    return Diffusion(Local(settings))


def mini(settings: Settings) -> Diffusion:
    """The built-in mini FLUX."""
    return Diffusion(Mini())


class Diffusion:
    """A Backend: draws through the engine, one picture at a time."""

    def __init__(self, weights: Weights):
        self.name, self.title = weights.name, weights.title
        self.state = NOT_LOADED  # what it is doing now, in words
        self._weights = weights
        self._turn = threading.Lock()
        self._drawing = False
        self._loading: threading.Thread | None = None  # goes on after its caller has been stopped
        self._cache: ModelCache | None = None
        self._parts: dict[str, ModelFiles] = {}  # of the modes that were loaded

    def refusal(self, mode: Mode) -> str | None:
        return self._weights.refusal(mode.name)

    def dials(self, mode: Mode) -> Dials:
        return Dials(
            steps=mode.steps,
            guidance=mode.guidance,
            step_range=range(1, 101),
            guidance_range=(1, 100),
            sides=self._weights.sides,
            max_pixels=self._weights.max_pixels,
            sizes=self._weights.sizes,
            quality_steps=mode.quality_steps,
            presets=tuple(PRESETS),
        )

    @property
    def loading(self) -> str | None:
        """What is being loaded at this moment, in words."""
        loading = self._loading
        return self.state if loading is not None and loading.is_alive() else None

    @property
    def plan(self) -> str | None:
        """How the memory is used, in a sentence; before anything is loaded, as far as can be told."""
        return self._cache.plan.sentence if self._cache else self._weights.planned()

    def warm_up(self, mode: str) -> None:
        """Load what the mode needs, so that its first picture need not wait. Takes as long as loading does. Raises FluxDemoError."""
        with self._my_turn(_ignore), self._device_errors_in_words():
            self._load(find_mode(mode), _ignore)

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> DrawnImage:
        with self._my_turn(on_status), self._device_errors_in_words():
            self._load(find_mode(request.mode), on_status)
            return self._draw(request, on_step, on_status)

    def _draw(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> DrawnImage:
        from flux_demo.engine.pipeline import draw
        from flux_demo.engine.placement import tile

        assert self._cache and request.size
        parts, plan = self._parts[request.mode], self._cache.plan
        flux = self._cache.load(parts)
        tile(flux.shared.vae, tiled=plan.tiles(request.size.pixels))
        self.state, self._drawing = "Drawing", True
        try:
            image = draw(flux, request, on_step, on_status)
        finally:
            self.state, self._drawing = "Ready", False
        libraries = {library: version(library) for library in LIBRARIES}
        return DrawnImage(image, parts.model, request.preset or next(iter(PRESETS)), plan.say(request.size.pixels), libraries)

    @contextmanager
    def _my_turn(self, on_status: OnStatus) -> Iterator[None]:
        """One run at a time; whoever waits is told so, and can be stopped."""
        while not self._turn.acquire(timeout=HEARTBEAT_S):
            on_status("Waiting for another picture to finish" if self._drawing else self.state)
        try:
            self._wait_for_loading(on_status)
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _device_errors_in_words(self) -> Iterator[None]:
        """Let go of everything when memory ran out or the GPU failed, and say what to do."""
        try:
            yield
            return
        except (MemoryError, RuntimeError) as error:  # torch's own errors are RuntimeErrors; torch itself may not be here
            kind = _kind_of(error)
            if kind is None:
                raise
            # The caller still holds the error, and its traceback every tensor of the calls that failed.
            traceback.clear_frames(error.__traceback__)
        words = self._weights.ran_out(self._cache) if kind is OutOfMemory else kind(GPU_FAILED)
        self._cache, self.state = None, NOT_LOADED
        from flux_demo.engine.model_cache import free_memory

        free_memory()
        raise words

    def _load(self, mode: Mode, on_status: OnStatus) -> None:
        """See that the mode's models are in memory. Raises what loading raises."""
        if self._cache is not None and mode.name in self._parts and self._cache.has(self._parts[mode.name]):
            return
        refusal = self.refusal(mode)
        if refusal:
            raise BackendUnavailable(refusal)
        failures: list[BaseException] = []
        self.state = f"Loading {mode.repo if self.name == 'local' else 'the mini'}"
        self._loading = threading.Thread(target=self._read, args=(mode, failures), name="loading", daemon=True)
        self._loading.start()
        self._wait_for_loading(on_status)
        if failures:
            raise failures.pop()

    def _wait_for_loading(self, on_status: OnStatus) -> None:
        while self._loading is not None and self._loading.is_alive():
            on_status(self.state)
            self._loading.join(HEARTBEAT_S)
        self._loading = None

    def _read(self, mode: Mode, failures: list[BaseException]) -> None:
        try:
            parts = self._weights.parts(mode.name, self._say)
            if self._cache is None:
                self._cache = self._weights.model_cache()
            self._cache.load(parts, self._say)
            self._parts[mode.name] = parts
            self.state = "Ready"
        except BaseException as error:  # handed to whoever waits
            self.state = "Not loaded: the last try failed" if isinstance(error, GenerationFailed) else NOT_LOADED
            failures.append(error)

    def _say(self, sentence: str) -> None:
        self.state = sentence


def _kind_of(error: BaseException) -> type[GenerationFailed] | None:
    """Whether the error means that memory ran out, or that the GPU failed; None if it means neither."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory
    words = str(error)
    if any(sign in words for sign in ("out of memory", "ALLOC_FAILED", "can't allocate memory")):
        return OutOfMemory
    return GenerationFailed if type(error).__name__ == "AcceleratorError" or "CUDA error" in words else None


def _ignore(sentence: str) -> None:
    """For callers who wait for nothing."""

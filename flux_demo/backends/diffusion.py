"""FLUX through this project's engine: one backend, two sets of weights. ``local`` is FLUX on an NVIDIA GPU or the CPU, ``mini`` the built-in one on the CPU.

Models load before the first image, or earlier by ``warm_up``, in a thread of their own, so that waiting can always be stopped; loading
that has begun goes on to its end and serves the next image.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from flux_demo import background
from flux_demo.backends import Backend, Refusal, own_engine
from flux_demo.backends.local import Local
from flux_demo.backends.mini import Mini
from flux_demo.engine.presets import COMPILED, EXACT
from flux_demo.errors import BackendUnavailable, Cancelled, FluxDemoError, OutOfMemory
from flux_demo.failures import Failure, failure_in_run
from flux_demo.model_files import ModelFiles
from flux_demo.modes import Mode, find_mode
from flux_demo.progress import OnStatus, OnStep, Phase, Status
from flux_demo.request import BackendOutput, Dials, GenerationRequest, SizeLimits
from flux_demo.settings import Settings
from flux_demo.texts import Text

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.engine.model_cache import ModelCache
    from flux_demo.engine.pipeline import Pipeline


class Weights(Protocol):
    """A set of weights: where its files are, whether it can run, what may be asked of it."""

    name: str
    title: str
    on_cpu: bool
    size_limits: SizeLimits

    @property
    def notice(self) -> str | None: ...

    @property
    def shows_previews(self) -> bool:
        """Whether images may be seen while they are generated, before a filter can look at them."""

    def refusal(self, mode: Mode) -> Refusal | None: ...

    @property
    def preset(self) -> str | None:
        """The preset that is taken by default; None: the first that can be used."""

    def unusable_presets(self, mode: Mode) -> Mapping[str, str]:
        """The presets that the mode cannot use, and why, with the remedy."""

    def files(self, mode: Mode, say: Callable[[str], None]) -> ModelFiles:
        """The mode's files; ``say`` is told what takes long. Raises FluxDemoError when they are not all here."""

    def model_name(self, mode: Mode) -> str | None:
        """The model that its files will say; None when they are not all here."""

    def plan_sentence(self, mode: Mode, cache: ModelCache | None) -> str | None:
        """How memory is used for the mode, in a sentence: in the cache that there is, if its model fits there, or as far as can be told before
        it is loaded.
        """

    def suits(self, cache: ModelCache, files: ModelFiles) -> bool:
        """Whether the files' model may be loaded into that cache."""

    def model_cache(self, files: ModelFiles) -> ModelCache:
        """An empty cache with the plan for those files and the memory that is free now. Raises GenerationFailed when nothing fits."""

    def loading_title(self, mode: Mode) -> str:
        """What is being loaded, within a sentence: a model's name, never a path."""

    def verdict(self, image: Image) -> str | None:
        """What the content filter says of a finished image; None where none is needed. Raises ContentRefused when it is withheld."""

    def out_of_memory(self, cache: ModelCache | None, failure: Failure) -> OutOfMemory:
        """What to say after memory ran out; the next cache has a tighter plan."""


def local(settings: Settings) -> Backend:
    """FLUX on this machine's GPU, on its CPU, or on the GPU that a ZeroGPU Space borrows."""
    if settings.zero_gpu and settings.device != "cpu":
        from flux_demo.backends.zero import ZeroGpu

        backend: Backend = ZeroGpu(settings)
    else:
        backend = Diffusion(Local(settings))
    backend.configured = bool(settings.models or settings.components or settings.preset or settings.device == "cpu")
    return backend


def mini(settings: Settings) -> Diffusion:
    """The built-in mini FLUX."""
    return Diffusion(Mini())


class Diffusion(Backend):
    """Generates through the engine, one image at a time."""

    def __init__(self, weights: Weights):
        self.name, self.title, self.on_cpu = weights.name, weights.title, weights.on_cpu
        self._weights = weights
        self._models_lock = threading.Lock()  # held by whoever loads or runs the models
        self._loading: Future[None] | None = None  # goes on after its caller has been stopped
        self._loading_text = ""
        self._cache: ModelCache | None = None
        self._files: dict[str, ModelFiles] = {}  # of the modes that were loaded

    @property
    def notice(self) -> str | None:
        return self._weights.notice

    def refusal(self, mode: Mode) -> Refusal | None:
        return self._weights.refusal(mode)

    def dials(self, mode: Mode) -> Dials:
        return own_engine.dials(mode, self._weights.size_limits, self._weights.unusable_presets(mode), self._weights.preset)

    def model_name(self, mode: Mode) -> str | None:
        return self._weights.model_name(mode)

    @property
    def loading(self) -> str | None:
        loading = self._loading
        return self._loading_text if loading is not None and not loading.done() else None

    def plan(self, mode: Mode) -> str | None:
        return self._weights.plan_sentence(mode, self._cache)

    def warm_up(self, mode: Mode) -> None:
        with self._exclusive_models(_ignore), self._wording_device_errors():
            if self._cache is None or not self._cache.is_full:  # else nothing of the mode's files need be read to know
                self._load(mode, _ignore, warming_up=True)

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        if self.on_cpu:
            background.refuse_after_fork()
        with self._exclusive_models(on_status), self._wording_device_errors():
            self._load(find_mode(request.mode), on_status)
            return self._generate(request, on_step, on_status)

    def close(self) -> None:
        with self._models_lock:
            loading = self._loading
            if loading is None or loading.done():
                self._release()
                return
        loading.add_done_callback(lambda _: self.close())  # its caller has been stopped; what it loads is released too

    def _generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        from flux_demo.engine.pipeline import generate
        from flux_demo.engine.placement import set_tiling

        assert self._cache and request.size
        files = self._files[request.mode]
        pipeline = self._cache.load(files)
        set_tiling(pipeline.shared.vae, tiled=self._cache.plan.tiles(request.size.pixels))
        shown = on_step if self._weights.shows_previews else lambda done, of, preview: on_step(done, of, None)
        with _preset(pipeline, request) as (preset, notes):
            image = generate(pipeline, request, shown, on_status)
        output = own_engine.backend_output(image, request, pipeline, files.model, self._cache.plan, preset, notes)
        return replace(output, safety=self._weights.verdict(image))

    @contextmanager
    def _exclusive_models(self, on_status: OnStatus) -> Iterator[None]:
        """One user of the models at a time: a run may meet a warm-up. Whoever waits is told so, and can be stopped."""
        while not self._models_lock.acquire(timeout=background.HEARTBEAT_S):
            on_status(Status(Phase.LOADING, self.loading or "Waiting for the models"))
        try:
            self._finish_loading(on_status)
            yield
        finally:
            self._models_lock.release()

    @contextmanager
    def _wording_device_errors(self) -> Iterator[None]:
        """Let go of everything when memory ran out or the GPU failed, and say what to do."""
        try:
            yield
            return
        except (FluxDemoError, Cancelled):
            raise
        except Exception as error:
            failure = failure_in_run(error)
            if failure is None:
                raise
            # The caller still holds the error, and its traceback every tensor of the calls that failed.
            traceback.clear_frames(error.__traceback__)
        worded = self._weights.out_of_memory(self._cache, failure) if failure.ran_out else failure.kind(failure.sentence)
        with suppress(RuntimeError):  # a GPU that has failed refuses this too
            self._release()
        raise worded

    def _release(self) -> None:
        self._loading = None
        self._release_models()

    def _release_models(self) -> None:
        from flux_demo.engine.allocators import free_memory

        self._cache = None
        free_memory()

    def _load(self, mode: Mode, on_status: OnStatus, *, warming_up: bool = False) -> None:
        """See that the mode's models are in memory; if ``warming_up``, only beside what is there. Raises what loading raises."""
        files = self._files.get(mode.name)
        # Another model may have been fetched for the mode since then; where its files are gone, what is loaded still serves.
        if self._cache and files and self._cache.has(files) and self._weights.model_name(mode) in (files.model, None):
            return
        if refusal := self.refusal(mode):
            raise BackendUnavailable(refusal.reason)
        self._loading_text = Text("Loading {what}", what=Text(self._weights.loading_title(mode)))
        loading = self._loading = background.start(lambda: self._read(mode, warming_up), "loading")
        self._finish_loading(on_status)
        loading.result()

    def _finish_loading(self, on_status: OnStatus) -> None:
        """Wait for what is being loaded, perhaps for a caller that was stopped meanwhile; how it ended is for who began it."""
        if (loading := self._loading) is None:
            return
        while not loading.done():  # reported before the first wait, however short it is
            on_status(Status(Phase.LOADING, self._loading_text))
            wait([loading], timeout=background.HEARTBEAT_S)
        self._loading = None

    def _read(self, mode: Mode, warming_up: bool) -> None:
        files = self._weights.files(mode, self._say)
        if self._cache is not None:
            suits = self._weights.suits(self._cache, files)
            if warming_up and not (suits and self._cache.keeps_all(files)):
                return
            if not suits:
                self._release_models()
        if self._cache is None:
            self._cache = self._weights.model_cache(files)
        self._cache.load(files, self._say)
        self._files[mode.name] = files

    def _say(self, sentence: str) -> None:
        self._loading_text = sentence


@contextmanager
def _preset(pipeline: Pipeline, request: GenerationRequest) -> Iterator[tuple[str, Sequence[str]]]:
    """Run with the preset that is asked for; gives the one that is really used, and what the person should know of it."""
    assert request.size
    blocks = pipeline.blocks
    if request.preset != COMPILED or blocks is None:
        yield EXACT, ()
        return
    with blocks.running(compiled=True, pixels=request.size.pixels) as compiled:
        if compiled:
            yield COMPILED, ()
        elif blocks.failure:
            yield EXACT, (f"The model could not be compiled ({blocks.failure}), so the preset exact was used.",)
        else:
            yield EXACT, ("The model will be compiled for this size once this image is done, so this image used the preset exact.",)


def _ignore(status: Status) -> None:
    """For callers that show no status."""

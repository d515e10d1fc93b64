"""``local`` on a ZeroGPU Space of Hugging Face, which lends a GPU for one call of a decorated function at a time.

Models are read on the main thread and put on "cuda" before the page is launched: there ``spaces`` stands in for CUDA, and packs them.
A call forks a worker, which gets the real GPU with the packed models on it. So the decorated function is at the top of this module, takes
and yields only what can be pickled, starts no thread, takes no lock of the parent, and imports nothing for the first time. Errors leave it as data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import spaces  # before torch: without its own environment variables it changes nothing

from flux_demo import background, errors
from flux_demo.backends import Backend, Refusal, own_engine
from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine, main_memory
from flux_demo.engine.memory import CPU_PLAN, MEGAPIXEL, PLANS, Plan
from flux_demo.engine.presets import COMPILED, EXACT
from flux_demo.failures import failure_in_run
from flux_demo.model_files import FLUX_TOKENS
from flux_demo.modes import MODES, Mode, find_mode
from flux_demo.progress import OnStatus, OnStep, Phase, Status, Step
from flux_demo.request import BackendOutput, Dials, GenerationRequest
from flux_demo.settings import Settings

if TYPE_CHECKING:
    from flux_demo.engine.pipeline import Pipeline

# Bytes of the two sizes of GPU that are lent: half of an RTX PRO 6000 and the whole, in 2026. The second takes twice the quota.
CARDS = {"large": 48 * 10**9, "xlarge": 96 * 10**9}
ONE_MODE, ALL_MODES = (next(plan for plan in PLANS if plan.name == name) for name in ("one", "three"))

# Seconds that are asked for; what is not used is not charged, and a call that takes longer may be cut off. Estimates until they are measured.
ARRIVING_S = 20.0  # the models are brought to the GPU
STEP_S = 0.8  # of a denoising step, for each megapixel
DECODING_S = 4.0
MAP_S = 2.0  # where a map is encoded too

NOT_COMPILED = {COMPILED: "A GPU that is lent for one image has no time to compile the model. Choose the preset exact."}
ASK_AGAIN = "Sign in to Hugging Face for more of its quota, or try again later."


@dataclass(frozen=True)
class Failed:
    """An error, as it leaves the worker."""

    kind: str  # the name of its class in ``errors``
    sentence: str

    def error(self) -> errors.FluxDemoError:
        return getattr(errors, self.kind)(self.sentence)


Event = Status | Step | Failed | BackendOutput


@dataclass(frozen=True)
class Loaded:
    """A mode's models, as the worker finds them."""

    pipeline: Pipeline
    model: str
    plan: Plan


_loaded: dict[str, Loaded] = {}  # by mode, filled before the first fork


def seconds_for(request: GenerationRequest) -> int:
    """The seconds of GPU that are asked for."""
    assert request.size and request.steps
    denoising = STEP_S * request.steps * request.size.pixels / MEGAPIXEL
    return math.ceil(ARRIVING_S + denoising + DECODING_S + (MAP_S if request.control else 0))


def generate_in_worker(request: GenerationRequest) -> Iterator[Event]:
    """In the worker: what happens, and at the end the image or what went wrong."""
    try:
        yield from _generate_in_worker(request)
    except errors.FluxDemoError as error:
        yield Failed(type(error).__name__, str(error))
    except Exception as error:
        failure = failure_in_run(error)
        if failure is None:
            raise
        yield Failed(failure.error_class.__name__, failure.message("Choose a smaller size."))


def _generate_in_worker(request: GenerationRequest) -> Iterator[Event]:
    from flux_demo.engine.pipeline import run
    from flux_demo.engine.placement import set_tiling

    assert request.size
    loaded = _loaded[request.mode]
    shared = loaded.pipeline.shared
    shared.device = shared.vae.device  # only the worker knows the real one
    set_tiling(shared.vae, tiled=loaded.plan.tiles(request.size.pixels))
    image = yield from run(loaded.pipeline, request)
    yield own_engine.backend_output(
        image, request, loaded.pipeline, loaded.model, loaded.plan, EXACT, libraries=(*own_engine.LIBRARIES, "spaces")
    )


class ZeroGpu(Backend):
    """Each image is a call of its own, on the quota of the visitor who asks for it."""

    name = "local"
    title = "FLUX on Hugging Face's ZeroGPU"
    concurrency = 4  # calls; Hugging Face lets them wait for a GPU

    def __init__(self, settings: Settings) -> None:
        self._size = settings.zero_size
        machine = Machine(Card("ZeroGPU", CARDS[self._size]), cuda_torch=True, memory_bytes=main_memory())
        self._preset = settings.preset
        self._weights = Local(replace(settings, preset=None), machine)
        self._plan = ALL_MODES if self._size == "xlarge" else ONE_MODE
        self._prepared = False
        self._problems: dict[str, str] = {}  # why a mode's models could not be loaded
        self._call = spaces.GPU(duration=seconds_for, size=self._size)(generate_in_worker)

    @property
    def notice(self) -> str | None:
        return self._weights.notice

    def refusal(self, mode: Mode) -> Refusal | None:
        if mode.name in _loaded:  # their files may be gone: packed models are deleted from the Hub's cache
            return None
        if problem := self._problems.get(mode.name):
            return Refusal(problem)
        if refused := self._refusal_to_load(mode):
            return refused
        if not self._prepared:
            return Refusal("On ZeroGPU, FLUX is loaded when the page starts. Run `python app.py`.")
        held = ", ".join(_loaded) or "no mode"
        return Refusal(
            f"The GPU that this Space borrows holds {held} only. Set FLUX_DEMO_ZEROGPU=xlarge for all modes, at twice the quota."
        )

    def _refusal_to_load(self, mode: Mode) -> Refusal | None:
        if self._preset and (why := NOT_COMPILED.get(self._preset)):
            return Refusal(why)
        return self._weights.refusal(mode)

    def dials(self, mode: Mode) -> Dials:
        return own_engine.dials(mode, self._weights.size_limits, NOT_COMPILED)

    def model_name(self, mode: Mode) -> str | None:
        return _loaded[mode.name].model if mode.name in _loaded else None

    def prepare(self) -> None:
        """Read as many modes as the GPU holds, and put them on "cuda", on the thread where ``spaces`` stands in for it."""
        import torch
        from diffusers import image_processor  # noqa: F401  a worker imports nothing for the first time

        from flux_demo.engine.model_cache import ModelCache

        self._prepared = True
        cache = ModelCache(CPU_PLAN, torch.device("cpu"), torch.bfloat16, FLUX_TOKENS)
        for mode in MODES.values():
            if len(_loaded) == self._plan.modes:
                break
            if self._refusal_to_load(mode) is None:
                try:
                    files = self._weights.files(mode, lambda sentence: None)
                    pipeline = cache.load(files)
                    _to_cuda(pipeline)
                    _loaded[mode.name] = Loaded(pipeline, files.model, self._plan)
                except errors.FluxDemoError as error:
                    self._problems[mode.name] = str(error)
                except Exception as error:
                    failure = failure_in_run(error)
                    if failure is None:
                        raise
                    self._problems[mode.name] = failure.message("Restart this Space.")

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        """Follow a call from a thread of its own, because waiting for a GPU can last a minute and must be stoppable."""
        if request.mode not in _loaded and (refused := self.refusal(find_mode(request.mode))):
            raise errors.BackendUnavailable(refused.reason)
        said: Status | None = Status(Phase.QUEUED, "Waiting for a Hugging Face GPU")

        def work(report: background.Reporter[Status | Step]) -> BackendOutput:
            return self._ask(request, report)

        def tell(event: Status | Step | None) -> None:
            nonlocal said
            if isinstance(event, Step):
                said = None  # a step follows soon
                on_step(event.done, event.of, event.preview if self._weights.shows_previews else None)
            elif status := event or said:  # what was said last is said again at every heartbeat
                said = status
                on_status(status)

        events = background.follow(work, "zero")
        output = background.consume(events, tell)
        return replace(output, safety=self._weights.verdict(output.image))

    def _ask(self, request: GenerationRequest, report: background.Reporter[Status | Step]) -> BackendOutput:
        """Call the GPU and report what it says; once nobody follows any more, it ends at its next step."""
        calls = self._call(request)
        output = None
        try:
            for event in calls:
                if isinstance(event, Failed):
                    raise event.error()
                if isinstance(event, BackendOutput):
                    output = event
                else:
                    report(event)
            if output is None:
                raise errors.GenerationFailed("ZeroGPU ended the call before the image was finished. Generate again.")
            return output
        except (errors.FluxDemoError, errors.Cancelled):
            raise
        except Exception as error:  # Gradio's own error with a message for the visitor, or whatever went wrong between here and there
            said = str(getattr(error, "message", "")).strip().rstrip(".") or "it could not be asked for a GPU"
            raise errors.GenerationFailed(f"ZeroGPU did not generate this image: {said}. {ASK_AGAIN}") from error
        finally:
            calls.close()


def _to_cuda(pipeline: Pipeline) -> None:
    """Move every model of the pipeline to "cuda". Blocks that were compiled ahead of time (``spaces.aoti_apply``) have not been measured on a card."""
    shared = pipeline.shared
    for model in (shared.vae, shared.encoders.clip, shared.encoders.t5, pipeline.transformer, *pipeline.modulation.small_layers):
        model.to("cuda")
    for layer in pipeline.modulation.layers:
        layer.to("cuda")
    shared.colours = shared.colours.to("cuda")

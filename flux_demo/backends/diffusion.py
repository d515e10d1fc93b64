"""FLUX through this project's engine: one class, two sets of weights. ``local`` is FLUX on an NVIDIA GPU, ``mini`` the built-in one on the CPU.

Models load at the first picture, or before it by ``warm_up``, in a thread of their own, so that waiting can always be stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flux_demo.backends.weights import MINI, lacking, mini_parts
from flux_demo.engine.parts import Parts
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import BackendUnavailable
from flux_demo.modes import SIZES, Mode, find_mode
from flux_demo.request import Dials, GenerationRequest, OnStatus, OnStep, Picture, Size
from flux_demo.settings import Settings

if TYPE_CHECKING:
    from flux_demo.engine.residents import Residents

HEARTBEAT_S = 0.15  # between two sentences while something is waited for
LIBRARIES = ("torch", "diffusers", "transformers")
MINI_SIZES = tuple(Size(*sides) for sides in ((256, 256), (336, 192), (192, 336), (304, 208), (208, 304), (288, 224), (224, 288)))


class Weights(Protocol):
    """A set of weights and where it runs."""

    name: str
    title: str

    def refusal(self, mode: str) -> str | None: ...

    def parts(self, mode: str) -> Parts: ...

    def dials(self, mode: Mode) -> Dials: ...

    def residents(self) -> Residents: ...


def mini(settings: Settings) -> Diffusion:
    """The built-in mini FLUX."""
    return Diffusion(Mini())


def local(settings: Settings) -> Diffusion:
    """FLUX on this machine's GPU."""
    return Diffusion(Local(settings))


class Local:
    """FLUX.1 [dev] and its Canny and Depth kin, in bfloat16 on an NVIDIA GPU."""

    name = "local"
    title = "FLUX on this machine's GPU"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def refusal(self, mode: str) -> str | None:
        return "There is no NVIDIA GPU in this machine. Run on a machine with one, or use another backend."

    def parts(self, mode: str) -> Parts:
        raise NotImplementedError

    def dials(self, mode: Mode) -> Dials:
        return _dials(mode, range(256, 2049, 16), 2_100_000, SIZES)

    def residents(self) -> Residents:
        raise NotImplementedError


class Mini:
    """A few million parameters, trained by this project; lies in ``assets/mini``."""

    name = "mini"
    title = "The built-in mini FLUX (CPU)"

    def __init__(self, folder: Path = MINI) -> None:
        self._folder = folder

    def refusal(self, mode: str) -> str | None:
        absent = [library for library in LIBRARIES if find_spec(library) is None]
        if absent:
            return f"{' and '.join(absent)} cannot be imported. Install what requirements.txt names: `pip install -r requirements.txt`."
        gaps = lacking(self.parts(mode))
        if gaps:
            return (
                f"The mini's files are incomplete: {gaps[0]} is not in assets/mini. Copy the folder again from where you got this program."
            )
        return None

    def parts(self, mode: str) -> Parts:
        return mini_parts(mode, self._folder)

    def dials(self, mode: Mode) -> Dials:
        return _dials(mode, range(128, 513, 16), 512 * 512, MINI_SIZES)

    def residents(self) -> Residents:
        import torch

        from flux_demo.engine.memory import plan_for_cpu
        from flux_demo.engine.residents import Residents

        return Residents(plan_for_cpu(), torch.device("cpu"), torch.float32, text_tokens=64)


class Diffusion:
    """A Backend: draws through the engine, one picture at a time."""

    def __init__(self, weights: Weights):
        self._weights = weights
        self._turn = threading.Lock()
        self._loading: threading.Thread | None = None  # goes on after its caller has been stopped
        self._residents: Residents | None = None
        self.state = "Not loaded yet; the first picture waits for it"  # what it is doing now, in words

    @property
    def name(self) -> str:
        return self._weights.name

    @property
    def title(self) -> str:
        return self._weights.title

    def refusal(self, mode: Mode) -> str | None:
        return self._weights.refusal(mode.name)

    def dials(self, mode: Mode) -> Dials:
        return self._weights.dials(mode)

    def warm_up(self, mode: str) -> None:
        """Load what the mode needs, so that its first picture need not wait. Takes as long as loading does. Raises FluxDemoError."""
        with self._my_turn(lambda sentence: None):
            self._load(find_mode(mode), lambda sentence: None)

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> Picture:
        assert request.size and request.steps and request.guidance is not None and request.seed is not None
        with self._my_turn(on_status):
            parts = self._load(find_mode(request.mode), on_status)
            from flux_demo.engine.picture import draw

            residents = self._residents
            assert residents is not None
            self.state = "Drawing"
            try:
                image = draw(
                    residents.load(parts, on_status),
                    request.prompt,
                    request.size.width,
                    request.size.height,
                    request.seed,
                    request.steps,
                    request.guidance,
                    request.control.image if request.control else None,
                    on_step,
                    on_status,
                )
            finally:
                self.state = "Ready"
            libraries = {library: version(library) for library in LIBRARIES}
            return Picture(image, parts.model, next(iter(PRESETS)), residents.plan.sentence, libraries)

    @contextmanager
    def _my_turn(self, on_status: OnStatus) -> Iterator[None]:
        """One run at a time; whoever waits is told so, and can be stopped."""
        while not self._turn.acquire(timeout=HEARTBEAT_S):
            on_status("Waiting for another picture to finish" if self.state == "Drawing" else self.state)
        try:
            self._wait_for_loading(on_status)
            yield
        finally:
            self._turn.release()

    def _load(self, mode: Mode, on_status: OnStatus) -> Parts:
        """The mode's models, in memory when this returns. Raises what loading raised."""
        refusal = self.refusal(mode)
        if refusal:
            raise BackendUnavailable(refusal)
        parts = self._weights.parts(mode.name)
        if self._residents is not None and self._residents.has(parts):
            return parts
        failures: list[BaseException] = []
        self.state = f"Loading {parts.model}"
        self._loading = threading.Thread(target=self._read, args=(parts, failures.append), name="loading", daemon=True)
        self._loading.start()
        self._wait_for_loading(on_status)
        if failures:
            raise failures[0]
        return parts

    def _wait_for_loading(self, on_status: OnStatus) -> None:
        while self._loading is not None and self._loading.is_alive():
            on_status(self.state)
            self._loading.join(HEARTBEAT_S)
        self._loading = None

    def _read(self, parts: Parts, fail: Callable[[BaseException], None]) -> None:
        try:
            if self._residents is None:
                self._residents = self._weights.residents()
            self._residents.load(parts, self._say)
            self.state = "Ready"
        except BaseException as error:  # handed to whoever waits
            self.state = "Not loaded: the last try failed"
            fail(error)

    def _say(self, sentence: str) -> None:
        self.state = sentence


def _dials(mode: Mode, sides: range, max_pixels: int, sizes: tuple[Size, ...]) -> Dials:
    return Dials(
        steps=mode.steps,
        guidance=mode.guidance,
        step_range=range(1, 101),
        guidance_range=(1, 100),
        sides=sides,
        max_pixels=max_pixels,
        sizes=sizes,
        quality_steps=mode.quality_steps,
        presets=tuple(PRESETS),
    )

"""Where a request can run: what is asked of a backend, and the choice among backends. Knows no library but the standard one.

``auto`` takes the first backend that can run the mode, and says why each earlier one cannot. The choice is made once
for each mode, again only after something was fetched or started, and never changes behind the person's back. A new backend is one file and one line in ``settings.BACKENDS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name

from flux_demo.errors import BackendUnavailable
from flux_demo.maps.notes import map_notes
from flux_demo.mini_vocabulary import prompt_notes
from flux_demo.modes import Mode, find_mode
from flux_demo.progress import OnStatus, OnStep
from flux_demo.recipe import Recipe
from flux_demo.request import BackendOutput, Dials, GenerationRequest, Size, SizeLimits
from flux_demo.settings import BACKENDS, ONLY_BY_NAME, Settings


@dataclass(frozen=True)
class Refusal:
    """Why a backend cannot run a mode now."""

    reason: str  # one or two sentences with the remedy
    fetch: str | None = None  # what can be fetched to remove it, as ``fetch`` names it: a mode, "estimator", "filter"


@dataclass(frozen=True)
class PassedOver:
    """A backend that was asked and refused."""

    backend: str  # its name
    title: str
    refusal: Refusal
    configured: bool = False  # copied from the backend: the person set it up, and is told why it is not used

    def __str__(self) -> str:
        return f"{self.title}: {self.refusal.reason}"


class Backend(ABC):
    """A place where a request can run."""

    name: str  # "local", "nim", "hosted", "providers", "mini": in recipes and settings
    title: str  # "This machine's GPU": on the page
    concurrency: int = 1  # how many runs it takes at once, as far as it is known by now; the others wait in its queue
    on_cpu: bool = False  # whether it is this machine's processor that generates
    configured: bool = False  # whether the person has set what only this backend takes, such as an address, a key or a model
    dials_change: bool = False  # whether ``dials`` may change while it is in use: a service can be restarted with another model
    reproducible: bool = True  # whether it is known to use the seed, so that the same request gives the same image

    @property
    def notice(self) -> str | None:
        """What to know before an image is generated here, as a sentence: who pays, or that nothing filters it. None if there is nothing to say."""
        return None

    @abstractmethod
    def refusal(self, mode: Mode) -> Refusal | None:
        """Why the mode cannot run here now; None if it can. Quick: loads and downloads nothing."""

    @abstractmethod
    def dials(self, mode: Mode) -> Dials:
        """What may be asked here in that mode, and what is taken by default."""

    @abstractmethod
    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        """Run a complete request. Raises FluxDemoError, and lets through what ``on_step`` and ``on_status`` raise."""

    def model_name(self, mode: Mode) -> str | None:
        """The model that recipes of that mode will name; None where it shows only in the answer."""
        return None

    def is_own(self, recipe: Recipe, mode: Mode) -> bool:
        """Whether an image of that mode with that recipe comes from here, and from the model that would run now."""
        return recipe.backend == self.name and recipe.model == self.model_name(mode)

    def plan(self, mode: Mode) -> str | None:
        """How memory is used for the mode, in a sentence; before it is loaded, as far as can be told. None where that is the service's business."""
        return None

    @property
    def loading(self) -> str | None:
        """What is being loaded at this moment, as a sentence; None if nothing is."""
        return None

    def recheck(self) -> None:  # noqa: B027  most remember nothing
        """Forget what was found out about whether and what it can run: the next question looks again."""

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """What has to be done on the main thread before a page is there. Called once by app.py, and not by the command line or in Python."""

    def warm_up(self, mode: Mode) -> None:  # noqa: B027  what has no models to load does nothing
        """Load what the mode needs, so that its first image need not wait; not in place of what is loaded already. Takes as long as loading does.
        Raises FluxDemoError.
        """

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Release connections and memory. Do not use the backend afterwards."""


@dataclass(frozen=True)
class Route:
    """The backend that runs a mode, and why those before it do not."""

    backend: Backend
    dials: Dials
    passed_over: tuple[PassedOver, ...]

    def runs_mini(self, mode: Mode, model: str | None = None) -> bool:
        """Whether it is the mini FLUX that runs there: on this machine, or behind a service of one's own.

        ``model``: the one that an answer named; otherwise the backend's own.
        """
        return "mini" in (self.backend.name, model or self.backend.model_name(mode))

    def prompt_notes(self, prompt: str, mode: Mode, model: str | None = None) -> tuple[str, ...]:
        """What the person should know of the prompt's words: where the mini runs, those that it was never taught."""
        return prompt_notes(prompt) if self.runs_mini(mode, model) else ()

    def notes(self, request: GenerationRequest, model: str | None = None) -> tuple[str, ...]:
        """What there is to say about an image's map and its prompt's words. ``model``: the one that generated it, if that is known."""
        return (*map_notes(request.control), *self.prompt_notes(request.prompt, find_mode(request.mode), model))


class NoRoute(BackendUnavailable):
    """No backend can run the mode; ``passed_over`` has every refusal."""

    def __init__(self, mode: Mode, passed_over: Sequence[PassedOver]) -> None:
        self.passed_over = tuple(passed_over)
        only = self.passed_over[0].refusal.reason if len(self.passed_over) == 1 else None
        super().__init__(only or f"No backend can run the {mode.name} mode. " + " ".join(map(str, self.passed_over)))


def choose(backends: Sequence[Backend], mode: Mode) -> Route:
    """The first backend that does not refuse. Raises NoRoute when all do."""
    passed_over: list[PassedOver] = []
    for backend in backends:
        refusal = backend.refusal(mode)
        if refusal is None:
            return Route(backend, backend.dials(mode), tuple(passed_over))
        passed_over.append(PassedOver(backend.name, backend.title, refusal, backend.configured))
    raise NoRoute(mode, passed_over)


def renew_dials(routes: MutableMapping[str, Route], backend: Backend) -> bool:
    """Read the dials of the routes to this backend again, if they can change. Where each mode runs stays as it is. Returns whether any differ."""
    old = {mode: route for mode, route in [*routes.items()] if route.backend is backend and backend.dials_change}
    new = {mode: replace(route, dials=backend.dials(find_mode(mode))) for mode, route in old.items()}
    routes.update(new)
    return new != old


def another_size(limits: SizeLimits, refused: Size) -> str | None:
    """What to choose where a service did not generate a size that it takes, as a clause; None where it takes no other."""
    others = [str(size) for size in limits.sizes if size != refused]
    return f"Choose another size, such as {' or '.join(others[:2])}" if others else None


def all_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings allow, in the order of preference; a named backend stands alone."""
    names = [name for name in BACKENDS if name not in ONLY_BY_NAME] if settings.backend == "auto" else [settings.backend]
    return [resolve_name(BACKENDS[name])(settings) for name in names]

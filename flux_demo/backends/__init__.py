"""Where a request can run: the Backend protocol, and the choice among backends. Knows no library but the standard one.

``auto`` takes the first backend that can run the mode, and says why each earlier one cannot. The choice is made at the start and
per mode, and never changes behind the person's back. A new backend is one file and one line in ``all_backends``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flux_demo.errors import BackendUnavailable
from flux_demo.modes import Mode
from flux_demo.request import Dials, DrawnImage, GenerationRequest, OnStatus, OnStep

if TYPE_CHECKING:
    from flux_demo.settings import Settings


class Backend(Protocol):
    """A place where a request can run."""

    name: str  # "local", "nim", "hosted", "mini": in recipes and settings
    title: str  # "This machine's GPU": on the page

    def refusal(self, mode: Mode) -> str | None:
        """Why the mode cannot run here now, in words with the remedy; None if it can. Quick: loads and downloads nothing."""

    def dials(self, mode: Mode) -> Dials:
        """What may be asked here in that mode, and what is taken by default."""

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> DrawnImage:
        """Draw a complete request. Raises FluxDemoError, and lets through what ``on_step`` and ``on_status`` raise."""


@dataclass(frozen=True)
class Refusal:
    """A backend that was passed over, and why."""

    backend: str  # its name
    title: str
    reason: str  # one or two sentences with the remedy

    def __str__(self) -> str:
        return f"{self.title}: {self.reason}"


@dataclass(frozen=True)
class Route:
    """The backend that runs a mode, and why those before it do not."""

    backend: Backend
    dials: Dials
    passed_over: tuple[Refusal, ...]


def choose(backends: Sequence[Backend], mode: Mode) -> Route:
    """The first backend that does not refuse. Raises BackendUnavailable with every refusal when none is left."""
    passed_over: list[Refusal] = []
    for backend in backends:
        reason = backend.refusal(mode)
        if reason is None:
            return Route(backend, backend.dials(mode), tuple(passed_over))
        passed_over.append(Refusal(backend.name, backend.title, reason))
    if len(passed_over) == 1:
        raise BackendUnavailable(passed_over[0].reason)
    raise BackendUnavailable(f"Nothing here can run {mode.title.lower()}. " + " ".join(map(str, passed_over)))


def all_backends(settings: Settings) -> list[Backend]:
    """The backends that the settings allow, in the order of preference; a named backend stands alone."""
    from flux_demo.backends.diffusion import local, mini
    from flux_demo.backends.nvidia import hosted, nim

    makers: dict[str, Callable[[Settings], Backend]] = {"local": local, "nim": nim, "hosted": hosted, "mini": mini}
    names = makers if settings.backend == "auto" else [settings.backend]
    return [makers[name](settings) for name in names]

"""FLUX.1-dev through Hugging Face Inference Providers: text only, billed to the account whose token is used.

Never part of ``auto``: a token that is there for downloads must not begin to cost money. ``huggingface_hub.InferenceClient`` speaks each
provider's form; what a provider does not take is known here, said in a note, and left out of the recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flux_demo import background
from flux_demo.backends import Backend, Refusal, another_size
from flux_demo.backends.content_rules import ContentRules
from flux_demo.backends.provider_errors import SIGN_IN_AGAIN, provider_failure, provider_title
from flux_demo.errors import (
    BackendUnavailable,
    ContentRefused,
    FluxDemoError,
    GenerationFailed,
    Unreachable,
)
from flux_demo.hub_errors import TOKEN_PAGE, token_problem
from flux_demo.model_names import is_local, model_problem
from flux_demo.modes import DEFAULT_SIZES, Mode, find_mode
from flux_demo.progress import OnStatus, OnStep, Phase, Status
from flux_demo.recipe import Recipe
from flux_demo.request import BackendOutput, Dials, GenerationRequest, Size, SizeLimits
from flux_demo.texts import Text

if TYPE_CHECKING:
    from PIL.Image import Image

    from flux_demo.settings import Settings

WHO = "Hugging Face Inference Providers"
ONLY_TEXT = (
    f"{WHO} serve no FLUX that follows a map, so nothing of yours was sent. "
    "For edges and depth use a GPU, a NIM or the mini: leave --backend and FLUX_DEMO_BACKEND out."
)
NOT_ON_THE_HUB = (
    f"{WHO} run models on Hugging Face, and FLUX_DEMO_TEXT_MODEL names a file or folder of yours. Unset it, or choose another backend."
)
NO_TOKEN = f"There is no Hugging Face token whose account could pay. Make one that may call Inference Providers at {TOKEN_PAGE}, and set HF_TOKEN to it."
SIGN_IN = (
    "You are not signed in, so there is no account that could pay. Sign in with Hugging Face at the top of the page, and generate again."
)
NOBODY_SERVES_IT = (
    "No provider that takes every size and setting serves the model at present. "
    "Set FLUX_DEMO_HF_PROVIDER to one that https://huggingface.co/black-forest-labs/FLUX.1-dev lists, or choose another backend."
)
MAX_GUIDANCE = 10.0  # of the strictest of them
READ_S = 120.0  # without a byte
WHOLE_S = 600.0  # for one image

visitor_token: ContextVar[str | None] = ContextVar("visitor_token", default=None)  # of the visitor who signed in and asks for this image


@dataclass(frozen=True)
class Provider:
    """How one provider takes FLUX.1-dev's dials, beyond what huggingface_hub maps by itself."""

    ignores: tuple[str, ...] = ()  # of "guidance", "seed", "steps": not taken, or nobody documents that they are
    any_size: bool = True  # False: only the provider's own 1024x1024
    extra: Callable[[GenerationRequest], Mapping[str, Any]] = lambda request: {}  # fields under the provider's own names

    @property
    def takes_all(self) -> bool:
        """Whether ``auto`` may choose it: what it does not take could be said only after the image."""
        return self.any_size and not self.ignores


# From each provider's documentation and the mapping in huggingface_hub 2.4.
PROVIDERS: dict[str, Provider] = {
    "fal-ai": Provider(),
    "hf-inference": Provider(),
    "nscale": Provider(ignores=("steps", "guidance", "seed")),  # an OpenAI form: prompt and size; the library drops the steps
    "replicate": Provider(any_size=False, extra=lambda request: {"guidance": request.guidance}),  # takes aspect ratios, not pixels
    "together": Provider(),
    "wavespeed": Provider(extra=lambda request: {"size": f"{request.size.width}*{request.size.height}"} if request.size else {}),
}
WIDE = SizeLimits(range(256, 1441, 16), 1440 * 1440, DEFAULT_SIZES)
SQUARE = SizeLimits(range(1024, 1025, 16), 1024 * 1024, (Size(1024, 1024),))


class Providers(Backend):
    """One provider: the one that is named, or the first that serves the model. Billed to the owner's account, or to that of a visitor who signed in."""

    name = "providers"
    concurrency = 4

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model("text")
        self._provider = settings.hf_provider
        self._owners = settings.hf_token  # used because the owner chose this backend by name; never for visitors who sign in
        self._visitors_pay = settings.visitors_pay
        self._rules = ContentRules(settings)
        self.title = WHO if self._provider == "auto" else f"{WHO} ({self._provider})"
        self.reproducible = "seed" not in PROVIDERS.get(self._provider, Provider()).ignores

    @property
    def notice(self) -> str:
        account = "the account that you sign in with" if self._visitors_pay else "the account of HF_TOKEN"
        return " ".join((f"Each image is charged to {account} at Hugging Face.", *_left_out(self._provider)))

    def refusal(self, mode: Mode) -> Refusal | None:
        problem = self._problem(mode, signed_in=not self._visitors_pay)
        return Refusal(problem) if problem else self._rules.refusal()

    def _problem(self, mode: Mode, signed_in: bool = True) -> str | None:
        if mode.control is not None:
            return ONLY_TEXT
        if problem := NOT_ON_THE_HUB if is_local(self._model) else model_problem(mode, self._model):
            return problem
        if self._provider != "auto" and self._provider not in PROVIDERS:
            return (
                f"{self._provider!r} is not a provider that this program knows. Set FLUX_DEMO_HF_PROVIDER to auto, {', '.join(PROVIDERS)}."
            )
        if not signed_in:  # the tab is for everybody; who runs is asked then
            return None
        token = self._token()
        if not token:
            return SIGN_IN if self._visitors_pay else NO_TOKEN
        problem = token_problem(token, "hf_")  # another would be sent to the provider itself, as if it were a key of its own
        return problem and (SIGN_IN_AGAIN if self._visitors_pay else problem)

    def _token(self) -> str | None:
        from huggingface_hub import get_token

        return visitor_token.get() if self._visitors_pay else self._owners or get_token()

    def dials(self, mode: Mode) -> Dials:
        chosen = PROVIDERS.get(self._provider, PROVIDERS["fal-ai"])
        return Dials(
            steps=mode.steps,
            guidance=min(mode.guidance, MAX_GUIDANCE),
            step_range=range(1, 51),
            guidance_range=(1.0, MAX_GUIDANCE),
            size_limits=WIDE if chosen.any_size else SQUARE,
            quality_steps=mode.quality_steps,
            can_stop=False,
        )

    def model_name(self, mode: Mode) -> str | None:
        return None if self._provider == "auto" else _at(self._model, self._provider)

    def is_own(self, recipe: Recipe, mode: Mode) -> bool:
        names = PROVIDERS if self._provider == "auto" else (self._provider,)
        return recipe.backend == self.name and recipe.model in [_at(self._model, name) for name in names]

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        assert request.size is not None
        if problem := self._problem(find_mode(request.mode)):
            raise BackendUnavailable(problem)
        if refused := self._rules.refusal():
            raise BackendUnavailable(refused.reason)
        if self._rules.filter:
            self._rules.filter.load()
        token = self._token() or ""
        began = time.monotonic()
        name = self._provider

        def wait() -> None:
            seconds = time.monotonic() - began
            if seconds > WHOLE_S:
                raise Unreachable(
                    f"{provider_title(name)} did not finish within {WHOLE_S:g} seconds. Try again, or choose another provider."
                )
            on_status(Status(Phase.WAITING, Text("Waiting for {who}, {seconds} s", who=provider_title(name), seconds=int(seconds))))

        on_status(Status(Phase.WAITING, Text("Sending to {who}", who=provider_title(name))))
        if name == "auto":
            name = background.wait_for(background.start(lambda: self._call(lambda: self._first(token), name), "providers"), wait)
        work = background.start(lambda: self._call(lambda: self._request_image(request, name, token), name), "providers")
        image = background.wait_for(work, wait)
        return BackendOutput(
            image,
            _at(self._model, name),
            safety=self._rules.verdict(image),
            libraries={"huggingface_hub": version("huggingface_hub")},
            notes=_left_out(name),
            unused=PROVIDERS[name].ignores,
        )

    def _first(self, token: str) -> str:
        """The first provider, in the account's own order, that serves the model in every offered size and with every setting."""
        from huggingface_hub import HfApi

        info = HfApi(token=token).model_info(self._model, expand=["inferenceProviderMapping"])
        for row in info.inference_provider_mapping or ():
            if row.provider in PROVIDERS and PROVIDERS[row.provider].takes_all and row.status == "live" and row.task == "text-to-image":
                return str(row.provider)
        raise BackendUnavailable(NOBODY_SERVES_IT)

    def _request_image(self, request: GenerationRequest, name: str, token: str) -> Image:
        from huggingface_hub import InferenceClient

        assert request.size is not None
        image = InferenceClient(provider=name, token=token, timeout=READ_S).text_to_image(  # type: ignore[arg-type]
            request.prompt,
            model=self._model,
            width=request.size.width,
            height=request.size.height,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            seed=request.seed,
            extra_body=dict(PROVIDERS[name].extra(request)),
        )
        if image.size != (request.size.width, request.size.height):
            advice = another_size(SQUARE if not PROVIDERS[name].any_size else WIDE, request.size)
            remedy = f"{advice}, or another FLUX_DEMO_HF_PROVIDER." if advice else "Set FLUX_DEMO_HF_PROVIDER to another one."
            raise GenerationFailed(f"{name} generated {image.width}x{image.height} instead of {request.size}. {remedy}")
        image = image.convert("RGB")  # decodes: a broken picture shows here
        if all(high == 0 for _, high in image.getextrema()):
            raise ContentRefused(
                f"{name} sent an entirely black image, which is how its filter withholds one. Change the prompt, or the seed."
            )
        return image

    def _call(self, ask: Callable[[], Any], provider: str) -> Any:
        """Ask the provider, and put what huggingface_hub and its transport raise in words."""
        try:
            return ask()
        except FluxDemoError:
            raise
        except Exception as error:  # the library lets through its own errors, httpx's, and KeyErrors of answers of another form
            raise provider_failure(provider, error, self._visitors_pay) from error


def _at(model: str, provider: str) -> str:
    """The model's name in recipes."""
    return f"{model} ({provider})"


def _left_out(provider: str) -> tuple[str, ...]:
    """What is said about a provider that may not use every setting."""
    *names, last = PROVIDERS.get(provider, Provider()).ignores or ("",)
    used = " and ".join(filter(None, (", ".join(names), last)))
    return (f"{provider} does not say whether it uses {used}, so the recipe leaves {'them' if names else 'it'} out.",) if last else ()

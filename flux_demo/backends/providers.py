"""FLUX.1-dev through Hugging Face Inference Providers: text only, billed to the account whose token is used.

Never part of ``auto``: a token that is there for downloads must not begin to cost money. ``huggingface_hub.InferenceClient`` speaks each
provider's form; what a provider does not take is known here, said in a note, and left out of the recipe.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flux_demo import background
from flux_demo.backends import Backend, Refusal, another_size
from flux_demo.errors import (
    UNVERIFIED,
    BackendUnavailable,
    ContentRefused,
    FluxDemoError,
    GenerationFailed,
    InvalidRequest,
    Unreachable,
    causes,
)
from flux_demo.hub_errors import TOKEN_PAGE, is_garbled, offline, token_problem, way_to_hub
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
BILLING_PAGE = "https://huggingface.co/settings/billing"
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
SIGN_IN_AGAIN = (
    "Hugging Face rejected your sign-in, or it may not call Inference Providers. "
    "Sign out at the top of the page, sign in again, and allow it."
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
        self.title = WHO if self._provider == "auto" else f"{WHO} ({self._provider})"
        self.reproducible = "seed" not in PROVIDERS.get(self._provider, Provider()).ignores

    @property
    def notice(self) -> str:
        account = "the account that you sign in with" if self._visitors_pay else "the account of HF_TOKEN"
        return " ".join((f"Each image is charged to {account} at Hugging Face.", *_left_out(self._provider)))

    def refusal(self, mode: Mode) -> Refusal | None:
        problem = self._problem(mode, signed_in=not self._visitors_pay)
        return Refusal(problem) if problem else None

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
        token = self._token() or ""
        began = time.monotonic()
        name = self._provider

        def wait() -> None:
            seconds = time.monotonic() - began
            if seconds > WHOLE_S:
                raise Unreachable(
                    f"{_provider_title(name)} did not finish within {WHOLE_S:g} seconds. Try again, or choose another provider."
                )
            on_status(Status(Phase.WAITING, Text("Waiting for {who}, {seconds} s", who=_provider_title(name), seconds=int(seconds))))

        on_status(Status(Phase.WAITING, Text("Sending to {who}", who=_provider_title(name))))
        if name == "auto":
            name = background.wait_for(background.start(lambda: self._call(lambda: self._first(token), name), "providers"), wait)
        work = background.start(lambda: self._call(lambda: self._request_image(request, name, token), name), "providers")
        image = background.wait_for(work, wait)
        libraries = {"huggingface_hub": version("huggingface_hub")}
        return BackendOutput(image, _at(self._model, name), libraries=libraries, notes=_left_out(name), unused=PROVIDERS[name].ignores)

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
            raise _failure(provider, error, self._visitors_pay) from error


def _failure(provider: str, error: Exception, visitors_pay: bool) -> FluxDemoError:
    from huggingface_hub import errors
    from PIL import UnidentifiedImageError

    who = _provider_title(provider)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return BackendUnavailable(offline())
    if isinstance(error, errors.GatedRepoError):
        return BackendUnavailable(
            "FLUX.1-dev is available only to accounts that have accepted its licence. Accept it on https://huggingface.co/black-forest-labs/FLUX.1-dev with the account that pays, and try again."
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) and error.response is not None else None
    if visitors_pay and status in (401, 403):
        return BackendUnavailable(SIGN_IN_AGAIN)
    if status is not None:
        kind, sentence = STATUSES.get(status, (GenerationFailed, f"{{who}} answered with error {status}. Try again in a minute."))
        return kind(sentence.format(who=who))
    if any(isinstance(link, ssl.SSLCertVerificationError) for link in causes(error)):
        return Unreachable(UNVERIFIED)
    if isinstance(error, TimeoutError | errors.InferenceTimeoutError):
        return Unreachable(f"{who} did not answer in time. The model may be starting there: try again in a minute.")
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError) and "not supported" in str(error):
        kind, sentence = STATUSES[404]
        return kind(sentence.format(who=who))
    broken = isinstance(error, UnidentifiedImageError) or is_garbled(error)
    if not broken and (isinstance(error, OSError) or type(error).__module__.startswith("httpx")):
        return Unreachable(f"{who} cannot be reached{way_to_hub()}, or broke off. Check the network, and try again in a minute.")
    return GenerationFailed(f"{who} sent something that is not a whole image. Try again, or choose another FLUX_DEMO_HF_PROVIDER.")


STATUSES: dict[int, tuple[type[FluxDemoError], str]] = {
    400: (InvalidRequest, "{who} refused the request. Change the prompt, or choose another FLUX_DEMO_HF_PROVIDER."),
    401: (BackendUnavailable, f"Hugging Face rejected the token. Make a new one at {TOKEN_PAGE}, set HF_TOKEN to it, and start again."),
    402: (
        BackendUnavailable,
        f"The account's credit for Inference Providers is used up. Buy more at {BILLING_PAGE}, or choose another backend.",
    ),
    403: (
        BackendUnavailable,
        f'The token may not call Inference Providers. Give it the permission "Make calls to Inference Providers" at {TOKEN_PAGE}.',
    ),
    404: (BackendUnavailable, "{who} does not serve the model at present. Set FLUX_DEMO_HF_PROVIDER to another one, or to auto."),
    408: (Unreachable, "{who} did not answer in time. Try again in a minute."),
    410: (BackendUnavailable, "{who} no longer serves the model. Set FLUX_DEMO_HF_PROVIDER to another one, or to auto."),
    413: (InvalidRequest, "{who} found the request too large. Shorten the prompt."),
    422: (InvalidRequest, "{who} does not take these values. Choose a default size and other steps, or another FLUX_DEMO_HF_PROVIDER."),
    429: (Unreachable, "{who} has too many requests from this account at once. Try again in a minute."),
    **{
        status: (Unreachable, "{who} is not working at the moment. Try again in a minute, or choose another FLUX_DEMO_HF_PROVIDER.")
        for status in (500, 502, 503, 504)
    },
}


def _at(model: str, provider: str) -> str:
    """The model's name in recipes."""
    return f"{model} ({provider})"


def _provider_title(provider: str) -> str:
    return "Hugging Face" if provider == "auto" else provider


def _left_out(provider: str) -> tuple[str, ...]:
    """What is said about a provider that may not use every setting."""
    *names, last = PROVIDERS.get(provider, Provider()).ignores or ("",)
    used = " and ".join(filter(None, (", ".join(names), last)))
    return (f"{provider} does not say whether it uses {used}, so the recipe leaves {'them' if names else 'it'} out.",) if last else ()

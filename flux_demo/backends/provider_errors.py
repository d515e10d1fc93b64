"""What Hugging Face Inference Providers, their library and its transport report, in words."""

from __future__ import annotations

import ssl

from flux_demo.errors import UNVERIFIED, BackendUnavailable, FluxDemoError, GenerationFailed, InvalidRequest, Unreachable, causes
from flux_demo.hub_errors import TOKEN_PAGE, is_garbled, offline, way_to_hub

BILLING_PAGE = "https://huggingface.co/settings/billing"
SIGN_IN_AGAIN = (
    "Hugging Face rejected your sign-in, or it may not call Inference Providers. "
    "Sign out at the top of the page, sign in again, and allow it."
)
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


def provider_title(provider: str) -> str:
    return "Hugging Face" if provider == "auto" else provider


def provider_failure(provider: str, error: Exception, visitors_pay: bool) -> FluxDemoError:
    from huggingface_hub import errors
    from PIL import UnidentifiedImageError

    who = provider_title(provider)
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

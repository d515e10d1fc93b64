"""What NVIDIA's services answer when there is no image, as sentences for the person.

A service's own text is quoted only where it says which value it rejected. Elsewhere it names accounts, functions and hosts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flux_demo.backends.nvidia.secrecy import gives_away
from flux_demo.errors import UNVERIFIED, BackendUnavailable, FluxDemoError, GenerationFailed, InvalidRequest, Unreachable

KEY_PAGE = "https://build.nvidia.com/black-forest-labs/flux_1-dev"
FIELD_ADVICE = "Change it and generate again."
MAX_QUOTED = 200  # characters of a service's own text


@dataclass(frozen=True)
class Service:
    """How messages name one service, and what they advise."""

    who: str  # within a sentence
    later: str  # what to do about a failure that may pass
    check_connection: str  # what to do when nothing answers
    not_tls: str  # what to do when the other side fails to speak TLS
    statuses: Mapping[int, tuple[type[FluxDemoError], str]]
    unverified: str = UNVERIFIED  # said of a certificate that is not trusted

    @property
    def name(self) -> str:
        """``who`` at the start of a sentence."""
        return self.who[0].upper() + self.who[1:]


HOSTED = Service(
    who="NVIDIA",
    later="Try again in a minute, or choose another backend.",
    check_connection="Check this machine's internet connection, or choose another backend.",
    not_tls="Check this machine's network and its proxy, or choose another backend.",
    statuses={
        400: (GenerationFailed, "NVIDIA did not accept the request. Try again in a minute, or choose another backend."),
        401: (BackendUnavailable, f"NVIDIA rejected the key in NVIDIA_API_KEY. Get a new one at {KEY_PAGE}, set it and restart."),
        402: (
            BackendUnavailable,
            f"The credit of the key in NVIDIA_API_KEY is used up. Check the account at {KEY_PAGE}, or choose another backend.",
        ),
        403: (BackendUnavailable, f"NVIDIA rejected the key in NVIDIA_API_KEY. Get a new one at {KEY_PAGE}, set it and restart."),
        404: (
            BackendUnavailable,
            "There is no FLUX.1-dev at the address of the hosted API. Leave FLUX_DEMO_HOSTED_URL unset, or correct it.",
        ),
        405: (
            BackendUnavailable,
            "The address of the hosted API does not accept image requests. Leave FLUX_DEMO_HOSTED_URL unset, or correct it.",
        ),
        410: (BackendUnavailable, "NVIDIA has retired this model's hosted API. Choose another backend: local, nim or mini."),
        413: (GenerationFailed, "NVIDIA found the request too large. Shorten the prompt."),
        429: (Unreachable, "NVIDIA is busy, or the key's requests for this minute are used up. Try again in a minute."),
        500: (
            Unreachable,
            "NVIDIA's server failed several times while generating the image. Try again in a minute, or choose another backend.",
        ),
        502: (Unreachable, "NVIDIA's service is not reachable at the moment. Try again in a minute, or choose another backend."),
        503: (Unreachable, "NVIDIA's service is overloaded at the moment. Try again in a minute, or choose another backend."),
        504: (Unreachable, "No machine at NVIDIA was free in time. Try again in a minute, or choose another backend."),
    },
)
MAP_TOO_LARGE = "The proxy in front of your NIM found the map too large. Allow request bodies of 10 MB there, or choose a smaller size."
# At another address than NVIDIA's own.
ELSEWHERE = replace(
    HOSTED,
    check_connection="Correct FLUX_DEMO_HOSTED_URL, or leave it unset; if it is right, check this machine's internet connection.",
    not_tls="Correct FLUX_DEMO_HOSTED_URL, or leave it unset.",
)
NOT_ENABLED = (
    f"FLUX.1-dev is not enabled for the account that NVIDIA_API_KEY belongs to. Open {KEY_PAGE} with that account, or use another key."
)
DEGRADED = "NVIDIA says that this service is out of order at the moment. Try again later, or choose another backend."

ASKS_FOR_LOGIN = (
    BackendUnavailable,
    "A proxy in front of your NIM asks for a login. Set FLUX_DEMO_NIM_URL to the container's own address.",
)
NIM = Service(
    who="your NIM",
    later="Check the container's log and try again.",
    check_connection="Check that the container is running and that FLUX_DEMO_NIM_URL is its address.",
    not_tls="Begin FLUX_DEMO_NIM_URL with http:// if the NIM expects that, or check its certificate and any proxy in between.",
    unverified=(
        "The certificate of your NIM cannot be verified. Set SSL_CERT_FILE to the certificate of whoever signed it, "
        "or FLUX_DEMO_NIM_URL to the host that the certificate is for, and restart."
    ),
    statuses={
        400: (GenerationFailed, "Your NIM did not accept the request. Check the container's log."),
        401: ASKS_FOR_LOGIN,
        403: ASKS_FOR_LOGIN,
        404: (
            BackendUnavailable,
            "The server at FLUX_DEMO_NIM_URL has no /v1/infer. Set it to the address of a FLUX.1-dev NIM, for example http://localhost:8000.",
        ),
        405: (
            BackendUnavailable,
            "The server at FLUX_DEMO_NIM_URL does not accept image requests. Set it to the address of a FLUX.1-dev NIM.",
        ),
        407: ASKS_FOR_LOGIN,
        413: (
            GenerationFailed,
            "The proxy in front of your NIM found the request too large. Shorten the prompt, or allow larger request bodies there.",
        ),
        429: (Unreachable, "Your NIM is busy with other images. Try again in a minute."),
        500: (Unreachable, "Your NIM failed several times while generating the image. Check the container's log and try again."),
        502: (Unreachable, "The proxy in front of your NIM cannot reach it. Check that the container is running."),
        503: (Unreachable, 'Your NIM is not ready. Wait until its log says "Pipeline warmup: done", and try again.'),
        504: (
            Unreachable,
            "The proxy in front of your NIM waited too long for it. Raise its timeout above a minute, or ask for fewer steps.",
        ),
    },
)


def failure(service: Service, status: int, body: bytes, *, secret: str | None = None, advice: str = FIELD_ADVICE) -> FluxDemoError:
    """The error for an answer other than success.

    ``advice``: what to do about a 422 that blames no field. ``secret`` is left out, even if the service repeats it.
    """
    detail = detail_of(body)
    if status == 422:
        said = quoted(detail, secret)
        reason = f" ({said})" if said else ", without saying why"
        return InvalidRequest(
            f"{service.name} refused the request{reason}. {FIELD_ADVICE if any(location for location, _, _ in faults_of(detail)) else advice}"
        )
    if service is not NIM and status == 404 and isinstance(detail, str) and "function" in detail.lower():
        return BackendUnavailable(NOT_ENABLED)
    if service is not NIM and status == 400 and isinstance(detail, str) and "degraded" in detail.lower():
        return Unreachable(DEGRADED)
    if status in service.statuses:
        kind, sentence = service.statuses[status]
        return kind(sentence)
    if 300 <= status < 400:
        return BackendUnavailable(
            f"{service.name} redirected the request to another address, and this program does not follow. {service.check_connection}"
        )
    return GenerationFailed(f"{service.name} gave an unexpected answer (HTTP {status}). {service.later}")


def detail_of(body: bytes) -> Any:
    """``detail`` of a JSON body: a list, a string, or None when there is none or the body is not JSON."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None
    return document.get("detail") if isinstance(document, dict) else None


def faults_of(detail: Any) -> list[tuple[tuple[str, ...], str, str]]:
    """(location in the body, type, message) of each entry of a validation error; empty for a detail of another shape."""
    faults = []
    for item in detail if isinstance(detail, list) else ():
        if isinstance(item, dict):
            location = item.get("loc")
            names = tuple(map(str, location)) if isinstance(location, list) else ()
            faults.append((names[names[:1] == ("body",) :], str(item.get("type", "")), str(item.get("msg", ""))))
    return faults


def quoted(detail: Any, secret: str | None = None) -> str:
    """A detail made fit to show, as one short line: of a validation error, the last part of the location and the message.

    Empty when any part of the detail gives away some of ``secret``.
    """
    if secret and gives_away(json.dumps(detail, ensure_ascii=False), secret):
        return ""
    if isinstance(detail, list):
        parts = [f"{location[-1]}: {message}" if location else message for location, _, message in faults_of(detail)]
        text = "; ".join(part for part in parts if part)
    else:
        text = detail if isinstance(detail, str) else ""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()).rstrip(".")
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 3] + "..."


def is_about_the_prompt(body: bytes) -> bool:
    """Whether what a service refused is the prompt's field, or its form."""
    detail = detail_of(body)
    if isinstance(detail, str):
        return "prompt" in detail.lower()
    return any({"prompt", "text_prompts"} & set(location) for location, _, _ in faults_of(detail))

"""NVIDIA's two services as backends: the hosted API, and a NIM of the person's own.

The hosted API runs the text mode; in canny and depth it follows only NVIDIA's own four sample images. A NIM follows the very map that
the page shows. This file knows when each service can be used; the connection, the bodies and the answers are in the files beside it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from flux_demo.backends import Backend, Refusal
from flux_demo.backends.content_rules import ContentRules
from flux_demo.backends.nvidia import own_service
from flux_demo.backends.nvidia.address import address_problem, base_url, clear_text_problem, poll_url
from flux_demo.backends.nvidia.answers import output_of
from flux_demo.backends.nvidia.container import Container, missing_variant, probe
from flux_demo.backends.nvidia.errors import (
    ELSEWHERE,
    HOSTED,
    KEY_PAGE,
    MAP_TOO_LARGE,
    NIM,
    detail_of,
    failure,
    faults_of,
    is_about_the_prompt,
    quoted,
)
from flux_demo.backends.nvidia.lazy_connection import LazyConnection
from flux_demo.backends.nvidia.pace import MAX_CONNECTIONS, Pace
from flux_demo.backends.nvidia.payload import NVIDIA_LIMITS, dials, hosted_body, nim_body
from flux_demo.backends.nvidia.schema import Limits
from flux_demo.errors import BackendUnavailable, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest
from flux_demo.modes import Mode, find_mode
from flux_demo.progress import OnStatus, OnStep, Phase, Status
from flux_demo.request import BackendOutput, Dials, GenerationRequest
from flux_demo.safety import UNFILTERED
from flux_demo.settings import HOSTED_URL
from flux_demo.texts import Text

if TYPE_CHECKING:
    from flux_demo.backends.nvidia.client import Response
    from flux_demo.settings import Settings

MODEL = "black-forest-labs/flux.1-dev"

PACE = Pace()

NO_KEY = Text("NVIDIA_API_KEY is not set. Get a key at {page}, set the variable to it and restart.", page=KEY_PAGE)
BROKEN_KEY = (
    f"NVIDIA_API_KEY contains characters that keys never have: quotes, spaces or letters beyond ASCII. Copy the key again from {KEY_PAGE}."
)
ONLY_SAMPLES = (
    "It follows only NVIDIA's own four sample images, not your photo. "
    "Use this machine's GPU, your NIM or the mini for photos, or start the page with `python app.py --backend hosted` for the samples."
)
OWN_ERRORS: dict[int, type[FluxDemoError]] = {422: InvalidRequest, 503: BackendUnavailable}  # of this program's own service
RETRIED_NOTE = "The machine that worked on this image failed, and another one generated it."
UNFILTERED_THERE = (
    "The service at FLUX_DEMO_NIM_URL runs FLUX without the content filter, and strangers can reach this page, so the image is not shown. "
    "Run `python -m flux_demo fetch filter` there and restart it, or start this page with --allow-unfiltered if you review what is shown."
)
NO_URL = "FLUX_DEMO_NIM_URL is not set. Start a NIM and set the variable to its address, for example http://localhost:8000."


class Hosted(Backend):
    """NVIDIA's hosted API. The key is sent to no other host."""

    name = "hosted"
    title = "NVIDIA's hosted API"
    concurrency = MAX_CONNECTIONS

    def __init__(self, settings: Settings, pace: Pace = PACE) -> None:
        self._key = settings.nvidia_api_key
        self.configured = bool(self._key)
        self._url = settings.hosted_url
        self._chosen = settings.backend == self.name
        self._service = HOSTED if self._url == HOSTED_URL else ELSEWHERE
        self._connection = LazyConnection(self._service, self._url, pace)

    def refusal(self, mode: Mode) -> Refusal | None:
        problem = self._problem(mode)
        return Refusal(problem) if problem else None

    def _problem(self, mode: Mode) -> str | None:
        if mode.control is not None and not self._chosen:
            return ONLY_SAMPLES  # so that ``auto`` finds a backend that takes photos
        if not self._key:
            return NO_KEY
        if not (self._key.isascii() and self._key.isprintable() and not set(self._key) & set(" \"'")):
            return BROKEN_KEY
        return address_problem("FLUX_DEMO_HOSTED_URL", self._url) or clear_text_problem(self._url)

    def model_name(self, mode: Mode) -> str:
        return f"{MODEL} (NVIDIA API)"

    def dials(self, mode: Mode) -> Dials:
        return dials(mode, own_photos=mode.control is None)

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        mode = find_mode(request.mode)
        body = hosted_body(request)
        if problem := self._problem(mode):
            raise BackendUnavailable(problem)
        connection = self._connection.connection()
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "NVCF-POLL-SECONDS": str(connection.pace.server_poll),  # without it the gateway may hold a call and never answer
        }
        answer = connection.post(self._url, body, on_status, headers=headers, poll_url=poll_url(self._url))
        if answer.status != 200:
            advice = (
                "It follows only its own sample images: choose one of the four."
                if mode.control
                else "Change the prompt and generate again."
            )
            raise failure(self._service, answer.status, answer.body, secret=self._key, advice=advice)
        return output_of(request, answer.body, self._service, NVIDIA_LIMITS, self.model_name(mode), "NVIDIA's filter: passed")

    def close(self) -> None:
        self._connection.close()


class Nim(Backend):
    """A NIM of the person's own. It is probed once; again after a while if it did not answer in full, or lacks the mode that is asked for,
    and at once if an answer suggests that it was restarted with another model.
    """

    name = "nim"
    dials_change = True

    def __init__(self, settings: Settings, pace: Pace = PACE) -> None:
        given = settings.nim_url
        self.configured = bool(given)
        self._problem = address_problem("FLUX_DEMO_NIM_URL", given) if given else NO_URL
        self._url = "" if self._problem or not given else base_url(given)
        self._connection = LazyConnection(NIM, self._url, pace.unhurried())
        self._rules = ContentRules(settings)
        self._pace = pace
        self._container: Container | None = None
        self._probed_at = 0.0
        self._text_prompts = False  # True once the container has turned out to be one of the first, which have no prompt field
        self._missing: dict[str, float] = {}  # when each mode turned out not to be served, by its name

    @property
    def title(self) -> str:  # type: ignore[override]
        models = set(self._limits.models.values())
        return (
            f"Your service at FLUX_DEMO_NIM_URL, which runs {'the mini' if models == {'mini'} else 'FLUX'}" if models else "Your NVIDIA NIM"
        )

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        """Runs beyond what the service works on at once wait here, without holding a connection that a proxy could cut. A NIM takes one at a time."""
        return min(self._limits.concurrency or 1, MAX_CONNECTIONS)

    @property
    def _limits(self) -> Limits:
        return self._container.limits if self._container else NVIDIA_LIMITS

    def refusal(self, mode: Mode) -> Refusal | None:
        if self._problem:
            return Refusal(self._problem)
        if time.monotonic() - self._missing.get(mode.name, -math.inf) < self._pace.remember_missing:
            return Refusal(missing_variant(mode))
        problem = self._probe(mode).problem_for(mode)
        return Refusal(problem) if problem else None

    def model_name(self, mode: Mode) -> str:
        return self._limits.models.get(mode.nim) or f"{MODEL} (NVIDIA NIM)"

    def dials(self, mode: Mode) -> Dials:
        return dials(mode, own_photos=True, limits=self._limits)

    def generate(self, request: GenerationRequest, on_step: OnStep, on_status: OnStatus) -> BackendOutput:
        mode = find_mode(request.mode)
        container = (
            Container(problem=self._problem)
            if self._problem
            else self._probe(mode, lambda: on_status(Status(Phase.WAITING, "Looking for your NIM")))
        )
        if problem := container.problem_for(mode):
            raise BackendUnavailable(problem)
        connection = self._connection.connection()

        def post(*, text_prompts: bool) -> Response:
            body = nim_body(request, container.fields, text_prompts=text_prompts)
            return connection.post(
                f"{self._url}/v1/infer",
                body,
                on_status,
                headers={"Accept": "application/json"},
                alive_url=f"{self._url}/v1/health/live",
            )

        old_form = self._text_prompts or ("text_prompts" in container.fields and "prompt" not in container.fields)
        answer = post(text_prompts=old_form)
        if answer.status == 422 and not old_form and is_about_the_prompt(answer.body):
            second = post(text_prompts=True)
            self._text_prompts = second.status == 200
            if second.status != 422:  # if both are refused, what was said about the newer form is more useful
                answer = second
        if answer.status == 422:
            self._probe_again()  # what it refuses, it may have taken before it was restarted
        if answer.status != 200:
            raise self._failure(mode, answer)
        self._missing.pop(mode.name, None)
        return self._output(request, mode, answer)

    def _output(self, request: GenerationRequest, mode: Mode, answer: Response) -> BackendOutput:
        """What an answer with status 200 holds. Raises ContentRefused, GenerationFailed."""
        model, safety, preset, plan, retried = (
            own_service.said(answer.headers, name) for name in ("model", "safety", "preset", "plan", "retried")
        )
        if safety == UNFILTERED and self._rules.are_strict:
            raise ContentRefused(UNFILTERED_THERE)
        if model != self._limits.models.get(mode.nim) and (model or own_service.said(answer.headers, "version") is None):
            self._probe_again()
        if model is None and not self._limits.models:
            return output_of(request, answer.body, NIM, self._limits, self.model_name(mode), "your NIM's filter: passed")
        output = output_of(request, answer.body, NIM, self._limits, model or self.model_name(mode), safety)
        notes = (*output.notes, *own_service.said_lines(answer.headers, "notes"), *([RETRIED_NOTE] if retried else []))
        return replace(output, preset=preset, plan=plan, notes=notes)

    def recheck(self) -> None:
        self._container = None
        self._missing.clear()

    def close(self) -> None:
        self._connection.close()

    def _probe(self, mode: Mode, on_wait: Callable[[], None] = lambda: None) -> Container:
        """What is known of the container. It is asked again where that may have changed for the mode."""
        known = self._container
        if known and known.has_schema and not known.problem:
            believed_s = self._pace.remember_missing if known.problem_for(mode) else math.inf
        else:
            believed_s = self._pace.probe_again
        if known is None or time.monotonic() - self._probed_at > believed_s:
            try:
                known = probe(self._connection.connection(), self._url, on_wait, known)
            except BackendUnavailable as error:
                known = Container(problem=str(error))
            if known.problem and self._container:  # it may be starting again: what can be asked there is not forgotten meanwhile
                known = replace(known, limits=self._container.limits)
            self._container, self._probed_at = known, time.monotonic()
        return known

    def _probe_again(self) -> None:
        """Ask the container anew what it is. Where it does not say, what was known of it stands until it is asked again.

        It cannot be stopped: the answer to a request is there already. It takes as long as ``probe``.
        """
        known = self._container or Container()
        found = probe(self._connection.connection(), self._url, lambda: None, known)
        self._container = replace(known, has_schema=False) if found.problem else found
        self._probed_at, self._text_prompts = time.monotonic(), False

    def _failure(self, mode: Mode, answer: Response) -> FluxDemoError:
        """The error for an answer other than success.

        A container may reveal only when asked that it does not serve a variant: it then answers 422 with an undocumented text.
        """
        status, body = answer.status, answer.body
        if worded := own_service.refusal(answer, "detail"):
            return OWN_ERRORS.get(status, GenerationFailed)(worded)
        if status == 413 and mode.control is not None:
            return GenerationFailed(MAP_TOO_LARGE)
        if status != 422:
            return failure(NIM, status, body)
        detail = detail_of(body)
        faults = faults_of(detail)
        blames_mode = any(location[-1:] == ("mode",) for location, _, _ in faults)
        names_no_field = isinstance(detail, str) or not any(location for location, _, _ in faults)
        if blames_mode or (names_no_field and re.search(rf"\b(variant|{mode.nim})\b", quoted(detail), re.IGNORECASE)):
            self._missing[mode.name] = time.monotonic()
            return BackendUnavailable(missing_variant(mode))
        return failure(
            NIM, status, body, advice=f"If it was started without the {mode.nim} variant, restart it with NIM_MODEL_VARIANT={mode.nim}."
        )

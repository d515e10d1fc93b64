"""The ingress of the service on Ray Serve: it validates and queues requests, retries once if a replica died, and reports the service's state.

A request contains its image itself, never a path or an address.
"""

import asyncio
import base64
import json
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import PlainTextResponse
from pydantic import ValidationError
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from ray.util.metrics import Counter

from flux_demo.backends.nvidia import own_service
from flux_demo.modes import MODES
from flux_demo.serve_schema import MAX_INPUT, document, faults, parse, request_model
from flux_demo.version import VERSION

MAX_BODY = 48 * 2**20  # bytes: the loader's limit for a picture, in base64, and the rest
STATUS_S = 1.0  # how long a count of the replicas is trusted
LOADING_TIMEOUT_S = 60.0  # how long a request waits for the replicas of a service that was just deployed
OURS = re.compile(r"(# \w+ )?ray_(serve|flux_demo)_")  # lines of Ray's metrics that are about the service
DIED_TWICE = "The machine that worked on this image failed, and so did a second one. Try again in a minute."
JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json\b", re.IGNORECASE)  # those that FastAPI takes
NOT_DECLARED = {"type": "content_type", "loc": ["header", "Content-Type"], "msg": "Send JSON, with Content-Type: application/json"}
NOT_JSON = {"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {}}
FAILED = "The service could not handle this request; its logs say why. Try again in a minute."
LEAVING_S = 0.5  # the time that an answer has to leave through Ray's proxy, which ends without looking
ENDING = "The service is being stopped and takes no more requests. Try again once it is running again."
LOADING = "The models are still being loaded. Wait until /v1/health/ready answers 200."


# Serve sends what stands above the class to the replicas together with it, and nothing that stands below.
api = FastAPI(title="FLUX.1 [dev]", version=VERSION, openapi_url=None, docs_url=None, redoc_url=None)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """ASCII throughout, because a request may hold half of a surrogate pair and a refusal repeats it."""
    known = own_service.headers({"Version": VERSION})  # a client that finds it may quote the answer
    return Response(json.dumps(content, allow_nan=False), status, known | dict(headers or {}), "application/json")


@api.exception_handler(Exception)
async def _failed(request: Request, error: Exception) -> Response:
    """The answer where nobody knew what to say; the error goes on to Serve's log."""
    return _json({"detail": FAILED}, 500)


@serve.ingress(api)
class Ingress:
    """A NIM's endpoints, and one queue before all replicas."""

    def __init__(self, generators: DeploymentHandle, queue: int) -> None:
        self._generators, self._queue = generators, queue
        self._application = serve.get_replica_context().app_name  # a cluster may run others beside it
        self._about: dict[str, Any] = {}
        self._model: Any = None
        self._running = (0.0, 0)  # when the replicas were counted, and how many run
        self._seconds: float | None = None  # that an image takes, a running mean
        self._accepted = 0  # requests that wait or run
        self._ending = False
        self._asking: asyncio.Task | None = None
        self._retries = Counter("flux_demo_retries", "Requests that were given to a second replica because the first one died.")

    @api.post("/v1/infer")
    async def infer(self, request: Request) -> Response:
        if self._model is None and (problem := await self._problem(LOADING_TIMEOUT_S)):
            return _json({"detail": problem}, 503)
        fields, refused = await self._read(request)
        if refused is not None:
            return refused
        if self._ending:
            return _json({"detail": ENDING}, 503)
        if self._is_full():
            await self._count_replicas()  # they may have become more
        if self._is_full():
            wait_s = math.ceil((self._seconds or 1.0) * self._accepted / max(1, self._running[1]))
            detail = f"The queue is full, with {self._accepted} ahead of you. Try again in {wait_s} seconds."
            return _json({"detail": detail}, 429, {"Retry-After": str(max(1, wait_s))})
        try:
            answer, retried = await self._generate(fields)
        except RayActorError:
            return _json({"detail": DIED_TWICE}, 500)
        said = answer.get("said", {}) | ({"retried": "once"} if retried else {})
        if "detail" in answer:
            return _json({"detail": answer["detail"]}, answer["status"], own_service.headers(said))
        if "seconds" in said:  # of a withheld image it is not known
            seconds = float(said["seconds"])
            self._seconds = seconds if self._seconds is None else self._seconds + 0.2 * (seconds - self._seconds)
        image = base64.b64encode(answer["image"]).decode("ascii")
        artifact = {"base64": image, "finishReason": answer["reason"], "seed": answer["seed"]}
        return _json({"artifacts": [artifact]}, 200, own_service.headers(said))

    @api.get("/v1/health/live")
    async def live(self) -> dict[str, str]:
        return {"status": "live"}

    @api.get("/v1/health/ready")
    async def ready(self) -> Response:
        problem = await self._problem()
        return _json({"status": "not ready", "reason": problem} if problem else {"status": "ready"}, 503 if problem else 200)

    @api.get("/openapi.json")
    async def openapi(self) -> Response:
        if problem := await self._problem():
            return _json({"detail": problem}, 503)
        return _json(document(self._model, VERSION))

    @api.get("/docs")
    async def docs(self) -> Response:
        return get_swagger_ui_html(openapi_url="/openapi.json", title=api.title)

    @api.get("/v1/metrics")
    async def metrics(self) -> Response:
        """Ray Serve's own metrics on every machine: requests, latencies, queues, replicas."""
        import httpx

        texts = []
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            for node in ray.nodes():
                if node["Alive"] and node.get("MetricsExportPort"):
                    with suppress(httpx.HTTPError):  # it counts as alive for a while after it died
                        answer = await client.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")
                        texts += [line for line in answer.text.splitlines(keepends=True) if OURS.match(line)]
        return PlainTextResponse("".join(texts), media_type="text/plain; version=0.0.4")

    async def refused(self) -> dict[str, str]:
        """Why each mode that cannot run cannot, by NVIDIA's names of the modes; asked by whoever deployed the service. Waits for the models as a request does."""
        await self._problem(LOADING_TIMEOUT_S)
        return self._about.get("refused", {})

    async def finish(self) -> bool:
        """Take no more requests, and wait until those that were taken are answered and the answers have left. Whether it was asked before."""
        before, self._ending = self._ending, True
        while self._accepted:
            await asyncio.sleep(0.1)
        await asyncio.sleep(LEAVING_S)
        return before

    async def _read(self, request: Request) -> tuple[dict[str, Any], Response | None]:
        """The request's values with the defaults filled in, or the refusal."""
        kind = request.headers.get("content-type", "")
        if not JSON_TYPE.match(kind):
            return {}, _json({"detail": [NOT_DECLARED | {"input": kind[:MAX_INPUT]}]}, 422)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                return {}, _json({"detail": f"The request is larger than {MAX_BODY // 2**20} MiB. Send a smaller image."}, 413)
        try:
            parsed = parse(body, self._model)
            defaults = self._about["modes"][parsed.mode]
            unset = {"cfg_scale": defaults["guidance"], "steps": defaults["steps"]}
            return parsed.model_dump() | {name: value for name, value in unset.items() if name not in parsed.model_fields_set}, None
        except ValidationError as error:
            return {}, _json({"detail": faults(error)}, 422)
        except (ValueError, RecursionError):
            return {}, _json({"detail": [NOT_JSON]}, 422)

    def _is_full(self) -> bool:
        """Whether no more requests may wait. Ray's own limit would also count those that it is about to give to an idle replica."""
        return self._accepted >= self._running[1] + self._queue

    async def _generate(self, fields: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The answer, and whether a second replica gave it because the first one died."""
        self._accepted += 1
        try:
            return await self._generators.generate.remote(fields), False
        except RayActorError:
            self._retries.inc()
            return await self._generators.generate.remote(fields), True
        finally:
            self._accepted -= 1

    async def _problem(self, timeout_s: float = 0) -> str | None:
        """Why nothing can be generated now; None if it can. Waits up to ``timeout_s`` for models that are being loaded."""
        until = time.monotonic() + timeout_s
        while not self._ending and (loading := await self._is_loading()) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        if self._ending:
            return ENDING
        if loading:
            return LOADING
        return None if self._model else self._about["refused"][MODES["text"].nim]

    async def _count_replicas(self) -> None:
        now = time.monotonic()
        if now - self._running[0] > STATUS_S:
            status = await asyncio.to_thread(serve.status)
            states = status.applications[self._application].deployments["Generator"].replica_states
            self._running = (now, states.get("RUNNING", 0))

    async def _is_loading(self) -> bool:
        await self._count_replicas()
        if self._running[1] and self._model is None:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            await asyncio.wait([self._asking], timeout=1)
        return not (self._running[1] and self._about)

    async def _ask(self) -> None:
        self._about = await self._generators.describe.remote()
        if self._about["modes"]:
            self._model = request_model(self._about["modes"], self._about["models"], self._about["concurrency"], self._about["refused"])

"""NVIDIA's hosted API and a NIM on loopback, as strict as the real ones, for tests and for trying the page by hand.

    python -m stand_ins.nvidia --port 8900

prints the variables to set. It answers with simple images, in which one can see that a map is followed. Words in a prompt provoke the rarer
answers of the services: __async__, __large__, __filter_black__, __filter_empty__, __500__, __504__, __empty__, __html__. The key
nvapi-test-ratelimit is told to wait twice; the keys nvapi-test-bad, -nocredit and -noscope are refused.
"""

import argparse
import base64
import json
import sys
import threading
import uuid
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.listening import HOST, read_port
from stand_ins import nvidia_schema as schema
from stand_ins.nvidia_images import encoded, scene
from stand_ins.nvidia_wire import Recorded, Reply, Wire

HOSTED_PATH = "/v1/genai/black-forest-labs/flux.1-dev"
POLL_PATH = "/v2/nvcf/pexec/status/"
GOOD_KEY = "nvapi-test-ok"
PROBLEM = "application/problem+json"
HTML = "<html>proxy page</html>"
WORKER_FAILED = "urn:nvcf-worker-service:problem-details:internal-server-error"
KEYS = {
    "nvapi-test-bad": (403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}),
    "nvapi-test-nocredit": (
        402,
        {
            "status": 402,
            "title": "Payment Required",
            "detail": "Account 'TEST': Cloud credits expired - Please contact NVIDIA representatives",
        },
    ),
    "nvapi-test-noscope": (
        404,
        {"status": 404, "title": "Not Found", "detail": "Function '00000000-0000-4000-8000-000000000000': Not found for account 'TEST'"},
    ),
}
NO_SUCH_KEY = (401, {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"})


@dataclass
class Container:
    """How the NIM was started, and of which release it is."""

    variant: str = "base+canny+depth"
    ready_after: int = 0  # requests to /v1/health/ready that are answered with 503
    knows_maps: bool = True  # its schema has preprocess_image
    old: bool = False  # accepts text_prompts instead of prompt
    has_openapi: bool = True
    modes: tuple[str, ...] = schema.MODES  # that its schema names
    kind: str = "JPEG"

    @property
    def fields(self) -> tuple[str, ...]:
        fields = (*schema.SHARED, *schema.NIM_ONLY)
        if not self.knows_maps:
            fields = tuple(name for name in fields if name != "preprocess_image")
        return tuple("text_prompts" if name == "prompt" else name for name in fields) if self.old else fields


class StandIn(Wire):
    """Both services on one port."""

    def __init__(self, port: int = 0, container: Container | None = None, retry_after: str | None = None, seconds: float = 0.0):
        super().__init__(port)
        self.container = container or Container()
        self.retry_after = retry_after
        self.seconds = seconds
        self.hosted_url = self.origin + HOSTED_PATH
        self._waiting: dict[str, list[Reply]] = {}  # the answers to polls, by id
        self._large: dict[str, bytes] = {}
        self._refusals = 0

    def answer(self, request: Recorded) -> Reply:
        path = request.path
        if path.startswith("/v1/health/"):
            return self._health(path)
        if path == "/openapi.json" and self.container.has_openapi:
            return Reply(body=schema.openapi(self.container.fields, self.container.modes))
        if path.startswith("/large/"):
            return self._storage(request)
        if path not in (HOSTED_PATH, "/v1/infer") and not path.startswith(POLL_PATH):
            return Reply(404, "404 page not found")
        if self.replies:
            return self.replies.popleft()
        if path.startswith(POLL_PATH):
            return self._refused(request) or self._poll(path.removeprefix(POLL_PATH))
        if request.method != "POST":
            return Reply(405)
        return self._hosted(request) if path == HOSTED_PATH else self._nim(request)

    def _health(self, path: str) -> Reply:
        if path.endswith("/ready") and self.container.ready_after > 0:
            self.container.ready_after -= 1
            return Reply(503, {"status": "not ready"})
        return Reply(body={"status": "ready"})

    def _refused(self, request: Recorded) -> Reply | None:
        """The gateway's checks, in its order: the header, the key, the polling header, the rate."""
        given = request.headers.get("authorization")
        if given is None:
            return Reply(401, "Header of type `authorization` was missing")
        scheme, _, key = given.partition(" ")
        if scheme != "Bearer" or not key:
            return Reply(401, "Unauthorized access")
        if key in KEYS or not key.startswith("nvapi-test-"):
            return Reply(*KEYS.get(key, NO_SUCH_KEY), content_type=PROBLEM)
        poll = request.headers.get("nvcf-poll-seconds", "60")
        if not (poll.isdigit() and 1 <= int(poll) <= 3600):
            return Reply(400, {"status": 400, "title": "Bad Request", "detail": f"Invalid NVCF-POLL-SECONDS: {poll}"}, content_type=PROBLEM)
        if key == "nvapi-test-ratelimit" and self._refusals < 2:
            self._refusals += 1
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return Reply(429, {"status": 429, "title": "Too Many Requests"}, headers, PROBLEM)
        return None

    def _hosted(self, request: Recorded) -> Reply:
        if refused := self._refused(request):
            return refused
        payload, refused = _payload(request, schema.SHARED, hosted=True)
        if refused:
            return refused
        prompt = payload["prompt"]
        if "__500__" in prompt:
            detail = "Internal error while making inference request"
            return Reply(
                500, {"type": WORKER_FAILED, "title": "Internal Server Error", "status": 500, "detail": detail}, content_type=PROBLEM
            )
        if "__504__" in prompt:
            return Reply(504, headers={"nvcf-reqid": str(uuid.uuid4()), "nvcf-status": "errored"})
        reply = self._generated(payload, prompt, "JPEG")
        identity = str(uuid.uuid4())
        if "__async__" in prompt:
            pending = Reply(202, headers={"nvcf-reqid": identity, "nvcf-status": "in-progress"})
            self._waiting[identity] = [pending, reply]
            return pending
        if "__large__" in prompt:
            archive = BytesIO()
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr(f"{identity}.response", json.dumps(reply.body))
            self._large[identity] = archive.getvalue()
            # to the client this is another host, which must not get the key
            return Reply(302, headers={"Location": f"http://localhost:{self.port}/large/{identity}.zip?signature=secret"})
        reply.headers = {"nvcf-reqid": identity, "nvcf-status": "fulfilled"}
        return reply

    def _nim(self, request: Recorded) -> Reply:
        if self.container.ready_after > 0:
            return Reply(503)
        payload, refused = _payload(request, self.container.fields, hosted=False)
        if refused:
            return refused
        if payload.get("mode", "base") not in self.container.variant.split("+"):
            return Reply(422, {"detail": f"Mode {payload.get('mode', 'base')} is not loaded"})
        return self._generated(
            payload, payload["prompt"] if "prompt" in payload else payload["text_prompts"][0]["text"], self.container.kind
        )

    def _generated(self, payload: dict[str, Any], prompt: str, kind: str) -> Reply:
        whole = {**schema.DEFAULTS, **payload}
        seed = whole["seed"] or 2719264517
        size = (whole["width"], whole["height"])
        if "__empty__" in prompt:
            return Reply(body={"artifacts": []})
        if "__html__" in prompt:
            return Reply(body=HTML, content_type="text/html")
        if "__filter_empty__" in prompt:
            return Reply(body=answer(b"", seed, "CONTENT_FILTERED"))
        if "__filter_black__" in prompt:
            return Reply(body=answer(encoded(Image.new("RGB", (1024, 1024)), "JPEG"), seed, "CONTENT_FILTERED"))
        image = whole.get("image") or ""
        sample = int(image[-1]) if "example_id" in image else None
        control = schema.image_of(image) if "base64," in image else None
        return Reply(body=answer(encoded(scene(*size, seed, control, whole["mode"], sample), kind), seed), delay_s=self.seconds)

    def _poll(self, identity: str) -> Reply:
        replies = self._waiting.get(identity)
        return replies.pop(0) if replies else Reply(404, {"status": 404, "title": "Not Found"}, content_type=PROBLEM)

    def _storage(self, request: Recorded) -> Reply:
        content = self._large.get(request.path.removeprefix("/large/").partition(".")[0])
        if "authorization" in request.headers:
            return Reply(400, "<Error><Code>InvalidArgument</Code></Error>", content_type="application/xml")
        return Reply(404) if content is None else Reply(body=content, content_type="application/zip")


def answer(content: bytes, seed: int, reason: str = "SUCCESS") -> dict[str, Any]:
    """A successful answer with these bytes as its image."""
    return {"artifacts": [{"base64": base64.b64encode(content).decode(), "finishReason": reason, "seed": seed}]}


def _payload(request: Recorded, fields: tuple[str, ...], *, hosted: bool) -> tuple[dict[str, Any], Reply | None]:
    try:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise ValueError("no JSON")
        payload = request.json
    except ValueError:
        return {}, Reply(422, {"detail": [{"type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error", "input": {}}]})
    if found := schema.faults(payload, fields):
        return payload, Reply(422, {"detail": found})
    fault = schema.image_fault(payload, hosted=hosted)
    return payload, Reply(422, {"detail": fault}) if fault else None


def _check(options: argparse.Namespace) -> None:
    """Raise InvalidRequest for what no NIM can be started as."""
    if not set(options.variant.split("+")) <= set(schema.MODES):
        raise InvalidRequest(f"--variant is {shortened(options.variant)}. Give base, canny or depth, or several of them: base+canny.")
    if not 0 <= options.seconds <= 3600:
        raise InvalidRequest("--seconds is how long an image takes. Give a number from 0 to 3600.")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stand_ins.nvidia", description="NVIDIA's services on loopback, for trying the page.")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--variant", default="base+canny+depth", help="the variants that the NIM was started with, for example base")
    parser.add_argument("--kind", default="JPEG", choices=["JPEG", "PNG"], help="the format of the NIM's images")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long an image takes")
    options = parser.parse_args(arguments)
    try:
        read_port(HOST, options.port, "--port")
        _check(options)
    except InvalidRequest as error:
        print(error, file=sys.stderr)
        return 3
    with StandIn(options.port, Container(variant=options.variant, kind=options.kind), seconds=options.seconds) as stand_in:
        print(f"export NVIDIA_API_KEY={GOOD_KEY} FLUX_DEMO_HOSTED_URL={stand_in.hosted_url}")
        print(f"export FLUX_DEMO_NIM_URL={stand_in.origin}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

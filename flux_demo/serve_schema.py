"""What the service takes, as a NIM declares it: options of the service, the request's schema, its refusals, its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from flux_demo.errors import InvalidRequest
from flux_demo.prompts import MAX_PROMPT
from flux_demo.reading import parse_json
from flux_demo.seeds import MAX_SEED

SERVED = ("local", "mini")  # backends that have models of their own
MAX_INPUT = 200  # characters of a value that a refusal repeats


@dataclass(frozen=True)
class Options:
    """How the service runs."""

    backend: str = "local"
    replicas: str = "1"  # replicas of the models: "2", or "1-4": scaled with the queue
    queue: int = 16  # requests that wait; more are answered 429
    public: bool = True  # strangers can reach it
    allow_unfiltered: bool = False

    def __post_init__(self) -> None:
        if self.backend not in SERVED:
            raise InvalidRequest(f"{self.backend!r} cannot be served. Choose {' or '.join(SERVED)}.")
        low, high = self.replica_range
        if not 1 <= low <= high <= 1000:
            raise InvalidRequest(f"{self.replicas!r} is not a number of replicas. Give one such as 2, or a range such as 1-4.")
        if type(self.queue) is not int or self.queue < 1:
            raise InvalidRequest(f"{self.queue!r} is not a length for the queue. Give a whole number, 1 or more.")

    @property
    def replica_range(self) -> tuple[int, int]:
        """The fewest and the most replicas."""
        low, dash, high = str(self.replicas).partition("-")
        try:
            return int(low), int(high if dash else low)
        except ValueError:
            return 0, 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def request_model(
    modes: Mapping[str, Mapping[str, Any]], models: Mapping[str, str], concurrency: int, refused: Mapping[str, str]
) -> type[BaseModel]:
    """The schema of ``/v1/infer`` for these modes, each with its dials as ``Dials.to_dict`` gives them, and with the name of its model.

    ``refused``: the other modes, each with the reason.
    """
    dials = next(iter(modes.values()))
    first, last, step = dials["sides"]
    width, height = map(int, dials["sizes"][0].split("x"))
    sides: Any = Literal[tuple(range(first, last + 1, step))]
    low, high = dials["guidance_range"]
    guidance: dict[str, Any] = {"gt" if dials["guidance_open"] else "ge": low, "le": high}
    beyond = {
        "models": models,
        "concurrency": concurrency,
        "refused": refused,
        "sizes": dials["sizes"],
        "max_pixels": dials["max_pixels"],
        "defaults": {name: {"cfg_scale": row["guidance"], "steps": row["steps"]} for name, row in modes.items()},
    }
    fields: dict[str, Any] = {
        "prompt": (Annotated[str, Field(max_length=MAX_PROMPT)], ...),
        "mode": (Literal[tuple(modes)], next(iter(modes))),
        "image": (str | None, Field(None, description="data:image/png;base64,…")),
        "preprocess_image": (bool, Field(True, description="draw the map from the image; false: it is the map already, of this size")),
        "width": (sides, width),
        "height": (sides, height),
        "cfg_scale": (Annotated[float, Field(**guidance)], dials["guidance"]),
        "steps": (Annotated[int, Field(ge=dials["step_range"][0], le=dials["step_range"][1])], dials["steps"]),
        "seed": (Annotated[int, Field(ge=0, lt=MAX_SEED + 1, description="0: a random one")], 0),
        "samples": (Annotated[int, Field(ge=1, le=1)], 1),
        "disable_safety_checker": (bool, False),
    }
    config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"x-flux-demo": beyond})
    return create_model("ImageRequest", __config__=config, **fields)


def parse(body: bytes | bytearray, model: type[BaseModel]) -> Any:
    """A request's values, an instance of the model. Raises ValidationError, and ValueError or RecursionError for what is not JSON."""
    return model.model_validate(parse_json(body))


def faults(error: ValidationError) -> list[dict[str, Any]]:
    """``detail`` of a 422, as FastAPI words it, without megabytes of the person's own picture."""
    found = error.errors(include_url=False)
    for fault in found:
        fault["loc"] = ("body", *fault["loc"])
        try:
            fits = len(json.dumps(fault["input"], allow_nan=False)) <= MAX_INPUT
        except ValueError:  # an infinity, which 1e999 is for Python and nothing for JSON
            fits = False
        if not fits:
            fault["input"] = repr(fault["input"])[:MAX_INPUT]
    return [{**fault, "loc": list(fault["loc"])} for fault in found]


def document(model: type[BaseModel], version: str) -> dict[str, Any]:
    """The OpenAPI document of the service."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = {**schema.pop("$defs", {}), "ImageRequest": schema}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ImageRequest"}}}, "required": True}
    answers = {
        "200": "the image, and its seed",
        "422": "the request cannot be taken; detail says why",
        "429": "the queue is full; Retry-After says when to try again",
        "503": "not ready",
    }
    infer = {
        "summary": "Generate an image",
        "requestBody": body,
        "responses": {code: {"description": text} for code, text in answers.items()},
    }
    ready = {"200": {"description": "ready"}, "503": {"description": "not ready; reason says why"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "FLUX.1 [dev]", "version": version},
        "paths": {
            "/v1/infer": {"post": infer},
            "/v1/health/live": {"get": {"responses": {"200": {"description": "live"}}}},
            "/v1/health/ready": {"get": {"responses": ready}},
            "/v1/metrics": {"get": {"responses": {"200": {"description": "Prometheus' text format"}}}},
        },
        "components": {"schemas": schemas},
    }

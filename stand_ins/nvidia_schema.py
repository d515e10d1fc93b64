"""What NVIDIA's two services accept, to the letter: fields, ranges, and how their validator words a refusal."""

import base64
import binascii
import re
from io import BytesIO
from typing import Any

from PIL import Image

SIDES = (768, 832, 896, 960, 1024, 1088, 1152, 1216, 1280, 1344)
MODES = ("depth", "base", "canny")
SHARED = ("prompt", "mode", "image", "width", "height", "cfg_scale", "steps", "seed", "samples")
NIM_ONLY = ("preprocess_image", "disable_safety_checker")
DEFAULTS = {"mode": "base", "width": 1024, "height": 1024, "steps": 50, "seed": 0, "samples": 1}
INVALID_FORM = "Image has been provided in the invalid form"


def faults(payload: Any, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every violation of the schema with these fields, in Pydantic 2's words."""
    if not isinstance(payload, dict):
        return [_fault("model_attributes_type", (), "Input should be a valid dictionary or object to extract fields from", payload)]
    found = []
    if "prompt" in fields and "prompt" not in payload:
        found.append(_fault("missing", ("prompt",), "Field required", payload))
    if "text_prompts" in fields and "text_prompts" not in payload:
        found.append(_fault("missing", ("text_prompts",), "Field required", payload))
    for name, value in payload.items():
        if name not in fields:
            found.append(_fault("extra_forbidden", (name,), "Extra inputs are not permitted", value))
        elif fault := CHECKS[name](name, value):
            found.append(fault)
    return found


def image_fault(payload: dict[str, Any], *, hosted: bool) -> str | None:
    """What the check of the image, behind the schema, objects to: it answers with one string."""
    mode, image = payload.get("mode", "base"), payload.get("image")
    if image is None:
        return None if mode == "base" else "Image must be provided"
    form = re.fullmatch(r"data:image/png;(example_id|asset_id|base64),(.+)", image, re.DOTALL)
    if not form:
        return INVALID_FORM
    kind, value = form.groups()
    if hosted:
        if kind != "example_id":
            return f"Expected: example_id, got: {kind}"
        return None if value in ("0", "1", "2", "3") else "Not valid example_id, expected value 0, 1, 2, 3"
    return None if kind == "base64" and image_of(image) is not None else INVALID_FORM


def image_of(data_url: str) -> Image.Image | None:
    """The image in a data URL; None if there is none."""
    try:
        image = Image.open(BytesIO(base64.b64decode(data_url.partition(",")[2], validate=True)))
        image.load()
    except (binascii.Error, OSError):
        return None
    return image


def openapi(fields: tuple[str, ...], modes: tuple[str, ...]) -> dict[str, Any]:
    """The part of a NIM's /openapi.json that clients read, in the shape that FastAPI gives it."""
    properties: dict[str, Any] = {name: {"title": name} for name in fields}
    properties["mode"] = {"allOf": [{"$ref": "#/components/schemas/Mode"}], "default": "base"}
    reference = {"$ref": "#/components/schemas/ImageRequest"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "NIM", "version": "1.2.3"},
        "paths": {"/v1/infer": {"post": {"requestBody": {"content": {"application/json": {"schema": reference}}, "required": True}}}},
        "components": {
            "schemas": {
                "ImageRequest": {"type": "object", "additionalProperties": False, "properties": properties},
                "Mode": {"type": "string", "enum": list(modes)},
            }
        },
    }


def _fault(kind: str, location: tuple[str, ...], message: str, value: Any, **context: Any) -> dict[str, Any]:
    fault = {"type": kind, "loc": ["body", *location], "msg": message, "input": value}
    return {**fault, "ctx": context} if context else fault


def _among(*allowed: Any):
    listed = [repr(value) for value in allowed]
    expected = ", ".join(listed[:-1]) + " or " + listed[-1]

    def check(name, value):
        if type(value) is type(allowed[0]) and value in allowed:
            return None
        return _fault("literal_error", (name,), f"Input should be {expected}", value, expected=expected)

    return check


def _number(low: float, high: float, *, whole: bool, above: bool = False, below: bool = False):
    def check(name, value):
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "int_type" if whole else "float_type"
            return _fault(kind, (name,), f"Input should be a valid {'integer' if whole else 'number'}", value)
        if value < low or (above and value == low):
            words = "greater than" if above else "greater than or equal to"
            return _fault(
                "greater_than" if above else "greater_than_equal",
                (name,),
                f"Input should be {words} {low}",
                value,
                **{"gt" if above else "ge": low},
            )
        if value > high or (below and value == high):
            words = "less than" if below else "less than or equal to"
            return _fault(
                "less_than" if below else "less_than_equal",
                (name,),
                f"Input should be {words} {high}",
                value,
                **{"lt" if below else "le": high},
            )
        return None

    return check


def _prompt(name, value):
    if not isinstance(value, str):
        return _fault("string_type", (name,), "Input should be a valid string", value)
    return (
        _fault("string_too_long", (name,), "String should have at most 10000 characters", value, max_length=10_000)
        if len(value) > 10_000
        else None
    )


def _text_prompts(name, value):
    one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and isinstance(value[0].get("text"), str)
    if one and set(value[0]) <= {"text", "weight"} and value[0].get("weight", 1.0) == 1.0:
        return None
    return _fault("value_error", (name,), "Value error, exactly one text prompt of weight 1.0 is needed", value)


def _image(name, value):
    return None if value is None or isinstance(value, str) else _fault("string_type", (name,), "Input should be a valid string", value)


def _switch(name, value):
    return None if isinstance(value, bool) else _fault("bool_type", (name,), "Input should be a valid boolean", value)


CHECKS = {
    "prompt": _prompt,
    "text_prompts": _text_prompts,
    "mode": _among(*MODES),
    "image": _image,
    "width": _among(*SIDES),
    "height": _among(*SIDES),
    "cfg_scale": _number(1, 9, whole=False, above=True),
    "steps": _number(5, 100, whole=True),
    "seed": _number(0, 2**32, whole=True, below=True),
    "samples": _number(1, 1, whole=True),
    "preprocess_image": _switch,
    "disable_safety_checker": _switch,
}

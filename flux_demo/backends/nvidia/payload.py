"""What may be asked of NVIDIA's two services, and the bodies that ask it.

The hosted API and a NIM share a shape and not a schema: the hosted one forbids every field it does not know and takes no person's
picture, a NIM takes the map itself. So each has its own builder. Every value is sent explicitly, because their defaults differ.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flux_demo.errors import InvalidRequest
from flux_demo.modes import DEFAULT_SIZES, Mode, find_mode
from flux_demo.request import Dials, GenerationRequest, SizeLimits

if TYPE_CHECKING:
    from PIL.Image import Image

SIZE_LIMITS = SizeLimits(range(768, 1345, 64), 1344**2, DEFAULT_SIZES)  # sides: the ten values of the services' own lists
SAMPLE_PICTURES = 4  # example_id 0 to 3: NVIDIA keeps them, and shows them on the model's page at build.nvidia.com

# Guidance and steps by kind of control. Text: the services' own default steps and FLUX.1-dev's guidance. Canny and depth: the makers' 30 and
# 10 are above the services' limit of 9 and NVIDIA documents no others, so these are what public clients of the API use.
DEFAULTS = {None: (3.5, 50), "canny": (7.0, 50), "depth": (7.0, 30)}


def dials(mode: Mode, *, own_photos: bool) -> Dials:
    """What both services take. A request once sent is drawn to its end, whether or not somebody still waits for it."""
    guidance, steps = DEFAULTS.get(mode.control.kind if mode.control else None, (7.0, 50))
    return Dials(
        steps=steps,
        guidance=guidance,
        step_range=range(5, 101),
        guidance_range=(1.0, 9.0),
        guidance_open=True,
        size_limits=SIZE_LIMITS,
        first_seed=1,  # 0 asks the services for a random seed
        quality_steps=mode.quality_steps,
        own_photos=own_photos,
        sample_pictures=0 if own_photos else SAMPLE_PICTURES,
        can_stop=False,
    )


def hosted_body(request: GenerationRequest) -> bytes:
    """The body for the hosted API. Raises InvalidRequest for a map or a missing sample: nothing of the person's is ever put in."""
    mode = find_mode(request.mode)
    payload = _shared(request, mode)
    if mode.control is None:
        _refuse_sample(request)
    elif request.control is not None:
        raise InvalidRequest(
            "NVIDIA's hosted API takes only its own four sample pictures, not your photo or map, so nothing was sent. "
            "Choose a sample picture from 0 to 3, or run your photo on this machine's GPU, your NIM or the mini."
        )
    elif type(request.sample) is not int or request.sample not in range(SAMPLE_PICTURES):
        raise InvalidRequest("There is no sample picture chosen for NVIDIA's hosted API. Choose one of its four, 0 to 3.")
    else:
        payload["image"] = f"data:image/png;example_id,{request.sample}"
    return _encoded(payload)


def nim_body(request: GenerationRequest, fields: Collection[str] = (), *, text_prompts: bool = False) -> bytes:
    """The body for a NIM whose schema names these fields (none: not known). With ``text_prompts`` in the form of the first containers."""
    mode = find_mode(request.mode)
    payload = _shared(request, mode)
    _refuse_sample(request)
    if text_prompts:
        payload = {"text_prompts": [{"text": payload.pop("prompt")}], **payload}
    if fields and "samples" not in fields:
        del payload["samples"]
    if mode.control is not None:
        if request.control is None:
            raise InvalidRequest(f"There is no {mode.control.kind} map to follow. Give a photo, or a ready-made map.")
        payload["image"] = "data:image/png;base64," + base64.b64encode(_png(request.control.image)).decode("ascii")
        payload["preprocess_image"] = False  # the picture is the map already: the NIM must not look for edges in edges
    return _encoded(payload)


def _shared(request: GenerationRequest, mode: Mode) -> dict[str, Any]:
    assert request.size and request.steps and request.guidance is not None and request.seed
    return {
        "prompt": request.prompt,
        "mode": mode.nim,
        "width": request.size.width,
        "height": request.size.height,
        "cfg_scale": request.guidance,
        "steps": request.steps,
        "seed": request.seed,
        "samples": 1,
    }


def _refuse_sample(request: GenerationRequest) -> None:
    if request.sample is not None:
        raise InvalidRequest(
            "NVIDIA's sample pictures are followed only by its hosted API, and only as edges or depth. Leave the sample out."
        )


def _encoded(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _png(image: Image) -> bytes:
    """The map's exact pixels. Level 1: a map is flat, so more effort saves few bytes and costs tenths of a second."""
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()

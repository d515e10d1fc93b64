"""What can be asked of NVIDIA's two services, and the request bodies that ask for it.

The two bodies are alike, but their schemas differ: the hosted API forbids every field that it does not know and accepts no image of
the person's own, while a NIM takes the map itself. So each has its own builder. Every value is sent explicitly, because the
services' defaults differ.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flux_demo.backends.nvidia.schema import Limits
from flux_demo.errors import InvalidRequest, shortened
from flux_demo.modes import Mode, find_mode
from flux_demo.request import Dials, GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image

NVIDIA_LIMITS = Limits()
SAMPLE_IMAGES = 4  # example_id 0 to 3: stored at NVIDIA, shown on the model's page at build.nvidia.com

# Guidance and steps by kind of control. Text: FLUX.1-dev's guidance and the services' own default steps. Canny and depth: the makers' 30
# and 10 exceed the services' limit of 9, and NVIDIA documents no other values, so these are what public clients of the API use.
DEFAULTS = {None: (3.5, 50), "canny": (7.0, 50), "depth": (7.0, 30)}
OTHER_DEFAULTS = (7.0, 50)  # for a kind that the table does not have


def dials(mode: Mode, *, own_photos: bool, limits: Limits = NVIDIA_LIMITS) -> Dials:
    """What a service accepts. Both finish every request that was sent, whether or not anybody still waits for it."""
    usual = DEFAULTS.get(mode.control.kind if mode.control else None, OTHER_DEFAULTS)
    guidance, steps = limits.defaults.get(mode.nim, usual)
    low, high = limits.guidance
    return Dials(
        steps=min(max(steps, limits.steps[0]), limits.steps[-1]),
        guidance=min(guidance, high) if guidance > low or (guidance == low and not limits.guidance_open) else high,
        step_range=limits.steps,
        guidance_range=limits.guidance,
        guidance_open=limits.guidance_open,
        size_limits=limits.sizes,
        first_seed=1,  # 0 asks the services for a random seed
        quality_steps=mode.quality_steps,
        own_photos=own_photos,
        sample_pictures=0 if own_photos else SAMPLE_IMAGES,
        can_stop=False,
    )


def hosted_body(request: GenerationRequest) -> bytes:
    """The body for the hosted API. Raises InvalidRequest for a map or a missing sample: no image of the person's own is ever sent."""
    mode = find_mode(request.mode)
    payload = _shared(request, mode)
    if mode.control is None:
        _refuse_sample(request)
    elif request.control is not None:
        raise InvalidRequest(
            "NVIDIA's hosted API accepts only its own four sample images, not your photo or map, so nothing was sent. "
            "Choose a sample image from 0 to 3, or run your photo on this machine's GPU, your NIM or the mini."
        )
    elif request.sample is None:
        raise InvalidRequest("No sample image is chosen for NVIDIA's hosted API. Choose one of its four, 0 to 3.")
    elif type(request.sample) is not int or request.sample not in range(SAMPLE_IMAGES):
        raise InvalidRequest(f"NVIDIA's hosted API has no sample image {shortened(request.sample)}. Choose one of its four, 0 to 3.")
    else:
        payload["image"] = f"data:image/png;example_id,{request.sample}"
    return _encoded(payload)


def nim_body(request: GenerationRequest, fields: Collection[str] = (), *, text_prompts: bool = False) -> bytes:
    """The body for a NIM whose schema has these fields (empty: unknown). ``text_prompts``: in the form that the first containers take."""
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
        payload["preprocess_image"] = False  # the image is already the map: the NIM must not draw a map of it
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
            "Only NVIDIA's hosted API follows its sample images, and only in the modes that follow a map. Leave the sample out."
        )


def _encoded(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _png(image: Image) -> bytes:
    """The map as PNG, every pixel exact. Level 1: maps have large flat areas, so more effort saves little and takes tenths of a second."""
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()

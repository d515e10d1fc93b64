"""One replica of the models in the service on Ray Serve, on a GPU of its own."""

import asyncio
import threading
import time
from collections.abc import Mapping
from io import BytesIO
from pkgutil import resolve_name
from typing import Any

from flux_demo import background
from flux_demo.errors import BackendUnavailable, Cancelled, ContentRefused, FluxDemoError, GpuFailed, InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.maps.notes import map_notes
from flux_demo.modes import MODES, Mode
from flux_demo.reading import parse_base64
from flux_demo.request import GenerationRequest, Size
from flux_demo.seeds import random_seed
from flux_demo.serve_schema import Options
from flux_demo.settings import BACKENDS, Settings
from flux_demo.studio import Studio

BROKEN_IMAGE = "The image is not in the form data:image/png;base64,CONTENT. Send the image itself, not its path or address."


class Generator:
    """One replica of the models. Takes one request at a time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen = Options(**options)
        settings = Settings.from_env(backend=chosen.backend, public=chosen.public, allow_unfiltered=chosen.allow_unfiltered)
        backend = resolve_name(BACKENDS[chosen.backend])(settings)
        self._studio = Studio(settings, [backend], Gallery(settings.outputs_folder))  # its gallery is never used
        self._problems: dict[str, str] = {}  # why a mode cannot run; the constructor of a replica must not fail, or nobody could say why
        self._gpu_failed: GpuFailed | None = None
        self._concurrency = chosen.replica_range[1]
        for mode in MODES.values():  # the text mode first: where memory has room for one, it is the one
            try:
                self._studio.route(mode.name).backend.warm_up(mode)
            except FluxDemoError as error:
                self._problems[mode.nim] = str(error)

    def check_health(self) -> None:
        """Asked by Serve, which replaces a replica where this raises. One whose GPU has failed is never busy, and would attract the requests."""
        if self._gpu_failed:
            raise self._gpu_failed

    async def describe(self) -> dict[str, Any]:
        """By NVIDIA's names of the modes: the dials and the model of each one that runs, and why each other one cannot."""
        routes = [(mode, self._studio.route(mode.name)) for mode in MODES.values() if mode.nim not in self._problems]
        return {
            "modes": {mode.nim: route.dials.to_dict() for mode, route in routes},
            "models": {mode.nim: route.backend.model_name(mode) or route.backend.title for mode, route in routes},
            "concurrency": self._concurrency,
            "refused": self._problems,
        }

    async def generate(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The image as PNG with its seed, or what went wrong as a sentence. Cancelled, it stops at the next step."""
        left = threading.Event()

        def check(*_: object) -> None:
            if left.is_set():
                raise Cancelled

        try:
            return await asyncio.shield(asyncio.wrap_future(background.start(lambda: self._generate(fields, check), "run")))
        finally:
            left.set()

    def _generate(self, fields: Mapping[str, Any], check: Any) -> dict[str, Any]:
        seed = fields["seed"] or random_seed()
        try:
            mode = next(mode for mode in MODES.values() if mode.nim == fields["mode"])
            route = self._studio.route(mode.name)
            request = route.dials.complete(self._request(mode, fields, seed))
            began = time.perf_counter()
            output = route.backend.generate(request, check, check)
            seconds = time.perf_counter() - began
        except Cancelled:
            return {}
        except ContentRefused:
            return {"reason": "CONTENT_FILTERED", "image": b"", "seed": seed}
        except InvalidRequest as error:
            return {"status": 422, "detail": str(error)}
        except FluxDemoError as error:
            if isinstance(error, GpuFailed):
                self._gpu_failed = error
            return {"status": 503 if isinstance(error, BackendUnavailable) else 500, "detail": str(error)}
        file = BytesIO()
        output.image.save(file, "PNG", compress_level=1)
        said = {
            "model": output.model,
            "safety": output.safety,
            "preset": output.preset,
            "plan": output.plan,
            "notes": "\n".join((*output.notes, *map_notes(request.control))),
        }
        said["seconds"] = f"{seconds:.3f}"
        return {"reason": "SUCCESS", "image": file.getvalue(), "seed": seed, "said": said}

    def _request(self, mode: Mode, fields: Mapping[str, Any], seed: int) -> GenerationRequest:
        if fields.get("disable_safety_checker"):
            raise InvalidRequest("The content filter cannot be turned off by a request. Leave disable_safety_checker out.")
        size = Size(fields["width"], fields["height"])
        image, control = fields.get("image"), None
        if mode.control is not None:
            if image is None:
                raise InvalidRequest(f"The {mode.nim} mode needs an image. Send it as data:image/png;base64,…")
            draw = self._studio.preview if fields["preprocess_image"] else self._studio.as_map
            control = draw(mode.name, _picture(image), size)
        elif image is not None:
            raise InvalidRequest("The base mode follows no image. Leave it out, or choose another mode.")
        return GenerationRequest(
            mode.name, fields["prompt"], seed, fields["steps"], fields["cfg_scale"], size=control.size if control else size, control=control
        )


def _picture(address: str) -> Any:
    """The picture inside a data address, RGB. Raises InvalidRequest for every other kind of address, InvalidPicture."""
    from flux_demo.maps.photo import open_photo

    head, comma, content = address.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise InvalidRequest(BROKEN_IMAGE)
    try:
        data = parse_base64(content)
    except ValueError as error:
        raise InvalidRequest(BROKEN_IMAGE) from error
    return open_photo(data)

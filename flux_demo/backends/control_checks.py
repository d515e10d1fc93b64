"""What a route can follow: a map, one of the service's own sample images, or nothing."""

from __future__ import annotations

from flux_demo.backends import Route
from flux_demo.errors import InvalidRequest
from flux_demo.modes import MODES, Control, Mode
from flux_demo.request import GenerationRequest


def check_control(mode: Mode, request: GenerationRequest, route: Route) -> None:
    """Raise InvalidRequest unless the request has what the mode and the route follow."""
    if mode.control is None:
        if request.control is not None or request.sample is not None:
            raise InvalidRequest(f"The {mode.name} mode does not follow a map. Leave the map out, or use one of {_modes_with_control()}.")
        return
    if request.control is not None and request.control.kind != mode.control.kind:
        raise InvalidRequest(
            f"This is a {request.control.kind} map, and the {mode.name} mode follows {mode.control.kind} maps. Use the map's own mode."
        )
    if request.sample is not None and not route.dials.sample_pictures:  # a service that has some says which
        raise InvalidRequest("This backend does not have that sample image. Give a photo or a map of your own.")
    if request.control is not None and not route.dials.own_photos:
        raise only_samples_error(route)
    if request.control is None and request.sample is None:
        raise InvalidRequest(f"The {mode.name} mode needs a map to follow. Draw one from a photo first, or give a ready-made one.")


def control_of(mode: Mode) -> Control:
    """What draws the mode's map. Raises InvalidRequest for a mode that follows none."""
    if mode.control is None:
        raise InvalidRequest(f"The {mode.name} mode does not follow a map. Use one of {_modes_with_control()}.")
    return mode.control


def _modes_with_control() -> str:
    return ", ".join(mode.name for mode in MODES.values() if mode.control)


def only_samples_error(route: Route) -> InvalidRequest:
    """The refusal of a photo or map where the service follows only its own sample images. Nothing was sent."""
    samples = route.dials.sample_pictures
    return InvalidRequest(
        f"{route.backend.title} follows only its {samples} sample images, so your photo was not sent. Choose one of them on the page, or name "
        f"it in a batch or in Python with `sample`, a number from 0 to {samples - 1}; or run on a GPU, a NIM or the mini."
    )

"""Ask the engine for a picture in one line. The mode's name means nothing to it: whether there is a map does."""

from flux_demo.engine import pipeline
from flux_demo.request import ControlMap, GenerationRequest, Size


def draw(*asked, **told):
    return pipeline.generate(*_ordered(*asked, **told))


def draw_latents(*asked, **told):
    return pipeline.generate_latents(*_ordered(*asked, **told))


def _ordered(flux, text, width, height, seed, steps, guidance, picture_map=None, on_step=None, on_status=None):
    control = ControlMap("canny", picture_map) if picture_map else None
    request = GenerationRequest("canny" if control else "text", text, seed, steps, guidance, Size(width, height), control)
    return flux, request, on_step or _ignore, on_status or _ignore


def _ignore(*_):
    pass

"""Run the engine in one line. The mode's name means nothing to it: only whether there is a map does."""

from flux_demo.engine import pipeline as engine
from flux_demo.request import ControlMap, GenerationRequest, Size


def generate(*args, **kwargs):
    """``generate(pipeline, prompt, width, height, seed, steps, guidance, control_image=None)`` -> the image."""
    return engine.generate(*_arguments(*args, **kwargs))


def generate_latents(*args, **kwargs):
    """The same run's packed latents."""
    return engine.generate_latents(*_arguments(*args, **kwargs))


def _arguments(pipeline, prompt, width, height, seed, steps, guidance, control_image=None, on_step=None, on_status=None):
    control = ControlMap("canny", control_image) if control_image else None
    request = GenerationRequest("canny" if control else "text", prompt, seed, steps, guidance, Size(width, height), control)
    return pipeline, request, on_step or _ignore, on_status or _ignore


def _ignore(*_):
    pass

"""NVIDIA's services on loopback, and the two backends that talk to them, with short waits."""

from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from flux_demo.backends.nvidia import Hosted, Nim
from flux_demo.backends.nvidia.pace import Pace
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest
from stand_ins.nvidia import GOOD_KEY, Container, StandIn

QUICK = Pace(connect=2, read=5, whole=20, retries=(0.02, 0.03), between_polls=0.01, probe=2, probe_again=0.0)


@pytest.fixture
def stand_in():
    with StandIn() as server:
        yield server


@pytest.fixture
def open_backend():
    """Open a backend that is closed when the test ends."""
    opened = []

    def open_(kind, settings, **pace):
        opened.append(kind(settings, replace(QUICK, **pace)))
        return opened[-1]

    yield open_
    for backend in opened:
        backend.close()


@pytest.fixture
def hosted(stand_in, settings, open_backend):
    """``hosted(key)``: the hosted API as the chosen backend."""

    def hosted_(key=GOOD_KEY, **pace):
        return open_backend(Hosted, replace(settings, backend="hosted", nvidia_api_key=key, hosted_url=stand_in.hosted_url), **pace)

    return hosted_


@pytest.fixture
def nim(stand_in, settings, open_backend):
    """``nim(container)``: a NIM as the container describes it."""

    def nim_(container=None, **pace):
        stand_in.container = container or Container()
        return open_backend(Nim, replace(settings, nim_url=stand_in.origin), **pace)

    return nim_


@pytest.fixture
def generate():
    """``generate(backend, mode, prompt, **fields)``: run a request, completed by the backend's dials."""

    def generate_(backend, mode="text", prompt="a house by a lake", on_status=lambda status: None, **fields):
        request = GenerationRequest(mode, prompt, **fields)
        return backend.generate(backend.dials(MODES[mode]).complete(request), lambda done, of, preview: None, on_status)

    return generate_


@pytest.fixture
def edge_map():
    """A map of 768x1024, white lines on black, with a few coloured pixels that must arrive unchanged."""
    image = Image.new("RGB", (768, 1024))
    pen = ImageDraw.Draw(image)
    pen.rectangle((100, 200, 600, 800), outline="white")
    pen.point([(5, 5), (6, 7)], fill=(1, 128, 254))
    return ControlMap("canny", image)

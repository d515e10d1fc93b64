"""Every backend in every mode: it refuses in words, or it generates an RGB image of the requested size and can be stopped."""

from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from flux_demo.backends import all_backends
from flux_demo.errors import Cancelled, FluxDemoError
from flux_demo.modes import DEFAULT_SIZES, MODES
from flux_demo.progress import Phase, Status
from flux_demo.request import BackendOutput, ControlMap, GenerationRequest
from flux_demo.settings import BACKENDS
from stand_ins.nvidia import GOOD_KEY, StandIn

CASES = [(name, mode) for name in BACKENDS for mode in MODES]


@pytest.fixture(scope="module")
def stand_in():
    with StandIn() as server:
        yield server


@pytest.fixture
def backend(request, settings, stand_in):
    """The backend of that name, chosen by hand, with NVIDIA's services on loopback."""
    name = request.param
    chosen = replace(settings, backend=name, nvidia_api_key=GOOD_KEY, hosted_url=stand_in.hosted_url, nim_url=stand_in.origin)
    (backend,) = all_backends(chosen)
    yield backend
    backend.close()


def ignore(*_):
    pass


def complete(backend, mode, **fields):
    """A small request that the backend's own dials allow."""
    dials = backend.dials(mode)
    size = min(dials.size_limits.sizes, key=lambda size: size.pixels)
    if mode.control and not dials.own_photos:
        fields["sample"] = 0
    elif mode.control:
        image = Image.new("RGB", (size.width, size.height))
        ImageDraw.Draw(image).rectangle((40, 40, 120, 120), outline="white", fill=(90, 90, 90))
        fields["control"] = ControlMap(mode.control.kind, image)
    return dials.complete(GenerationRequest(mode.name, "a red sphere on a gray floor", size=size, seed=11, **fields))


@pytest.mark.parametrize("backend, mode", CASES, indirect=["backend"])
def test_it_refuses_in_words_or_generates_what_was_asked(backend, mode):
    mode = MODES[mode]
    refusal = backend.refusal(mode)
    if refusal is not None:
        assert refusal.reason.count(". ") >= 1 and refusal.reason.endswith(".") and "Traceback" not in refusal.reason
        with pytest.raises(FluxDemoError):
            backend.generate(complete(backend, mode), ignore, ignore)
        return
    request = complete(backend, mode, steps=backend.dials(mode).step_range[0])
    steps, statuses = [], []
    output = backend.generate(request, lambda done, of, preview: steps.append((done, of)), statuses.append)
    assert isinstance(output, BackendOutput) and output.image.mode == "RGB"
    assert output.image.size == (request.size.width, request.size.height)
    assert output.model and "/" not in output.model[:1]
    assert output.seed in (None, request.seed)
    assert steps in ([], [(done + 1, request.steps) for done in range(request.steps)])
    assert statuses and all(isinstance(status, Status) and isinstance(status.phase, Phase) and status.text for status in statuses)


@pytest.mark.parametrize("backend, mode", CASES, indirect=["backend"])
def test_its_dials_allow_their_own_defaults(backend, mode):
    dials = backend.dials(MODES[mode])
    dials.check(dials.complete(GenerationRequest(mode, "a fox")))
    for size in dials.size_limits.sizes:
        dials.size_limits.check(size)
    shapes, default_shapes = ([size.width / size.height for size in sizes] for sizes in (dials.size_limits.sizes, DEFAULT_SIZES))
    assert shapes == default_shapes  # the same shapes in the same order, wherever it runs
    assert dials.to_dict()["sizes"] == [str(size) for size in dials.size_limits.sizes]


@pytest.mark.parametrize("backend, mode", CASES, indirect=["backend"])
def test_stop_ends_it_and_the_next_run_works(backend, mode):
    mode = MODES[mode]
    if backend.refusal(mode) is not None:
        pytest.skip("refuses on this machine; the refusal has its own test")
    request = complete(backend, mode, steps=backend.dials(mode).step_range[0])

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(request, stop, stop)
    assert backend.generate(request, ignore, ignore).image.size == (request.size.width, request.size.height)


@pytest.mark.parametrize("backend, mode", CASES, indirect=["backend"])
def test_it_can_be_warmed_up_and_closed(backend, mode):
    assert backend.loading is None and backend.concurrency >= 1
    if backend.refusal(MODES[mode]) is None:
        backend.warm_up(MODES[mode])
    assert backend.loading is None
    backend.close()

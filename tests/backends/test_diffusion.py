"""The two sets of weights as backends: what they refuse and why, waiting, stopping, and what comes back."""

import shutil
import threading

import pytest
from PIL import Image

from flux_demo.backends.diffusion import Diffusion, local, mini
from flux_demo.backends.machine import Card, Machine
from flux_demo.backends.mini import Mini
from flux_demo.engine.memory import GIB
from flux_demo.errors import BackendUnavailable, Cancelled, FluxDemoError, GenerationFailed, OutOfMemory
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest, Size

BIG = Machine(Card("NVIDIA Test", 24 * GIB), cuda_torch=True, memory_bytes=64 * GIB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny FLUX laid out as the mini."""
    import torch

    from tests.engine.tiny import build

    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture
def backend(folder):
    return Diffusion(Mini(folder))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


def ask(mode="text", steps=2, **given):
    size = Size(128, 128)
    if mode != "text":
        given["control"] = ControlMap(mode, Image.linear_gradient("L").resize((128, 128)).convert("RGB"))
    return GenerationRequest(mode, "a red cube", seed=1, steps=steps, guidance=3.5, size=size, preset="exact", **given)


def quiet(*_):
    pass


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_draws_a_picture_of_the_size_asked_for(backend, mode):
    steps, said = [], []
    picture = backend.generate(ask(mode), lambda *step: steps.append(step), said.append)
    assert picture.image.size == (128, 128) and picture.image.mode == "RGB"
    assert (picture.model, picture.preset, picture.safety) == ("mini", "exact", None)
    assert set(picture.libraries) == {"torch", "diffusers", "transformers"} and "CPU" in picture.plan
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert said[0].startswith("Loading") and said[-1] == "Developing the picture"
    assert backend.state == "Ready"


def test_loading_is_told_again_and_again_and_only_once_done_no_more(backend, monkeypatch):
    told, heard = [], threading.Event()
    parts = backend._weights.parts

    def slow_parts(mode, say):
        assert heard.wait(60), "loading was not told three times"
        return parts(mode, say)

    def listen(sentence):
        told.append(sentence)
        if sum(one.startswith("Loading") for one in told) == 3:
            assert backend.loading == sentence
            heard.set()

    monkeypatch.setattr(backend._weights, "parts", slow_parts)
    backend.generate(ask(), quiet, listen)
    assert heard.is_set() and backend.loading is None
    told.clear()
    backend.generate(ask(), quiet, listen)
    assert told and not any(sentence.startswith("Loading") for sentence in told)


def test_warming_up_leaves_nothing_to_load(backend):
    assert backend.state.startswith("Not loaded")
    backend.warm_up("canny")
    said = []
    backend.generate(ask("canny"), quiet, said.append)
    assert not any(sentence.startswith("Loading") for sentence in said)


def test_a_stop_while_loading_ends_the_wait_and_the_next_run_works(backend):
    def stop(sentence):
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(ask(), quiet, stop)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_a_stop_while_drawing_ends_within_one_step_and_the_next_run_is_the_same(backend):
    wanted = backend.generate(ask(), quiet, quiet).image.tobytes()
    seen = []

    def stop(done, of, preview):
        seen.append(done)
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(ask(steps=20), stop, quiet)
    assert seen == [1] and backend.state == "Ready"
    assert backend.generate(ask(), quiet, quiet).image.tobytes() == wanted


def test_one_picture_at_a_time_and_who_waits_is_told(backend):
    backend.warm_up("text")
    drawing, go_on, told, order = threading.Event(), threading.Event(), [], []

    def hold(done, of, preview):
        drawing.set()
        go_on.wait(20)
        order.append("first")

    def tell(sentence):
        told.append(sentence)
        if told.count("Waiting for another picture to finish") == 2:
            go_on.set()

    first = threading.Thread(target=backend.generate, args=(ask(), hold, quiet))
    first.start()
    assert drawing.wait(20)
    backend.generate(ask(), lambda *_: order.append("second"), tell)
    first.join()
    assert order == ["first"] * 2 + ["second"] * 2
    assert told[0] == "Waiting for another picture to finish"


def test_who_waits_can_be_stopped(backend):
    backend.warm_up("text")
    drawing, go_on = threading.Event(), threading.Event()

    def hold(done, of, preview):
        drawing.set()
        go_on.wait(20)

    def stop(sentence):
        raise Cancelled

    first = threading.Thread(target=backend.generate, args=(ask(), hold, quiet))
    first.start()
    assert drawing.wait(20)
    with pytest.raises(Cancelled):
        backend.generate(ask(), quiet, stop)
    go_on.set()
    first.join()
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


class Tight(Mini):
    """Runs out of memory at its first tries, as a GPU does."""

    def __init__(self, folder, error, tries=1):
        super().__init__(folder)
        self.error, self.tries = error, tries

    def model_cache(self):
        if self.tries:
            self.tries -= 1
            raise self.error
        return super().model_cache()


def test_running_out_of_memory_is_said_in_words_and_the_next_run_works(folder):
    import torch

    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ):
        backend = Diffusion(Tight(folder, error))
        with pytest.raises(OutOfMemory, match="memory ran out"):
            backend.generate(ask(), quiet, quiet)
        assert backend.state.startswith("Not loaded")
        assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_a_gpu_that_fails_is_said_in_words(folder):
    backend = Diffusion(Tight(folder, RuntimeError("CUDA error: an illegal memory access was encountered")))
    with pytest.raises(GenerationFailed, match="The GPU reported an error"):
        backend.generate(ask(), quiet, quiet)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_other_errors_are_not_dressed_up(backend):
    def fail(done, of, preview):
        raise RuntimeError("a mistake in the page")

    with pytest.raises(RuntimeError, match="a mistake in the page"):
        backend.generate(ask(), fail, quiet)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_running_out_of_memory_while_drawing_lets_go_of_everything(backend):
    import torch

    def run_out(done, of, preview):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory):
        backend.generate(ask(), run_out, quiet)
    assert backend._cache is None
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_what_the_mini_lacks_is_named(folder, tmp_path):
    assert Mini(folder).refusal(MODES["text"]) is None
    broken = shutil.copytree(folder, tmp_path / "mini")
    (broken / "transformer_canny" / "diffusion_pytorch_model.safetensors").unlink()
    assert Mini(broken).refusal(MODES["text"]) is None
    assert (
        "transformer_canny/" in Mini(broken).refusal(MODES["canny"]).reason
        and str(tmp_path) not in Mini(broken).refusal(MODES["canny"]).reason
    )
    with pytest.raises(BackendUnavailable):
        Diffusion(Mini(broken)).generate(ask("canny"), quiet, quiet)


@pytest.mark.parametrize("mode", MODES)
def test_dials(settings, mode):
    gpu, cpu = local(settings).dials(MODES[mode]), mini(settings).dials(MODES[mode])
    assert (gpu.guidance, gpu.steps) == (MODES[mode].guidance, 28)
    assert (gpu.sides, gpu.max_pixels, len(gpu.sizes)) == (range(256, 2049, 16), 2_100_000, 7)
    assert (cpu.sides[0], cpu.sides[-1], str(cpu.sizes[0])) == (128, 512, "256x256")
    assert all(size.width % 16 == size.height % 16 == 0 for size in cpu.sizes)


def test_all_that_is_raised_is_worded(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "mini")
    file = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    backend = Diffusion(Mini(broken))
    with pytest.raises(FluxDemoError) as caught:
        backend.generate(ask(), quiet, quiet)
    assert str(tmp_path) not in str(caught.value)
    shutil.copy(folder / "transformer" / file.name, file)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)  # once it is mended

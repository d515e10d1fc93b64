"""The two sets of weights as backends: what they refuse and why, waiting, stopping, and what they return."""

import shutil
import threading
from dataclasses import replace
from itertools import groupby
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from flux_demo.backends.diffusion import Diffusion, local, mini
from flux_demo.backends.machine import Card, Machine
from flux_demo.backends.mini import Mini
from flux_demo.engine.memory import GIB
from flux_demo.errors import BackendUnavailable, Cancelled, FluxDemoError, GpuFailed, InvalidRequest, OutOfMemory
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.progress import Phase, Status
from flux_demo.request import ControlMap, GenerationRequest, Size

BIG = Machine(Card("NVIDIA Test", 24 * GIB), cuda_torch=True, memory_bytes=64 * GIB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny FLUX in the mini's layout."""

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
def test_every_mode_generates_an_image_of_the_requested_size(backend, mode):
    steps, statuses = [], []
    output = backend.generate(ask(mode), lambda *step: steps.append(step), statuses.append)
    assert output.image.size == (128, 128) and output.image.mode == "RGB"
    assert (output.model, output.preset, output.safety, output.seed, output.notes) == ("mini", "exact", None, None, ())
    assert set(output.libraries) == {"torch", "diffusers", "transformers"}
    assert output.plan == backend.plan(MODES[mode]) and "CPU" in output.plan
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    phases = [phase for phase, _ in groupby(status.phase for status in statuses)]
    assert phases == [Phase.LOADING, Phase.ENCODING, Phase.DENOISING, Phase.DECODING]
    assert backend.loading is None


def loads(statuses):
    """Whether a run that reported these had to load anything."""
    assert statuses
    return any(status.phase is Phase.LOADING for status in statuses)


def test_loading_is_reported_until_it_is_done_and_never_again(backend, monkeypatch):
    statuses, heard = [], threading.Event()
    files = backend._weights.files

    def slow_files(mode, say):
        assert heard.wait(60), "loading was not reported three times"
        return files(mode, say)

    def listen(status):
        statuses.append(status)
        if statuses == [Status(Phase.LOADING, "Loading the mini")] * 3:
            assert backend.loading == status.text
            heard.set()

    monkeypatch.setattr(backend._weights, "files", slow_files)
    backend.generate(ask(), quiet, listen)
    assert heard.is_set() and backend.loading is None
    statuses.clear()
    backend.generate(ask(), quiet, listen)
    assert not loads(statuses)


def test_warming_up_leaves_nothing_to_load(backend):
    assert backend.loading is None
    backend.warm_up(MODES["canny"])
    statuses = []
    backend.generate(ask("canny"), quiet, statuses.append)
    assert not loads(statuses)


def test_a_stop_while_loading_ends_the_wait_and_the_next_run_works(backend):
    def stop(status):
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(ask(), quiet, stop)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_a_stop_while_denoising_ends_within_one_step_and_the_next_run_is_the_same(backend):
    expected = backend.generate(ask(), quiet, quiet).image.tobytes()
    seen = []

    def stop(done, of, preview):
        seen.append(done)
        raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(ask(steps=20), stop, quiet)
    assert seen == [1] and backend.loading is None
    statuses = []
    assert backend.generate(ask(), quiet, statuses.append).image.tobytes() == expected
    assert not loads(statuses)


WAITING = Status(Phase.LOADING, "Waiting for the models")  # a run that met another one, or a warm-up, past the queue


def test_the_models_serve_one_run_at_a_time_and_the_other_is_told_so(backend):
    backend.warm_up(MODES["text"])
    running, go_on, statuses, order = threading.Event(), threading.Event(), [], []

    def hold(done, of, preview):
        running.set()
        go_on.wait(20)
        order.append("first")

    def listen(status):
        statuses.append(status)
        if statuses.count(WAITING) == 2:
            go_on.set()

    first = threading.Thread(target=backend.generate, args=(ask(), hold, quiet))
    first.start()
    assert running.wait(20)
    backend.generate(ask(), lambda *_: order.append("second"), listen)
    first.join()
    assert order == ["first"] * 2 + ["second"] * 2
    assert statuses[0] == WAITING


def test_a_run_that_waits_for_the_models_can_be_stopped(backend):
    backend.warm_up(MODES["text"])
    running, go_on = threading.Event(), threading.Event()

    def hold(done, of, preview):
        running.set()
        go_on.wait(20)

    def stop(status):
        raise Cancelled

    first = threading.Thread(target=backend.generate, args=(ask(), hold, quiet))
    first.start()
    assert running.wait(20)
    with pytest.raises(Cancelled):
        backend.generate(ask(), quiet, stop)
    go_on.set()
    first.join()
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


class Tight(Mini):
    """Runs out of memory at its first tries, as a GPU may."""

    def __init__(self, folder, error, tries=1):
        super().__init__(folder)
        self.error, self.tries = error, tries

    def model_cache(self, files):
        if self.tries:
            self.tries -= 1
            raise self.error
        return super().model_cache(files)


def test_running_out_of_memory_is_worded_and_the_next_run_works(folder):
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
        OSError("The paging file is too small for this operation to complete. (os error 1455)"),
        ValueError("unable to mmap 9 bytes: Cannot allocate memory (12)"),  # any class, as it may wrap another
    ):
        backend = Diffusion(Tight(folder, error))
        with pytest.raises(OutOfMemory, match="memory ran out|could not set aside memory"):
            backend.generate(ask(), quiet, quiet)
        assert backend.loading is None
        statuses = []
        assert backend.generate(ask(), quiet, statuses.append).image.size == (128, 128)
        assert loads(statuses)


def test_a_model_that_was_fetched_since_then_is_the_one_that_runs(folder):
    names, seen, weights = ["a base with a LoRA", "the model itself", None], [], Mini(folder)  # None: its files are gone
    weights.model_name = lambda mode: names[0]
    weights.files = lambda mode, say: replace(mini_files(mode, folder), model=names[0])
    backend = Diffusion(weights)
    while names:
        statuses = []
        seen.append((backend.generate(ask(), quiet, statuses.append).model, bool(loads(statuses))))
        names.pop(0)
    assert seen == [("a base with a LoRA", True), ("the model itself", True), ("the model itself", False)]


def test_a_gpu_that_fails_is_worded(folder, monkeypatch):
    backend = Diffusion(Tight(folder, RuntimeError("CUDA error: an illegal memory access was encountered")))
    with monkeypatch.context() as patch, pytest.raises(GpuFailed, match="The GPU reported an error"):
        patch.setattr("flux_demo.engine.allocators.free_memory", Mock(side_effect=RuntimeError("CUDA error")))  # as CUDA's own fails then
        backend.generate(ask(), quiet, quiet)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_other_errors_come_through_as_they_are(backend):
    def fail(done, of, preview):
        raise RuntimeError("a mistake in the page")

    with pytest.raises(RuntimeError, match="a mistake in the page"):
        backend.generate(ask(), fail, quiet)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_running_out_of_memory_while_denoising_frees_everything(backend):

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
    refusal = Mini(broken).refusal(MODES["canny"])
    assert "transformer_canny/" in refusal.reason and str(tmp_path) not in refusal.reason and refusal.fetch is None
    with pytest.raises(BackendUnavailable):
        Diffusion(Mini(broken)).generate(ask("canny"), quiet, quiet)


@pytest.mark.parametrize("mode", MODES)
def test_the_dials_have_the_modes_defaults(settings, mode):
    for backend in (local(settings), mini(settings)):
        dials = backend.dials(MODES[mode])
        assert (dials.guidance, dials.steps, dials.quality_steps) == (MODES[mode].guidance, 28, 50)
        assert dials.presets[0] == "exact" and dials.own_photos and dials.can_stop


@pytest.mark.parametrize(
    ("make", "possible", "too_much"),
    [
        (local, [(256, 256), (2048, 1024), (1024, 1024)], [(240, 256), (2064, 256), (2048, 1040)]),
        (mini, [(128, 128), (512, 512), (256, 256)], [(112, 128), (528, 128)]),
    ],
    ids=["local", "mini"],
)
def test_the_sizes_that_can_be_generated(settings, make, possible, too_much):
    limits = make(settings).dials(MODES["text"]).size_limits
    assert limits.sizes[0] == Size(*possible[-1])
    for sides in possible:
        limits.check(Size(*sides))
    for sides in too_much:
        with pytest.raises(InvalidRequest):
            limits.check(Size(*sides))


def test_damaged_files_are_worded_and_the_next_run_works_once_they_are_mended(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "mini")
    file = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:3000])
    backend = Diffusion(Mini(broken))
    with pytest.raises(FluxDemoError) as caught:
        backend.generate(ask(), quiet, quiet)
    assert str(tmp_path) not in str(caught.value)
    shutil.copy(folder / "transformer" / file.name, file)
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)

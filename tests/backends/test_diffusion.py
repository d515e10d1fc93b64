"""The two sets of weights as backends: what they refuse and why, waiting, stopping, and what comes back."""

import json
import shutil
import threading
import time

import pytest
from PIL import Image

from flux_demo.backends.builtin import Mini
from flux_demo.backends.diffusion import Diffusion, local, mini
from flux_demo.backends.local import Local
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine.memory import GIB
from flux_demo.errors import BackendUnavailable, Cancelled, FluxDemoError, OutOfMemory
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest, Size
from flux_demo.settings import Settings

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


def test_loading_is_told_at_least_every_fifth_of_a_second_and_once(backend):
    told = []
    backend.generate(ask(), quiet, lambda sentence: told.append((time.monotonic(), sentence)))
    loading = [moment for moment, sentence in told if sentence.startswith("Loading")]
    assert len(loading) > 1
    told.clear()
    backend.generate(ask(), quiet, lambda sentence: told.append((time.monotonic(), sentence)))
    assert not any(sentence.startswith("Loading") for _, sentence in told)


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

    def residents(self):
        if self.tries:
            self.tries -= 1
            raise self.error
        return super().residents()


def test_running_out_of_memory_is_said_in_words_and_the_next_run_works(folder):
    import torch

    for error in (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"), MemoryError()):
        backend = Diffusion(Tight(folder, error))
        with pytest.raises(OutOfMemory, match="memory ran out"):
            backend.generate(ask(), quiet, quiet)
        assert backend.state.startswith("Not loaded")
        assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_running_out_of_memory_while_drawing_lets_go_of_everything(backend):
    import torch

    def run_out(done, of, preview):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory):
        backend.generate(ask(), run_out, quiet)
    assert backend._residents is None
    assert backend.generate(ask(), quiet, quiet).image.size == (128, 128)


def test_a_gpu_that_ran_out_is_offered_the_next_tighter_plan(settings):
    weights = Local(settings, BIG)
    residents = type("Residents", (), {})()
    from flux_demo.engine import memory

    residents.plan = memory.plan(23 * GIB, 64 * GIB)
    assert residents.plan.name == "body"
    assert "streamed from main memory while it works" in str(weights.ran_out(residents))
    residents.plan = memory.plan(23 * GIB, 64 * GIB, below="body")
    assert "no plan uses less" in str(weights.ran_out(residents))


def test_what_the_mini_lacks_is_named(folder, tmp_path):
    assert Mini(folder).refusal("text") is None
    broken = shutil.copytree(folder, tmp_path / "mini")
    (broken / "transformer_canny" / "diffusion_pytorch_model.safetensors").unlink()
    assert Mini(broken).refusal("text") is None
    assert "transformer_canny/" in Mini(broken).refusal("canny") and str(tmp_path) not in Mini(broken).refusal("canny")
    with pytest.raises(BackendUnavailable):
        Diffusion(Mini(broken)).generate(ask("canny"), quiet, quiet)


@pytest.mark.parametrize("mode", MODES)
def test_dials(settings, mode):
    gpu, cpu = local(settings).dials(MODES[mode]), mini(settings).dials(MODES[mode])
    assert (gpu.guidance, gpu.steps) == (MODES[mode].guidance, 28)
    assert (gpu.sides, gpu.max_pixels, len(gpu.sizes)) == (range(256, 2049, 16), 2_100_000, 7)
    assert (cpu.sides[0], cpu.sides[-1], str(cpu.sizes[0])) == (128, 512, "256x256")
    assert all(size.width % 16 == size.height % 16 == 0 for size in cpu.sizes)


# Why FLUX cannot run on this machine's GPU, from the hardest to change to the easiest


def refusal(machine=BIG, mode="text", **given):
    return Local(Settings(**given), machine).refusal(mode)


def two_sentences(words):
    return words.rstrip(".").count(". ") == 1 and words.endswith(".")


def test_no_gpu():
    words = refusal(Machine(None, cuda_torch=True, memory_bytes=64 * GIB))
    assert "No NVIDIA GPU" in words and two_sentences(words)


def test_torch_without_cuda():
    words = refusal(Machine(BIG.card, cuda_torch=False, memory_bytes=64 * GIB))
    assert "NVIDIA Test" in words and "without CUDA" in words and two_sentences(words)


def test_too_little_memory():
    assert "GPU memory" in refusal(Machine(Card("NVIDIA Small", 3 * GIB), True, 64 * GIB))
    assert "main memory" in refusal(Machine(Card("NVIDIA Small", 8 * GIB), True, 8 * GIB))


def test_files_that_are_not_here_name_the_size_the_command_and_the_licence(tmp_path):
    words = refusal(mode="canny")
    assert "about 34 GB" in words and "`python -m flux_demo fetch canny`" in words and two_sentences(words)
    assert "https://huggingface.co/black-forest-labs/FLUX.1-Canny-dev" in words and "HF_TOKEN" in words
    assert "HF_TOKEN" not in refusal(hf_token="hf_mine")
    (tmp_path / "token").write_text("hf_mine")  # logged in with the Hub's own command
    assert "HF_TOKEN" not in refusal()
    assert "licence" not in refusal(text_model="someone/free-flux")


def test_half_a_download_goes_on(tmp_path):
    home = tmp_path / "cache" / "models--black-forest-labs--FLUX.1-dev"
    (home / "snapshots" / "abc").mkdir(parents=True)
    words = refusal(hf_token="hf_mine")
    assert "Only a part" in words and "goes on where it ended" in words and two_sentences(words)


def test_refusals_are_quick_and_load_nothing_heavy():
    import subprocess
    import sys

    script = """
import sys, time
from flux_demo.backends import all_backends
from flux_demo.modes import MODES
from flux_demo.settings import Settings
backends = all_backends(Settings())
[backend.refusal(mode) for backend in backends for mode in MODES.values()]
begun = time.process_time()
[backend.refusal(mode) for backend in backends if backend.name in ("local", "mini") for mode in MODES.values()]
spent = time.process_time() - begun
assert spent < 0.6, spent  # six answers; generous, for machines that are busy
heavy = {"torch", "diffusers", "transformers", "numpy", "cv2", "gradio", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def hub_like(folder, target, mode):
    from tests.engine.tiny import split

    return split(folder, target, mode)


def test_folders_in_diffusers_layout_are_taken(folder, tmp_path):
    text, canny = hub_like(folder, tmp_path / "my-flux", "text"), hub_like(folder, tmp_path / "my-canny", "canny")
    given = dict(text_model=str(text), canny_model=str(canny))
    assert refusal(**given) is None and refusal(mode="canny", **given) is None
    weights = Local(Settings(**given), BIG)
    assert weights.parts("text", quiet).model == "my-flux"
    parts = weights.parts("canny", quiet)
    assert (parts.model, parts.shared, parts.transformer) == ("my-canny", text, canny / "transformer")  # the same bytes: loaded once


def test_encoders_that_differ_are_not_shared(folder, tmp_path):
    text, canny = hub_like(folder, tmp_path / "text", "text"), hub_like(folder, tmp_path / "canny", "canny")
    file = canny / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    weights = Local(Settings(text_model=str(text), canny_model=str(canny)), BIG)
    assert weights.parts("canny", quiet).shared == canny


def test_a_transformer_alone_takes_texts_encoders(folder, tmp_path):
    text, canny = hub_like(folder, tmp_path / "text", "text"), hub_like(folder, tmp_path / "canny", "canny")
    for name in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        shutil.rmtree(canny / name)
    given = dict(text_model=str(text), canny_model=str(canny))
    assert refusal(mode="canny", **given) is None
    assert Local(Settings(**given), BIG).parts("canny", quiet).shared == text


def test_folders_that_cannot_be_used_are_refused_by_their_variable(folder, tmp_path):
    text = hub_like(folder, tmp_path / "text", "text")
    assert "follows no map" in refusal(mode="canny", canny_model=str(text))
    canny = hub_like(folder, tmp_path / "canny", "canny")
    assert "wants a map" in refusal(text_model=str(canny))
    (canny / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "is missing" in refusal(mode="canny", canny_model=str(canny))
    config = text / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "SD3Transformer2DModel"}))
    answers = [refusal(text_model=str(text)), refusal(text_model=str(tmp_path / "nowhere")), refusal(text_model="./nowhere")]
    assert "SD3Transformer2DModel" in answers[0] and "is not there" in answers[1] and "is not there" in answers[2]
    for words in answers:
        assert "FLUX_DEMO_TEXT_MODEL" in words and str(tmp_path) not in words and two_sentences(words)


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

"""``local`` on ZeroGPU: the parts in this process, and the whole page with the real ``spaces`` in a stand-in for a Space, once for all."""

import errno
import os
import pickle
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import httpx
import psutil
import pytest
import torch
from gradio_client import Client, handle_file
from PIL import Image

from flux_demo.backends import zero
from flux_demo.errors import BackendUnavailable, Cancelled, GenerationFailed
from flux_demo.modes import MODES
from flux_demo.progress import Step
from flux_demo.request import BackendOutput, ControlMap, GenerationRequest, Size
from flux_demo.settings import Settings
from tests.engine.tiny import build, split
from tests.starting import ROOT, free_port

VISITOR, ANOTHER = "a.e30.b", "c.e30.d"  # tokens as Hugging Face's proxy adds them to a visitor's requests
LONG = 100  # steps


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    tiny = build(place / "tiny", torch.float32, heads=16)
    return {mode: str(split(tiny, place / f"my-{mode}", mode)) for mode in MODES}


def request_for(mode, **given):
    control = ControlMap(MODES[mode].control.kind, Image.new("RGB", (256, 256), (90, 90, 90))) if MODES[mode].control else None
    return GenerationRequest(
        mode, "a red cube", **{"seed": 3, "steps": 2, "guidance": 3.5, "size": Size(256, 256)} | given, control=control
    )


@pytest.fixture
def backend(models, settings, monkeypatch):
    """In this process, where "cuda" is the CPU and a call is an ordinary one."""
    monkeypatch.setattr(zero, "_loaded", {})
    monkeypatch.setattr(zero, "_to_cuda", lambda pipeline: None)
    backend = zero.ZeroGpu(Settings(models=models, zero_gpu=True, zero_size="xlarge"))
    backend.prepare()
    return backend


def test_everything_that_leaves_the_worker_can_be_pickled(backend):
    *events, drawn = pickle.loads(pickle.dumps(list(zero.generate_in_worker(request_for("depth")))))
    assert isinstance(drawn, BackendOutput) and drawn.image.size == (256, 256) and drawn.model == "my-depth"
    assert [event.preview.size for event in events if isinstance(event, Step)] == [(32, 32)] * 2


def test_previews_arrive_and_stop_ends_a_call_within_a_step(backend):
    steps = []

    def on_step(done, of, preview):
        steps.append(preview)
        if done >= 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        backend.generate(request_for("text", steps=LONG), on_step, lambda status: None)
    assert steps[0].size == (32, 32) and len(steps) <= 3


def test_an_error_of_the_worker_arrives_as_itself(backend):
    for weight in zero._loaded["text"].pipeline.transformer.parameters():
        weight.data.fill_(torch.nan)
    (*_, failed) = zero.generate_in_worker(request_for("text"))
    assert isinstance(failed.error(), GenerationFailed) and "out of range" in failed.sentence
    with pytest.raises(GenerationFailed, match="out of range"):
        backend.generate(request_for("text"), lambda *step: None, lambda status: None)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_memory_that_runs_out_in_the_worker_is_said_in_words(backend, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr("flux_demo.engine.pipeline.draw_noise", full)
    (*_, failed) = zero.generate_in_worker(request_for("text"))
    assert failed.kind == "OutOfMemory" and failed.sentence.endswith("Choose a smaller size.")


def test_a_call_that_ends_without_an_image_is_said_in_words(backend, monkeypatch):
    events = zero.generate_in_worker
    monkeypatch.setattr(backend, "_call", lambda request: (event for event in events(request) if not isinstance(event, BackendOutput)))
    with pytest.raises(GenerationFailed, match=r"^ZeroGPU ended the call before the image was finished\. Generate again\.$"):
        backend.generate(request_for("text"), lambda *step: None, lambda status: None)


def test_the_smaller_gpu_holds_one_mode_and_the_others_say_how_to_have_them(models, monkeypatch):
    monkeypatch.setattr(zero, "_loaded", {})
    monkeypatch.setattr(zero, "_to_cuda", lambda pipeline: None)
    backend = zero.ZeroGpu(Settings(models={mode: name for mode, name in models.items() if mode != "text"}, zero_gpu=True))
    backend.prepare()
    assert list(zero._loaded) == ["canny"], "the first mode whose files are here"
    assert backend.refusal(MODES["canny"]) is None
    assert "FLUX_DEMO_ZEROGPU=xlarge" in backend.refusal(MODES["depth"]).reason and "canny" in backend.refusal(MODES["depth"]).reason
    with pytest.raises(BackendUnavailable):
        backend.generate(request_for("depth"), None, None)


def test_where_no_page_was_started_nothing_is_loaded_and_that_is_said(models, monkeypatch):
    monkeypatch.setattr(zero, "_loaded", {})
    backend = zero.ZeroGpu(Settings(models=models, zero_gpu=True, zero_size="xlarge"))
    assert backend.refusal(MODES["text"]).reason == "On ZeroGPU, FLUX is loaded when the page starts. Run `python app.py`."


def test_a_preset_that_cannot_be_used_there_is_refused_and_nothing_is_loaded_for_it(models, monkeypatch):
    monkeypatch.setattr(zero, "_loaded", {})
    monkeypatch.setattr(zero, "_to_cuda", lambda pipeline: None)
    backend = zero.ZeroGpu(Settings(models=models, zero_gpu=True, preset="compiled"))
    backend.prepare()
    assert not zero._loaded
    assert "no time to compile" in backend.refusal(MODES["text"]).reason


def test_a_mode_that_main_memory_has_no_room_for_is_refused_and_the_page_starts(models, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(zero, "_loaded", {})
    monkeypatch.setattr(zero, "_to_cuda", full)
    backend = zero.ZeroGpu(Settings(models=models, zero_gpu=True))
    backend.prepare()
    assert not zero._loaded and backend.refusal(MODES["text"]).reason == "The main memory ran out. Restart this Space."


def test_more_steps_more_pixels_and_a_map_ask_for_more_seconds():
    small, large = request_for("text"), request_for("text", size=Size(1024, 1024))
    many, mapped = request_for("text", size=Size(1024, 1024), steps=50), request_for("canny")
    assert zero.seconds_for(small) < zero.seconds_for(large) < zero.seconds_for(many) < 120
    assert zero.seconds_for(mapped) > zero.seconds_for(small)


@pytest.fixture(scope="module")
def space(models, tmp_path_factory):
    port = free_port()
    environment = {f"FLUX_DEMO_{mode.upper()}_MODEL": folder for mode, folder in models.items()} | {
        "FLUX_DEMO_ZEROGPU": "xlarge",
        "FLUX_DEMO_OUTPUTS": str(tmp_path_factory.mktemp("outputs")),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "stand_ins.zerogpu", "--port", str(port), "--backend", "local"]
    running = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        for line in running.stdout:
            said.append(line)
            if line.startswith("Running on"):
                break
        else:
            pytest.fail("it ended before it ran: " + "".join(said[-20:]))
        threading.Thread(target=lambda: said.extend(running.stdout), daemon=True).start()
        api = next(line.split()[-1] for line in said if line.startswith("Device API on"))
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}", api=api, pid=running.pid, said=said)
    finally:
        for each in [*psutil.Process(running.pid).children(recursive=True), running] if running.poll() is None else ():
            each.kill()


def visit(space, token, folder):
    return Client(space.url, verbose=False, headers={"X-IP-Token": token}, download_files=str(folder))


@pytest.fixture
def client(space, tmp_path):
    return visit(space, VISITOR, tmp_path)


def calls(space, path="/schedule"):
    return [call for call in httpx.get(f"{space.api}/calls", trust_env=False).json() if call["path"] == path]


def test_the_models_are_packed_before_the_page_answers(space, client):
    assert len(calls(space, "/startup-report")) == 1, "".join(space.said[-20:])
    for mode in client.predict(api_name="/status")["modes"].values():
        assert (mode["backend"], mode["title"]) == ("local", "FLUX on Hugging Face's ZeroGPU")


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_each_mode_is_the_engines_own_on_the_visitors_quota(space, client, backend, photo, tmp_path, mode):
    photo.save(tmp_path / "photo.png")
    if mode == "text":
        expected = request_for("text")
        path, recipe = client.predict("a red cube", "256x256", "3", 2, 3.5, api_name="/text")
    else:
        drawn = client.predict(handle_file(tmp_path / "photo.png"), "256x256", api_name=f"/{mode}_map")
        expected = GenerationRequest(mode, "a red cube", 3, 2, 3.5, Size(256, 256), ControlMap(mode, Image.open(drawn).convert("RGB")))
        path, recipe = client.predict("a red cube", handle_file(drawn), "3", 2, 3.5, api_name=f"/{mode}")
    (*_, same) = zero.generate_in_worker(expected)
    assert Image.open(path).tobytes() == same.image.tobytes()
    assert (recipe["model"], recipe["plan"]) == (f"my-{mode}", "All three modes and the text encoder stay on the GPU.")
    call = calls(space)[-1]
    assert (call["token"], call["gpuSize"], int(call["durationSeconds"])) == (VISITOR, "xlarge", zero.seconds_for(expected))


def test_stop_frees_the_gpu_and_its_worker_is_used_again(space, client):
    freed = len(calls(space, "/release"))
    job = client.submit("a red cube", "512x512", "3", LONG, api_name="/text")
    while not any("step" in update[1] for update in job.outputs()):
        assert not job.done() and not time.sleep(0.05)
    workers = psutil.Process(space.pid).children()
    job.cancel()
    deadline = time.monotonic() + 20
    while len(calls(space, "/release")) == freed and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(calls(space, "/release")) == freed + 1
    client.predict("a red cube", "256x256", "3", 1, api_name="/text")
    assert psutil.Process(space.pid).children() == workers


def test_two_visitors_at_once_each_on_their_own_quota(space, client, tmp_path):
    before = len(calls(space))
    jobs = [
        each.submit("a red cube", "256x256", "3", 2, api_name="/text") for each in (client, visit(space, ANOTHER, tmp_path / "another"))
    ]
    images = [Image.open(job.result(timeout=60)[0]).tobytes() for job in jobs]
    assert images[0] == images[1]
    assert {call["token"] for call in calls(space)[before:]} == {VISITOR, ANOTHER}


def test_a_quota_that_is_used_up_is_said_in_words(space, client):
    answer = {"status": 429, "headers": {"X-Authenticated": "regular"}, "content": {"left": 3, "wait": 3600}}
    httpx.post(f"{space.api}/next", json=answer, trust_env=False)
    with pytest.raises(Exception, match=r"exceeded your free ZeroGPU quota .* vs\. 3s left\).*Try again in 1:00:00.*or try again later\."):
        client.predict("a red cube", "256x256", "3", 1, api_name="/text")


def test_a_worker_that_is_killed_is_said_in_words_and_the_next_image_has_a_new_one(space, client):
    job = client.submit("a red cube", "512x512", "3", LONG, api_name="/text")
    while not any("step" in update[1] for update in job.outputs()):
        assert not job.done() and not time.sleep(0.05)
    for worker in psutil.Process(space.pid).children():
        worker.kill()
    with pytest.raises(Exception, match=r"ZeroGPU did not generate this image: .*\. Sign in"):
        job.result(timeout=60)
    assert client.predict("a red cube", "256x256", "3", 1, api_name="/text")[1]["seed"] == 3

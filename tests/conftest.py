"""Fixtures for all tests. Every test runs with an empty environment of ours and with folders of its own."""

import functools
import gc
import os
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import replace

import hypothesis
import pytest
from PIL import Image, ImageDraw

from flux_demo.backends import Backend, Refusal
from flux_demo.libraries import raise_gc_threshold
from flux_demo.model_files import FILTER_REPO
from flux_demo.modes import MAP_LIMITS
from flux_demo.progress import Phase, Status
from flux_demo.request import BackendOutput, Dials
from flux_demo.settings import Settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by huggingface_hub at import: no test reaches for a hub by accident
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if "PYTEST_XDIST_WORKER" in os.environ:  # beside each other, workers of several threads each wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

raise_gc_threshold()  # as the programs do
# Each HTTP client would read all certificates anew, which takes 50 ms, and the tests make a thousand of them.
ssl.create_default_context = functools.lru_cache(ssl.create_default_context)
# The machine may be busy, and nothing is written beside the repository.
hypothesis.settings.register_profile("here", deadline=None, database=None)
hypothesis.settings.load_profile("here")


# Files that share a page and a browser run together, the longest first; the rest follow.
FIRST = ("ui/test_painting.py", "ui/", "serve/", "test_app.py", "training/")


def pytest_collection_modifyitems(items):
    def place(item):
        path = item.path.as_posix()
        return next((number for number, part in enumerate(FIRST) if f"tests/{part}" in path), len(FIRST))

    items.sort(key=place)


def pytest_assertrepr_compare(op, left, right):
    """Files that differ: pytest would compare their bytes for minutes."""
    if op == "==" and isinstance(left, bytes) and isinstance(right, bytes) and len(left) + len(right) > 1000:
        return ["the bytes differ", f"{len(left)} begin with {left[:40]!r}", f"{len(right)} begin with {right[:40]!r}"]
    return None


def pytest_collection_finish():
    """Freeze the imported libraries, so that the hundreds of garbage collections that the tests ask for skip them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """What libraries leave behind goes where pytest's own folders go: each client of Gradio's leaves a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No setting of the person who runs the tests reaches them, and nothing is written beside the repository."""
    for variable in Settings.variables():
        monkeypatch.delenv(variable.name, raising=False)
    monkeypatch.setenv("FLUX_DEMO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(outputs=str(tmp_path / "outputs"), hf_home=str(tmp_path / "hf"))


@pytest.fixture
def photo() -> Image.Image:
    """A drawn RGB photo, 640x400: a bright room with a dark box and a red ball in front of it."""
    picture = Image.new("RGB", (640, 400), (200, 205, 210))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 250, 640, 400), fill=(150, 130, 110))
    draw.rectangle((120, 130, 300, 320), fill=(40, 50, 70))
    draw.ellipse((340, 190, 520, 370), fill=(190, 40, 40))
    return picture


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that nobody has signed, and its key: two files."""
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl, which is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = f"-keyout {key} -out {certificate} -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made.split()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return certificate, key


class RecordingBackend(Backend):
    """A backend that generates flat images, records what it was asked, and refuses the modes it is told to."""

    def __init__(self, name="mini", refuses=(), **dials):
        self.name = name
        self.title = f"Backend {name}"
        self.refuses = refuses
        self.requests = []
        self._dials = replace(Dials(4, 3.5, range(1, 101), (1, 100), MAP_LIMITS), **dials)

    def refusal(self, mode):
        return Refusal(f"{self.name} cannot run {mode.name}. Try another.") if mode.name in self.refuses else None

    def dials(self, mode):
        return self._dials

    def generate(self, request, on_step, on_status):
        self.requests.append(request)
        on_status(Status(Phase.ENCODING, "Mixing colours"))
        for step in range(request.steps):
            on_step(step + 1, request.steps, Image.new("RGB", (8, 8)))
        return BackendOutput(Image.new("RGB", (request.size.width, request.size.height), "teal"), "flat", libraries={"pillow": "1"})


@pytest.fixture
def recording_backend():
    return RecordingBackend


@pytest.fixture
def install_filter(tmp_path, monkeypatch):
    """``install_filter(score_bias)`` puts a classifier into the cache as ``fetch filter`` would; a large bias finds everything unsafe."""
    from huggingface_hub import constants
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(bias, labels=("normal", "nsfw")):
        home = tmp_path / "hub" / f"models--{FILTER_REPO.replace('/', '--')}"
        folder = home / "snapshots" / ("c" * 40)
        folder.mkdir(parents=True, exist_ok=True)
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / "main").write_text("c" * 40)
        names = dict(enumerate(labels))
        config = ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            image_size=32,
            patch_size=16,
            id2label=names,
            label2id={label: number for number, label in names.items()},
        )
        model = ViTForImageClassification(config)
        model.classifier.bias.data[1] = bias
        model.save_pretrained(folder)
        ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder

    return put

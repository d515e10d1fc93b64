"""Warming up, by the page and by a replica of the service: as many modes as there is room for, the text mode first, and none in another's place."""

from dataclasses import replace

import pytest
import torch

import app
from flux_demo.backends.diffusion import Diffusion
from flux_demo.backends.mini import Mini
from flux_demo.engine import model_cache
from flux_demo.engine.memory import CPU_PLAN
from flux_demo.engine.model_cache import ModelCache
from flux_demo.gallery import Gallery
from flux_demo.model_files import mini_files
from flux_demo.modes import MODES
from flux_demo.progress import Phase
from flux_demo.request import GenerationRequest, Size
from flux_demo.serve_generator import Generator
from flux_demo.serve_schema import Options
from flux_demo.studio import Studio
from tests.engine.tiny import build


class Roomy(Mini):
    """A tiny FLUX with room for so many modes; those of ``apart`` have encoders of their own, and those of ``unsuited`` need another plan."""

    def __init__(self, folder, room, apart=(), unsuited=()):
        super().__init__(folder)
        self.room, self.apart, self.unsuited = room, apart, unsuited

    def files(self, mode, say):
        files = mini_files(mode, self._folder)
        return replace(files, shared=self._folder / ".." / self._folder.name) if mode.name in self.apart else files

    def suits(self, cache, files):
        return not any(files.transformer.name.endswith(name) for name in self.unsuited)

    def model_cache(self, files):
        return ModelCache(replace(CPU_PLAN, modes=self.room), torch.device("cpu"), torch.float32, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture
def read(monkeypatch):
    """The transformers that were read, by the names of their folders."""
    names, load = [], model_cache.load_transformer
    monkeypatch.setattr(
        model_cache, "load_transformer", lambda path, *given, **named: names.append(path.name) or load(path, *given, **named)
    )
    return names


ALL = ["transformer", "transformer_canny", "transformer_depth"]


@pytest.mark.parametrize(
    ("given", "warmed"),
    [
        ({"room": 1}, ALL[:1]),
        ({"room": 2}, ALL[:2]),
        ({"room": 3}, ALL),
        ({"room": 3, "apart": ("canny",)}, [ALL[0], ALL[2]]),
        ({"room": 3, "unsuited": ("canny", "depth")}, ALL[:1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("program", ["page", "service"])
def test_what_is_loaded_stays_and_is_read_once(folder, read, settings, monkeypatch, program, given, warmed):
    backend = Diffusion(Roomy(folder, **given))
    if program == "page":
        app._warm_up(Studio(settings, [backend], Gallery(settings.outputs_folder)))
    else:
        monkeypatch.setattr("flux_demo.backends.diffusion.mini", lambda settings: backend)
        Generator(Options("mini").to_dict())
    assert read == warmed
    statuses = []
    backend.generate(GenerationRequest("text", "a red cube", 1, 1, 3.5, Size(128, 128), preset="exact"), lambda *_: None, statuses.append)
    assert read == warmed and not any(status.phase is Phase.LOADING for status in statuses)


def test_a_mode_that_was_asked_for_meanwhile_stays(folder, read):
    backend = Diffusion(Roomy(folder, room=1))
    for mode in ("canny", "text", "canny"):
        backend.warm_up(MODES[mode])
    assert read == ["transformer_canny"]

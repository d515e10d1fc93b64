"""What there is to click, by what runs the mode."""

import gradio as gr
import pytest

from flux_demo.gallery import Gallery
from flux_demo.maps.photo import looks_like_map, open_photo
from flux_demo.modes import MODES
from flux_demo.settings import ASSETS
from flux_demo.studio import Studio
from flux_demo.ui import build, examples
from flux_demo.ui.prompt_meter import measure


@pytest.mark.parametrize("for_mini", [False, True])
def test_photos_are_small_and_open_and_have_a_licence_and_prompts(for_mini):
    licences = (ASSETS / "examples" / "README.md").read_text(encoding="utf-8")
    photos = examples.photos(for_mini)
    assert len(photos) == (4 if for_mini else 3)
    for path, what in photos:
        assert path.stat().st_size < 160_000 and what == what.strip() and "-" not in what
        assert looks_like_map(open_photo(path)) is None
        assert path.name in licences or path.parent.name == "examples"
    for mode in MODES.values():
        assert len(set(examples.prompts(mode, for_mini))) == 3


def test_flux_gets_photographs_and_the_mini_gets_what_it_was_taught():
    assert not {path for path, _ in examples.photos(for_mini=False)} & {path for path, _ in examples.photos(for_mini=True)}


def test_a_service_of_ones_own_that_runs_the_mini_gets_what_the_mini_was_taught(settings, recording_backend, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", settings.outputs)
    backend = recording_backend("nim")
    backend.model_name = lambda mode: "mini"
    studio = Studio(settings, [backend], Gallery(settings.outputs_folder))
    page = build(studio)
    offered = {block.value for block in page.blocks.values() if isinstance(block, gr.Button)}
    assert all(set(examples.prompts(mode, for_mini=True)) <= offered for mode in MODES.values())
    assert measure(studio, MODES["text"], "a red cube").endswith("of 64 tokens")

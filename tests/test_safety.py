"""The content filter, with a tiny ViT in the layout of the real one, and what a file says of its own origin."""

import errno
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image

import app
from flux_demo.backends.content_rules import NO_FILTER, ContentRules
from flux_demo.backends.diffusion import Diffusion
from flux_demo.backends.local import Local
from flux_demo.backends.local_models import LocalModels
from flux_demo.backends.machine import Machine
from flux_demo.backends.mini import Mini
from flux_demo.cli import parser
from flux_demo.errors import ContentRefused, GenerationFailed
from flux_demo.gallery import Gallery
from flux_demo.model_files import FILTER_FILES, FILTER_REPO, files_for
from flux_demo.modes import MODES
from flux_demo.recipe import read_recipe
from flux_demo.request import GenerationRequest, Size
from flux_demo.safety import ACCEPTED, THRESHOLD, UNFILTERED, Verdict, installed_filter
from flux_demo.settings import Settings
from flux_demo.studio import Studio


@pytest.fixture
def scene(photo):
    return photo.resize((128, 128))


class FilteredMini(Mini):
    """The mini's weights under the rules of ``local``, so that the whole path runs on any CPU."""

    name, title = "local", "FLUX on this machine's GPU"

    def __init__(self, settings):
        super().__init__()
        self.rules = Local(settings, Machine(None, False, 0))

    notice = property(lambda self: self.rules.notice)
    shows_previews = property(lambda self: self.rules.shows_previews)

    def verdict(self, image):
        return self.rules.verdict(image)


def generate(settings, on_step=None):
    studio = Studio(settings, [Diffusion(FilteredMini(settings))], Gallery(settings.outputs_folder))
    return studio.generate(GenerationRequest("text", "a red cube", seed=1, steps=2, size=Size(128, 128)), on_step)


def test_its_files_are_fetched_by_name(settings):
    assert files_for("filter", settings) == (FILTER_REPO, FILTER_FILES)
    assert parser.parse(["fetch", "filter"]).what == "filter"


def test_the_files_that_are_fetched_are_all_that_it_needs(install_filter):
    folder = install_filter(-20)
    for file in folder.iterdir():
        assert file.name in FILTER_FILES
    assert installed_filter()
    (folder / "model.safetensors").unlink()
    assert installed_filter() is None


def test_a_verdict_is_the_models_own_probability(install_filter, scene):
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = install_filter(0.7)
    model, processor = AutoModelForImageClassification.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**processor(images=scene, return_tensors="pt")).logits.softmax(-1)[0, 1].item()
    assert installed_filter().judge(scene).score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("score", "withheld"), [(0.0, False), (THRESHOLD - 1e-6, False), (THRESHOLD, True), (float("nan"), True)])
def test_the_limit_is_the_makers(score, withheld):
    assert Verdict(score).withheld is withheld


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.1234, "passed, score 0.12 of 0.85"), (0.84996, "passed, score 0.84996 of 0.85000"), (0.85, "withheld, score 0.85 of 0.85")],
)
def test_a_score_does_not_read_as_the_limit_that_it_does_not_reach(score, said):
    assert str(Verdict(score)) == f"{FILTER_REPO}: {said}"


def test_a_passed_image_states_its_score_in_its_recipe(install_filter, settings):
    install_filter(-20)
    made = generate(settings)
    assert read_recipe(made.path).safety == f"{FILTER_REPO}: passed, score 0.00 of 0.85"


def test_a_withheld_image_is_said_and_never_kept_or_swapped(install_filter, settings):
    install_filter(20)
    with pytest.raises(ContentRefused, match=f"{FILTER_REPO} scores it 1.00, and 0.85 is its limit. Change the prompt"):
        generate(settings)
    assert not list(settings.outputs_folder.rglob("*.png"))


def test_a_filter_that_cannot_be_used_lets_nothing_through(install_filter, settings):
    folder = install_filter(-20)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}}))
    with pytest.raises(GenerationFailed, match="not shown, because the filter"):
        generate(settings)
    assert not list(settings.outputs_folder.rglob("*.png"))


def test_a_filter_for_which_memory_ran_out_is_not_called_damaged(install_filter, settings, monkeypatch):
    from transformers import AutoModelForImageClassification

    def run_out(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    install_filter(-20)
    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", run_out)
    with pytest.raises(GenerationFailed, match=r"not shown, because the filter .* could not be loaded\. The main memory ran out\. Close"):
        generate(settings)
    assert not list(settings.outputs_folder.rglob("*.png"))


def test_without_it_a_page_of_ones_own_says_so_once_and_goes_on(install_filter, settings):
    local = Local(settings)
    assert local.notice == "Unfiltered: review before you share."
    assert generate(settings).recipe.safety == UNFILTERED
    install_filter(-20)
    assert local.notice is None


def test_without_it_a_page_for_strangers_refuses_local(install_filter, settings, monkeypatch):
    public = replace(settings, public=True)
    refused = ContentRules(public).refusal()
    assert (refused.reason, refused.fetch) == (NO_FILTER, "filter")
    monkeypatch.setattr(Local, "_machine_refusal", lambda *_: None)
    monkeypatch.setattr(Local, "_memory_refusal", lambda *_: None)
    monkeypatch.setattr(LocalModels, "find", lambda *_: None)
    assert Local(public, Machine(None, False, 0)).refusal(MODES["text"]) == refused
    with pytest.raises(ContentRefused, match="not shown"):  # its files were deleted after the page had started
        generate(public)
    assert ContentRules(replace(public, allow_unfiltered=True)).refusal() is None
    assert generate(replace(public, allow_unfiltered=True)).recipe.safety == UNFILTERED
    install_filter(-20)
    assert ContentRules(public).refusal() is None


def test_strangers_see_no_preview_before_the_filter_has(install_filter, settings):
    install_filter(-20)
    previews = {}
    for public in (False, True):
        previews[public] = []
        generate(replace(settings, public=public), lambda done, of, preview, seen=previews[public]: seen.append(preview))
    assert any(previews[False]) and previews[True] == [None, None]


@pytest.mark.parametrize(
    ("words", "environment", "public"),
    [
        ([], {}, False),
        (["--host", "localhost"], {}, False),
        (["--host", "::1"], {}, False),
        (["--host", "0.0.0.0"], {}, True),
        (["--host", "192.168.1.5"], {}, True),
        (["--share"], {}, True),
        ([], {"SPACE_ID": "ana/flux"}, True),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
        ([], {"GRADIO_SHARE": "True"}, True),
        ([], {"GRADIO_SHARE": "no"}, False),
        ([], {"FLUX_DEMO_PUBLIC": "1"}, True),
        ([], {"FLUX_DEMO_PUBLIC": "no"}, False),
        (["--host", "0.0.0.0"], {"FLUX_DEMO_PUBLIC": "0"}, False),
        ([], {"FLUX_DEMO_PUBLIC": "0", "GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        (["--share"], {"FLUX_DEMO_PUBLIC": "0"}, True),
        ([], {"FLUX_DEMO_PUBLIC": "0", "SPACE_ID": "ana/flux"}, True),
    ],
)
def test_strangers_are_expected_where_they_can_come(words, environment, public, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert app.is_public(app._parser().parse_args(words), Settings.from_env()) is public


def test_the_licences_clause_is_at_hand():
    assert "content filtering measures" in ACCEPTED and "undergoes review" in ACCEPTED
    assert app._parser().parse_args(["--allow-unfiltered"]).allow_unfiltered


def test_the_mini_needs_no_filter(install_filter, settings):
    public = replace(settings, public=True, backend="mini")
    assert Studio.from_settings(public).route("text").backend.refusal(MODES["text"]) is None


def test_a_generated_file_says_that_it_is_ais(settings):
    made = Studio.from_settings(replace(settings, backend="mini")).generate(
        GenerationRequest("text", "a red cube", seed=1, steps=1, size=Size(128, 128))
    )
    with Image.open(made.path) as file:
        file.load()
        assert file.text["Software"].startswith("flux_demo ")
        xmp = ElementTree.fromstring(file.info["xmp"].rpartition(b"?>")[0].partition(b"?>")[2].rpartition(b"<?")[0])
    (description,) = xmp.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert (
        description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
        == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )

"""Inference Providers against a router on loopback that takes two providers' forms to the letter."""

import threading
import time
from dataclasses import replace

import httpx
import pytest
from huggingface_hub import constants

from flux_demo.backends import all_backends
from flux_demo.backends.providers import PROVIDERS, Providers, visitor_token
from flux_demo.cli import run
from flux_demo.errors import BackendUnavailable, Cancelled, ContentRefused, FluxDemoError, GenerationFailed, InvalidRequest, Unreachable
from flux_demo.modes import MODES
from flux_demo.recipe import read_recipe
from flux_demo.request import BackendOutput, GenerationRequest, Size
from flux_demo.settings import BACKENDS, ONLY_BY_NAME, Settings
from flux_demo.studio import Studio
from stand_ins.hf_router import TOKEN
from stand_ins.nvidia_wire import Reply
from tests.starting import free_port

SIZE = Size(512, 256)


def ask(settings, prompt="a fox", on_status=lambda status: None, **fields) -> BackendOutput:
    backend = Providers(settings)
    request = backend.dials(MODES["text"]).complete(GenerationRequest("text", prompt, **{"size": SIZE, "seed": 7, **fields}))
    return backend.generate(request, lambda *step: None, on_status)


def test_a_token_for_downloads_never_makes_auto_take_it(chosen):
    assert ONLY_BY_NAME < BACKENDS.keys()
    assert "providers" not in [backend.name for backend in all_backends(replace(chosen, backend="auto"))]
    assert [backend.name for backend in all_backends(chosen)] == ["providers"]


@pytest.mark.parametrize(("provider", "title"), [("auto", "fal-ai"), ("fal-ai", "fal-ai"), ("together", "together")])
def test_each_form_brings_the_image_and_its_recipe(router, chosen, provider, title):
    """``auto`` passes over the first two, of which one generates only squares, and the other does not say whether it uses the seed."""
    studio = Studio.from_settings(replace(chosen, hf_provider=provider))
    request = GenerationRequest("text", "a fox", seed=7, steps=9, guidance=2.5, size=SIZE)
    made = studio.generate(request)
    assert made.image.size == (512, 256) and len(made.image.getcolors(10**6)) > 3
    recipe = read_recipe(made.path)
    assert (recipe.seed, recipe.steps, recipe.guidance, recipe.backend) == (7, 9, 2.5, "providers")
    assert recipe.model == f"black-forest-labs/FLUX.1-dev ({title})"
    (sent,) = router.posts()
    assert (sent.json["seed"], sent.json["guidance_scale"]) == (7, 2.5)
    assert sent.json.get("steps", sent.json.get("num_inference_steps")) == 9
    assert TOKEN not in made.path.read_bytes().decode("latin-1")


@pytest.mark.parametrize("provider", ["auto", "together"])
def test_what_a_grid_or_a_list_has_is_not_paid_for_again(router, chosen, provider):
    studio = Studio.from_settings(replace(chosen, hf_provider=provider))
    asked = {"steps": 9, "size": SIZE}
    (cell,) = studio.grid("text", "a fox", ["seed=7"], **asked)
    paid = len(router.posts())
    for again in (
        *studio.grid("text", "a fox", ["seed=7"], **asked),
        *studio.batch([{"mode": "text", "prompt": "a fox", "seed": 7, **asked}]),
    ):
        assert again.reused and again.image.path == cell.image.path
    assert len(router.posts()) == paid
    elsewhere = Studio.from_settings(replace(chosen, hf_provider="fal-ai" if provider == "together" else "together"))
    (other,) = elsewhere.grid("text", "a fox", ["seed=7"], **asked)
    assert not other.reused, "another provider's image"


def test_where_the_seed_may_not_be_used_each_repeat_is_said_to_be_charged(chosen, photo, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        Providers, "_request_image", lambda self, request, name, token: photo.resize((512, 256))
    )  # its own form has no stand-in
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("FLUX_DEMO_HF_PROVIDER", "nscale")
    words = ["grid", "text", "a fox", "--vary", "seed=1", "--size", "512x256", "--backend", "providers", "-o", str(tmp_path / "grid.png")]
    for _ in range(2):
        assert run(words) == 0
        said = capsys.readouterr().err
        assert said.index("each is charged") > said.index("Runs on") and "Already there" not in said


def test_who_pays_is_said(chosen):
    assert Providers(chosen).notice == "Each image is charged to the account of HF_TOKEN at Hugging Face."
    assert "charged to the account that you sign in with" in Providers(replace(chosen, oauth_client="space")).notice


def test_what_a_provider_may_ignore_is_said_before_it_is_asked(chosen):
    said = Providers(replace(chosen, hf_provider="nscale")).notice
    assert "nscale does not say whether it uses steps, guidance and seed" in said


@pytest.fixture
def signed_in_page(router, chosen, monkeypatch, tmp_path):
    """A page whose visitors sign in, by the mock that Gradio has for pages that run on no Space. The owner's token is another one."""
    from gradio import oauth

    from flux_demo.ui import build, launch_options

    account = {"access_token": TOKEN, "userinfo": {"preferred_username": "ana"}, "scope": "inference-api"}
    monkeypatch.setattr(oauth, "_get_mocked_oauth_info", lambda: account)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    page = build(Studio.from_settings(replace(chosen, hf_token="hf_owner", oauth_client="space", hf_provider="together")))
    try:
        _, url, _ = page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        yield url.rstrip("/")
    finally:
        page.close(verbose=False)


@pytest.mark.filterwarnings("ignore:Gradio does not support OAuth:UserWarning")  # outside of a Space, where it mocks it
def test_a_visitor_who_signs_in_pays_and_nobody_else(router, signed_in_page, tmp_path):
    from gradio_client import Client

    def ask(cookie=None):
        client = Client(signed_in_page, verbose=False, headers={"Cookie": cookie} if cookie else {}, download_files=str(tmp_path))
        return client.predict("a fox", "512x256", "7", 4, api_name="/text")

    with pytest.raises(Exception, match="You are not signed in"):
        ask()
    assert router.posts() == [], "the owner's token was used"
    signed_in = httpx.get(f"{signed_in_page}/login/callback", trust_env=False)
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    assert ask(cookie)[1]["backend"] == "providers"
    assert [sent.headers["authorization"] for sent in router.posts()] == [f"Bearer {TOKEN}"]
    with pytest.raises(Exception, match="You are not signed in"):
        ask()
    text = httpx.get(f"{signed_in_page}/config", trust_env=False).text
    assert "Sign in with Hugging Face" in text and "charged to the account that you sign in with" in text


def test_what_a_provider_ignores_is_said_and_not_in_the_recipe(chosen, tmp_path, photo, monkeypatch):
    monkeypatch.setattr(
        Providers, "_request_image", lambda self, request, name, token: photo.resize((512, 256))
    )  # its own form has no stand-in
    made = Studio.from_settings(replace(chosen, hf_provider="nscale")).generate(GenerationRequest("text", "a fox", size=SIZE))
    assert made.notes == ("nscale does not say whether it uses steps, guidance and seed, so the recipe leaves them out.",)
    recipe = read_recipe(made.path)
    assert (recipe.seed, recipe.steps, recipe.guidance) == (None, None, None)
    assert "Seed" not in recipe.parameters() and "Steps" not in recipe.parameters()


def test_a_provider_of_squares_offers_only_its_square(chosen):
    dials = Providers(replace(chosen, hf_provider="replicate")).dials(MODES["text"])
    with pytest.raises(InvalidRequest, match="1024x1024"):
        dials.complete(GenerationRequest("text", "a fox", size=SIZE))


@pytest.mark.parametrize("mode", [mode for mode in MODES.values() if mode.control], ids=lambda mode: mode.name)
def test_photos_are_refused_with_where_to_go(chosen, mode):
    assert "a GPU, a NIM or the mini" in Providers(chosen).refusal(mode).reason


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hf_token": None}, "set HF_TOKEN"),
        ({"hf_token": "sk-other"}, "begin with hf_"),
        ({"hf_token": "\u201chf_abc\u201d"}, "contains characters that no token has"),
        ({"hf_provider": "abacus"}, "FLUX_DEMO_HF_PROVIDER to auto"),
        ({"models": {"text": "~/flux1-dev-Q4_0.gguf"}}, "FLUX_DEMO_TEXT_MODEL names a file"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(chosen, change, sentence, router):
    with pytest.raises(BackendUnavailable, match=sentence):
        ask(replace(chosen, **change))
    assert not router.requests


@pytest.mark.parametrize("provider", ["fal-ai", "together"])
@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("__401__", BackendUnavailable, "rejected the token"),
        ("__402__", BackendUnavailable, "credit"),
        ("__403__", BackendUnavailable, "permission"),
        ("__404__", BackendUnavailable, "does not serve"),
        ("__422__", InvalidRequest, "does not take these values"),
        ("__429__", Unreachable, "too many requests"),
        ("__500__", Unreachable, "not working"),
        ("__504__", Unreachable, "not working"),
        ("__418__", GenerationFailed, "error 418"),
        ("__gated__", BackendUnavailable, "accepted its licence"),
        ("__413__", InvalidRequest, "too large. Shorten the prompt"),
        ("__gzip__", GenerationFailed, "not a whole image"),
        ("__html__", GenerationFailed, "not a whole image"),
        ("__empty__", GenerationFailed, "not a whole image"),
    ],
)
def test_every_refusal_has_its_sentence(router, chosen, provider, word, kind, sentence):
    with pytest.raises(FluxDemoError, match=sentence) as caught:
        ask(replace(chosen, hf_provider=provider), f"a fox {word}")
    assert type(caught.value) is kind
    said = str(caught.value)
    assert said.count(". ") >= 1 and said.endswith(".") and TOKEN not in said and "127.0.0.1" not in said


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("__black__", ContentRefused, "entirely black"),
        ("__small__", GenerationFailed, "256x256 instead of 512x256. Choose another size, such as 1024x1024 or 1344x768"),
        ("__broken__", GenerationFailed, "not a whole image|broke off"),
    ],
)
def test_a_picture_that_is_none_is_never_shown(router, chosen, word, kind, sentence):
    with pytest.raises(kind, match=sentence):
        ask(replace(chosen, hf_provider="together"), f"a fox {word}")


def test_a_model_that_nobody_serves_is_said(router, chosen):
    router.providers = ()
    with pytest.raises(BackendUnavailable, match="No provider"):
        ask(chosen)
    with pytest.raises(BackendUnavailable, match="^together does not serve the model at present. Set FLUX_DEMO_HF_PROVIDER to another one"):
        ask(replace(chosen, hf_provider="together"))


@pytest.mark.parametrize(
    ("word", "said"), [("__401__", "sign in again"), ("__403__", "sign in again"), ("__gated__", "accepted its licence")]
)
def test_visitors_who_pay_are_not_told_to_change_the_owners_token(router, chosen, word, said):
    asked = visitor_token.set(TOKEN)
    try:
        with pytest.raises(BackendUnavailable, match=said):
            ask(replace(chosen, hf_provider="together", oauth_client="ours"), f"a fox {word}")
    finally:
        visitor_token.reset(asked)


def test_no_network_is_said(router, chosen, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot be reached at the address in HF_ENDPOINT"):
        ask(chosen)


def test_a_certificate_that_is_not_verified_is_said(router, chosen, certificate, monkeypatch):
    router.speak_tls(*certificate)
    monkeypatch.setattr(constants, "ENDPOINT", router.origin.replace("http://", "https://"))
    with pytest.raises(Unreachable, match="certificate of the service cannot be verified"):
        ask(chosen)


def test_stop_ends_the_waiting_at_once(router, chosen):
    router.slow = threading.Event()
    original, said = router.answer, []
    router.answer = lambda request: Reply(delay_s=20) if request.method == "POST" else original(request)

    def stop(status):
        said.append(status.text)
        if len(said) > 3:
            raise Cancelled

    began = time.monotonic()
    with pytest.raises(Cancelled):
        ask(replace(chosen, hf_provider="together"), on_status=stop)
    assert time.monotonic() - began < 3 and "Waiting for together" in said[-1]


def test_the_setting_is_read():
    assert Settings.from_env({"FLUX_DEMO_HF_PROVIDER": "together"}).hf_provider == "together"
    assert Settings().hf_provider == "auto" and "fal-ai" in PROVIDERS


def test_strangers_see_only_what_the_filter_has_passed(router, chosen, install_filter):
    public = replace(chosen, public=True)
    assert Providers(public).refusal(MODES["text"]).fetch == "filter"
    with pytest.raises(BackendUnavailable, match="Strangers can reach this page"):
        ask(public)
    assert router.posts() == []  # nothing is paid for that nobody may see
    assert Providers(replace(public, allow_unfiltered=True)).refusal(MODES["text"]) is None
    assert ask(chosen).safety is None  # nobody knows what a filter of the provider's own has passed
    install_filter(-20)
    assert ask(public).safety == "Falconsai/nsfw_image_detection: passed, score 0.00 of 0.85"
    folder = install_filter(20)
    with pytest.raises(ContentRefused, match="The filter withheld this image"):
        ask(chosen)
    (folder / "config.json").write_text("{")
    with pytest.raises(GenerationFailed, match="No image was asked for, because the filter"):
        ask(chosen)
    assert len(router.posts()) == 3  # those before

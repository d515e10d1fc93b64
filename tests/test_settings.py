import pytest

import flux_demo.settings
from flux_demo.engine.presets import PRESETS
from flux_demo.errors import InvalidRequest
from flux_demo.settings import BACKENDS, HOSTED_URL, Settings


def test_an_empty_environment_means_auto_and_nvidias_own_address():
    settings = Settings.from_env({})
    assert settings.backend == "auto"
    assert settings.hosted_url == HOSTED_URL
    assert settings.nvidia_api_key is None


def test_an_empty_variable_counts_as_not_set():
    assert Settings.from_env({"NVIDIA_API_KEY": "  ", "FLUX_DEMO_BACKEND": ""}).nvidia_api_key is None


def test_what_is_given_stands_in_the_place_of_a_variable():
    environ = {"FLUX_DEMO_BACKEND": "nim", "FLUX_DEMO_OUTPUTS": "here"}
    settings = Settings.from_env(environ, backend="mini", outputs=None)
    assert (settings.backend, settings.outputs) == ("mini", "here")


def test_each_model_has_its_variable():
    settings = Settings.from_env({"FLUX_DEMO_CANNY_MODEL": "me/edges"})
    assert settings.model("canny") == "me/edges"
    assert settings.model("text") == "black-forest-labs/FLUX.1-dev"
    given = Settings.from_env({"FLUX_DEMO_CANNY_MODEL": "me/edges", "FLUX_DEMO_DEPTH_MODEL": "me/depth"}, models={"canny": "you/edges"})
    assert given.models == {"canny": "you/edges", "depth": "me/depth"}


def test_an_unknown_backend_is_answered_with_the_list():
    with pytest.raises(InvalidRequest, match="local, nim, hosted, providers, mini"):
        Settings.from_env({"FLUX_DEMO_BACKEND": "cloud"})


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_an_unknown_preset_is_refused_wherever_images_are_made(backend):
    with pytest.raises(InvalidRequest, match="'fast' is not a preset. Set FLUX_DEMO_PRESET to exact or compiled, or leave it out"):
        Settings.from_env({"FLUX_DEMO_PRESET": "fast"}, backend=backend)
    assert Settings.from_env({"FLUX_DEMO_PRESET": "compiled"}, backend=backend).preset == "compiled"
    assert tuple(PRESETS) == flux_demo.settings.PRESETS


def test_secrets_stay_out_of_its_text():
    text = repr(Settings.from_env({"NVIDIA_API_KEY": "nvapi-secret", "HF_TOKEN": "hf_secret"}))
    assert "secret" not in text


def test_a_switch_is_on_off_or_refused():
    assert Settings.from_env({"FLUX_DEMO_ALLOW_UNFILTERED": "1"}).allow_unfiltered
    assert not Settings.from_env({"FLUX_DEMO_ALLOW_UNFILTERED": "False"}).allow_unfiltered
    with pytest.raises(InvalidRequest, match="FLUX_DEMO_ALLOW_UNFILTERED is 'maybe', which is neither on nor off"):
        Settings.from_env({"FLUX_DEMO_ALLOW_UNFILTERED": "maybe"})


def test_paths_are_taken_as_their_names(tmp_path):
    settings = Settings(outputs=tmp_path / "o", models={"text": tmp_path / "a.gguf"}, components=tmp_path, hf_home=tmp_path)
    assert settings.outputs == str(tmp_path / "o") and settings.models == {"text": str(tmp_path / "a.gguf")}
    assert settings.components == settings.hf_home == str(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"models": {"tekst": "x/y"}}, "'tekst' is not a mode. The modes are text, canny, depth."),
        ({"models": {"text": 5}}, "5 is not a model. Give the text mode's as text or a path."),
        ({"models": {5: 5}}, "5 is not a mode. The modes are text, canny, depth."),
        ({"models": "x/y"}, "models cannot be 'x/y'. Give the modes and their models as a dict, or leave it out."),
        ({"outputs": None}, "outputs cannot be of type NoneType. Give text in Settings, or leave it out."),
        ({"backend": ["mini"]}, "backend cannot be of type list. Give text in Settings, or leave it out."),
        ({"hf_token": b"hf_secret"}, "hf_token cannot be of type bytes. Give text in Settings, or leave it out."),
        ({"public": "no"}, "public cannot be of type str. Give True or False in Settings, or leave it out."),
    ],
)
def test_what_a_script_cannot_set_is_one_message(given, said):
    with pytest.raises(InvalidRequest) as refused:
        Settings(**given)
    assert str(refused.value) == said


def test_zero_gpu_has_two_sizes():
    assert Settings.from_env({"SPACES_ZERO_GPU": "true"}).zero_gpu and not Settings.from_env({"SPACES_ZERO_GPU": "0"}).zero_gpu
    assert Settings.from_env({}).zero_size == "large"
    with pytest.raises(InvalidRequest, match="large or xlarge"):
        Settings.from_env({"FLUX_DEMO_ZEROGPU": "huge"})


def test_messages_name_what_the_person_used():
    assert Settings.from_env({"FLUX_DEMO_OUTPUTS": "a"}).named_by("outputs") == "FLUX_DEMO_OUTPUTS"
    assert Settings.from_env({"FLUX_DEMO_OUTPUTS": "a"}, outputs="b", backend=None).named_by("outputs") == "--outputs"
    assert Settings.from_env({}, {"outputs": "-o"}, outputs="b").named_by("outputs") == "-o"
    for given, name in (({"auth": "nobody"}, "--auth"), ({"backend": "abacus"}, "--backend")):
        with pytest.raises(InvalidRequest, match=name) as refusal:
            Settings.from_env({}, **given)
        assert "FLUX_DEMO" not in str(refusal.value)


@pytest.mark.parametrize("variable", ["FLUX_DEMO_TEXT_MODEL", "FLUX_DEMO_CANNY_MODEL", "FLUX_DEMO_COMPONENTS", "FLUX_DEMO_DEPTH_ESTIMATOR"])
@pytest.mark.parametrize("name", ["a" * 300, "/" + "a" * 300, "a/" * 3000])
def test_a_name_that_no_disk_takes_is_refused_by_its_variable(variable, name):
    with pytest.raises(InvalidRequest, match=f"^{variable} names a place that cannot be read .file name too long") as refusal:
        Settings.from_env({variable: name})
    assert "aaaa" not in str(refusal.value)

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flux_demo.errors import InvalidRequest
from flux_demo.modes import DEFAULT_SIZES
from flux_demo.request import ControlMap, Dials, GenerationRequest, Size, SizeLimits
from flux_demo.seeds import MAX_SEED, parse_seed, random_seed

DIALS = Dials(
    steps=28,
    guidance=3.5,
    step_range=range(5, 101),
    guidance_range=(1, 9),
    guidance_open=True,
    size_limits=SizeLimits(range(768, 1345, 64), 1_400_000, DEFAULT_SIZES),
    first_seed=1,
    presets=("exact",),
)


@pytest.mark.parametrize(
    "text, size",
    [
        ("1024x768", (1024, 768)),
        (" 16X16 ", (16, 16)),
        ("256×512", (256, 512)),
        ("320 224", (320, 224)),
        ("320*224", (320, 224)),
        ("320 × 224px", (320, 224)),
    ],
)
def test_sizes_are_read(text, size):
    assert Size.parse(text) == Size(*size)


@pytest.mark.parametrize(
    "text", ["", "x", "1024", "1024x", "1024x768x3", "-16x16", "1e3x16", "1000x1024", "0x16", "16.0x16", "٣٢x16", None, 5, "9" * 99 + "x16"]
)
def test_impossible_sizes_are_refused_in_words(text):
    with pytest.raises(InvalidRequest) as error:
        Size.parse(text)
    assert str(error.value).count(". ") >= 1 or str(error.value).endswith(".")
    assert len(str(error.value)) < 250


@given(st.integers(1, 6000), st.integers(1, 6000), st.sampled_from(["x", "X", "×"]), st.sampled_from(["", " ", "\t", "  "]))
def test_a_size_in_any_spelling_is_that_size_or_is_refused(width, height, cross, space):
    spelling = f"{space}{width}{space}{cross}{space}{height}{space}"
    if width % 16 == height % 16 == 0:
        assert Size.parse(spelling) == Size(width, height) == Size.parse(str(Size(width, height)))
    else:
        with pytest.raises(InvalidRequest, match="multiples of 16"):
            Size.parse(spelling)


@given(st.one_of(st.text(), st.from_regex(r"[0-9x× .eE+-]{0,30}", fullmatch=True)))
def test_any_text_is_a_size_or_is_refused_in_words(text):
    try:
        assert str(Size.parse(text)) == str(Size.parse(str(Size.parse(text))))
    except InvalidRequest as error:
        assert str(error).endswith(".") and len(str(error)) < 250


@pytest.mark.parametrize("text", ["a lot", "12x12", "99999x16", "99999999999999999999x16", "500x1024", "512x512", "1344x1344"])
def test_what_is_said_of_a_size_is_possible_where_it_is_said(text):
    limits = DIALS.size_limits
    with pytest.raises(InvalidRequest) as error:
        limits.parse(text)
    limits.check(Size.parse(str(error.value).rpartition("for example ")[2].rstrip(".")))
    assert limits.parse(" 768 × 1344px") == Size(768, 1344)


def test_an_illegal_side_names_its_neighbours():
    with pytest.raises(InvalidRequest, match="992 and 1008"):
        Size(1000, 1024)
    with pytest.raises(InvalidRequest):
        Size(True, 16)


@pytest.mark.parametrize("text, seed", [("", None), (None, None), ("0", 0), (" 42 ", 42), (str(MAX_SEED), MAX_SEED), ("007", 7)])
def test_seeds_are_read_as_decimals(text, seed):
    assert parse_seed(text) == seed


@pytest.mark.parametrize("text", ["-1", "1.5", "abc", str(MAX_SEED + 1), "1e5", "0x10", "١", "9" * 5000])
def test_other_seeds_are_refused_in_words(text):
    with pytest.raises(InvalidRequest, match="4294967295") as error:
        parse_seed(text)
    assert len(str(error.value)) < 250


def test_random_seeds_are_never_zero_and_differ():
    seeds = {random_seed() for _ in range(200)}
    assert 0 not in seeds and len(seeds) > 190 and max(seeds) <= MAX_SEED


@pytest.mark.parametrize("prompt", [7, None, b"a red cube", ["a red cube"]])
def test_a_prompt_that_is_not_text_is_told_so(prompt):
    with pytest.raises(InvalidRequest, match="not text"):
        GenerationRequest("text", prompt)


@pytest.mark.parametrize("prompt", ["", " \n", "\u200b", "\u00ad\u00ad", "\ufeff \u200d", "\u2800", "\u3164", "\ufe0f", "\u2028"])
def test_a_prompt_in_which_nothing_can_be_seen_is_empty(prompt):
    with pytest.raises(InvalidRequest, match="The prompt is empty"):
        GenerationRequest("text", prompt)


@pytest.mark.parametrize("prompt", ["a", "猫", "🐈", "نص", "a\u200bb", "e\u0301", "?"])
def test_a_prompt_in_which_something_can_be_seen_is_taken(prompt):
    assert GenerationRequest("text", prompt).prompt == prompt


@pytest.mark.parametrize("prompt", ["", "  \n", None, 7, "x" * 10_001, "half \ud800", "nul \0"])
def test_a_prompt_that_is_none_is_refused(prompt):
    with pytest.raises(InvalidRequest):
        GenerationRequest("text", prompt)


@pytest.mark.parametrize(
    "field",
    [
        {"seed": -1},
        {"seed": True},
        {"seed": 2**32},
        {"steps": 0},
        {"steps": 2.0},
        {"guidance": float("nan")},
        {"guidance": "3"},
        {"preset": ["exact"]},
    ],
)
def test_a_request_with_an_impossible_number_cannot_be_built(field):
    with pytest.raises(InvalidRequest):
        GenerationRequest("text", "a fox", **field)


@pytest.mark.parametrize("number", [np.int64, np.uint32, torch.tensor], ids=["int64", "uint32", "tensor"])
def test_numbers_of_numpy_and_torch_are_pythons_own(number):
    request = GenerationRequest(
        "text", "a fox", seed=number(7), steps=number(4), size=Size(number(64), number(32)), guidance=np.float32(3.5)
    )
    assert request == GenerationRequest("text", "a fox", seed=7, steps=4, guidance=3.5, size=Size(64, 32))
    assert [type(value) for value in (request.seed, request.steps, request.guidance, request.size.width)] == [int, int, float, int]
    for wrong in ({"seed": np.int64(-1)}, {"seed": np.True_}, {"steps": np.float64(2)}, {"seed": np.array([1])}):
        with pytest.raises(InvalidRequest):
            GenerationRequest("text", "a fox", **wrong)


def test_requests_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationRequest("text", "a fox").seed = 3


def test_what_is_left_out_takes_the_dials_defaults():
    whole = DIALS.complete(GenerationRequest("text", "a fox"))
    assert (whole.steps, whole.guidance, whole.size, whole.preset) == (28, 3.5, Size(1024, 1024), "exact")
    assert 1 <= whole.seed <= MAX_SEED


@pytest.mark.parametrize(
    "field, word",
    [
        ({"steps": 4}, "5 to 100"),
        ({"steps": 10**400}, r"\.\.\. steps"),
        ({"steps": 10**5000}, "5 to 100"),
        ({"guidance": 1.0}, "above 1"),
        ({"guidance": 9.5}, "at most 9"),
        ({"size": Size(752, 1024)}, "768 to 1344"),
        ({"guidance": 9.0000001}, r"of 9\.0000001 cannot .* at most 9\."),
        ({"size": Size(1344, 1344)}, "megapixels"),
        ({"seed": 0}, "from 1"),
        ({"preset": "turbo"}, "exact"),
    ],
)
def test_a_request_outside_the_dials_is_told_which_dial(field, word):
    with pytest.raises(InvalidRequest, match=word):
        DIALS.complete(GenerationRequest("text", "a fox", **field))


def test_a_size_just_above_the_limit_is_told_apart_from_it():
    limits = SizeLimits(range(256, 2049, 16), 2_100_000, (Size(1024, 1024),))
    with pytest.raises(InvalidRequest, match=r"^1456x1456 is 2\.12 megapixels, and the limit here is 2\.10\."):
        limits.check(Size(1456, 1456))
    with pytest.raises(InvalidRequest, match=r"^2048x2048 is 4\.2 megapixels, and the limit here is 2\.1\."):
        limits.check(Size(2048, 2048))


@pytest.mark.parametrize(
    "shape, size",
    [
        ((4000, 3000), "1152x896"),
        ((3000, 4000), "896x1152"),
        ((1920, 1080), "1344x768"),
        ((500, 500), "1024x1024"),
        ((900, 600), "1216x832"),
    ],
)
def test_match_takes_the_preset_nearest_to_the_photos_shape(shape, size):
    assert str(DIALS.size_limits.nearest(*shape)) == size


def test_a_map_gives_the_request_its_size():
    control = ControlMap("canny", Image.new("RGB", (64, 32)))
    assert GenerationRequest("canny", "a fox", control=control).size == Size(64, 32)
    with pytest.raises(InvalidRequest, match="64x32"):
        GenerationRequest("canny", "a fox", control=control, size=Size(64, 64))


def test_a_map_of_an_illegal_size_or_mode_cannot_be_built():
    with pytest.raises(InvalidRequest, match="multiples of 16"):
        ControlMap("canny", Image.new("RGB", (65, 32)))
    with pytest.raises(InvalidRequest, match="RGB"):
        ControlMap("canny", Image.new("L", (64, 32)))
    for wrong in (None, np.zeros((32, 64, 3), np.uint8)):
        with pytest.raises(InvalidRequest, match="not a PIL image"):
            ControlMap("canny", wrong)


def test_a_size_may_be_text_and_what_is_no_size_or_map_is_refused():
    assert GenerationRequest("text", "a cube", size="256 × 128").size == Size(256, 128)
    for wrong in ({"size": (256, 256)}, {"size": "large"}, {"control": "map.png"}, {"control": Image.new("RGB", (64, 64))}):
        with pytest.raises(InvalidRequest):
            GenerationRequest("canny", "a cube", **wrong)

"""The limits of sizes, steps and guidance, as a NIM's /openapi.json has them."""

import pytest

from flux_demo.backends.nvidia.container import Container
from flux_demo.backends.nvidia.payload import dials
from flux_demo.backends.nvidia.schema import Limits, read_limits
from flux_demo.errors import InvalidRequest
from flux_demo.modes import DEFAULT_SIZES, MODES
from flux_demo.request import GenerationRequest, Size


def document(extension=None, **properties):
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}, **properties}}
    schema |= {"x-flux-demo": extension} if extension is not None else {}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ImageRequest"}}}}
    return {"paths": {"/v1/infer": {"post": {"requestBody": body}}}, "components": {"schemas": {"ImageRequest": schema}}}


SIDES = {"enum": list(range(256, 2049, 64))}
EXTENSION = {
    "sizes": ["256x256", "512x256"],
    "max_pixels": 200_000,
    "models": {"canny": "the mini"},
    "concurrency": 2,
    "refused": {"depth": "Its weights are not here. Fetch them."},
    "defaults": {"canny": {"cfg_scale": 30, "steps": 9}},
}


def test_what_it_does_not_say_is_as_nvidias_services_have_it():
    assert read_limits(document()) == Limits() == read_limits({}) == read_limits(None)
    assert dials(MODES["text"], own_photos=True) == dials(MODES["text"], own_photos=True, limits=read_limits(document()))


def test_a_list_of_sides_and_a_range_of_them_are_read_alike():
    ranged = {"type": "integer", "minimum": 256, "maximum": 2048, "multipleOf": 64}
    for sides in (SIDES, ranged, {"anyOf": [{"type": "null"}, ranged]}):
        limits = read_limits(document(width=sides, height=sides))
        assert limits.sizes.sides == range(256, 2049, 64) and limits.sizes.sizes == DEFAULT_SIZES
        limits.sizes.check(Size(2048, 2048))


@pytest.mark.parametrize(
    "sides",
    [
        {"exclusiveMinimum": 255, "exclusiveMaximum": 2049, "multipleOf": 64},
        {"minimum": 255, "exclusiveMinimum": True, "maximum": 2049, "exclusiveMaximum": True, "multipleOf": 64},
        {"oneOf": [{"const": side} for side in SIDES["enum"]]},
    ],
)
def test_sides_are_read_in_every_form_of_json_schema(sides):
    assert read_limits(document(width=sides, height=sides)) == read_limits(document(width=SIDES, height=SIDES)) != Limits()


def test_width_and_height_may_have_limits_of_their_own():
    limits = read_limits(document(width={"const": 1024}, height={"enum": [512, 1024, 1536]})).sizes
    limits.check(Size(1024, 1536))
    assert limits.sizes == (Size(1024, 1024),)
    with pytest.raises(InvalidRequest, match="A width of 512 .* It may be 1024 to 1024"):
        limits.check(Size(512, 1024))
    with pytest.raises(InvalidRequest, match="A height of 768 .* It may be 512 to 1536 in steps of 512, for example 1024x1024"):
        limits.check(Size(1024, 768))
    assert read_limits(document(width={"const": 512}, height={"const": 640})).sizes.sizes == (Size(512, 640),)
    read_limits(document(width={"const": 512})).sizes.check(Size(512, 768))  # what it does not say is as NVIDIA's services have it


def test_steps_and_guidance_are_read_without_the_ends_that_are_left_out():
    limits = read_limits(
        document(steps={"exclusiveMinimum": 0, "exclusiveMaximum": 9}, cfg_scale={"exclusiveMinimum": 0, "exclusiveMaximum": 20})
    )
    assert (limits.steps, limits.guidance, limits.guidance_open) == (range(1, 9), (0.0, 19.9), True)
    older = {"minimum": 1, "exclusiveMinimum": True, "maximum": 5, "exclusiveMaximum": False}
    limits = read_limits(document(cfg_scale=older))
    assert (limits.guidance, limits.guidance_open) == ((1.0, 5.0), True)


def test_steps_and_guidance_are_read_with_their_open_end():
    limits = read_limits(document(steps={"minimum": 1, "maximum": 8}, cfg_scale={"exclusiveMinimum": 0, "maximum": 20}))
    assert (limits.steps, limits.guidance, limits.guidance_open) == (range(1, 9), (0.0, 20.0), True)
    closed = read_limits(document(cfg_scale={"minimum": 1, "maximum": 4}))
    assert (closed.guidance, closed.guidance_open) == ((1.0, 4.0), False)


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.name)
def test_the_defaults_always_lie_within_the_limits(mode):
    limits = read_limits(document(steps={"minimum": 1, "maximum": 8}, cfg_scale={"minimum": 1, "maximum": 2}, width=SIDES, height=SIDES))
    row = dials(mode, own_photos=True, limits=limits)
    row.check(row.complete(GenerationRequest(mode.name, "a fox")))


def test_the_services_own_words_add_sizes_pixels_defaults_models_and_how_many_it_takes_at_once():
    limits = read_limits(
        document(EXTENSION, width=SIDES, height=SIDES, steps={"minimum": 1, "maximum": 100}, cfg_scale={"minimum": 1, "maximum": 100})
    )
    assert (limits.sizes.sizes, limits.sizes.max_pixels) == ((Size(256, 256), Size(512, 256)), 200_000)
    assert (limits.models, limits.concurrency) == ({"canny": "the mini"}, 2)
    refused = Container(modes=frozenset(("base", "canny")), fields=frozenset(("preprocess_image",)), limits=limits)
    assert refused.problem_for(MODES["depth"]) == "Your service says: Its weights are not here. Fetch them."
    assert refused.problem_for(MODES["canny"]) is None
    row = dials(MODES["canny"], own_photos=True, limits=limits)
    assert (row.guidance, row.steps) == (30, 9)
    assert dials(MODES["depth"], own_photos=True, limits=limits).steps == 30


@pytest.mark.parametrize(
    "properties",
    [
        {"width": {"enum": []}, "height": {"enum": []}},
        {"width": {"enum": [1, 2, 4]}, "height": {"enum": [1, 2, 4]}},
        {"width": {"enum": ["a"]}, "height": {"enum": ["a"]}},
        {"width": {"const": 1000}, "height": {"const": 1000}},  # FLUX has no such size
        {"width": {"minimum": 1, "maximum": 10**12}, "height": {"minimum": 1, "maximum": 10**12}},
        {"width": {"minimum": 9, "maximum": 1}, "height": {"minimum": 9, "maximum": 1}},
        {"steps": {"minimum": "1", "maximum": 2}},
        {"steps": 7},
        {"cfg_scale": {"minimum": 5, "maximum": 1}},
        {"cfg_scale": {"minimum": True, "maximum": 4}},
        {"cfg_scale": []},
    ],
)
def test_limits_that_make_no_sense_are_passed_over(properties):
    assert read_limits(document(**properties)) == Limits()


@pytest.mark.parametrize(
    "extension",
    [
        {},
        [],
        {**EXTENSION, "sizes": ["17x3"]},
        {**EXTENSION, "sizes": ["64x64"]},
        {**EXTENSION, "models": {"canny": "a\nb"}},
        {**EXTENSION, "models": "the mini"},
        {**EXTENSION, "concurrency": 0},
        {**EXTENSION, "refused": []},
        {**EXTENSION, "concurrency": "2"},
        {**EXTENSION, "defaults": {"canny": 3}},
    ],
)
def test_a_service_that_speaks_nonsense_is_a_plain_nim(extension):
    assert read_limits(document(extension, width=SIDES, height=SIDES)).models == {}

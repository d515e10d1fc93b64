"""Answers with status 200 that are not an image: each has its sentence, from both services, and the next request works."""

import base64
import gc
import gzip
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from flux_demo.backends.nvidia.answers import read_image
from flux_demo.backends.nvidia.errors import HOSTED
from flux_demo.errors import ContentRefused, GenerationFailed, Unreachable
from flux_demo.gallery import Gallery
from flux_demo.recipe import read_recipe
from flux_demo.request import GenerationRequest, Size, SizeLimits
from flux_demo.studio import Studio
from stand_ins.nvidia import answer
from stand_ins.nvidia_images import encoded
from stand_ins.nvidia_wire import Reply

WHOLE = encoded(Image.new("RGB", (1024, 1024), "teal"))
ARTIFACT = answer(WHOLE, 1)["artifacts"][0]


def _bomb() -> bytes:
    """A PNG whose header promises four gigapixels."""
    content = bytearray(encoded(Image.new("RGB", (1024, 1024)), "PNG"))
    content[16:24] = (65536).to_bytes(4, "big") * 2
    return bytes(content)


def _with(**fields):
    return {"artifacts": [{**ARTIFACT, **fields}]}


def _archive(**members: bytes) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


BODIES = {
    "empty": (b"", "empty answer"),
    "blank": (b" \n", "empty answer"),
    "page": ("<html>proxy page</html>", "an incomplete answer"),
    "half": (json.dumps(answer(WHOLE, 1))[:400], "an incomplete answer"),
    "deep": (b"[" * 100_000, "an incomplete answer"),
    "binary": (b"\x00\xff\xfe" * 50, "an incomplete answer"),
    "list": ([], "without an image"),
    "null": ("null", "without an image"),
    "no artifacts": ({}, "without an image"),
    "empty artifacts": ({"artifacts": []}, "without an image"),
    "odd artifacts": ({"artifacts": ["x"]}, "without an image"),
    "artifacts of another kind": ({"artifacts": {"base64": "x"}}, "without an image"),
    "no base64": ({"artifacts": [{"finishReason": "SUCCESS", "seed": 1}]}, "without an image"),
    "empty base64": (_with(base64=""), "without an image"),
    "base64 of another kind": (_with(base64=[1]), "without an image"),
    "broken base64": (_with(base64="####"), "arrived broken"),
    "half base64": (_with(base64=ARTIFACT["base64"][:-3]), "arrived broken"),
    "error": (_with(finishReason="ERROR"), "did not say that the image is finished"),
    "no reason": ({"artifacts": [{"base64": ARTIFACT["base64"], "seed": 1}]}, "did not say that the image is finished"),
    "reason of another kind": (_with(finishReason=["SUCCESS"]), "did not say that the image is finished"),
    "no image": (answer(b"hello, this is text", 1), "other than a JPEG or PNG"),
    "gif": (answer(encoded(Image.new("RGB", (1024, 1024)), "GIF"), 1), "other than a JPEG or PNG"),
    "half jpeg": (answer(WHOLE[: len(WHOLE) // 2], 1), "arrived broken"),
    "only magic": (answer(b"\x89PNG\r\n\x1a\n", 1), "arrived broken"),
    "other size": (answer(encoded(Image.new("RGB", (1024, 1023))), 1), "sent 1024x1023 pixels instead of 1024x1024"),
    "turned": (answer(encoded(Image.new("RGB", (768, 1024))), 1), "sent 768x1024"),
    "bomb": (answer(_bomb(), 1), "arrived broken|sent 65536x65536"),
}


@pytest.mark.parametrize(("body", "said"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("service", ["hosted", "nim"])
def test_a_broken_answer_has_its_sentence_and_the_next_request_works(request, service, stand_in, generate, body, said):
    backend = request.getfixturevalue(service)()
    stand_in.replies.append(Reply(200, body, content_type="application/json"))
    with pytest.raises(GenerationFailed, match=said) as error:
        generate(backend)
    assert ("NVIDIA" if service == "hosted" else "Your NIM") in str(error.value)
    assert len(stand_in.posts()) == 1
    assert generate(backend).image.size == (1024, 1024)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, json.dumps(answer(WHOLE, 1)), cut=300),  # the connection is cut within the body
        Reply(200, b"", headers={"Content-Length": "500"}, cut=0),
        Reply(200, b"x", headers={"Broken\0Header": "1"}),
    ],
)
def test_a_broken_connection_has_its_sentence_and_the_next_request_works(hosted, stand_in, generate, reply):
    backend = hosted()
    stand_in.replies.append(reply)
    with pytest.raises(Unreachable, match="broke off"):
        generate(backend)
    generate(backend)


def test_an_answer_that_is_not_compressed_as_it_says_cannot_be_read(hosted, stand_in, generate):
    backend = hosted()
    stand_in.replies.append(Reply(200, b"this was never compressed" * 9, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(GenerationFailed, match="NVIDIA sent an answer that cannot be read") as caught:
        generate(backend)
    assert not isinstance(caught.value, Unreachable)  # the connection was whole
    generate(backend)


def test_the_size_that_is_advised_is_another_one_that_the_service_takes():
    wrong = json.dumps(answer(encoded(Image.new("RGB", (512, 512))), 1)).encode()
    few = SizeLimits(range(256, 1025, 64), 1024**2, (Size(1024, 1024), Size(256, 512)))
    with pytest.raises(GenerationFailed, match="instead of 1024x1024. Choose another size, such as 256x512[.]$"):
        read_image(wrong, Size(1024, 1024), HOSTED, few)
    with pytest.raises(GenerationFailed, match="instead of 1024x1024. Try again in a minute"):
        read_image(wrong, Size(1024, 1024), HOSTED, replace(few, sizes=(Size(1024, 1024),)))


def test_an_endless_answer_is_not_read_to_its_end(hosted, stand_in, generate):
    backend = hosted()
    endless = b" " * (33 * 2**20)
    for reply in (Reply(200, endless), Reply(200, gzip.compress(endless, 1), headers={"Content-Encoding": "gzip"})):
        stand_in.replies.append(reply)
        with pytest.raises(GenerationFailed, match="more than 32 MiB"):
            generate(backend)
    generate(backend)


def test_nothing_is_said_of_an_endless_answer_when_the_program_ends(hosted, stand_in, generate, caplog):
    for _ in range(6):
        backend = hosted()
        stand_in.replies.append(Reply(200, b" " * (33 * 2**20)))
        with suppress(GenerationFailed):
            generate(backend)
        backend.close()
        gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16", "CMYK"])
def test_every_kind_of_pixel_comes_back_as_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image, seed, _ = read_image(json.dumps(answer(encoded(Image.new(mode, (768, 768)), kind), 3)).encode(), Size(768, 768), HOSTED)
    assert (image.mode, image.size, seed) == ("RGB", (768, 768), 3)


@pytest.mark.parametrize(
    ("drawn", "colour"),
    [
        (Image.new("RGBA", (768, 768), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.linear_gradient("L").resize((768, 768)).convert("I").point(lambda value: value * 257).convert("I;16"), (128, 128, 128)),
    ],
)
def test_transparency_is_laid_on_white_and_16_bits_are_scaled(drawn, colour):
    image, _, _ = read_image(json.dumps(answer(encoded(drawn, "PNG"), 3)).encode(), Size(768, 768), HOSTED)
    assert image.getpixel((384, 384)) == pytest.approx(colour, abs=2)


def test_base64_may_have_line_breaks():
    lines = base64.encodebytes(WHOLE).decode()
    for text in (lines, f"data:image/jpeg;base64,{lines}"):
        assert read_image(json.dumps(_with(base64=text)).encode(), Size(1024, 1024), HOSTED).image.size == (1024, 1024)


def test_a_png_of_the_service_keeps_every_pixel():
    drawn = Image.effect_noise((768, 832), 80).convert("RGB")
    image, _, _ = read_image(json.dumps(answer(encoded(drawn, "PNG"), 3)).encode(), Size(768, 832), HOSTED)
    assert image.tobytes() == drawn.tobytes()


def test_a_large_result_may_be_the_answer_or_the_image_zipped_or_not():
    whole = json.dumps(answer(WHOLE, 8)).encode()
    for body, seed in (
        (whole, 8),
        (WHOLE, None),
        (_archive(**{"a.response": whole}), 8),
        (_archive(**{"a.jpg": WHOLE}), None),
        (_archive(**{"readme.txt": b"hello", "a.jpg": WHOLE, "b.response": whole}), 8),
    ):
        image, used, images = read_image(body, Size(1024, 1024), HOSTED)
        assert image.size == (1024, 1024) and used == seed and images == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (_with(seed=2**64), "names 18446744073709551616 as the seed"),
        (_with(seed=-1), "names -1 as the seed"),
        (_with(seed="8"), "names '8' as the seed"),
        (_with(seed=7.5), "names 7.5 as the seed"),
        (_with(seed=True), "names True as the seed"),
        (_with(seed=None), "does not say which seed it used"),
        (WHOLE, "does not say which seed it used"),
    ],
)
@pytest.mark.parametrize("service", ["hosted", "nim"])
def test_an_answer_without_a_possible_seed_keeps_its_image_and_says_so(request, service, stand_in, settings, body, said):
    studio = Studio(settings, [request.getfixturevalue(service)()], Gallery(settings.outputs_folder))
    stand_in.replies.append(Reply(200, body, content_type="application/json"))
    made = studio.generate(GenerationRequest("text", "a house", seed=7))
    assert made.image.size == (1024, 1024) and read_recipe(made.path).seed == 7
    (note,) = made.notes
    assert said in note and note.endswith("The recipe has the seed that was asked for, 7.")


@pytest.mark.parametrize("seed", ["7", 7.0])
def test_the_seed_that_was_asked_for_may_be_sent_as_text_or_as_a_float(nim, stand_in, generate, seed):
    stand_in.replies.append(Reply(200, _with(seed=seed), content_type="application/json"))
    output = generate(nim(), seed=7)
    assert (output.seed, output.notes) == (7, ())


@pytest.mark.parametrize(
    "body",
    [
        {"artifacts": [ARTIFACT, ARTIFACT]},
        _archive(**{"a.response": json.dumps(answer(WHOLE, 1)).encode(), "a.jpg": WHOLE, "b.jpg": WHOLE}),
    ],
)
def test_a_second_image_in_an_answer_is_said(hosted, stand_in, generate, body):
    stand_in.replies.append(Reply(200, body))
    assert generate(hosted(), seed=1).notes == ("NVIDIA sent 2 images; this is the first one.",)


def test_a_filtered_image_in_an_archive_is_a_refusal():
    filtered = json.dumps(answer(WHOLE, 1, "CONTENT_FILTERED")).encode()
    with pytest.raises(ContentRefused):
        read_image(_archive(**{"a.jpg": WHOLE, "b.response": filtered}), Size(1024, 1024), HOSTED)


@pytest.mark.parametrize(
    "body",
    [
        b"PK\x03\x04 and then nothing",
        _archive(),
        _archive(**{"a.txt": b"hello"}),
        _archive(**{"a.zip": _archive(**{"a.jpg": WHOLE})}),
        _archive(**{"a.jpg": WHOLE})[:-40],
        _archive(**{"zeros": bytes(70 * 2**20), "a.jpg": WHOLE}),  # more than is ever unpacked
    ],
)
def test_a_broken_archive_has_its_sentence(body):
    with pytest.raises(GenerationFailed):
        read_image(body, Size(1024, 1024), HOSTED)

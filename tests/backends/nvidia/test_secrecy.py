"""A service may repeat the key, in whatever form; what it says is then not shown."""

import base64
import codecs
import json
import random
import secrets
import string
from urllib.parse import quote

import pytest
from hypothesis import given, settings, strategies

from flux_demo.backends.nvidia.errors import HOSTED, failure, quoted
from flux_demo.backends.nvidia.secrecy import gives_away

KEY = "nvapi-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(64))
OWN = KEY.partition("-")[2]
FORMS = {
    "whole": KEY,
    "without its beginning": OWN,
    "half": OWN[:32],
    "the end": OWN[-16:],
    "upper case": KEY.upper(),
    "split": " ".join(KEY),
    "in fours": " | ".join(OWN[start : start + 4] for start in range(0, 64, 4)),
    "in threes with words": " and then ".join(OWN[start : start + 3] for start in range(0, 64, 3)),
    "reversed": KEY[::-1],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of more": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of more still": base64.b64encode(f"ab{KEY}x".encode()).decode(),
    "url-safe base64": base64.urlsafe_b64encode(f"?>{KEY}".encode()).decode(),
    "base64, twice": base64.b64encode(base64.b64encode(KEY.encode())).decode(),
    "base64 of the reverse": base64.b64encode(KEY[::-1].encode()).decode(),
    "base32": base64.b32encode(KEY.encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal with colons": KEY.encode().hex(":"),
    "in an address": "".join(f"%{byte:02X}" for byte in KEY.encode()),
    "in an address, twice": quote("".join(f"%{byte:02x}" for byte in KEY.encode())),
    "as HTML": "".join(f"&#{ord(letter)};" for letter in KEY),
    "as escapes": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "full width": "".join(chr(ord(letter) + 0xFEE0) for letter in KEY),
    "zero-width spaces": "\u200b".join(KEY),
    "rot13": codecs.encode(KEY, "rot13"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("shape", ["text", "message", "location", "two messages", "elsewhere"])
def test_no_form_of_the_key_is_quoted(form, shape):
    middle = len(form) // 2
    detail = {
        "text": f"The value {form} is wrong",
        "message": [{"loc": ["body", "seed"], "msg": f"bad: {form}", "type": "x"}],
        "location": [{"loc": ["body", form], "msg": "bad", "type": "x"}],
        "two messages": [
            {"loc": ["body", "a"], "msg": form[:middle], "type": "x"},
            {"loc": ["body", "b"], "msg": form[middle:], "type": "x"},
        ],
        "elsewhere": [{"loc": ["body", "seed"], "msg": "bad", "type": "x", "input": form}],
    }[shape]
    said = str(failure(HOSTED, 422, json.dumps({"detail": detail}).encode(), secret=KEY))
    assert "without saying why" in said
    assert form not in said


ORDINARY = [
    "Input should be less than or equal to 9",
    "The key in NVIDIA_API_KEY starts with nvapi- and is not valid for this function",
    "mode: Input should be 'base', 'canny' or 'depth'; width: Input should be a multiple of 64, from 768 to 1344",
    "Value error, prompt must not be empty. " * 20,
]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_has_nothing_of_the_key_is_quoted(text):
    """Five letters of some form of a key stand in ordinary text by chance now and then: with few of the keys that there could be."""
    draw = random.Random(text)
    keys = ["nvapi-" + "".join(draw.choices(string.ascii_letters + string.digits + "-_", k=64)) for _ in range(200)]
    assert sum(gives_away(text, key) for key in keys) <= 0.03 * len(keys)
    assert quoted("bad seed", KEY) == "bad seed" == quoted("bad seed")


@settings(max_examples=200, deadline=None)
@given(strategies.text(max_size=300), strategies.integers(0, 50), strategies.integers(8, 14), strategies.booleans())
def test_eight_letters_of_the_key_in_any_text_are_enough(text, start, size, backwards):
    piece = OWN[start : start + size]
    assert gives_away(text[: len(text) // 2] + (piece[::-1] if backwards else piece) + text[len(text) // 2 :], KEY)

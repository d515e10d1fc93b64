"""What this program's own service says beyond a NIM: it arrives as it was said, in headers, which are ASCII."""

import httpx
import pytest

from flux_demo.backends.nvidia.own_service import headers, said, said_lines


@pytest.mark.parametrize("text", ["47% of the model stays on the GPU: “fast”", "模型.gguf, Q8_0", 'a;b=c, "d"', "%0A"])
def test_a_value_arrives_as_it_was_said(text):
    wire = httpx.Headers(headers({"model": text, "notes": f"{text}\nAnd this.", "safety": None, "plan": ""}))
    assert {*wire} == {"x-flux-demo-model", "x-flux-demo-notes"} and all(value.isascii() for value in wire.values())
    assert said(wire, "model") == text and said(wire, "safety") is None
    assert said_lines(wire, "notes") == (text, "And this.")


def test_what_cannot_be_shown_is_left_out():
    assert said_lines({"x-flux-demo-notes": "a%1B%5B2J"}, "notes") == said_lines({"x-flux-demo-notes": "a" * 1001}, "notes") == ()

"""Numbers, and names in the recipe, as the visitor's language writes them."""

from dataclasses import replace

import pytest

from flux_demo.errors import FluxDemoError
from flux_demo.request import Size, SizeLimits
from flux_demo.ui import html
from flux_demo.ui.translation import in_language, language, page_languages
from tests.test_recipe import RECIPE
from tests.ui.test_map_notes import black_with_a_dot, note


def test_numbers_are_written_as_the_language_writes_them():
    recipe = replace(RECIPE, seconds=0.72, stopped_at=None, guidance=3.5)
    said = {}
    for name in page_languages():
        with in_language(name):
            assert language() == name
            caption, edges, left = html.caption(recipe, ""), note("canny", black_with_a_dot(255)), html.step_of(1, 28, 125.0)
            said[name] = [" ".join(text.split()) for text in (caption, edges, left, html.details(recipe), html.byte_of(1, 24 * 10**9))]
    for name, seconds, share, time, guidance, fetched in (
        ("", "0.7 s", "0.0% edge pixels", "2 min 05 s", "<dd>3.5</dd>", "0.00 of 24.00 GB"),
        ("de", "0,7 s", "0,0 % Kantenpixel", "2 min 05 s", "<dd>3,5</dd>", "0,00 von 24,00 GB"),
        ("fr", "0,7 s", "0,0 % de pixels", "2 min 05 s", "<dd>3,5</dd>", "24,00"),
        ("ja", "0.7 秒", "0.0%", "2 分 05 秒", "<dd>3.5</dd>", "24.00"),
    ):
        for part, text in zip((seconds, share, time, guidance, fetched), said[name], strict=True):
            assert part in text


def test_an_errors_numbers_stay_english_where_the_page_does_not_say_it():
    with pytest.raises(FluxDemoError) as caught:
        SizeLimits(range(64, 2049, 16), 1_000_000, (Size(512, 512),)).check(Size(1024, 1024))
    assert "is 1.05 megapixels" in str(caught.value)
    with in_language("de"):
        assert "sind 1,05 Megapixel" in html.sentence(caught.value)


def test_the_details_name_the_preset_as_the_menu_does():
    with in_language("de"):
        assert "<dd>Exakt</dd>" in html.details(replace(RECIPE, preset="exact"))
    assert "<dd>one of another program</dd>" in html.details(replace(RECIPE, preset="one of another program"))

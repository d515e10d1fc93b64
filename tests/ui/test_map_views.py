"""The map's views: over the photo, framed, inverted. What is sent stays exact."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from playwright.sync_api import expect

from flux_demo.maps.fit import fit
from flux_demo.request import Size
from tests.ui.driving import WIDE, changed, choose_size, field, give_photo, pixels, pixels_hash, served, source, view


def test_the_map_lies_over_the_photo_and_the_frame_shows_what_crop_keeps(visit, studio, photo, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    before = source(page, "#map-canny")
    choose_size(page, WIDE)
    map_png = changed(page, "#map-canny", before)
    frame = page.locator("#photo-canny .crop-frame > div").bounding_box()
    panel = page.locator("#photo-canny .crop-frame").bounding_box()
    assert panel["width"] / panel["height"] == pytest.approx(640 / 400, rel=0.01)
    assert frame["width"] / frame["height"] == pytest.approx(2, rel=0.01) and frame["width"] == pytest.approx(panel["width"], abs=1)
    assert frame["y"] - panel["y"] == pytest.approx(panel["height"] / 10, abs=1)
    view(page, "With photo")
    page.locator("#beside-canny img").nth(1).wait_for()
    left, right = (page.request.get(each.get_attribute("src"), max_retries=2).body() for each in page.locator("#beside-canny img").all())
    assert np.array_equal(pixels(left), fit(photo, Size(256, 128)).pixels)
    assert right == map_png  # the very file that is sent
    for moved, value, pushed in (("Low", 400, "High"), ("High", 100, "Low")):  # the sliders cannot cross
        field(page, f"{moved} threshold").fill(str(value))
        field(page, f"{moved} threshold").press("Tab")
        expect(field(page, f"{pushed} threshold")).to_have_value(str(value))
    page.set_viewport_size({"width": 1280, "height": 500})
    for over in ("#beside-canny", "#map-canny"):  # the wheel scrolls the page, and enlarges nothing
        view(page, "With photo" if over == "#beside-canny" else "Map")
        page.evaluate("scrollTo(0, 0)")
        page.locator(over).hover()
        before = page.evaluate("scrollY")
        page.mouse.wheel(0, 200)
        page.wait_for_function("(before) => scrollY > before", arg=before)
    view(page, "With photo")
    page.set_viewport_size({"width": 1280, "height": 900})
    choose_size(page, "128x256")
    heights = "[...document.querySelectorAll('#beside-canny img')].map((each) => each.naturalHeight).join()"
    page.wait_for_function(f"{heights} === '256,256'")
    photo_box, map_box = (each.bounding_box() for each in page.locator("#beside-canny img").all())
    assert photo_box == map_box  # one lies on the other
    panel = page.locator("#beside-canny").bounding_box()
    assert panel["y"] <= map_box["y"] and map_box["y"] + map_box["height"] <= panel["y"] + panel["height"]  # the whole of both is there


@pytest.mark.parametrize("name", ["room.tiff", "on its side.webp"])
def test_a_photo_that_browsers_do_not_show_is_shown_and_followed(visit, studio, photo, tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 1 if name.endswith("tiff") else 6  # to be shown turned clockwise
    stored = photo if name.endswith("tiff") else photo.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / name, exif=exif, lossless=True)
    page = visit(tab="Canny")
    give_photo(page, "canny", tmp_path / name)
    page.wait_for_function("document.querySelector('#photo-canny img')?.naturalWidth === 640")
    assert np.array_equal(pixels(served(page, "#photo-canny")), np.asarray(photo))
    assert pixels_hash(served(page, "#map-canny")) == studio.preview("canny", photo).sha256


def test_a_map_in_black_on_white_can_be_used_the_other_way_round(visit, studio, photo, tmp_path):
    ready = studio.preview("canny", photo, "336x192")
    ImageOps.invert(ready.image).save(tmp_path / "inverted.png")
    page = visit(tab="Canny")
    give_photo(page, "canny", tmp_path / "inverted.png")
    page.get_by_text("in black on white").wait_for()
    before = source(page, "#map-canny")
    page.get_by_role("button", name="Use as map, inverted", exact=True).locator("visible=true").click()
    assert pixels_hash(changed(page, "#map-canny", before)) == ready.sha256


def test_nothing_jumps_when_the_map_is_laid_over_the_photo_for_the_first_time(visit, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").wait_for()
    page.evaluate(
        """() => {
            const views = document.querySelector("#tab-canny .view"), top = () => Math.round(views.getBoundingClientRect().top + scrollY);
            window.tops = new Set([top()]);
            const look = () => { window.tops.add(top()); requestAnimationFrame(look); };
            look();
        }"""
    )
    for name, selector in (("With photo", "#beside-canny"), ("Map", "#map-canny"), ("With photo", "#beside-canny")):
        view(page, name)
        page.locator(f"{selector} img").last.wait_for()
        expect(page.locator("#beside-canny, #map-canny").locator("visible=true")).to_have_count(1)
    assert page.evaluate("[...window.tops].length") == 1

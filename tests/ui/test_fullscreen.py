"""An image fills the window, and nothing of the page lies over it or shows through."""

from tests.ui.conftest import SMALL
from tests.ui.driving import choose_size, give_photo, made, pixels, prompt_field, run, set_steps

OF_THE_PAGE = """(selector) => {  // what lies over it, at a hundred points
    const box = document.querySelector(selector), found = [];
    for (let x = 0.5; x < 10; x += 1) for (let y = 0.5; y < 10; y += 1) {
        const there = document.elementFromPoint(innerWidth * x / 10, innerHeight * y / 10);
        if (!box.contains(there)) found.push([x, y, there?.outerHTML.slice(0, 80)]);
    }
    return found;
}"""


def filled_in(visit, photo_file):
    """A page whose Canny tab has a photo, a prompt, a small size and one step."""
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    prompt_field(page).fill("a red cube")
    choose_size(page, SMALL)
    set_steps(page, 1)
    return page


def fill_the_window(page, selector):
    page.locator(selector).get_by_role("button", name="Fullscreen", exact=True).click()
    page.locator(f"{selector}.fullscreen").wait_for()
    page.mouse.move(1, 1)


def test_nothing_of_the_page_lies_over_an_image_that_fills_the_window(visit, photo_file):
    page = filled_in(visit, photo_file)
    run(page)
    made(page, "canny")
    for selector in ("#map-canny", "#picture-canny"):
        for size in ({"width": 1280, "height": 900}, {"width": 390, "height": 844}):
            page.set_viewport_size(size)
            fill_the_window(page, selector)
            assert page.evaluate(OF_THE_PAGE, selector) == []
            page.keyboard.press("Escape")
            page.locator(f"{selector}:not(.fullscreen)").wait_for()


def test_a_comparison_fills_the_window_and_the_page_does_not_show_through(visit, photo_file):
    page = filled_in(visit, photo_file)
    page.get_by_role("button", name="Compare Text, Canny, Depth").locator("visible=true").click()
    page.locator("#strip img").wait_for()
    for width, height in ((1280, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        fill_the_window(page, "#strip")
        assert page.evaluate(OF_THE_PAGE, "#strip") == []
        natural = page.locator("#strip img").evaluate("(image) => image.naturalWidth / image.naturalHeight")
        band = int((height - width / natural) / 2) - 2  # above and below the image
        shot = pixels(page.screenshot())
        assert band > 20 and shot.shape[:2] == (height, width)
        for part in (shot[:band, : width - 100], shot[height - band :]):  # Gradio's buttons stand at the right
            assert (part == part[0, 0]).all()
        assert (shot[height // 2, [2, -3]] != shot[0, 0]).any()  # the image is as wide as the window
        page.keyboard.press("Escape")
        page.locator("#strip:not(.fullscreen)").wait_for()
    page.context.new_cdp_session(page).send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    buttons = [button.bounding_box() for button in page.locator("#strip .icon-button").all()]
    assert len(buttons) == 2 and all(min(box["width"], box["height"]) >= 36 for box in buttons)
    assert max(box["y"] + box["height"] for box in buttons) <= page.locator("#strip img").bounding_box()["y"]

"""Numbers that are typed in a real browser: what cannot be used is refused in words, and never exchanged for another number."""

from playwright.sync_api import expect

from tests.ui.driving import field, give_photo, made, open_settings, prompt_field, read_recipe_of, run, set_steps, wait_for_status


def test_a_number_out_of_range_is_refused_as_it_was_typed(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    open_settings(page)
    for label, value, said in (
        ("Guidance", "500", "A guidance of 500 cannot be used"),
        ("Guidance", "-5", "A guidance of -5 cannot be used"),
        ("Steps", "9999", "9999 steps cannot be run"),
    ):
        field(page, label).fill(value)
        run(page)
        wait_for_status(page, "text", said)
        expect(field(page, label)).to_have_value(value)
    assert page.locator("#history img").count() == 0


def test_a_threshold_out_of_range_is_refused_and_moves_no_other(visit, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    page.locator("#map-canny img").wait_for()
    field(page, "Low threshold").fill("5000")
    field(page, "Low threshold").press("Tab")
    page.locator("#tab-canny .note").get_by_text("low is 5000, which the canny map cannot use.").wait_for()
    expect(field(page, "Low threshold")).to_have_value("5000")
    expect(field(page, "High threshold")).to_have_value("200")


def test_a_number_that_is_typed_moves_the_other_when_it_is_whole(visit):
    """Not when it is "0.", or 1 on the way to 150."""
    page = visit(tab="Depth")
    near, far = (field(page, f"{side} clip") for side in ("Near", "Far"))
    near.fill("0.3")
    far.press("Control+a")
    far.press_sequentially("0.8", delay=150)
    near.press("Control+a")
    expect(far).to_have_value("0.8")
    expect(near).to_have_value("0.3")
    near.press_sequentially("0.9", delay=150)
    near.press("Tab")
    expect(far).to_have_value("0.91")
    expect(near).to_have_value("0.9")


def test_a_number_that_is_typed_is_whole_when_ctrl_enter_runs(visit, photo_file):
    page = visit(tab="Canny")
    give_photo(page, "canny", photo_file)
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    low = field(page, "Low threshold")
    low.press("Control+a")
    low.press_sequentially("250", delay=60)
    low.press("Control+Enter")
    assert read_recipe_of(made(page, "canny")).control.options == {"low": 250, "high": 250}


def test_the_wheel_scrolls_and_changes_no_number(visit):
    page = visit()
    steps = field(page, "Steps")
    steps.click()
    before, box = steps.input_value(), steps.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.wheel(0, 200)
    page.wait_for_function("scrollY > 0")
    expect(steps).to_have_value(before)

"""What a tab's status and the heading of its image say, until something takes it back."""

from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from tests.ui.conftest import SMALL
from tests.ui.driving import (
    choose_size,
    give_photo,
    hand_over,
    made,
    open_editor,
    prompt_field,
    run,
    seed_field,
    set_steps,
    stroke,
    view,
    wait_for_status,
)


def test_what_is_said_after_a_refused_run_stays(visit, photo, tmp_path):
    theirs, texts = tmp_path / "theirs.png", PngInfo()
    texts.add_text("parameters", "a castle\nNegative prompt: fog\nSteps: 30, Seed: 5")
    photo.save(theirs, pnginfo=texts)
    page = visit()
    run(page)
    wait_for_status(page, "text", "The prompt is empty")
    hand_over(page, "drop", theirs, onto="h1")
    with page.expect_response(lambda response: '"a castle"' in (response.request.post_data or "")):  # the form has changed
        page.get_by_role("button", name="Use its settings in Text", exact=True).click()
    page.wait_for_timeout(300)
    expect(page.locator("#status-text")).to_contain_text("Its negative prompt is left out")
    prompt_field(page).fill("")
    run(page)
    wait_for_status(page, "text", "The prompt is empty")
    prompt_field(page).fill("a cube")  # and this takes the refusal back
    expect(page.locator("#status-text .say")).to_have_text("")


def test_the_next_seed_is_announced_until_another_one_is_typed(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    choose_size(page, SMALL)
    run(page)
    made(page, "text")
    page.get_by_role("button", name="Reuse seed", exact=True).locator("visible=true").click()
    wait_for_status(page, "text", "The next image reuses seed")
    page.wait_for_timeout(300)
    seed = seed_field(page).input_value()
    expect(page.locator("#status-text")).to_contain_text(seed)
    seed_field(page).fill("12")
    expect(page.locator("#status-text .say")).to_have_text("")
    heading = page.locator(".answer h2").locator("visible=true")
    expect(heading).to_have_text("Image from earlier settings")
    seed_field(page).fill(seed)
    expect(heading).to_have_text("Image")
    with page.expect_response(lambda response: '"",' in (response.request.post_data or "")):
        prompt_field(page).fill("")
    expect(heading).to_have_text("Image from earlier settings")
    page.reload()
    page.locator("#picture-text img").wait_for()
    expect(heading).to_have_text("Image from earlier settings")


def test_an_image_is_of_an_earlier_map_once_that_is_painted_on(visit, photo_file):
    page = visit(tab="Depth")
    give_photo(page, "depth", photo_file)
    choose_size(page, SMALL)
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    page.locator("#map-depth img").wait_for()
    run(page)
    made(page, "depth")
    heading = page.locator(".answer h2").locator("visible=true")
    expect(heading).to_have_text("Image")
    x, y = open_editor(page)
    stroke(page, x, y)
    expect(heading).to_have_text("Image from earlier settings")
    view(page, "Map")
    page.wait_for_timeout(300)
    expect(heading).to_have_text("Image from earlier settings")


def test_the_arrows_go_through_the_last_prompts_also_after_one_was_generated_again(visit):
    page = visit()
    set_steps(page, 1)
    choose_size(page, SMALL)
    for count, text in enumerate(("a red cube", "a blue cone"), 1):
        prompt_field(page).fill(text)
        run(page)
        expect(page.locator("#history img")).to_have_count(count)
    prompt_field(page).fill("")
    for expected in ("a blue cone", "a red cube"):
        prompt_field(page).press("ArrowUp")
        expect(prompt_field(page)).to_have_value(expected)
    run(page)
    expect(page.locator("#history img")).to_have_count(3)
    prompt_field(page).press("ArrowUp")
    expect(prompt_field(page)).to_have_value("a blue cone")

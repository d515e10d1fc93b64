"""Runs that are stopped, and the queue."""

import re
import threading
import zipfile
from itertools import count

from playwright.sync_api import expect

from flux_demo.ui.run import Runs
from tests.ui.conftest import PATIENCE_MS, SMALL
from tests.ui.driving import (
    changed,
    choose_size,
    give_photo,
    made,
    note_status,
    prompt_field,
    read_recipe_of,
    run,
    seed_field,
    set_long_run,
    set_steps,
    source,
    wait_for_next_step,
)


def test_stop_keeps_the_form_and_a_partial_image_that_is_saved_only_if_the_person_keeps_it(visit, studio, slow_steps):
    page = visit()
    prompt_field(page).fill("a blue cone")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    set_long_run(page, SMALL)
    before = source(page, "#picture-text")
    run(page)
    page.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100, about \d+ s left")).wait_for()
    expect(page).to_have_title(re.compile("of 100"))
    for of_the_image_before in (page.locator("#caption-text"), page.get_by_role("button", name="Delete image", exact=True)):
        expect(of_the_image_before.locator("visible=true")).to_have_count(0)
    page.locator("#history button").first.click()  # looked at while the run goes on
    page.wait_for_function("(before) => document.querySelector('#picture-text img')?.src === before", arg=before)
    expect(page.locator("#tab-text .answer h2 small")).to_have_text("an earlier one, while the next is generated")
    expect(page.locator("#caption-text")).to_contain_text("1 step")
    expect(page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")).to_have_count(1)
    for _ in range(3):
        wait_for_next_step(page, "text")
    assert source(page, "#picture-text") == before
    back = page.get_by_role("button", name="Back to the preview", exact=True)
    back.click()
    changed(page, "#picture-text", before)
    preview = source(page, "#picture-text")
    expect(back).to_have_count(0)
    expect(page.locator("#tab-text .answer h2 small")).to_have_count(0)
    changed(page, "#picture-text", preview)  # and it goes on
    files = len(list(studio.gallery.folder.glob("*.png")))
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    page.locator("#status-text").get_by_text("Stopped at step").wait_for()
    partial = read_recipe_of(changed(page, "#picture-text", before))
    assert 1 <= partial.stopped_at < partial.steps == 100
    expect(page.locator("#caption-text")).to_contain_text(f"Partial, step {partial.stopped_at} of {partial.steps}")
    expect(prompt_field(page)).to_have_value("a blue cone")
    expect(page.locator("#history img")).to_have_count(1)
    assert len(list(studio.gallery.folder.glob("*.png"))) == files
    page.reload()
    expect(page.locator("#caption-text")).to_contain_text(f"Partial, step {partial.stopped_at}")
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.locator("#caption-text")).to_contain_text(f"Partial, step {partial.stopped_at}")
    for window in (page, second):  # kept once
        window.get_by_role("button", name="Keep partial image", exact=True).locator("visible=true").click()
        expect(window.locator("#history img")).to_have_count(2)
    expect(second.locator("#status-text")).to_contain_text("already kept")
    assert len(list(studio.gallery.folder.glob("*.png"))) == files + 1
    choose_size(page, SMALL)
    set_steps(page, 1)
    run(page)
    expect(page.locator("#history img")).to_have_count(3)


def test_what_belongs_to_the_image_before_is_out_of_sight_until_the_next_one_is_there(visit, held_decoding):
    page = visit()
    prompt_field(page).fill("a blue cone")
    choose_size(page, SMALL)
    set_steps(page, 1)
    held_decoding.release()
    run(page)
    made(page, "text")
    of_the_image_before = (
        page.locator("#caption-text").or_(page.get_by_role("button", name="Delete image", exact=True)).locator("visible=true")
    )
    expect(of_the_image_before).to_have_count(2)
    before = source(page, "#picture-text")
    set_steps(page, 2)
    run(page)
    page.locator("#status-text").get_by_text("Decoding the image").wait_for()
    changed(page, "#picture-text", before)  # a preview is in sight
    expect(page.locator("#picture-text img")).to_have_attribute("alt", "A preview of the image")
    expect(of_the_image_before).to_have_count(0)
    prompt_field(page).fill("a red cube")
    note_status(page, "text")
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    page.wait_for_function("[...window.heard].some((said) => said.startsWith('Stopping'))")  # until it is heard that it decodes
    expect(of_the_image_before).to_have_count(0)
    held_decoding.release()
    page.locator("#status-text").get_by_text(re.compile("Done in|Stopped at")).wait_for()
    expect(of_the_image_before).to_have_count(2)
    expect(page.locator("#tab-text .answer h2")).to_have_text("Image from earlier settings")


def test_a_partial_image_says_of_which_mode_it_is_and_keeps_its_map_over_a_reload(visit, photo_file, slow_steps):
    page = visit(tab="Depth")
    prompt_field(page).fill("a blue cone")
    give_photo(page, "depth", photo_file)
    before = source(page, "#map-depth")
    set_long_run(page, SMALL)
    sent = changed(page, "#map-depth", before)
    for button, said in (("Compare Text, Canny, Depth", "of image 1 of 3 (Text). "), ("Generate", "of 100. ")):
        page.get_by_role("button", name=button, exact=True).locator("visible=true").click()
        page.locator("#status-depth").get_by_text(re.compile(r"tep \d+ of 100, about")).wait_for()
        page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
        expect(page.locator("#status-depth")).to_contain_text(f"{said}The partial image")
    page.reload()
    page.get_by_role("button", name="Keep partial image", exact=True).locator("visible=true").click()
    expect(page.locator("#history img")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all", exact=True).click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert [archive.read(name) for name in archive.namelist() if name.endswith("-map.png")] == [sent]


def test_images_of_a_prompt_that_changed_during_the_run_are_marked(visit, held_steps):
    page = visit()
    prompt_field(page).fill("a blue cone")
    choose_size(page, SMALL)
    seed_field(page).fill("7")
    set_steps(page, 2)
    page.get_by_role("radio", name="2", exact=True).locator("visible=true").check()
    held_steps.release(2 * 2)
    run(page)
    made(page, "text")
    expect(page.locator("#tab-text .answer h2")).to_have_text("Image")  # the second one's seed is not in the field
    run(page)
    page.locator("#status-text .step").wait_for()
    page.locator("#history button").last.click()
    expect(page.get_by_role("button", name="Back to the preview", exact=True)).to_be_visible()
    prompt_field(page).fill("a red cube")
    held_steps.release(2)
    expect(page.locator("#history img")).to_have_count(3)
    page.locator("#picture-text.previewing").wait_for()  # of the second image
    held_steps.release(2)
    expect(page.locator("#history img")).to_have_count(4)
    made(page, "text")
    for _ in range(2):
        expect(page.locator("#tab-text .answer h2")).to_have_text("Image from earlier settings")
        page.locator("#history button").last.click()


def test_who_waits_is_told_the_place_in_the_line_and_can_leave_it(visit, slow_steps):
    first, second = visit(), visit()
    prompt_field(second).fill("a blue cone")
    set_steps(second, 1)
    run(second)
    made(second, "text")
    prompt_field(first).fill("a white cube")
    set_long_run(first, SMALL)
    run(first)
    first.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
    run(second)
    second.locator("#status-text").get_by_text("1 image ahead of you").wait_for()
    prompt_field(second).fill("a black cube")
    second.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    second.locator("#status-text").get_by_text("Stopped.").wait_for()
    expect(second.locator("#tab-text .answer h2")).to_have_text("Image from earlier settings")  # as it was before the click
    first.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    first.locator("#status-text").get_by_text("Stopped at step").wait_for()
    run(second)
    made(second, "text")


def hold_start(monkeypatch):
    """From now on a run starts only once the second event is set; the first one tells that it was asked for."""
    clicked, go_on, start = threading.Event(), threading.Event(), Runs.start

    def held(*args, **options):
        clicked.set()
        assert go_on.wait(PATIENCE_MS / 1000)
        return start(*args, **options)

    monkeypatch.setattr(Runs, "start", held)
    return clicked, go_on


def test_a_stop_that_comes_before_its_run_counts(visit, slow_steps, monkeypatch):
    clicked, go_on = hold_start(monkeypatch)
    page = visit()
    prompt_field(page).fill("a white cube")
    set_long_run(page, SMALL)
    run(page)
    assert clicked.wait(PATIENCE_MS / 1000)
    with page.expect_response(lambda response: response.request.method == "POST" and "cancel" not in response.url):
        page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    go_on.set()
    expect(page.locator("#status-text")).to_contain_text("Stopped")


def test_deleting_all_images_while_one_of_them_is_looked_at_brings_the_previews_back(visit, slow_steps):
    page = visit()
    page.on("dialog", lambda dialog: dialog.accept())
    prompt_field(page).fill("a blue cone")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    set_long_run(page, SMALL)
    run(page)
    page.locator("#picture-text.previewing img").wait_for()
    page.locator("#history button:has(img)").click()
    expect(page.get_by_role("button", name="Back to the preview", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete all", exact=True).click()
    expect(page.locator("#history img")).to_have_count(0)
    page.locator("#picture-text.previewing img").wait_for()
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    page.locator("#status-text").get_by_text("Stopped at step").wait_for()


def test_a_late_answer_to_a_change_in_the_form_does_not_take_a_run_for_ended(visit, slow_steps, monkeypatch):
    page = visit()
    prompt_field(page).fill("a blue cone")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    set_long_run(page, SMALL)
    prompt_field(page).fill("")
    late = []  # answers, but for that to the change to "": it may be told of only once the run has failed, and takes nothing back
    knows = re.compile('(?=.*"failed").*white cube')
    page.route(
        "**/run/predict*", lambda each: late.append((each, each.fetch())) if knows.search(each.request.post_data) else each.continue_()
    )
    run(page)
    page.locator("#status-text").get_by_text("The prompt is empty").wait_for()
    clicked, go_on = hold_start(monkeypatch)
    prompt_field(page).fill("a white cube")
    for number in count(2):  # until the page knows that the run failed, which may be a while after it says so
        page.wait_for_timeout(500)
        if late:
            break
        prompt_field(page).fill(f"{number} white cubes")
    run(page)
    expect(page.locator("#status-text")).to_have_text("In queue")
    assert clicked.wait(PATIENCE_MS / 1000)
    route, answer = late.pop()
    route.fulfill(response=answer)
    expect(page.locator("#status-text")).to_have_text("")
    go_on.set()
    page.locator("#status-text .step").wait_for()
    page.locator("#history button:has(img)").first.click()
    expect(page.get_by_role("button", name="Back to the preview", exact=True)).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    expect(page.locator("#status-text")).to_contain_text("Stopped")

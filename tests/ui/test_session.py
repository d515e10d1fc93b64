"""Nothing is lost: a reload, a second tab, a link."""

import json
import re
import shutil
import zipfile

from playwright.sync_api import expect

from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.history import History
from flux_demo.ui.opening import opening_handler
from flux_demo.ui.run import Runs
from flux_demo.ui.services import Services
from flux_demo.ui.turns import Turns
from flux_demo.ui.visitor_store import HISTORY_LENGTH, VisitorStore, new_key
from tests.ui.conftest import SMALL
from tests.ui.driving import (
    choose_size,
    field,
    give_photo,
    hand_over,
    made,
    open_settings,
    prompt_field,
    run,
    seed_field,
    served,
    set_steps,
    wait_for_status,
)


def test_a_reload_in_mid_run_brings_back_form_images_and_run(visit, slow_steps):
    page = visit()
    prompt_field(page).fill("a blue cone")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    choose_size(page, SMALL)
    set_steps(page, 100)
    run(page)
    page.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
    page.reload()
    page.locator("#status-text").get_by_text(re.compile(r"Step \d+ of 100")).wait_for()
    expect(prompt_field(page)).to_have_value("a blue cone")
    expect(page.locator("#history img")).to_have_count(1)
    second = page.context.new_page()  # the same visitor in a second tab
    second.goto(page.url)
    expect(second.locator("#history img")).to_have_count(1)
    page.get_by_role("tab", name="Canny", exact=True).click()
    page.wait_for_function("(before) => document.title !== before && document.title.includes('of 100')", arg=page.title())  # it counts on
    page.get_by_role("tab", name="Text", exact=True).click()
    page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
    page.locator("#status-text").get_by_text("Stopped at step").wait_for()
    assert visit().locator("#history img").count() == 0  # another visitor sees none of it


def test_a_photo_and_its_map_come_back_and_the_prompt_follows_to_another_tab(visit, photo_file):
    page = visit()
    prompt_field(page).fill("a red cube")
    page.get_by_role("tab", name="Canny", exact=True).click()
    expect(page.locator("#prompt-canny textarea")).to_have_value("a red cube")
    swap = page.get_by_role("button", name="Swap sides").locator("visible=true")
    expect(swap).to_be_disabled()  # the size matches the photo
    choose_size(page, SMALL)  # also drawn anew when the form is back, before the photo is
    expect(swap).to_be_enabled()
    with page.expect_response(
        lambda response: all(each in (response.request.post_data or "") for each in ("a red cube", SMALL, photo_file.name))
    ):
        give_photo(page, "canny", photo_file)
    sent, posts = served(page, "#map-canny"), []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    page.reload()
    assert served(page, "#map-canny") == sent
    page.locator("#photo-canny img").wait_for()
    page.wait_for_timeout(1000)
    assert len(posts) < 40  # no event leads to itself


def test_of_what_was_put_in_while_the_program_was_down_only_what_can_stand_in_the_form_comes_back(recording_backend, photo_file, tmp_path):
    studio = Studio(Settings(outputs=str(tmp_path)), [recording_backend("mini", step_range=range(1, 51))], Gallery(tmp_path))
    visitors, key = VisitorStore(tmp_path), new_key()
    services = Services(studio, visitors, History(studio.gallery, visitors, {}), Runs(studio), Turns())
    form = {
        "prompt": None,
        "steps": 28,
        "size": "512x512",
        "count": 1,
        "fit": "crop",
        "as_map": False,
        "low": 50,
        "high": 200,
        "photo": None,
    }
    good = {"prompt": "a red cube", "size": "512x256", "count": 2, "fit": "pad", "as_map": True, "low": 60}
    for values in (good, {"photo": str(photo_file), "steps": 51, "count": "2", "as_map": 1, "fit": True, "low": {}, "high": "1"}):
        lately = {f"{name}-canny": [value, 1.0] for name, value in values.items()}
        opened = opening_handler(services, {mode: form for mode in MODES})(visitor=key, query="", clicked=None, lately=lately)
        back = {name: opened[f"canny__{name}"] for name in form if f"canny__{name}" in opened}
        assert back == (good if values is good else {})


def test_a_seed_follows_to_another_tab_and_so_does_a_random_one(visit):
    page = visit()

    def go_to(tab, seed, becomes=None):
        with page.expect_response(lambda response: f'"value":"{tab}"' in (response.request.post_data or "")):
            page.get_by_role("tab", name=tab, exact=True).click()
        expect(seed_field(page)).to_have_value(seed)
        if becomes is not None:
            seed_field(page).fill(becomes)

    seed_field(page).fill("5")
    go_to("Canny", "5")
    go_to("Text", "5", becomes="")
    go_to("Canny", "", becomes="7")
    go_to("Text", "7", becomes="")
    go_to("Canny", "7")  # typed there
    go_to("Text", "")  # emptied there


def test_a_link_fills_in_the_form_as_text(visit, address):
    page = visit()
    page.goto(address + "?mode=text&prompt=a%20%3Cb%3Ered%3C%2Fb%3E%20cube&seed=41&size=128+%C3%97+256&steps=2&guidance=abc")
    expect(prompt_field(page)).to_have_value("a <b>red</b> cube")
    open_settings(page)
    expect(seed_field(page)).to_have_value("41")
    page.locator("#status-text").get_by_text("cannot be used here: Guidance.").wait_for()
    expect(page.get_by_label("number input for Steps").locator("visible=true")).to_have_value("2")


def test_a_link_counts_once(visit, address):
    page = visit()
    page.goto(address + "?mode=canny&prompt=a+red+cube&seed=5&__theme=light")
    page.locator("#status-canny").get_by_text("filled in from the link").wait_for()
    page.wait_for_function("location.search === '?__theme=light'")
    with page.expect_response(lambda response: "a white cone" in (response.request.post_data or "")):
        page.locator("#prompt-canny textarea").fill("a white cone")
    page.reload()
    expect(page.locator("#prompt-canny textarea:visible")).to_have_value("a white cone")
    open_settings(page)
    expect(seed_field(page)).to_have_value("5")


def test_deleting_deletes_and_download_all_has_every_image_with_its_recipe(visit, studio, tmp_path):
    page = visit()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Load settings from PNG").wait_for()
    assert not page.get_by_role("button", name="Download all", exact=True).is_visible()  # nothing is there
    prompt_field(page).fill("a blue cone")
    set_steps(page, 1)
    page.get_by_role("radio", name="2", exact=True).locator("visible=true").check()
    run(page)
    made(page, "text")
    expect(page.locator("#history img")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all", exact=True).click()
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert sorted(name.rpartition(".")[2] for name in names) == ["json", "json", "png", "png"]
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    hand_over(page, "drop", max(tmp_path.glob("*.png")))
    wait_for_status(page, "text", "Settings restored.")
    expect(page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")).to_be_enabled()  # it is one of theirs
    kept = [studio.gallery.folder / name for name in names if name.endswith(".png")]
    second = page.context.new_page()  # the same visitor in a second tab
    second.goto(page.url)
    expect(second.locator("#history img")).to_have_count(2)
    second.locator("#picture-text img").wait_for()
    second.get_by_role("button", name="Random seed").locator("visible=true").click()
    wait_for_status(second, "text", "random seed")
    delete = page.get_by_role("button", name="Delete image", exact=True).locator("visible=true")
    delete.press("Enter")
    expect(page.locator("#history img")).to_have_count(1)
    expect(delete).to_be_focused()  # for the next one, which is in its place
    second.get_by_role("button", name="Use in Canny").locator("visible=true").click()
    expect(second.locator("#restore-note")).to_contain_text("This image is no longer kept.")
    expect(second.locator("#history img")).to_have_count(1)
    expect(second.locator("#picture-text img")).to_have_count(0)
    expect(second.locator("#status-text .say")).to_have_text("")
    expect(second.locator(".toast-body")).to_have_count(0)
    second.locator("#history button").first.click()
    expect(second.locator("#picture-text img")).to_be_visible()
    page.get_by_role("button", name="Delete all", exact=True).click()
    expect(page.locator("#history img")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete all", exact=True)).to_be_hidden()
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_focused()
    expect(page.locator("#status-text")).to_contain_text("All your images were deleted.")
    assert not any(path.exists() for path in kept)
    downloads = []
    second.on("download", lambda download: downloads.append(download))
    second.get_by_role("button", name="Download all", exact=True).click()
    expect(second.locator("#restore-note")).to_contain_text("There are no images any more.")
    expect(second.locator("#history img, #picture-text img")).to_have_count(0)
    second.wait_for_timeout(500)
    assert downloads == []  # nor the archive of before


def test_all_images_are_downloaded_and_deleted_also_those_that_the_page_no_longer_lists(visit, studio, page):
    folder, temporary = studio.gallery.folder, page.folder
    others = set(temporary.rglob("flux-images.zip"))
    page = visit()
    page.on("dialog", lambda dialog: dialog.accept())
    prompt_field(page).fill("a blue cone")
    choose_size(page, SMALL)
    set_steps(page, 1)
    run(page)
    made(page, "text")
    index = VisitorStore(folder)._open()
    with index:
        row = index.execute("SELECT visitor, file, created, recipe FROM images ORDER BY created DESC LIMIT 1").fetchone()
        newer = [(row[0], f"newer-{number}-{row[1]}", row[2] + number, row[3]) for number in range(1, HISTORY_LENGTH + 1)]
        index.executemany("INSERT INTO images (visitor, file, created, recipe) VALUES (?, ?, ?, ?)", newer)
        (kept,) = index.execute("SELECT fields FROM forms WHERE visitor = ? AND mode = 'text'", row[:1]).fetchone()
    assert json.loads(kept) == {"prompt": "a blue cone", "size": SMALL, "steps": 1}  # what nobody changed is the route's own later too
    files = [folder / each[1] for each in (row, *newer)]
    for file in files[1:]:
        shutil.copyfile(files[0], file)
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator("#history img")).to_have_count(HISTORY_LENGTH)
    expect(page.locator("#picture-text img")).to_be_visible()  # the oldest
    expect(page.locator("#restore-note")).not_to_contain_text("no longer kept")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all", exact=True).click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {each.name for each in files} == {name for name in archive.namelist() if name.endswith(".png")}
    with page.expect_download():
        page.get_by_role("button", name="Download all", exact=True).click()
    archives = set(temporary.rglob("flux-images.zip")) - others
    assert len(archives) == 1  # of this visitor, in place of the one before
    page.get_by_role("button", name="Delete all", exact=True).click()
    wait_for_status(page, "text", "All your images were deleted.")
    assert not any(file.exists() for file in (*files, *archives))


def test_a_tab_that_the_page_chose_is_remembered_and_a_changed_map_marks_the_image(visit):
    page = visit()
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    page.get_by_role("button", name="Use in Canny").locator("visible=true").click()
    page.locator("#map-canny img").wait_for()
    expect(prompt_field(page)).to_have_value("a red cube")
    set_steps(page, 1)
    run(page)
    made(page, "canny")
    marked = page.locator("#tab-canny .answer").get_by_text("from earlier settings")
    field(page, "Low threshold").fill("500")  # pushes the high one along
    field(page, "Low threshold").press("Tab")
    expect(field(page, "High threshold")).to_have_value("500")
    expect(marked).to_have_count(1)
    field(page, "Low threshold").fill("50")
    field(page, "High threshold").fill("200")
    expect(marked).to_have_count(0)
    as_map = page.get_by_label("My image is already a map").locator("visible=true")
    as_map.check()
    expect(marked).to_have_count(1)
    as_map.uncheck()
    expect(marked).to_have_count(0)
    field(page, "Low threshold").fill("500")
    field(page, "Low threshold").press("Tab")
    expect(marked).to_have_count(1)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: { writeText: (text) => { window.copied = text; } } })")
    page.get_by_role("button", name="Copy link to these settings").locator("visible=true").click()
    link = page.wait_for_function("window.copied").json_value()
    page.reload()
    page.locator("#tab-canny-button[aria-selected=true]").wait_for()
    page = visit()  # another visitor
    page.goto(link)
    page.locator("#status-canny").get_by_text("filled in from the link").wait_for()
    expect(field(page, "Low threshold")).to_have_value("500")


def test_texts_that_are_far_too_long_are_refused_in_the_status_and_do_not_keep_the_page_from_opening(visit):
    page = visit()
    seed_field(page).fill("1" * 25_000)
    run(page)
    wait_for_status(page, "text", "1...' is not a valid seed.")
    seed_field(page).fill("1")
    prompt_field(page).fill("a" * 25_000)
    run(page)
    wait_for_status(page, "text", "The prompt has 25,000 characters, and the limit is 10,000.")
    page.get_by_role("tab", name="Canny", exact=True).click()
    expect(seed_field(page)).to_have_value("1")
    expect(page.locator(".toast-body")).to_have_count(0)
    page.get_by_role("tab", name="Text", exact=True).click()
    page.reload()
    page.wait_for_function("window.doneWhileOpening?.over")
    prompt_field(page).fill("a red cube")
    set_steps(page, 1)
    run(page)
    made(page, "text")

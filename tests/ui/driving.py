"""What a person does on the page, in the words of the tests."""

import asyncio
import base64
import hashlib
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from flux_demo.recipe import read_recipe

WIDE = "256x128"  # of a photo of 640x400 crop keeps 640x320


def finished(coroutine):
    """The result of a coroutine, run in a thread of its own: a browser that is under way has an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def forget_visitor(page):
    """Make the browser forget whose it is; pages that are open go on as they are."""
    page.evaluate("localStorage.clear(), new Promise((done) => { indexedDB.deleteDatabase('flux_demo').onsuccess = () => done(); })")


def give_photo(page, mode, path):
    page.locator(f"#photo-{mode} input[type=file]").set_input_files(path)


def served(page, selector):
    """The bytes of the file that an image on the page shows."""
    picture = page.locator(f"{selector} img")
    picture.wait_for()
    return page.request.get(
        picture.get_attribute("src"), max_retries=2
    ).body()  # the server may just have closed a connection that was kept


def pixels(png):
    with Image.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def pixels_hash(png):
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.mode == "RGB" and picture.format == "PNG"
        return hashlib.sha256(picture.tobytes()).hexdigest()


def changed(page, selector, before):
    """Wait until an image on the page is another file than ``before``; return its bytes."""
    page.wait_for_function(
        "([selector, before]) => { const e = document.querySelector(selector + ' img'); return e && e.src !== before }",
        arg=[selector, before],
    )
    return served(page, selector)


def source(page, selector):
    page.locator(f"{selector} img").wait_for()
    return page.locator(f"{selector} img").evaluate("e => e.src")


def view(page, name):
    """Choose among the views of the map."""
    page.get_by_role("radio", name=name, exact=True).locator("visible=true").check()


def open_editor(page, name="Paint"):
    """Choose Paint in the Depth tab; return the middle of the canvas."""
    view(page, name)
    canvas = page.locator("#painter-depth canvas").first
    canvas.wait_for()
    page.wait_for_function(
        """() => {  // the map is there, which Gradio counts as a step to undo, and its zoom has been the same for half a second
            const zoom = document.querySelector("#painter-depth .zoom-number")?.innerText ?? "";
            if (zoom !== window.zoomBefore) [window.zoomBefore, window.zoomSince] = [zoom, Date.now()];
            const undo = document.querySelector("#painter-depth button:has(svg[aria-label=undo])");
            return undo && !undo.disabled && zoom.includes("%") && Date.now() - window.zoomSince > 500;
        }"""
    )
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def stroke(page, x, y):
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=2)
    page.mouse.up()


def handled(page):
    """Around a stroke: until the program has answered it."""
    return page.expect_response(lambda response: "/run/" in response.url and "composite.png" in (response.request.post_data or ""))


def open_settings(page):
    if not seed_field(page).count():
        page.locator(".settings:visible > button").click()  # folded on small screens
        seed_field(page).wait_for()


def take_photo_away(page):
    page.get_by_role("button", name="Remove Image", exact=True).locator("visible=true").press("Enter")


def field(page, label):
    return page.get_by_label(f"number input for {label}").locator("visible=true")


def set_steps(page, steps):
    open_settings(page)
    field(page, "Steps").fill(str(steps))
    field(page, "Steps").press("Tab")


def choose_size(page, size):
    page.get_by_label("Size", exact=True).locator("visible=true").fill(size)
    page.keyboard.press("Enter")


def set_long_run(page, size):
    choose_size(page, size)
    set_steps(page, 100)


def seed_field(page):
    return page.get_by_role("textbox", name="Seed").locator("visible=true")


def prompt_field(page):
    return page.locator(".prompt textarea:visible")


def run(page):
    page.get_by_role("button", name="Generate", exact=True).locator("visible=true").click()


def wait_for_status(page, mode, text):
    page.locator(f"#status-{mode}").get_by_text(text).wait_for()


def note_status(page, mode):
    """Keep whatever a tab's status says from now on in the set ``window.heard``, also what it says for a moment only."""
    page.evaluate(
        """(status) => {
            window.heard = new Set();
            new MutationObserver(() => window.heard.add(document.querySelector(status).textContent.trim()))
                .observe(document.querySelector(status), { childList: true, subtree: true, characterData: true });
        }""",
        f"#status-{mode}",
    )


def wait_for_next_step(page, mode):
    """Wait until a run that goes on has told of another step than the one in sight."""
    step = page.locator(f"#status-{mode} .step")
    expect(step).not_to_have_text(step.inner_text())


def hand_over(page, event, path, onto="body", text=None, kind="image/png", before=()):
    """Drop or paste a file, with text beside it or without, as the browser tells the page of it; ``before`` are names of text files."""
    page.evaluate(
        """([event, name, bytes, onto, text, kind, before]) => {
            const files = new DataTransfer();
            if (text) files.items.add(text, "text/plain");
            for (const each of before) files.items.add(new File(["words"], each, { type: "text/plain" }));
            files.items.add(new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))], name, { type: kind }));
            const told = event === "paste"
                ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true })
                : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
            document.querySelector(onto).dispatchEvent(told);
        }""",
        [event, path.name, base64.b64encode(path.read_bytes()).decode(), onto, text, kind, before],
    )


def made(page, mode):
    """Wait for a picture; return its bytes."""
    wait_for_status(page, mode, "Done in")
    return served(page, f"#picture-{mode}")


def read_recipe_of(png):
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(png)
        file.flush()
        return read_recipe(file.name)

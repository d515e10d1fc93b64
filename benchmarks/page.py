"""What the page costs, in a real browser: a slider's way to the map, a click's way to the image, loading and reloading.

    python -m benchmarks.page

Needs Chromium and playwright. The numbers are medians; the machine's load is recorded with them, because a busy one slows everything.
What Gradio itself takes is measured beside ours, in turns: a slider and a button that set an image on a page with nothing else, and loading a
page with the same components as ours but without events, style and script.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import record
from flux_demo.backends import Backend, all_backends
from flux_demo.gallery import Gallery, GeneratedImage
from flux_demo.modes import MAP_LIMITS, Mode
from flux_demo.request import BackendOutput, Dials, GenerationRequest

LIMITS = {
    "map_256_ms": 80,
    "map_1024_ms": 120,
    "map_256_during_a_run_ms": 80,
    "click_to_image_beyond_the_engine_ms": 60,
    "load_ratio": 1.3,
    "reload_with_50_images_ratio": 1.3,
}
BUSY = 1.0  # load average above which the machine was not quiet

# Moves a slider by one step and waits until the map that it leads to is decoded.
MOVE = """async ([slider, image]) => {
    const before = document.querySelector(`${image} img`).src;
    const part = [...document.querySelectorAll(slider)].find((each) => each.getClientRects().length);
    const started = performance.now();
    part.value = Number(part.value) + 1;
    part.dispatchEvent(new Event("input", { bubbles: true }));
    part.dispatchEvent(new Event("change", { bubbles: true }));
    for (;;) {
        const now = document.querySelector(`${image} img`);
        if (now && now.src !== before && now.complete) return performance.now() - started;
        await new Promise((again) => setTimeout(again, 4));
    }
}"""
CLICK = """async () => {
    const find = (selector) => [...document.querySelectorAll(selector)].find((each) => each.getClientRects().length);
    const before = document.querySelector("#picture-text img")?.src;
    const started = performance.now();
    find("button.run").click();
    for (;;) {
        const done = find("#status-text .say")?.textContent.startsWith("Done in");
        const now = document.querySelector("#picture-text img");
        if (done && now && now.src !== before && now.complete) return performance.now() - started;
        await new Promise((again) => setTimeout(again, 4));
    }
}"""


class _Large(Backend):
    """Takes maps of FLUX's own sizes, which the mini does not, and generates nothing."""

    name, title = "local", "FLUX's sizes"

    def refusal(self, mode: Mode) -> None:
        return None

    def dials(self, mode: Mode) -> Dials:
        return Dials(28, 3.5, range(1, 101), (1, 100), MAP_LIMITS)

    def generate(self, request: GenerationRequest, on_step: Any, on_status: Any) -> BackendOutput:
        raise NotImplementedError


class _Timed(Gallery):
    """Knows what the last image took; its recipe has only hundredths of a second."""

    seconds = 0.0

    def save(self, output: BackendOutput, request: GenerationRequest, backend: str, seconds: float) -> GeneratedImage:
        self.seconds = seconds
        return super().save(output, request, backend, seconds)


class Bench:
    """A served page, a bare Gradio page beside it, and a browser."""

    def __init__(self, browser: Any, rounds: int, folder: Path) -> None:
        from benchmarks.bare_pages import bare_click, bare_copy, bare_page, bare_slider
        from flux_demo.settings import Settings
        from flux_demo.studio import Studio
        from flux_demo.ui import build

        self.rounds, self.browser = rounds, browser
        settings = Settings(backend="mini", outputs=str(folder))
        self.gallery = _Timed(folder)
        self.studio = Studio(settings, all_backends(settings), self.gallery)
        self.address = self.served(self.studio)
        self.large = self.served(Studio(settings, [_Large()], Gallery(folder)))
        self.bare, self.bare_slider, self.bare_click = map(self.served_bare, (bare_page(), bare_slider(), bare_click(folder.parent)))
        self.bare_copy = self.served_bare(bare_copy(build(self.studio)))

    def served_bare(self, page: Any) -> str:
        page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False)
        return page.local_url

    def served(self, studio: Any) -> str:
        from flux_demo.ui import build, launch_options

        page = build(studio)
        page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options())
        return page.local_url

    def medians(self, **measures: Callable[[], float]) -> dict[str, float]:
        """In turns, so that a busy machine slows all alike; the first turn, with what is done once, does not count."""
        turns = [[measure() for measure in measures.values()] for _ in range(self.rounds + 1)][1:]
        return dict(zip(measures, map(statistics.median, zip(*turns, strict=True)), strict=True))

    def visitor(self) -> Any:
        context = self.browser.new_context(viewport={"width": 1366, "height": 768})
        context.set_default_timeout(120_000)
        return context

    def opened(self, context: Any, address: str | None = None) -> Any:
        page = context.new_page()
        page.goto(address or self.address)
        page.locator("#voice").wait_for(state="attached")
        page.locator(".prompt textarea:visible").wait_for()
        return page

    def choose_size(self, page: Any, size: str) -> None:
        page.get_by_label("Size", exact=True).locator("visible=true").fill(size)
        page.keyboard.press("Enter")
        page.wait_for_timeout(1500)

    def map_ms(self, photo: Path) -> dict[str, float]:
        page = self.with_photo(photo, self.address)
        self.choose_size(page, "256x256")
        bare = self.visitor().new_page()
        bare.goto(self.bare_slider)
        bare.locator("#map-canny img").wait_for()
        found = self.medians(map_256_ms=lambda: self.move(page), bare_slider_ms=lambda: self.move(bare))
        bare.context.close()
        page.locator(".prompt textarea:visible").fill("a red cube")
        steps = page.get_by_label("number input for Steps").locator("visible=true")
        steps.fill("100")
        steps.press("Tab")
        stop = page.locator("button.stop:visible")

        def move_during_a_run() -> float:
            if not stop.is_enabled():
                page.locator("button.run:visible").click()
                page.locator("#status-canny").get_by_text("of 100").wait_for()
            return self.move(page)

        found |= self.medians(map_256_during_a_run_ms=move_during_a_run)
        if stop.is_enabled():
            stop.click()
            page.locator("#status-canny .say").get_by_text("Stop").wait_for()
        page.context.close()
        page = self.with_photo(photo, self.large)
        self.choose_size(page, "1024x1024")
        found |= self.medians(map_1024_ms=lambda: self.move(page))
        page.context.close()
        return found

    def with_photo(self, photo: Path, address: str) -> Any:
        page = self.opened(self.visitor(), address)
        page.get_by_role("tab", name="Canny", exact=True).click()
        page.locator("#photo-canny input[type=file]").set_input_files(photo)
        page.locator("#map-canny img").wait_for()
        return page

    def move(self, page: Any) -> float:
        page.bring_to_front()
        page.wait_for_timeout(100)
        return page.evaluate(MOVE, [".drawing input[type=range]", "#map-canny"])

    def click_ms(self) -> dict[str, float]:
        bare = self.visitor().new_page()
        bare.goto(self.bare_click)
        bare.locator("button.run").wait_for()
        page = self.opened(self.visitor())
        self.choose_size(page, "128x128")
        page.locator(".prompt textarea:visible").fill("a red cube")
        steps = page.get_by_label("number input for Steps").locator("visible=true")
        steps.fill("1")
        steps.press("Tab")

        def click(page: Any) -> float:
            page.bring_to_front()
            page.wait_for_timeout(200)
            return page.evaluate(CLICK)

        def beyond_the_engine() -> float:
            return click(page) - 1000 * self.gallery.seconds

        found = self.medians(click_to_image_beyond_the_engine_ms=beyond_the_engine, bare_click_ms=lambda: click(bare))
        for each in (page, bare):
            each.context.close()
        return found

    def load_ms(self, context: Any, address: str, ready: str) -> float:
        page = context.new_page()
        started = time.perf_counter()
        page.goto(address)
        page.locator(ready).first.wait_for(state="attached")
        page.locator(".prompt textarea:visible").wait_for()
        took = 1000 * (time.perf_counter() - started)
        page.close()
        return took

    def loads(self) -> dict[str, float]:
        full, empty, bare, copy = (self.visitor() for _ in range(4))
        self.fill_history(full, 50)
        kinds = {
            "load_ms": (empty, self.address, "#voice"),
            "bare_load_ms": (bare, self.bare, ".prompt"),
            "bare_load_of_the_same_components_ms": (copy, self.bare_copy, ".prompt"),
            "reload_with_50_images_ms": (full, self.address, "#history img"),
            "reload_with_none_ms": (empty, self.address, "#voice"),
        }
        return self.medians(**{name: lambda kind=kind: self.load_ms(*kind) for name, kind in kinds.items()})  # type: ignore[misc]

    def fill_history(self, context: Any, count: int) -> None:
        """Generate one image in the browser, and put copies of it beside it in the visitor's history."""
        page = self.opened(context)
        self.choose_size(page, "256x256")
        page.locator(".prompt textarea:visible").fill("a red cube")
        page.evaluate(CLICK)
        page.close()
        folder = self.gallery.folder
        newest = max(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        with sqlite3.connect(folder / ".visitors" / "visitors.sqlite3") as database:
            (row,) = database.execute("SELECT visitor, created, recipe FROM images WHERE file = ?", (newest.name,)).fetchall()
            for number in range(count - 1):
                name = f"{newest.stem}-{number}.png"
                shutil.copyfile(newest, folder / name)
                (folder / ".visitors" / row[0] / name).touch()
                database.execute("INSERT INTO images (visitor, file, created, recipe) VALUES (?, ?, ?, ?)", (row[0], name, row[1], row[2]))


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("There is no Chromium on this machine, so the page was not measured. Install it and try again.")
    os.environ["NO_PROXY"] = "127.0.0.1,localhost"
    load = os.getloadavg()[0]  # before the browser and the server that are measured make one themselves
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        os.environ["GRADIO_TEMP_DIR"] = folder
        bench = Bench(play.chromium.launch(executable_path=chromium), asked.rounds, Path(folder) / "outputs")
        from flux_demo.settings import ASSETS

        found = bench.map_ms(ASSETS / "examples" / "two-on-wood.png")
        found |= bench.click_ms()
        found |= bench.loads()
    found["load_ratio_of_the_same_components"] = found["load_ms"] / found["bare_load_of_the_same_components_ms"]
    found["load_ratio"] = found["load_ms"] / found["bare_load_ms"]
    found["reload_with_50_images_ratio"] = found["reload_with_50_images_ms"] / found["reload_with_none_ms"]
    quiet = (
        "" if load <= BUSY else f"The machine was not quiet (load average {load:.1f} on {os.cpu_count()} cores): the times are too long."
    )
    rounded = {name: round(value, 2 if "ratio" in name else 1) for name, value in found.items()}
    record("page", {"rounds": asked.rounds, "note": quiet, "limits": LIMITS, **rounded})


if __name__ == "__main__":
    main()

"""The page with the mini, on a loopback address, and a headless Chromium to drive it."""

import os
import shutil
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest
from gradio_client import Client

from flux_demo.progress import Phase
from flux_demo.request import GenerationRequest, Size
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from tests.starting import free_port
from tests.ui.driving import forget_visitor


def pytest_collection_modifyitems(items):
    """Whatever asks for the browser drives it. And Gradio sums up its own timings in ways that pandas has deprecated."""
    for item in items:
        if item.path.parent.name == "ui":
            item.add_marker(pytest.mark.filterwarnings("ignore:.*(no_silent_downcasting|copy keyword is deprecated)"))
            if "chromium" in item.fixturenames:
                item.add_marker(pytest.mark.browser)


# The first of these that is installed. The shell is Chromium without what draws windows, and takes less of the processor.
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 90_000  # the mini draws in seconds, also on a machine that is busy with other things
SMALL = "128x128"


pause = {"seconds": 0.0}  # after each step
permits = {}  # by what a test holds, a step or the decoding: one for each time that a run may go on


def paced(generate):
    def wait(on_step, *step):
        on_step(*step)
        time.sleep(pause["seconds"])
        take_permit("step")

    def decode(on_status, status):
        on_status(status)
        if status.phase is Phase.DECODING:
            take_permit("decoding")

    return lambda request, on_step, on_status: generate(request, partial(wait, on_step), partial(decode, on_status))


def take_permit(kind):
    if permit := permits.get(kind):
        permit.acquire()


@contextmanager
def held(kind):
    permits[kind] = threading.Semaphore(0)
    yield permits[kind]
    permits.pop(kind).release(10_000)  # whoever still waits goes on


@pytest.fixture
def slow_steps():
    """Runs of the mini that last, however fast the machine is, and leave the processor to the browser."""
    pause["seconds"] = 0.6
    yield
    pause["seconds"] = 0.0


@pytest.fixture
def held_steps():
    """Runs of the mini that wait after each step until the test has called ``release()`` for it, however long it takes."""
    with held("step") as steps:
        yield steps


@pytest.fixture
def held_decoding():
    """Runs of the mini that wait before an image is decoded until the test has called ``release()`` for it."""
    with held("decoding") as decoding:
        yield decoding


@pytest.fixture(scope="package")
def studio(tmp_path_factory):
    """The mini, on one thread of the processor: two of them wait for each other where a third program is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    studio = Studio.from_settings(Settings(backend="mini", outputs=str(tmp_path_factory.mktemp("outputs"))))
    (mini,) = studio.backends
    mini.generate = paced(mini.generate)
    studio.generate(
        GenerationRequest("text", "a red cube", steps=1, size=Size(128, 128))
    )  # loads the libraries, so that no test waits for them
    yield studio
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def page(studio, tmp_path_factory):
    """The served page; uploads and images go to a folder of the tests."""
    from flux_demo.ui import build, launch_options, remove_temporary

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        page = build(studio)
        page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        yield page
        page.close(verbose=False)
        remove_temporary(page.folder)


@pytest.fixture(scope="package")
def address(page):
    """The served page's address."""
    return page.local_url


@pytest.fixture(scope="module")
def client(address, tmp_path_factory):
    return Client(address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture(scope="package")
def chromium():
    """A headless Chromium; without one the test skips, and fails where CI is set."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no Chromium on this machine; install it to drive the page")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--process-per-site"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def contexts(address, chromium):
    """Browser contexts that are free for the next visitor, each with a page that stays open: the process that holds Gradio's compiled
    scripts lives as long as it, which halves the time that the next visitor's page takes to open."""
    free = []
    yield free
    for context, _ in free:
        context.close()


@pytest.fixture
def visit(address, chromium, contexts):
    """``visit(width, tab)`` opens the page for a new visitor and chooses a tab; what else is given is the browser's, such as its locale."""
    used, closed = [], []

    def context_for(browser):
        if browser or not contexts:
            context = chromium.new_context(accept_downloads=True, **browser)
            context.set_default_timeout(PATIENCE_MS)
            if browser:
                closed.append(context)
                return context
            staying = context.new_page()
            staying.goto(f"{address}robots.txt")
            contexts.append((context, staying))
        used.append(contexts.pop())
        return used[-1][0]

    def open_page(width=1280, tab="Text", **browser):
        page = context_for(browser).new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(".prompt textarea:visible").wait_for()
        page.locator("#voice").wait_for(state="attached")  # the page's own script has run: keys and drops are heard
        page.wait_for_function("localStorage.flux_demo_visitor")  # the page knows its visitor: what is chosen is remembered
        return page

    yield open_page
    for context in closed:
        context.close()
    for context, staying in used:
        for page in context.pages:
            if page != staying:
                page.close()
        context.clear_cookies()
        forget_visitor(staying)  # the next one is new
        contexts.append((context, staying))


@pytest.fixture
def photo_file(photo, tmp_path):
    path = tmp_path / "room.png"
    photo.save(path)
    return path


@pytest.fixture
def open_with(chromium, tmp_path, monkeypatch):
    """``open_with(studio)`` serves a page of its own for that studio, and opens it for a new visitor."""
    from flux_demo.ui import build, launch_options

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    open_ones = []

    def open_page(studio):
        served = build(studio)
        open_ones.append(lambda: served.close(verbose=False))
        served.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        visitor = chromium.new_context(viewport={"width": 1280, "height": 900})
        open_ones.append(visitor.close)
        visitor.set_default_timeout(PATIENCE_MS)
        page = visitor.new_page()
        page.goto(served.local_url)
        page.locator("#voice").wait_for(state="attached")
        page.wait_for_function("localStorage.flux_demo_visitor")
        return page

    yield open_page
    for close in reversed(open_ones):
        close()

"""The button that has the backends checked again: what was started since is used without a restart, and what was typed stays."""

import pytest
from playwright.sync_api import expect

from flux_demo.backends.mini import Mini
from flux_demo.backends.nvidia import Nim
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.fetch import check_handler
from flux_demo.ui.tab_state import tab_state
from stand_ins.nvidia import Container, StandIn
from tests.ui.driving import wait_for_status


@pytest.fixture
def starting(tmp_path):
    """The stand-in of a NIM that is still starting, and ``studio(before, after, **settings)``, which has it between these backends."""
    studios = []
    with StandIn(container=Container(ready_after=9999)) as nim:

        def studio(before=(), after=(), **given):
            settings = Settings(nim_url=nim.origin, outputs=str(tmp_path / "outputs"), **given)
            studios.append(Studio(settings, [*before, Nim(settings), *after], Gallery(settings.outputs_folder)))
            return studios[-1]

        yield nim, studio
        for each in studios:
            each.close()


def check_again(page):
    reasons = page.locator("details.where:visible")
    if reasons.get_attribute("open") is None:
        reasons.locator("summary").click()
    reasons.get_by_role("button", name="Check again", exact=True).press("Enter")


def test_a_nim_that_has_started_since_is_used_after_a_click(starting, recording_backend, open_with):
    nim, studio = starting
    page = open_with(studio([recording_backend("local", refuses=MODES)], [recording_backend("mini", size_limits=Mini.size_limits)]))
    expect(page.get_by_label("Size", exact=True).locator("visible=true")).to_have_value("256 × 256, square")
    page.locator(".prompt textarea:visible").fill("a red cube")
    check_again(page)
    wait_for_status(page, "text", "Checked. In use: Backend mini.")
    expect(page.locator("details.where:visible")).to_contain_text("still starting")

    nim.container = Container()
    check_again(page)
    wait_for_status(page, "text", "Checked. In use: Your NVIDIA NIM.")
    expect(page.get_by_text("Runs on your NVIDIA NIM.").locator("visible=true")).to_be_visible()
    expect(page.locator("details.where:visible summary")).to_be_focused()  # the button is folded under it again
    expect(page.locator(".prompt textarea:visible")).to_have_value("a red cube")
    expect(page.get_by_label("Size", exact=True).locator("visible=true")).to_have_value("1024 × 1024, square")
    page.get_by_role("button", name="Generate", exact=True).locator("visible=true").click()
    wait_for_status(page, "text", "Done in")
    assert [sent.json["prompt"] for sent in nim.posts()] == ["a red cube"]


def test_a_page_where_nothing_could_run_gets_its_button_to_generate(starting, open_with):
    nim, studio = starting
    page = open_with(studio())
    again = page.get_by_role("button", name="Check again", exact=True).locator("visible=true")
    again.click()
    wait_for_status(page, "text", "Checked. Nothing can run this mode yet.")
    nim.container = Container()
    again.click()
    wait_for_status(page, "text", "Checked. In use: Your NVIDIA NIM.")
    expect(page.get_by_role("button", name="Generate", exact=True).locator("visible=true")).to_be_enabled()


def test_strangers_can_have_nothing_checked(starting, recording_backend):
    nim, studio = starting
    of_strangers = studio(after=[recording_backend("mini")], public=True)
    where = tab_state(of_strangers, MODES["text"])["where"]["value"]
    assert "restart the program" in where and "check-again" not in where
    nim.container = Container()
    assert list(check_handler(of_strangers)()) == []  # anybody may send the button's event
    assert of_strangers.route("text").backend.name == "mini"

"""The dropdown of presets, in a browser: two presets, each with what it changes; the chosen one is what is asked of the backend, by a comparison too."""

import re

import pytest
from playwright.sync_api import expect

from flux_demo.engine.presets import PRESETS
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.history import History
from flux_demo.ui.opening import opening_handler
from flux_demo.ui.run import Runs
from flux_demo.ui.services import Services
from flux_demo.ui.turns import Turns
from flux_demo.ui.visitor_store import VisitorStore, new_key
from tests.ui.driving import give_photo, made, open_settings, prompt_field, run, served


def test_the_chosen_preset_is_asked_for(recording_backend, open_with, photo_file, tmp_path):
    backend = recording_backend("mini", presets=tuple(PRESETS))
    page = open_with(Studio(Settings(outputs=str(tmp_path)), [backend], Gallery(tmp_path)))
    open_settings(page)
    page.get_by_label("Preset", exact=True).locator("visible=true").click()
    expect(page.get_by_label("Preset", exact=True).locator("visible=true")).to_have_value(re.compile("^Exact: "))
    choices = page.get_by_role("option")
    expect(choices).to_have_text([re.compile(re.escape(f"{preset.title}: {preset.changes}")) for preset in PRESETS.values()])
    choices.last.click()
    prompt_field(page).fill("a red cube")
    run(page)
    made(page, "text")
    assert [request.preset for request in backend.requests] == ["compiled"]
    page.get_by_role("tab", name="Canny", exact=True).click()
    give_photo(page, "canny", photo_file)
    served(page, "#map-canny")
    open_settings(page)
    page.get_by_label("Preset", exact=True).locator("visible=true").click()
    page.get_by_role("option").last.click()
    page.get_by_role("button", name="Compare Text, Canny, Depth", exact=True).locator("visible=true").click()
    page.locator("#status-canny").get_by_text("one image in each mode").wait_for()
    assert [(request.mode, request.preset) for request in backend.requests[1:]] == [
        ("text", "compiled"),
        ("canny", "compiled"),
        ("depth", "compiled"),
    ]


@pytest.mark.parametrize(("offered", "kept"), [((), None), (("exact",), None), (tuple(PRESETS), "compiled")])
def test_a_preset_of_another_backend_does_not_come_back_where_nobody_could_change_it(offered, kept, recording_backend, tmp_path):
    studio = Studio(Settings(outputs=str(tmp_path)), [recording_backend("nim", presets=offered)], Gallery(tmp_path))
    visitors, key = VisitorStore(tmp_path), new_key()
    services = Services(studio, visitors, History(studio.gallery, visitors, {}), Runs(studio), Turns())
    visitors.update_record(key, "text", {"prompt": "a red cube", "preset": "compiled"})
    opened = opening_handler(services, {mode: {} for mode in MODES})(visitor=key, query="", clicked=None, lately=None)
    assert (opened["text__prompt"], opened.get("text__preset")) == ("a red cube", kept)

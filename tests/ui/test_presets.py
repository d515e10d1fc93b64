"""The dropdown of presets, in a browser: two presets, each with what it changes; the chosen one is what is asked of the backend."""

import re

from playwright.sync_api import expect

from flux_demo.engine.presets import PRESETS
from flux_demo.gallery import Gallery
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui import build, launch_options
from tests.starting import free_port
from tests.ui.driving import made, open_settings, prompt_field, run


def test_the_chosen_preset_is_asked_for(recording_backend, chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    backend = recording_backend("mini", presets=tuple(PRESETS))
    served = build(Studio(Settings(outputs=str(tmp_path)), [backend], Gallery(tmp_path)))
    visitor = chromium.new_context(viewport={"width": 1280, "height": 900})
    try:
        served.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        page = visitor.new_page()
        page.goto(served.local_url)
        page.wait_for_function("localStorage.flux_demo_visitor")
        open_settings(page)
        page.get_by_label("Preset", exact=True).locator("visible=true").click()
        choices = page.get_by_role("option")
        expect(choices).to_have_text([re.compile(re.escape(f"{preset.title}: {preset.changes}")) for preset in PRESETS.values()])
        choices.last.click()
        prompt_field(page).fill("a red cube")
        run(page)
        made(page, "text")
        assert [request.preset for request in backend.requests] == ["compiled"]
    finally:
        visitor.close()
        served.close(verbose=False)

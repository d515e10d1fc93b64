"""What a tab offers follows from where its mode runs."""

from playwright.sync_api import expect

from flux_demo.backends import Refusal
from flux_demo.errors import DownloadFailed
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.fetch import fetch_handler
from flux_demo.ui.loading import QUIET, loading_handler
from flux_demo.ui.tab_state import tab_state, what_to_fetch
from tests.ui.driving import wait_for_status


def test_the_dials_are_the_routes(studio):
    for mode in MODES.values():
        dials = studio.route(mode.name).dials
        state = tab_state(studio, mode)
        assert (state["steps"]["value"], state["guidance"]["value"]) == (dials.steps, dials.guidance)
        assert state["size"]["value"] == ("match" if mode.control else str(dials.size_limits.sizes[0]))
        assert state["run"]["visible"] and not state["refusal"]["visible"] and not state["fetch"]["visible"]
        assert "mini" in state["where"]["value"]


def test_the_hosted_service_is_offered_its_samples_and_no_photo(tmp_path):
    studio = Studio.from_settings(Settings(backend="hosted", nvidia_api_key="nvapi-x", outputs=str(tmp_path)))
    state = tab_state(studio, MODES["canny"])
    assert not state["own"]["visible"] and state["sample"]["visible"]
    assert [number for _, number in state["sample"]["choices"]] == [0, 1, 2, 3]
    assert "your own photo cannot be used" in state["sample_note"]["value"]
    assert "License" in state["where"]["value"] and "cannot be cancelled" in state["where"]["value"]
    assert state["guidance"]["minimum"] > 1


def test_a_service_of_ones_own_that_runs_the_mini_names_no_licence_of_flux(tmp_path, recording_backend):
    backend = recording_backend("nim")
    studio = Studio(Settings(outputs=str(tmp_path)), [backend], Gallery(tmp_path))
    assert "License" in tab_state(studio, MODES["text"])["where"]["value"]
    backend.model_name = lambda mode: "mini"
    assert "License" not in tab_state(studio, MODES["text"])["where"]["value"]


def test_without_a_backend_the_tab_says_why_where_the_run_button_would_be(tmp_path):
    studio = Studio.from_settings(Settings(backend="nim", outputs=str(tmp_path)))
    state = tab_state(studio, MODES["depth"])
    assert not state["run"]["visible"] and state["refusal"]["visible"]
    assert "FLUX_DEMO_NIM_URL" in state["refusal"]["value"]
    assert state["own"]["visible"]  # the map can still be previewed


def test_a_tab_says_what_is_loading_until_all_is_quiet(studio, monkeypatch):
    now: dict[str, str | None] = dict.fromkeys(MODES)
    monkeypatch.setattr(studio, "loading", now.get)
    check = loading_handler(studio, list(MODES.values()))
    said = {f"{name}__where": tab_state(studio, mode)["where"]["value"] for name, mode in MODES.items()}
    answer = check(quiet=0, said=said)
    assert set(answer) == {"said", "quiet", "timer"} and answer["timer"].active
    now["depth"] = "Loading the <mini>: 1.0 of 2.0 GB"
    answer = check(quiet=QUIET - 1, said=answer["said"])
    assert "Loading the &lt;mini&gt;: 1.0 of 2.0 GB" in answer["depth__where"] and "text__where" not in answer
    assert answer["timer"].active and answer["quiet"] == 0
    now["depth"] = None
    answer = check(quiet=QUIET - 1, said=answer["said"])
    assert answer["depth__where"] == said["depth__where"] and not answer["timer"].active


class Fetching(Studio):
    """A studio whose downloads come from here: the first breaks off, the second arrives."""

    def __init__(self, recording_backend, folder, **settings):
        class Lacking(recording_backend):
            def refusal(backend, mode):
                return None if self.arrived else Refusal("Its files are not here. Press the button to fetch them.", fetch="text")

        super().__init__(Settings(outputs=str(folder), **settings), [Lacking("local"), recording_backend("mini")], Gallery(folder))
        self.arrived, self.tries = False, 0

    def fetch(self, what, on_bytes=None):
        self.tries += 1
        on_bytes(1_000_000_000, 2_000_000_000)
        if self.tries == 1:
            raise DownloadFailed("The network broke off. Fetch again, and it goes on where it ended.")
        self.arrived = True
        self.refresh()


def test_the_fetch_button_counts_bytes_and_dresses_the_page_anew(recording_backend, tmp_path):
    studio, text = Fetching(recording_backend, tmp_path), MODES["text"]
    assert what_to_fetch(studio, text) == "text" and tab_state(studio, text)["fetch"]["visible"]
    fetch = fetch_handler(studio, text)
    said = [answer["text__status"] for answer in fetch() if "text__status" in answer]
    assert any("1.00 of 2.00 GB" in each for each in said) and "broke off" in said[-1]
    answers = list(fetch())
    assert "backend local" in answers[-1]["text__where"]["value"] and "All files are here" in answers[-1]["text__status"]
    assert what_to_fetch(studio, text) is None


def test_after_a_fetch_there_is_nothing_to_stop(recording_backend, open_with, tmp_path):
    page = open_with(Fetching(recording_backend, tmp_path / "outputs"))
    for said in ("broke off", "All files are here."):
        page.get_by_role("button", name="Fetch FLUX for text", exact=True).click()
        wait_for_status(page, "text", said)
        expect(page.get_by_role("button", name="Stop", exact=True).locator("visible=true")).to_be_disabled()
    expect(page.get_by_text("Runs on backend local.").locator("visible=true")).to_be_visible()


def test_strangers_can_fetch_nothing(recording_backend, tmp_path):
    studio, text = Fetching(recording_backend, tmp_path, public=True), MODES["text"]
    assert not tab_state(studio, text)["fetch"]["visible"]
    assert list(fetch_handler(studio, text)()) == []  # anybody may send the button's event
    assert studio.tries == 0

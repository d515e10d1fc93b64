"""What a tab offers follows from where its mode runs."""

from flux_demo.errors import DownloadFailed
from flux_demo.gallery import Gallery
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from flux_demo.ui.fetch import fetch_handler
from flux_demo.ui.loading import QUIET, loading_handler
from flux_demo.ui.tab_state import looks, what_to_fetch


def test_the_dials_are_the_routes(studio):
    for mode in MODES.values():
        dials = studio.route(mode.name).dials
        look = looks(studio, mode)
        assert (look["steps"]["value"], look["guidance"]["value"]) == (dials.steps, dials.guidance)
        assert look["size"]["value"] == ("match" if mode.control else str(dials.size_limits.sizes[0]))
        assert look["run"]["visible"] and not look["refusal"]["visible"] and not look["fetch"]["visible"]
        assert "mini" in look["where"]["value"]


def test_the_hosted_service_is_offered_its_samples_and_no_photo(tmp_path):
    studio = Studio.from_settings(Settings(backend="hosted", nvidia_api_key="nvapi-x", outputs=str(tmp_path)))
    look = looks(studio, MODES["canny"])
    assert not look["own"]["visible"] and look["sample"]["visible"]
    assert [number for _, number in look["sample"]["choices"]] == [0, 1, 2, 3]
    assert "cannot go there" in look["sample_note"]["value"]
    assert "License" in look["where"]["value"] and "cannot be called back" in look["where"]["value"]
    assert look["guidance"]["minimum"] > 1


def test_without_a_backend_the_tab_says_why_where_the_run_button_would_be(tmp_path):
    studio = Studio.from_settings(Settings(backend="nim", outputs=str(tmp_path)))
    look = looks(studio, MODES["depth"])
    assert not look["run"]["visible"] and look["refusal"]["visible"]
    assert "FLUX_DEMO_NIM_URL" in look["refusal"]["value"]
    assert look["own"]["visible"]  # the map can be drawn all the same


def test_a_tab_says_what_is_loading_until_all_is_quiet(studio, monkeypatch):
    now: dict[str, str | None] = dict.fromkeys(MODES)
    monkeypatch.setattr(studio, "loading", now.get)
    look = loading_handler(studio, list(MODES.values()))
    said = {f"{name}__where": looks(studio, mode)["where"]["value"] for name, mode in MODES.items()}
    answer = look(quiet=0, said=said)
    assert set(answer) == {"said", "quiet", "timer"} and answer["timer"].active
    now["depth"] = "Loading the <mini>: 1.0 of 2.0 GB"
    answer = look(quiet=QUIET - 1, said=answer["said"])
    assert "Loading the &lt;mini&gt;: 1.0 of 2.0 GB" in answer["depth__where"] and "text__where" not in answer
    assert answer["timer"].active and answer["quiet"] == 0
    now["depth"] = None
    answer = look(quiet=QUIET - 1, said=answer["said"])
    assert answer["depth__where"] == said["depth__where"] and not answer["timer"].active


class Fetching(Studio):
    """A studio whose downloads come from here: the first breaks off, the second arrives."""

    arrived = False
    tries = 0

    def fetch(self, what, on_bytes=None):
        self.tries += 1
        on_bytes(1_000_000_000, 2_000_000_000)
        if self.tries == 1:
            raise DownloadFailed("The network broke off. Fetch again, and it goes on where it ended.")
        Fetching.arrived = True


def test_the_fetch_button_counts_bytes_and_dresses_the_page_anew(recording_backend, tmp_path):
    class Lacking(recording_backend):
        def refusal(self, mode):
            return None if Fetching.arrived else "Its files are not here. Run python -m flux_demo fetch text, or press the button."

    settings = Settings(outputs=str(tmp_path))
    studio = Fetching(settings, [Lacking("local"), recording_backend("mini")], Gallery(tmp_path))
    text = MODES["text"]
    assert what_to_fetch(studio, text) == "text" and looks(studio, text)["fetch"]["visible"]
    fetch = fetch_handler(studio, text)
    said = [answer["text__status"] for answer in fetch() if "text__status" in answer]
    assert any("1.00 of 2.00 GB" in each for each in said) and "broke off" in said[-1]
    answers = list(fetch())
    assert "backend local" in answers[-1]["text__where"]["value"] and "All files are here" in answers[-1]["text__status"]
    assert what_to_fetch(studio, text) is None

"""What there is to click, by what runs the mode."""

import pytest

from flux_demo.maps.photo import looks_like_map, open_photo
from flux_demo.modes import MODES
from flux_demo.settings import ASSETS
from flux_demo.ui import examples


@pytest.mark.parametrize("backend", ["local", "nim", "mini", None])
def test_photos_are_small_and_open_and_have_a_licence_and_prompts(backend):
    licences = (ASSETS / "examples" / "README.md").read_text(encoding="utf-8")
    photos = examples.photos(backend)
    assert len(photos) == (4 if backend in ("mini", None) else 3)
    for path, what in photos:
        assert path.stat().st_size < 160_000 and what == what.strip() and "-" not in what
        assert looks_like_map(open_photo(path)) is None
        assert path.name in licences or path.parent.name == "examples"
    for mode in MODES.values():
        assert len(set(examples.prompts(backend, mode))) == 3


def test_flux_gets_photographs_and_the_mini_gets_what_it_was_taught():
    assert not {path for path, _ in examples.photos("local")} & {path for path, _ in examples.photos("mini")}
    assert examples.photos("mini") == examples.photos(None)

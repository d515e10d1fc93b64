import hashlib
import io
import os
import shutil
import socket
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from flux_demo import background
from flux_demo.errors import BackendUnavailable, Cancelled, GenerationFailed, InvalidPicture, InvalidRequest
from flux_demo.gallery import Gallery
from flux_demo.maps.notes import EMPTY, FIRST_OF_SEVERAL
from flux_demo.maps.photo import open_photo
from flux_demo.progress import Phase, Status
from flux_demo.recipe import read_recipe
from flux_demo.request import GenerationRequest, Size, SizeLimits
from flux_demo.settings import ASSETS
from flux_demo.studio import Studio


@pytest.fixture
def studio_with(settings):
    return lambda *backends: Studio(settings, backends, Gallery(settings.outputs_folder))


@pytest.fixture
def studio(studio_with, recording_backend):
    return studio_with(recording_backend("mini"))


@pytest.mark.parametrize("given", ["mini", {"backend": "mini"}, {}, 0], ids=repr)
def test_what_is_not_settings_is_refused(given):
    with pytest.raises(InvalidRequest, match="is not a Settings object. Give one, such as Settings"):
        Studio.from_settings(given)


def test_the_previewed_map_is_the_map_that_is_followed(studio, photo):
    control = studio.preview("canny", photo, "320x208", low=30, high=90)
    made = studio.generate(GenerationRequest("canny", "a red ball", seed=7, control=control))
    asked = studio.backends[0].requests[0]
    assert asked.control.image.tobytes() == control.image.tobytes()
    assert made.recipe.control.sha256 == hashlib.sha256(control.image.tobytes()).hexdigest()
    assert made.recipe.control.options == {"low": 30, "high": 90} and made.recipe.control.fit == "crop"
    assert read_recipe(made.path) == made.recipe
    assert made.image.size == (320, 208)


def test_a_photo_of_the_output_size_gives_opencvs_own_map(studio, photo):
    control = studio.preview("canny", photo, Size(*photo.size))
    assert (np.asarray(control.image)[..., 0] == cv2.Canny(np.asarray(photo), 50, 200)).all()


def test_match_is_the_routes_size_nearest_to_the_photos_shape(studio, photo):
    assert studio.preview("canny", photo).size == Size(1344, 768)


def test_a_process_forked_after_pytorch_worked_is_told_so(settings, photo, monkeypatch):
    """PyTorch would wait for threads that are not there."""
    monkeypatch.setattr(background, "_threads_of", os.getpid() + 1)
    studio = Studio.from_settings(replace(settings, backend="mini"))
    with pytest.raises(GenerationFailed, match="spawn"):
        studio.generate(GenerationRequest("text", "a cube", steps=1, size=Size(128, 128)))
    with pytest.raises(GenerationFailed, match="spawn"):
        studio.preview("depth", photo, "128x128")
    assert studio.preview("canny", photo, "128x128")  # OpenCV alone


def test_an_estimator_of_ones_own_is_named_without_its_path(settings, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(ASSETS / "mini" / "depth_estimator", tmp_path / "secret-place" / "mine")
    studio = Studio.from_settings(replace(settings, backend="mini", depth_estimator="~/secret-place/mine"))
    assert studio.preview("depth", photo, "128x128").estimator == "mine"


def test_a_photo_may_be_a_file(studio, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    assert studio.preview("canny", tmp_path / "p.png").sha256 == studio.preview("canny", photo).sha256
    with pytest.raises(InvalidPicture):
        studio.preview("canny", tmp_path / "missing.png")


def test_a_file_that_changes_is_read_again(studio, photo, tmp_path):
    path = tmp_path / "p.png"
    photo.save(path)
    before = studio.preview("canny", path, "320x208")
    assert studio.preview("canny", path, "320x208", low=900, high=1000).sha256 != before.sha256
    photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    os.utime(path, ns=(1, 1))
    assert studio.preview("canny", path, "320x208").sha256 != before.sha256


@pytest.mark.parametrize("size", ["64x63", "100000x16", "2048x2064", "tall", 5])
def test_an_illegal_map_size_is_refused(studio, photo, size):
    with pytest.raises(InvalidRequest):
        studio.preview("canny", photo, size)


def test_a_ready_made_map_is_never_redrawn(studio):
    colourful = Image.effect_mandelbrot((256, 192), (-2, -1, 1, 1), 50).convert("RGB")
    colourful.paste((1, 2, 3), (0, 0, 99, 99))
    assert studio.as_map("canny", colourful).image.tobytes() == colourful.tobytes()
    assert studio.as_map("depth", colourful, "256x192").image.tobytes() == colourful.tobytes()
    fitted = studio.as_map("canny", colourful, "128x96")
    assert fitted.size == Size(128, 96) and fitted.image.getpixel((5, 5)) == (1, 2, 3)


def test_a_ready_made_map_of_an_odd_size_is_fitted(studio):
    assert studio.as_map("canny", Image.new("RGB", (250, 190))).size in studio.route("canny").dials.size_limits.sizes


def test_the_steps_and_phases_reach_the_caller(studio):
    steps, statuses = [], []
    studio.generate(GenerationRequest("text", "a fox", steps=3), lambda done, of, preview: steps.append((done, of)), statuses.append)
    assert steps == [(1, 3), (2, 3), (3, 3)] and statuses == [Status(Phase.ENCODING, "Mixing colours")]


def test_a_stopped_run_keeps_nothing_and_the_next_one_works(studio):
    def stop(done, of, preview):
        raise Cancelled

    with pytest.raises(Cancelled):
        studio.generate(GenerationRequest("text", "a fox"), stop)
    assert not studio.gallery.folder.exists()
    assert studio.generate(GenerationRequest("text", "a fox")).path.exists()


def test_every_kind_of_wrong_control_is_refused_before_anything_runs(studio, studio_with, recording_backend, photo):
    control = studio.preview("canny", photo)
    with pytest.raises(InvalidRequest, match="needs a map"):
        studio.generate(GenerationRequest("canny", "a fox"))
    with pytest.raises(InvalidRequest, match="does not follow a map"):
        studio.generate(GenerationRequest("text", "a fox", sample=1))
    with pytest.raises(InvalidRequest, match="does not have that sample"):
        studio.generate(GenerationRequest("canny", "a fox", sample=0))
    hosted = studio_with(recording_backend("hosted", own_photos=False, sample_pictures=4))
    with pytest.raises(
        InvalidRequest, match="was not sent.*on the page, or name it in a batch or in Python with `sample`, a number from 0 to 3"
    ):
        hosted.generate(GenerationRequest("canny", "a fox", control=control))
    with pytest.raises(InvalidRequest, match="canny map, and the depth mode follows depth"):
        studio.generate(GenerationRequest("depth", "a fox", control=control))
    hosted.generate(GenerationRequest("canny", "a fox", sample=3))
    assert all(line.image for line in hosted.batch([{"mode": "canny", "prompt": "a fox", "sample": 0}]))
    assert not studio.backends[0].requests and [asked.sample for asked in hosted.backends[0].requests] == [3, 0]


def test_the_route_is_chosen_once_and_again_only_when_asked(studio_with, recording_backend):
    studio = studio_with(recording_backend("local", refuses=["text"]), recording_backend("mini"))
    assert studio.route("text").backend.name == "mini"
    studio.backends[0].refuses = ()
    assert studio.route("text").backend.name == "mini"
    studio.refresh()
    assert studio.route("text").backend.name == "local"


def test_a_service_that_hangs_is_probed_once_at_a_time_and_keeps_no_photo_waiting(settings, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    with socket.socket() as service:  # which takes connections and says nothing
        service.bind(("127.0.0.1", 0))
        service.listen()
        studio = Studio.from_settings(replace(settings, nim_url=f"http://127.0.0.1:{service.getsockname()[1]}"))
        choosing = [threading.Thread(target=studio.route, args=(mode,)) for mode in ("text", "depth")]
        for each in choosing:
            each.start()
        probe, _ = service.accept()
        with probe:
            assert studio.preview("canny", tmp_path / "p.png", "128x128").size == Size(128, 128)
            assert choosing[0].is_alive() and choosing[1].is_alive()
            service.settimeout(0.3)
            with pytest.raises(TimeoutError):
                service.accept()
        for each in choosing:
            each.join()
        assert studio.route("text").backend.name == studio.route("depth").backend.name == "mini"
        studio.close()


def test_a_preview_during_a_refresh_is_drawn_anew_afterwards(studio_with, recording_backend, photo, tmp_path):
    class ThenFetched(SizeLimits):
        def nearest(self, width, height):
            local.refuses = ()
            studio.refresh()
            return super().nearest(width, height)

    local = recording_backend("local", refuses=["canny"])
    studio = studio_with(local, recording_backend(size_limits=ThenFetched(range(16, 1024, 16), 2**20, (Size(256, 256),))))
    photo.save(tmp_path / "p.png")
    assert studio.preview("canny", tmp_path / "p.png").size == Size(256, 256)
    assert studio.preview("canny", tmp_path / "p.png").size == Size(1344, 768)


def test_what_refused_everything_is_asked_again(studio_with, recording_backend):
    studio = studio_with(recording_backend("nim", refuses=["text"]))
    with pytest.raises(BackendUnavailable):
        studio.route("text")
    studio.backends[0].refuses = ()
    assert studio.route("text").backend.name == "nim"


def test_the_status_says_where_each_mode_runs_and_why(studio_with, recording_backend):
    studio = studio_with(recording_backend("local", refuses=["canny", "depth"]), recording_backend("mini", refuses=["depth"]))
    modes = studio.status()["modes"]
    assert modes["text"]["backend"] == "local" and modes["text"]["passed_over"] == []
    assert modes["canny"]["backend"] == "mini" and modes["canny"]["passed_over"][0]["reason"].startswith("local cannot run canny")
    assert modes["canny"]["dials"]["sizes"][0] == "1024x1024"
    assert modes["depth"]["backend"] is None and "mini cannot run depth" in modes["depth"]["reason"]


def test_a_backend_that_a_script_named_is_not_said_to_come_from_a_variable(settings):
    assert Studio.from_settings(replace(settings, backend="mini")).reason("text") == "Chosen by name: mini."


def test_maps_can_be_previewed_where_nothing_can_be_generated(studio_with, recording_backend, photo):
    studio = studio_with(recording_backend(refuses=["canny"]))
    assert studio.preview("canny", photo).size == Size(1344, 768)
    with pytest.raises(BackendUnavailable):
        studio.generate(GenerationRequest("canny", "a fox", control=studio.preview("canny", photo)))


def test_an_unknown_mode_or_one_without_a_map_is_a_sentence(studio, photo):
    with pytest.raises(InvalidRequest, match="text, canny, depth"):
        studio.generate(GenerationRequest("fill", "a fox"))
    with pytest.raises(InvalidRequest, match="does not follow a map"):
        studio.preview("text", photo)


def test_any_photo_may_be_given(studio, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    expected = studio.preview("canny", photo).sha256
    for given in (tmp_path / "p.png", data, io.BytesIO(data), Image.open(tmp_path / "p.png")):
        assert studio.preview("canny", given).sha256 == expected
        assert studio.as_map("canny", given, "320x208").sha256 == studio.as_map("canny", photo, "320x208").sha256
    for given in (None, np.asarray(photo)):
        with pytest.raises(InvalidPicture):
            studio.preview("canny", given)


def test_an_empty_edge_map_is_said_with_the_image(studio):
    control = studio.preview("canny", Image.new("RGB", (320, 208), "teal"))
    assert control.is_empty
    assert EMPTY in studio.generate(GenerationRequest("canny", "a red ball", control=control)).notes


@pytest.mark.parametrize("colour", ["black", "grey", "white", (10, 20, 30)])
def test_a_ready_made_map_of_one_colour_follows_nothing_whatever_the_colour(studio, colour):
    control = studio.as_map("depth", Image.new("RGB", (320, 208), colour))
    assert studio.generate(GenerationRequest("depth", "a red ball", control=control)).notes == (EMPTY,)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("crop", "To fit 128x128: 38% cropped left and right."),
        ("pad", "To fit 128x128: the whole photo, black above and below."),
        ("stretch", "To fit 128x128: 62% taller than the photo."),
    ],
)
def test_what_the_fit_did_to_the_photo_is_said_with_the_map_and_the_image(studio, fit, said):
    photo = Image.effect_noise((208, 128), 90).convert("RGB")
    for control in (studio.preview("canny", photo, "128x128", fit), studio.as_map("canny", photo, "128x128", fit)):
        assert control.notes == (said,)
        assert studio.generate(GenerationRequest("canny", "a red ball", control=control)).notes == (said,)
    assert studio.preview("canny", photo, "208x128", fit).notes == ()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_that_only_the_first_of_several_frames_is_used_is_said_once(studio, photo, kind):
    frames, file, one = [photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], io.BytesIO(), io.BytesIO()
    photo.save(file, kind, save_all=True, append_images=frames)
    photo.save(one, kind)
    drawn = studio.preview("canny", file.getvalue(), "320x208")
    assert drawn.notes.count(FIRST_OF_SEVERAL) == 1
    for given in (Image.open(io.BytesIO(file.getvalue())), open_photo(open_photo(file.getvalue()))):
        assert FIRST_OF_SEVERAL in studio.preview("canny", given, "320x208").notes
        assert FIRST_OF_SEVERAL in studio.as_map("canny", given, "320x208").notes
    assert studio.generate(GenerationRequest("canny", "a red ball", control=drawn)).notes.count(FIRST_OF_SEVERAL) == 1
    assert FIRST_OF_SEVERAL not in studio.preview("canny", one.getvalue(), "320x208").notes


def test_an_image_that_could_not_be_kept_is_not_generated(studio, tmp_path):
    (tmp_path / "outputs").write_text("in the way")
    with pytest.raises(InvalidRequest, match="FLUX_DEMO_OUTPUTS"):
        studio.generate(GenerationRequest("text", "a red ball"))
    assert not studio.backends[0].requests

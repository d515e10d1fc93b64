import hashlib
import json

import pytest
from PIL import Image

from flux_demo.errors import GenerationFailed
from flux_demo.gallery import Gallery
from flux_demo.recipe import read_recipe
from flux_demo.request import ControlMap, DrawnImage, GenerationRequest, Size


@pytest.fixture
def request_(photo):
    control = ControlMap("canny", photo.resize((64, 48)), {"low": 50, "high": 200}, "crop")
    return GenerationRequest("canny", "狐狸 fox", seed=0, steps=2, guidance=30.0, size=Size(64, 48), control=control)


@pytest.fixture
def picture(photo):
    return DrawnImage(photo.resize((64, 48)), "mini", "exact", libraries={"torch": "2"})


def test_a_kept_picture_has_its_pixels_and_its_recipe(tmp_path, request_, picture):
    kept = Gallery(tmp_path / "new" / "folder").save(picture, request_, "mini", 1.25)
    with Image.open(kept.path) as file:
        assert file.format == "PNG" and file.mode == "RGB"
        assert file.tobytes() == picture.image.tobytes()
        values = json.loads(file.text["flux_demo"])
        assert file.text["parameters"].startswith("狐狸 fox\nSteps: 2, ")
    assert values["seed"] == 0 and values["backend"] == "mini" and values["seconds"] == 1.25
    assert values["control"]["sha256"] == hashlib.sha256(request_.control.image.tobytes()).hexdigest()
    assert read_recipe(kept.path) == kept.recipe
    assert kept.image.tobytes() == picture.image.tobytes()


def test_two_pictures_of_one_second_have_two_files(tmp_path, request_, picture):
    gallery = Gallery(tmp_path)
    paths = {gallery.save(picture, request_, "mini", 1).path for _ in range(3)}
    assert len(paths) == 3 == len(list(tmp_path.iterdir()))


def test_a_folder_that_refuses_is_a_sentence(tmp_path, request_, picture):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GenerationFailed, match="--outputs") as error:
        Gallery(tmp_path / "file").save(picture, request_, "mini", 1)
    assert str(tmp_path) not in str(error.value)

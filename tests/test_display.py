import io

import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from flux_demo.gallery import Gallery
from flux_demo.request import BackendOutput, ControlMap, GenerationRequest, Size


def test_a_map_shows_its_exact_pixels(photo):
    control = ControlMap("canny", photo.resize((64, 48)), {"low": 50})
    assert Image.open(io.BytesIO(control._repr_png_())).tobytes() == control.image.tobytes()
    assert "&quot;low&quot;: 50" in control._repr_html_()


def test_an_image_shows_itself_with_its_recipe_folded_and_escaped(photo, tmp_path):
    request = GenerationRequest("text", "<script>alert('1')</script>", seed=7, steps=1, guidance=2.0, size=Size(64, 48))
    image = Gallery(tmp_path).save(BackendOutput(photo.resize((64, 48)), "mini"), request, "mini", 1.0)
    assert Image.open(io.BytesIO(image._repr_png_())).tobytes() == image.image.tobytes()
    html = image._repr_html_()
    assert "<script" not in html and "&lt;script" in html
    assert "<details><summary>Recipe" in html and "&quot;seed&quot;: 7" in html


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_notebook_says_that_an_images_file_is_gone_or_damaged(photo, tmp_path, damage, capsys):
    request = GenerationRequest("text", "a cube", seed=7, steps=1, guidance=2.0, size=Size(64, 48))
    image = Gallery(tmp_path).save(BackendOutput(photo.resize((64, 48)), "mini"), request, "mini", 1.0)
    image.path.unlink() if damage == "gone" else image.path.write_bytes(image.path.read_bytes()[:-200])
    shown, _ = DisplayFormatter().format(image)
    assert "image/png" not in shown and f"The file {image.path.name} is gone or damaged." in shown["text/html"]
    assert capsys.readouterr().err == "", "no traceback"

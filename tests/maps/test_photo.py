"""The loader: every format opens as 8-bit RGB, and hostile files get a worded answer."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from flux_demo.errors import InvalidPicture
from flux_demo.maps import photo as loader
from flux_demo.maps.photo import browsers_show, looks_like_map, open_photo
from flux_demo.recipe import read_recipe


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size and holds almost no pixels."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 20)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_usual_format_opens_as_rgb(photo, kind):
    opened = open_photo(encoded(photo, kind))
    assert opened.mode == "RGB" and opened.size == photo.size
    assert np.abs(np.asarray(opened, int) - np.asarray(photo, int)).mean() < 3


def test_a_path_and_its_text_open_the_same_file(photo, tmp_path):
    photo.save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png").tobytes() == open_photo(str(tmp_path / "a.png")).tobytes() == photo.tobytes()


def test_exif_turns_the_photo_upright(photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    turned = open_photo(encoded(photo.rotate(90, expand=True), "PNG", exif=exif))
    assert turned.size == photo.size and turned.tobytes() == photo.tobytes()
    assert not turned.info and not turned.getexif()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_the_size_that_is_checked_is_that_of_the_upright_photo(photo, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(photo.resize((64, 32)), kind, exif=exif)
    upright, checked = (32, 64) if orientation >= 5 else (64, 32), []
    for source in (file, Image.open(io.BytesIO(file))):
        assert open_photo(source, lambda *size: checked.append(size)).size == upright
    assert checked == [upright] * 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode):
    layer = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    layer.paste((0, 0, 255, 255), (0, 0, 16, 32))
    opened = np.asarray(open_photo(encoded(layer if mode == "RGBA" else layer.convert("LA") if mode == "LA" else layer.quantize())))
    assert tuple(opened[5, 25]) == (255, 255, 255)
    assert opened[5, 5].max() < 256 and tuple(opened[5, 5]) != (255, 255, 255)


def test_partial_transparency_is_blended_with_white():
    assert open_photo(encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 128)))).getpixel((3, 3)) == (127, 127, 127)


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    opened = np.asarray(open_photo(encoded(Image.fromarray(ramp))))[..., 0].astype(float)
    assert np.abs(opened - ramp / 257).max() <= 1


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("most", [4095, 65535])
def test_colours_of_sixteen_bits_are_shown_as_browsers_show_them(kind, most):
    ramps = np.random.default_rng(1).integers(0, most, (64, 64, 3), np.uint16, endpoint=True)
    opened = np.asarray(open_photo(cv2.imencode(kind, ramps)[1].tobytes()), float)
    assert np.abs(opened - ramps[..., ::-1] / 257).max() <= 1


def test_grey_and_cmyk_become_rgb(photo):
    assert open_photo(encoded(photo.convert("L"))).tobytes() == photo.convert("L").convert("RGB").tobytes()
    cmyk = np.asarray(open_photo(encoded(photo.convert("CMYK"), "JPEG", quality=95)), int)
    assert np.abs(cmyk - np.asarray(photo, int)).mean() < 6


def test_the_first_frame_of_an_animation_is_taken(photo):
    frames = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    opened = open_photo(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert opened.tobytes() == photo.tobytes()


def test_a_large_jpeg_within_the_limits_opens():
    assert open_photo(encoded(Image.new("RGB", (8000, 8000)), "JPEG")).size == (2667, 2667)


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (b"hello", "cannot be opened"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.4 nothing", "cannot be opened"),
        (png_header(100, 100), "cannot be opened"),
        (png_header(60_000, 60_000), "megapixels"),
        (png_header(8020, 8010), r"has 64\.2 megapixels, and the limit is 64\.0 megapixels"),
        (png_header(0, 5), "cannot be opened"),
        (b"\0" * (loader.MAX_BYTES + 1), "larger than 32 MiB"),
    ],
)
def test_hostile_files_get_two_sentences(data, word):
    with pytest.raises(InvalidPicture, match=word) as error:
        open_photo(data)
    assert 2 <= str(error.value).count(".") <= 4


@pytest.mark.parametrize(
    ("kind", "shown"), [("PNG", True), ("JPEG", True), ("WEBP", True), ("TIFF", False), ("JPEG2000", False), ("QOI", False)]
)
def test_what_browsers_show_is_told_by_the_content(photo, kind, shown):
    assert browsers_show(encoded(photo, kind)) is shown
    assert browsers_show(b"not an image")


def test_a_truncated_file_is_refused(photo):
    for kind in ("PNG", "JPEG"):
        data = encoded(photo, kind)
        with pytest.raises(InvalidPicture):
            open_photo(data[: len(data) // 2])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "QOI", "ICO"])
def test_a_damaged_file_is_named_by_its_format(photo, kind):
    data = encoded(photo, kind)
    for given in (data[: len(data) // 2], io.BytesIO(data[: len(data) // 2])):
        with pytest.raises(InvalidPicture, match=f"the {kind} file is damaged"):
            open_photo(given)


@pytest.mark.parametrize("kind", ["TGA", "PCX", "DDS", "ICNS", "SGI"])
def test_a_format_that_is_not_read_is_named_and_not_called_damaged(photo, kind):
    with pytest.raises(InvalidPicture, match=f"in the format {kind}, which cannot be read") as error:
        open_photo(encoded(photo.resize((256, 256)), kind))
    assert "damaged" not in str(error.value)


def test_a_device_is_not_taken_for_a_missing_file():
    with pytest.raises(InvalidPicture, match="is a device or a pipe"):
        open_photo("/dev/null")


@pytest.mark.parametrize("name", ["missing.png", ".", "a\0b", "x" * 5000])
def test_a_path_without_a_file_is_refused_in_words(tmp_path, name):
    with pytest.raises(InvalidPicture) as error:
        open_photo(str(tmp_path / name))
    assert str(tmp_path) not in str(error.value)


def test_a_file_too_large_on_disk_is_not_read(tmp_path):
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(10 * 2**30)  # sparse: reading it would fill the memory
    with pytest.raises(InvalidPicture, match="MiB"):
        open_photo(tmp_path / "huge.png")


@pytest.mark.parametrize("size", [(4, 400), (1, 1), (4000, 40)])
def test_photos_too_small_or_too_narrow_are_refused(size):
    with pytest.raises(InvalidPicture, match="too (small|narrow)"):
        open_photo(encoded(Image.new("RGB", size)))


def test_maps_are_recognised_and_photos_are_not(photo):
    import cv2

    edges = Image.fromarray(cv2.Canny(np.asarray(photo), 50, 200)).convert("RGB")
    assert looks_like_map(edges) == "canny"
    assert looks_like_map(ImageOps.invert(edges)) == "inverted canny"
    depth = Image.fromarray(np.add.outer(np.linspace(0, 200, 400), np.linspace(0, 50, 640)).astype(np.uint8)).convert("RGB")
    assert looks_like_map(depth) == "depth"
    assert looks_like_map(photo) is None
    assert looks_like_map(photo.convert("L").convert("RGB")) is None
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
    assert looks_like_map(Image.fromarray(noise).convert("RGB")) is None


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (None, "No photo was given"),
        ("", "No photo was given"),
        (5, "An object of the type int was given instead of a photo"),
        (np.zeros((64, 64, 3), np.uint8), "An object of the type numpy.ndarray was given instead of a photo"),
    ],
    ids=["None", "empty", "int", "array"],
)
def test_what_is_given_in_place_of_an_image_is_named_with_what_would_be_taken(given, instead):
    with pytest.raises(InvalidPicture) as refused:
        open_photo(given)
    assert str(refused.value).startswith(f"{instead}. Give a path, bytes, a binary file or a PIL image")
    with pytest.raises(InvalidPicture) as refused:
        read_recipe(given)
    assert (
        str(refused.value)
        == f"{instead.replace('No photo', 'No image file').replace('a photo', 'an image file')}. Give a path, bytes or a binary file."
    )

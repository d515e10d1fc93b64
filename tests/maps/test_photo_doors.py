"""Every door gives the same photo: files of every usual format as browsers show them, bytes, binary files and PIL images."""

import gc
import io
import struct
import threading
import weakref

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from flux_demo.errors import InvalidPicture
from flux_demo.maps import decoding, png
from flux_demo.maps import photo as loader
from flux_demo.maps.photo import open_photo, open_png_text
from tests.maps.test_photo import encoded

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BAD_EXIF = (
    b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + struct.pack("<HHII", 0x9204, 10, 1, 10**6)
)


def with_curves(profile, curve):
    """A profile whose three curves are replaced."""
    changed = bytearray(profile)
    for n in range(struct.unpack(">I", profile[128:132])[0]):
        tag, at, size = struct.unpack(">4sII", profile[132 + 12 * n : 144 + 12 * n])
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            changed[at : at + size] = curve.ljust(size, b"\0")
    return bytes(changed)


LINEAR = with_curves(SRGB, b"curv")


def in_linear_light(image):
    values = np.asarray(image) / 255
    return Image.fromarray((np.where(values < 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) * 255 + 0.5).astype(np.uint8))


def difference(one, other):
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).mean()


@pytest.mark.parametrize("metadata", ["profile", "text", "many texts"])
def test_metadata_that_nobody_needs_does_not_hide_the_pixels(photo, metadata):
    info, profile = PngImagePlugin.PngInfo(), SRGB + bytes(1_500_000) if metadata == "profile" else None
    if metadata == "text":
        info.add_itxt("workflow", "x" * 3_000_000, zip=True)
    elif metadata == "many texts":
        for n in range(90):
            info.add_text(f"t{n}", "x" * 1_000_000, zip=True)
    data = encoded(photo, "PNG", pnginfo=info, icc_profile=profile)
    assert open_photo(data).tobytes() == photo.tobytes()
    assert "recipe" not in open_png_text(data)


def test_a_broken_text_chunk_does_not_hide_the_pixels(photo):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "hello")
    data = encoded(photo, "PNG", pnginfo=info).replace(b"hello", b"jello")  # its checksum is wrong now
    assert open_photo(data).tobytes() == photo.tobytes()
    assert open_png_text(data) == {}


@pytest.mark.parametrize("end", range(len(BAD_EXIF) - 12, len(BAD_EXIF) + 1, 4))
def test_the_orientation_is_read_from_a_damaged_exif(photo, end):
    upright = photo.transpose(Image.Transpose.ROTATE_270)
    opened = open_photo(encoded(photo, "JPEG", exif=BAD_EXIF[:end], quality=95))
    assert opened.size == upright.size and difference(opened, upright) < 4


@given(st.binary(max_size=200))
def test_no_exif_makes_a_photo_unreadable(exif):
    image = Image.new("RGB", (32, 16), "teal")
    assert open_photo(encoded(image, "JPEG", exif=b"Exif\0\0" + exif)).size in ((32, 16), (16, 32))


def test_heic_opens_upright(photo):
    heif = pillow_heif.from_pillow(photo)
    out = io.BytesIO()
    heif.save(out, quality=95)
    opened = open_photo(out.getvalue())
    assert opened.size == photo.size and difference(opened, photo) < 4


def test_a_jpeg_without_its_end_opens_and_half_of_one_does_not(photo):
    data = encoded(photo, "JPEG")
    for cut in (1, 2, 3):
        assert open_photo(data[:-cut]).tobytes() == open_photo(data).tobytes()
    most, half = data[: len(data) * 97 // 100], data[: len(data) * 6 // 10]
    assert open_photo(most).tobytes() == open_photo(Image.open(io.BytesIO(most))).tobytes()
    for given_ in (half, Image.open(io.BytesIO(half))):
        with pytest.raises(InvalidPicture, match="rows are complete"):
            open_photo(given_)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_colours_are_those_that_a_browser_shows(photo, kind):
    linear = encoded(
        in_linear_light(photo),
        kind,
        icc_profile=LINEAR,
        **({"lossless": True} if kind == "WEBP" else {"quality": 98} if kind == "JPEG" else {}),
    )
    assert difference(open_photo(linear), photo) < 2.5
    assert difference(in_linear_light(photo), photo) > 20


@pytest.mark.parametrize("profile", [b"", b"nothing", SRGB[:200], SRGB[:-300], bytes(4000)])
def test_a_broken_profile_is_ignored(photo, profile):
    assert open_photo(encoded(photo, "PNG", icc_profile=profile)).tobytes() == photo.tobytes()


def test_an_srgb_profile_changes_nothing(photo):
    assert open_photo(encoded(photo, "PNG", icc_profile=SRGB)).tobytes() == photo.tobytes()


def test_a_profile_of_other_colours_is_ignored_and_an_rgb_one_counts_for_greys(photo):
    grey = photo.convert("L")
    assert open_photo(encoded(photo.convert("CMYK"), "TIFF", icc_profile=LINEAR)).size == photo.size
    opened = open_photo(encoded(in_linear_light(grey), "PNG", icc_profile=LINEAR))
    assert difference(opened, grey.convert("RGB")) < 2.5


def test_transparency_and_a_profile_go_together(photo):
    layer = in_linear_light(photo).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(photo.size))
    plain = photo.convert("RGBA")
    plain.putalpha(layer.getchannel("A"))
    assert difference(open_photo(encoded(layer, icc_profile=LINEAR)), open_photo(encoded(plain))) < 2.5


@pytest.mark.parametrize(
    "values, brightest",
    [
        (np.linspace(0, 255, 4096).astype(np.uint16), 255),
        (np.linspace(0, 4095, 4096).astype(np.uint16), 255),
        (np.linspace(400, 8800, 4096).astype(np.uint16), 137),
        (np.linspace(0, 40000, 4096).astype(np.uint16), 156),
        (np.linspace(-1000, 3095, 4096).astype(np.int32), 255),
        (np.linspace(0, 1.2, 4096).astype(np.float32), 255),
        (np.linspace(0, 0.5, 4096).astype(np.float32), 128),
        (np.linspace(0, 0.01, 4096).astype(np.float32), 255),
        (np.linspace(-1, 1, 4096).astype(np.float32), 255),
        (np.linspace(0, 1e30, 4096).astype(np.float32), 255),
    ],
    ids=["0-255", "12 bits", "millimetres", "16 bits", "signed", "above 1", "half", "faint", "around 0", "huge"],
)
def test_deep_greys_are_brought_to_8_bits_by_the_range_that_is_used(values, brightest):
    image = Image.fromarray(values.reshape(64, 64))
    opened = np.asarray(open_photo(encoded(image, "TIFF")))
    assert opened.max() == brightest and len(np.unique(opened)) > 100
    assert open_photo(image).tobytes() == opened.tobytes()


def test_what_is_no_number_is_black():
    values = np.full((16, 16), 0.5, np.float32)
    values[0], values[1], values[2] = np.nan, np.inf, -np.inf
    opened = np.asarray(open_photo(encoded(Image.fromarray(values), "TIFF")))
    assert [opened[row, 0, 0] for row in range(4)] == [0, 255, 0, 128]


def doors(photo):
    exif = Image.Exif()
    exif[0x112] = 6
    ramp = np.linspace(0, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)
    layer = photo.convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(photo.size))
    yield "sideways", encoded(photo, "JPEG", exif=exif)
    yield "sideways TIFF", encoded(photo, "TIFF", exif=exif)
    yield "16 bits", encoded(Image.fromarray(ramp))
    yield "transparent", encoded(layer)
    yield "palette", encoded(layer.quantize(16))
    yield "linear light", encoded(in_linear_light(photo), icc_profile=LINEAR)
    yield "grey", encoded(photo.convert("L"))
    yield "black and white", encoded(photo.convert("1"))


def test_a_path_bytes_a_file_and_a_pil_image_give_the_same_photo(photo, tmp_path):
    for name, data in doors(photo):
        path = tmp_path / "photo"
        path.write_bytes(data)
        opened = open_photo(data).tobytes()
        file = io.BytesIO(data)
        file.seek(0, io.SEEK_END)
        with path.open("rb") as on_disk:
            for given_ in (path, str(path), bytearray(data), memoryview(data), file, on_disk):
                assert open_photo(given_).tobytes() == opened, name
        image = Image.open(path)
        before = dict(image.info)
        assert open_photo(image).tobytes() == opened, name
        assert dict(image.info) == before
        assert open_photo(image).tobytes() == opened, name  # once more: it is as it was


@pytest.mark.parametrize(
    "given_",
    [None, 5, np.zeros((64, 64, 3), np.uint8), ["a.png"], {"path": "a.png"}, io.StringIO("text"), object()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_photo_is_refused_in_words(given_):
    with pytest.raises(InvalidPicture) as refusal:
        open_photo(given_)
    assert str(refusal.value).count(". ") == 1


@pytest.mark.parametrize("data, word", [(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n", "PostScript"), (b"%PDF-1.7\n", "PDF")])
def test_no_program_is_started_for_a_photo(data, word, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(InvalidPicture, match=word):
        open_photo(data)
    if word == "PostScript":
        with pytest.raises(InvalidPicture, match="EPS"):
            open_photo(Image.open(io.BytesIO(data)))


def test_a_refusal_keeps_no_pixels_alive(photo, monkeypatch):
    alive = []
    finished = loader._finished

    def broken(image, *rest):
        alive.append(weakref.ref(image))
        finished(image.copy(), *rest)
        raise ValueError("after decoding")

    monkeypatch.setattr(loader, "_finished", broken)
    with pytest.raises(InvalidPicture) as refusal:
        open_photo(encoded(photo))
    kept = refusal.value  # as a server's log keeps it
    gc.collect()
    assert alive and alive[0]() is None and kept.__cause__ is None and kept.__context__ is None


def test_a_large_picture_waits_before_it_is_decoded_and_comes_out_smaller(monkeypatch):
    """And at most two are decoded at a time, a large one alone."""
    data = encoded(Image.new("L", (8000, 8000), 200), "PNG", compress_level=1)
    now, most, original = [], [], loader._decoded

    def watched(opened, data):
        now.append(opened.size)
        most.append(list(now))
        try:
            return original(opened, data)
        finally:
            now.remove(opened.size)

    monkeypatch.setattr(loader, "_decoded", watched)
    small = encoded(Image.new("RGB", (64, 64)))
    sizes = []
    threads = [
        threading.Thread(target=lambda each=each: sizes.append(open_photo(each).size)) for each in (data, small, data, small, small, data)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == [(64, 64)] * 3 + [(2667, 2667)] * 3
    assert all(len(each) <= 2 for each in most) and all(len(each) == 1 for each in most if (8000, 8000) in each)


def test_the_places_are_given_back_after_a_failure():
    for pixels in (1, 10**8) * 3:
        with pytest.raises(ValueError), decoding.turn(pixels):
            raise ValueError
    with decoding.turn(10**8):
        pass


@settings(max_examples=60)
@given(st.integers(0, 400), st.binary(max_size=40), st.booleans())
def test_readers_of_png_survive_any_damage(at, noise, cut):
    info = PngImagePlugin.PngInfo()
    info.add_text("flux_demo", "{}")
    info.add_itxt("parameters", "狐狸", zip=True)
    data = encoded(Image.linear_gradient("L").resize((24, 24)), pnginfo=info, icc_profile=SRGB[:400])
    damaged = data[:at] + noise + (b"" if cut else data[at + len(noise) :])
    for reader in (open_photo, open_png_text):
        try:
            reader(damaged)
        except InvalidPicture as refusal:
            assert str(refusal).count(". ") == 1
    png.texts(damaged)
    png.pixels_only(damaged)

"""The seven endpoints, as programs call them."""

import json
import time

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from flux_demo.maps.notes import EMPTY, FIRST_OF_SEVERAL
from flux_demo.recipe import read_recipe
from stand_ins.nvidia import StandIn
from tests.maps.test_photo import png_header
from tests.test_parameters import FORGE
from tests.ui.conftest import SMALL
from tests.ui.driving import finished
from tests.waiting import wait_until


def parameters_of(client, name):
    """Name and default of each parameter; a missing default is ``...``."""
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"][name]["parameters"]
    return {each["parameter_name"]: each["parameter_default"] if each["parameter_has_default"] else ... for each in described}


def refused(client, *values, **named):
    """The sentence with which a call is refused."""
    with pytest.raises(AppError) as caught:
        client.predict(*values, **named)
    sentence = str(caught.value)
    assert sentence.count(".") >= 2 and "/" not in sentence.replace("Set FLUX", "") and "Traceback" not in sentence, sentence
    return sentence


def test_the_endpoints_and_their_parameters_are_as_fixed(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/text", "/canny_map", "/depth_map", "/canny", "/depth", "/restore", "/status"}
    assert parameters_of(client, "/text") == {"prompt": ..., "size": "", "seed": "", "steps": None, "guidance": None}
    assert parameters_of(client, "/canny_map") == {"photo": ..., "size": "match", "fit": "crop", "low": 50, "high": 200}
    assert parameters_of(client, "/depth_map") == {"photo": ..., "size": "match", "fit": "crop", "near": 0.0, "far": 1.0, "invert": False}
    for name in ("/canny", "/depth"):
        assert parameters_of(client, name) == {"prompt": ..., "map": ..., "seed": "", "steps": None, "guidance": None}
    assert parameters_of(client, "/restore") == {"picture": ...}
    assert parameters_of(client, "/status") == {}


def test_text_gives_a_png_that_carries_the_recipe_it_returns(client):
    path, recipe = client.predict("a red cube", SMALL, "0", 2, 3.5, api_name="/text")
    assert read_recipe(path).to_dict() == recipe
    assert (recipe["seed"], recipe["steps"], recipe["width"], recipe["height"], recipe["mode"]) == (0, 2, 128, 128, "text")
    assert client.predict(handle_file(path), api_name="/restore") == recipe


@pytest.mark.parametrize("kind", ["canny", "depth"])
def test_a_picture_follows_the_map_that_was_drawn(client, studio, photo, photo_file, kind):
    drawn = client.predict(handle_file(photo_file), "208x128", api_name=f"/{kind}_map")
    with Image.open(drawn) as shown:
        assert (shown.mode, shown.format, shown.size) == ("RGB", "PNG", (208, 128))
        assert shown.tobytes() == studio.preview(kind, photo, "208x128").image.tobytes()
    path, recipe = client.predict("a red cube", handle_file(drawn), steps=1, api_name=f"/{kind}")
    with Image.open(path) as picture:
        assert picture.size == (208, 128)
    shown = studio.preview(kind, photo, "208x128")
    said = [recipe["control"].get(name) for name in ("kind", "options", "fit", "estimator", "sha256")]
    assert said == [kind, dict(shown.options), "crop", shown.estimator, shown.sha256]


def test_an_image_says_of_a_map_that_was_not_drawn_here_only_which_it_is(client, photo, photo_file, tmp_path):
    drawn = client.predict(handle_file(photo_file), SMALL, low=60, high=90, api_name="/canny_map")
    photo.resize((128, 128)).save(tmp_path / "foreign.png")
    for given, endpoint in ((tmp_path / "foreign.png", "/canny"), (drawn, "/depth")):
        _, recipe = client.predict("a red cube", handle_file(given), steps=1, api_name=endpoint)
        assert recipe["control"]["options"] == {} and recipe["control"]["fit"] is None


def logged(job):
    """What the endpoint said beside its result, as a program sees it."""

    async def updates():
        return [update.log[0] async for update in job if update.type == "status" and update.log]

    return finished(updates())


def test_what_the_page_says_of_an_image_reaches_a_program(client, photo, tmp_path):
    cut = client.submit("a red cube on grass and " + "a blue ball, " * 40 + "a cone", SMALL, steps=1, api_name="/text")
    (said,) = logged(cut)
    assert "tokens" in said and cut.result()[1]["mode"] == "text"
    Image.new("RGB", (128, 128)).save(tmp_path / "black.png")
    followed = client.submit("a red cube", handle_file(tmp_path / "black.png"), steps=1, api_name="/canny")
    assert EMPTY in logged(followed)
    assert EMPTY in logged(client.submit(handle_file(tmp_path / "black.png"), SMALL, api_name="/canny_map"))
    photo.save(tmp_path / "moving.gif", save_all=True, append_images=[photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    (said,) = logged(client.submit(handle_file(tmp_path / "moving.gif"), SMALL, api_name="/canny_map"))
    assert FIRST_OF_SEVERAL in said and "cropped left and right" in said
    assert not logged(client.submit("a red cube", SMALL, steps=1, api_name="/text"))


def test_status_says_where_each_mode_runs(client, studio):
    status = client.predict(api_name="/status")
    assert status == json.loads(json.dumps(studio.status()))
    assert status["modes"]["text"]["backend"] == "mini"


def test_a_map_matches_the_photos_shape_by_default(client, photo_file):
    with Image.open(client.predict(handle_file(photo_file), api_name="/canny_map")) as drawn:
        assert drawn.size == (336, 192) or drawn.size == (304, 208)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"size": "100x128"}, "128 to 512 in steps of 16"),
        ({"size": "wide"}, "WIDTHxHEIGHT"),
        ({"size": "4096x4096"}, "4096"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "4294967296"}, "seed"),
        ({"seed": "1.5"}, "seed"),
        ({"seed": ["1"]}, "seed"),
        ({"steps": "abc"}, "steps"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": 100000}, "steps"),
        ({"guidance": "high"}, "guidance"),
        ({"guidance": 1e9}, "guidance"),
        ({"guidance": [3]}, "guidance"),
    ],
)
def test_a_wrong_value_is_refused_in_words(client, wrong, said):
    values = {"prompt": "a red cube", "size": SMALL, "seed": "1", "steps": 1, "guidance": 3.5} | wrong
    assert said in refused(client, **values, api_name="/text")


@pytest.mark.parametrize(
    "wrong", [{"size": "64"}, {"fit": "squeeze"}, {"fit": ["crop"]}, {"low": "weak"}, {"low": -1}, {"high": None}, {"high": True}]
)
def test_a_wrong_map_option_is_refused_in_words(client, photo_file, wrong):
    refused(client, handle_file(photo_file), **wrong, api_name="/canny_map")


def test_near_beyond_far_is_refused_in_words(client, photo_file):
    assert "near" in refused(client, handle_file(photo_file), SMALL, near=0.9, far=0.1, api_name="/depth_map").lower()
    assert "invert" in refused(client, handle_file(photo_file), SMALL, invert="yes", api_name="/depth_map")


def test_a_map_of_an_illegal_size_is_refused_in_words(client, photo, tmp_path):
    photo.resize((250, 128)).save(tmp_path / "map.png")
    said = refused(client, "a red cube", handle_file(tmp_path / "map.png"), steps=1, api_name="/canny")
    assert "240" in said and said.startswith("The map has 250x128 pixels, and so would the image.")
    assert "Scale or crop the map, for example to 336x192." in said


def test_a_map_that_the_route_cannot_follow_is_refused_before_it_is_decoded(client, tmp_path):
    (tmp_path / "map.png").write_bytes(png_header(4096, 4096))  # damaged, which only a decoder would notice
    said = refused(client, "a red cube", handle_file(tmp_path / "map.png"), steps=1, api_name="/canny")
    assert "4096 pixels cannot be generated here" in said


def broken_files(folder, photo):
    """Files that are no pictures, and pictures that are hard to read."""
    good = folder / "good.png"
    photo.save(good)
    data = good.read_bytes()
    header = data[:16] + (200_000).to_bytes(4, "big") * 2 + data[24:]
    for name, content in {
        "empty.png": b"",
        "cut.png": data[:900],
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        "text.png": b"no picture at all",
        "huge.png": header,
    }.items():
        (folder / name).write_bytes(content)
        yield folder / name


def test_broken_files_are_refused_in_words_and_the_next_call_works(client, photo, photo_file, tmp_path):
    for path in broken_files(tmp_path, photo):
        refused(client, handle_file(path), api_name="/canny_map")
        refused(client, handle_file(path), api_name="/restore")
    client.predict(handle_file(photo_file), SMALL, api_name="/canny_map")


def test_unusual_pictures_are_read(client, photo, tmp_path):
    Image.new("I;16", (300, 200), 30000).save(tmp_path / "deep.png")
    photo.convert("CMYK").save(tmp_path / "print.jpg")
    photo.convert("LA").save(tmp_path / "grey.png")
    for name in ("deep.png", "print.jpg", "grey.png"):
        client.predict(handle_file(tmp_path / name), SMALL, api_name="/canny_map")


def call_raw(address, endpoint, *data):
    """What a hand-written request gets back: the last event of its stream."""
    with httpx.Client(trust_env=False, verify=False, timeout=60) as web:  # reads no certificates, which takes longer than the call
        answer = web.post(f"{address}gradio_api/call/{endpoint}", json={"data": list(data)})
        if answer.status_code != 200:
            return answer.text
        return web.get(f"{address}gradio_api/call/{endpoint}/{answer.json()['event_id']}").text


def test_an_address_of_the_pages_own_is_taken_and_no_other_is_fetched(address, client, photo_file):
    drawn = Client(address, verbose=False, download_files=False).predict(handle_file(photo_file), SMALL, api_name="/canny_map")
    path, recipe = client.predict("a red cube", handle_file(drawn["url"]), steps=1, api_name="/canny")
    with Image.open(client.predict(handle_file(drawn["url"]), SMALL, api_name="/canny_map")) as again:
        assert recipe["control"] and again.size == (128, 128)
    with StandIn() as web:
        for foreign in (f"{web.origin}/x.png", "http://[/x.png"):
            assert "Nothing is fetched from an address" in refused(client, handle_file(foreign), api_name="/canny_map")
        assert not web.requests


@pytest.mark.parametrize("endpoint", ["canny_map", "depth_map", "restore"])
def test_a_raw_request_cannot_name_a_file_that_nobody_uploaded(address, photo, tmp_path, endpoint):
    photo.save(tmp_path / "private.png")
    for path in ("/etc/passwd", str(tmp_path / "private.png"), "../../etc/passwd", "assets/style.css", "", None, 5, "a\0b", "x" * 5000):
        for given in ({"path": path}, {"path": path, "meta": {"_type": "gradio.FileData"}}, path, [path]):
            answer = call_raw(address, endpoint, given)
            assert "event: error" in answer or "event: complete" not in answer, (given, answer[:300])
            assert "root:" not in answer and str(tmp_path) not in answer


def test_what_another_programs_image_shares_is_restored(client, tmp_path):
    chunks = PngInfo()
    chunks.add_text("parameters", FORGE)
    Image.new("RGB", (64, 64)).save(tmp_path / "forge.png", pnginfo=chunks)
    job = client.submit(handle_file(tmp_path / "forge.png"), api_name="/restore")
    (said,) = logged(job)
    assert "Another program wrote these settings" in said and "negative prompt" in said
    assert job.result() | {"prompt": ""} == {
        "mode": "text",
        "prompt": "",
        "seed": 4294967295,
        "steps": 20,
        "guidance": 3.5,
        "width": 896,
        "height": 1152,
    }


@pytest.mark.parametrize(
    ("endpoint", "values", "said"),
    [
        ("text", ["a red cube", SMALL, "1", 1, 3.5, "another"], "The call has 6 values, and this endpoint takes 5."),
        ("status", [1], "The call has 1 values, and this endpoint takes 0."),
    ],
)
def test_more_values_than_an_endpoint_takes_are_refused(address, endpoint, values, said):
    answer = call_raw(address, endpoint, *values)
    assert "event: error" in answer and said in answer


@pytest.mark.parametrize("wrong", [{"low": None}, {"near": None}, {"far": None}, {"invert": None}])
def test_null_for_an_option_of_a_map_is_refused_in_words(client, photo_file, wrong):
    (name,) = wrong
    said = refused(client, handle_file(photo_file), SMALL, **wrong, api_name="/canny_map" if name == "low" else "/depth_map")
    assert said.startswith(f"{name} is None")


def test_results_lie_under_names_that_cannot_be_guessed(address, client, studio):
    before = set(studio.gallery.folder.glob("*.png"))
    path, recipe = client.predict("a red cube", SMALL, steps=1, api_name="/text")
    (kept,) = set(studio.gallery.folder.glob("*.png")) - before
    with httpx.Client(trust_env=False) as web:
        assert web.get(f"{address}gradio_api/file={kept}").status_code in (403, 404)
        assert web.get(f"{address}gradio_api/file=/etc/passwd").status_code in (403, 404)
        assert web.get(f"{address}monitoring/summary").status_code in (403, 404)
    with open(path, "rb") as downloaded:
        assert downloaded.read() == kept.read_bytes()


def test_a_cancelled_job_stops_and_the_next_one_runs(client, slow_steps):
    job = client.submit("a red cube", SMALL, steps=100, api_name="/text")
    while not any(update[1].get("step") for update in job.outputs()):
        assert not job.done()
        time.sleep(0.05)
    job.cancel()
    wait_until(lambda: not client.stream_open)  # gradio_client cancels what is asked for while the stream of the job before closes
    assert client.predict("a red cube", SMALL, steps=1, api_name="/text")[1]["steps"] == 1


def test_a_job_goes_on_while_others_of_its_client_are_cancelled(client, held_steps):
    def under_way():
        return [job for job in jobs if any(update[1].get("step") for update in job.outputs())]

    jobs = [client.submit("a red cube", SMALL, seed, 4, api_name="/text") for seed in ("1", "2", "3")]
    held_steps.release()
    wait_until(under_way)
    kept, *others = sorted(jobs, key=lambda job: job in under_way())
    for job in others:
        job.cancel()
    held_steps.release(100)
    assert kept.result(timeout=60)[1]["mode"] == "text"
    assert not any(update[0] for job in others for update in job.outputs())

"""The service on Ray Serve, started once for all: it has a NIM's contract, the page and the command line use it as one, and faults are survived.

One file, because two files may be run at the same time, each with a service of its own.
"""

import os
import select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from flux_demo.maps.notes import EMPTY
from flux_demo.modes import MODES
from flux_demo.progress import Phase
from flux_demo.request import GenerationRequest, Size
from flux_demo.settings import Settings
from flux_demo.studio import Studio
from tests.serve.running import LONG, NOT_PICTURES, NOT_REQUESTS, QUEUE, SMALL, address, image_in, work_of
from tests.starting import free_port
from tests.waiting import wait_until


def test_it_has_a_nims_addresses(service):
    for path in ("/v1/health/live", "/v1/health/ready", "/docs"):
        assert service.client.get(path).status_code == 200
    document = service.client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["ImageRequest"]
    assert schema["additionalProperties"] is False and schema["required"] == ["prompt"]
    assert schema["properties"]["mode"]["enum"] == ["base", "canny", "depth"]
    assert schema["properties"]["width"]["enum"] == list(range(128, 513, 16))
    assert service.client.get("/v1/infer").status_code == 405
    assert service.client.get("/v1/nothing").status_code == 404


def test_an_answer_is_a_nims(service):
    answer = service.infer(seed=5)
    assert answer.headers["content-type"] == "application/json" and answer.json()["artifacts"][0]["seed"] == 5
    assert image_in(answer).size == (128, 128)
    assert service.infer(seed=5).json() == answer.json()
    drawn = service.infer(seed=0).json()["artifacts"][0]["seed"]
    assert drawn != 0 and service.infer(seed=drawn).status_code == 200


def test_a_request_keeps_its_id_through_the_service(service):
    answer = service.client.post("/v1/infer", json=SMALL, headers={"X-Request-ID": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert service.infer().headers["x-request-id"] != service.infer().headers["x-request-id"]


def test_it_refuses_fields_as_nvidias_contract_says(service):
    answer = service.infer(width=1000, cfg_scale=0.5)
    assert answer.status_code == 422
    assert {(fault["type"], *fault["loc"]) for fault in answer.json()["detail"]} == {
        ("literal_error", "body", "width"),
        ("greater_than_equal", "body", "cfg_scale"),
    }


@pytest.mark.parametrize("content", NOT_REQUESTS, ids=repr)
def test_a_body_that_is_no_request_is_refused(service, content):
    answer = service.client.post("/v1/infer", content=content[:200_000], headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"]


@pytest.mark.parametrize("image", NOT_PICTURES, ids=lambda value: "refused")
def test_it_takes_no_paths_and_no_addresses(service, image):
    answer = service.infer(mode="canny", image=image)
    assert answer.status_code == 422 and answer.json()["detail"].count(". ") >= 1
    assert "root:" not in answer.text


def test_a_request_that_is_too_large_is_cut_off(service):
    answer = service.client.post("/v1/infer", content=b" " * (49 * 2**20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"mode": "canny"}, "needs an image"),
        ({"image": address(Image.new("RGB", (128, 128)))}, "follows no image"),
        ({"disable_safety_checker": True}, "cannot be turned off"),
        ({"prompt": "  "}, "empty"),
    ],
    ids=["no image", "image in base", "filter off", "blank"],
)
def test_what_the_schema_cannot_say_is_said_in_words(service, values, word):
    answer = service.infer(**values)
    assert answer.status_code == 422
    assert word in answer.text


def test_a_photo_without_edges_gives_an_image_all_the_same(service):
    answer = service.infer(mode="canny", image=address(Image.new("RGB", (128, 128), "white")), preprocess_image=True)
    assert image_in(answer).size == (128, 128)


def test_it_draws_the_map_itself_where_it_is_asked_to(service, photo):
    own = service.infer(mode="canny", image=address(photo), width=256, height=128)
    assert image_in(own).size == (256, 128)


def test_it_says_what_became_of_the_image(service, photo):
    cropped = unquote(service.infer(mode="canny", image=address(photo), width=128, height=128).headers["x-flux-demo-notes"])
    assert "To fit 128x128: 38% cropped left and right." in cropped
    flat = service.infer(mode="canny", image=address(Image.new("RGB", (128, 128), "teal")), width=128, height=128, preprocess_image=False)
    assert EMPTY in unquote(flat.headers["x-flux-demo-notes"])


@pytest.mark.parametrize("mode", MODES)
def test_the_page_and_the_command_line_use_it_as_a_nim(service, settings, photo, mode, tmp_path):
    there = Studio.from_settings(Settings(backend="nim", nim_url=service.url, outputs=str(tmp_path / "there")))
    here = Studio.from_settings(Settings(backend="mini", outputs=str(tmp_path / "here")))
    dials, own = there.route(mode).dials, here.route(mode).dials
    assert (dials.size_limits, dials.step_range, dials.guidance_range) == (
        own.size_limits,
        own.step_range,
        tuple(map(float, own.guidance_range)),
    )
    assert (dials.guidance, dials.steps) == (own.guidance, own.steps)
    assert "the mini" in there.route(mode).backend.title
    size = Size(128, 144)
    control = here.preview(mode, photo, size) if MODES[mode].control else None
    request = GenerationRequest(mode, "a red cube on grass, " * 20, seed=3, steps=2, size=size, control=control)
    made, expected = there.generate(request), here.generate(request)
    assert (made.recipe.seed, made.recipe.model, made.recipe.backend, made.recipe.safety) == (3, "mini", "nim", None)
    assert (made.recipe.preset, made.recipe.plan, made.notes) == (expected.recipe.preset, expected.recipe.plan, expected.notes)
    assert "tokens were ignored" in " ".join(made.notes)
    difference = np.abs(np.asarray(made.image, np.int16) - np.asarray(expected.image, np.int16))
    assert difference.mean() < 1  # not equal bit by bit: a replica has one thread
    there.close()


def test_what_the_service_would_not_work_on_yet_waits_in_ones_own_queue(service, tmp_path):
    """A connection that only waits would be given up before long images are finished."""
    studio = Studio.from_settings(Settings(backend="nim", nim_url=service.url, outputs=str(tmp_path)))
    queued, together = [], threading.Barrier(3)

    def ask(seed):
        together.wait()
        request = GenerationRequest("text", "a red cube", seed=seed, steps=20, size=Size(256, 256))
        studio.generate(request, on_status=lambda status: queued.append(seed) if status.phase is Phase.QUEUED else None)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, (1, 2, 3)))
    assert len(set(queued)) == 1
    studio.close()


def test_two_people_at_once_on_a_page_before_it(service, tmp_path, monkeypatch):
    from gradio_client import Client

    from flux_demo.ui import build, launch_options

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    studio = Studio.from_settings(Settings(backend="nim", nim_url=service.url, outputs=str(tmp_path)))
    page = build(studio)
    try:
        _, url, _ = page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True, **launch_options())
        clients = [Client(url, verbose=False, download_files=str(tmp_path / f"{number}")) for number in range(2)]
        jobs = [client.submit(f"a {word} cube", "128x128", "3", 4, api_name="/text") for client, word in zip(clients, ("red", "blue"))]
        for job, word in zip(jobs, ("red", "blue")):
            path, recipe = job.result(timeout=120)
            own = service.infer(prompt=f"a {word} cube", seed=3, steps=4)
            assert recipe["prompt"] == f"a {word} cube"
            assert Image.open(path).tobytes() == image_in(own).tobytes()
    finally:
        page.close(verbose=False)


def test_metrics_are_rays_own_and_prometheus_reads_them(service):
    from prometheus_client.parser import text_string_to_metric_families

    def counted():
        names = {family.name for family in text_string_to_metric_families(service.client.get("/v1/metrics").text)}
        return any("serve" in name and "request" in name for name in names)

    service.infer()
    wait_until(counted)  # Ray reports every few seconds


def test_a_full_queue_answers_429_with_when_to_come_back_and_loses_nothing(service):
    answers = service.together(2 + QUEUE + 3, **LONG | {"steps": 10})
    kinds = sorted(answer.status_code for answer in answers)
    assert set(kinds) == {200, 429} and kinds.count(200) >= 2 + QUEUE
    for answer in answers:
        if answer.status_code == 429:
            assert 1 <= int(answer.headers["retry-after"]) < 600 and "Try again in" in answer.json()["detail"]
        else:
            assert image_in(answer).size == (256, 256)


def test_a_client_that_goes_away_frees_its_replica(service):
    replicas, large = service.replicas(), LONG | {"width": 512, "height": 512}
    idle = sum(map(work_of, replicas))
    assert service.infer(**large | {"steps": 5}).status_code == 200
    one = (sum(map(work_of, replicas)) - idle) / 5  # a step
    before = [work_of(each) for each in replicas]

    def at_work(steps):
        return all(work_of(each) > work + steps * one for each, work in zip(replicas, before))

    leaving = [service.ask(**large) for _ in replicas]
    try:
        wait_until(lambda: at_work(1))
        leaving.append(service.ask(**large))  # one that waits
        wait_until(lambda: at_work(3))
        answered = select.select([each.sock for each in leaving], [], [], 0)[0]
        assert not answered, [each.getresponse().status for each in leaving if each.sock in answered]
    finally:
        for each in leaving:
            each.close()
    left = sum(map(work_of, replicas))
    assert service.infer().status_code == 200
    assert sum(map(work_of, replicas)) - left < 30 * one, "it waited for images that nobody wants"


def test_a_model_that_cannot_load_is_never_ready_and_says_why(service, tmp_path):
    """FLUX's files are not on this machine; Ray is told of a GPU, so that a replica is started all the same, in an application of its own."""
    gpus, why = service.start_unready()
    assert "Ray finds 1 here for 2. Ask for no more with --replicas" in gpus
    problem = service.client.get("/unready/v1/health/ready")
    assert problem.status_code == 503 and problem.json()["status"] == "not ready"
    assert "NVIDIA GPU" in problem.json()["reason"] or "fetch" in problem.json()["reason"]
    assert f"Cannot run base, canny, depth: {problem.json()['reason']} Then start the service again" in why
    page = Studio.from_settings(Settings(backend="nim", nim_url=f"{service.url}/unready", outputs=str(tmp_path)))
    assert page.status()["modes"]["text"]["reason"] == f"Your service says: {problem.json()['reason']}"
    page.close()
    answer = service.client.post("/unready/v1/infer", json=SMALL)
    assert answer.status_code == 503 and answer.json()["detail"] == problem.json()["reason"]
    assert service.client.get("/unready/v1/health/live").status_code == 200
    assert service.client.get("/v1/health/ready").status_code == 200, "the other application on that Ray"


def test_a_replica_that_is_killed_under_load_loses_no_request_and_it_is_said(service):
    replica = service.replicas()[0]
    idle = work_of(replica)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(service.infer, **LONG | {"seed": seed, "steps": 30}) for seed in (1, 2)]
        wait_until(lambda: work_of(replica) > idle + 0.2)
        replica.kill()
        answers = [job.result() for job in jobs]
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text[:200] for answer in answers]
    assert [answer.headers.get("x-flux-demo-retried") for answer in answers].count("once") == 1
    assert [image_in(answer).size for answer in answers] == [(256, 256)] * 2
    wait_until(lambda: len(service.replicas()) == 2, 120)  # the one that died is replaced


def test_a_redeploy_under_load_loses_no_request(service):
    before = {replica.pid for replica in service.replicas()}
    done, answers = threading.Event(), []

    def ask():
        while not done.wait(0.2):  # the replicas that start need the processors too
            answers.append(service.infer(steps=8))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(ask) for _ in range(2)]
        try:
            os.kill(service.pid, signal.SIGHUP)
            wait_until(lambda: not before & {replica.pid for replica in service.replicas()}, 200)  # the old replicas
        finally:
            done.set()
        for job in jobs:
            job.result()
    assert {answer.status_code for answer in answers} == {200}, [answer.text[:200] for answer in answers if answer.status_code != 200]


def test_a_deployment_that_fails_is_said_and_neither_it_nor_one_under_way_keeps_the_service_from_ending(service):
    """The last one: the service ends by itself, after it has finished what it had taken."""
    said, replicas = service.process.said, service.replicas()
    (service.folder / "flux_demo" / "serve_generator.py").write_text("raise ImportError")
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: any("Ray could not deploy" in line for line in said), 400)
    assert not any("Traceback" in line for line in said), said
    assert service.client.get("/v1/health/live").status_code == 200
    before = [work_of(each) for each in replicas]
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(service.infer, **LONG | {"steps": 40})
        wait_until(lambda: any(work_of(each) > work + 0.2 for each, work in zip(replicas, before)))
        os.kill(service.pid, signal.SIGHUP)  # the signal to end comes while this one is under way
        os.kill(service.pid, signal.SIGTERM)
        refused = next(answer for answer in iter(service.infer, None) if answer.status_code != 200)
        assert refused.status_code == 503 and "is being stopped" in refused.json()["detail"]
        assert image_in(taken.result()).size == (256, 256)
    assert service.process.wait(300) == 0
    service.process.reader.join(60)
    assert said[-1].startswith("Finishing the images")  # and nothing of Ray's about its own end

"""Many runs of one client: everybody else reads, draws maps and gets the next turn."""

from concurrent.futures import ThreadPoolExecutor

import httpx
from gradio_client import Client, handle_file

from flux_demo.recipe import read_recipe
from tests.ui.conftest import SMALL
from tests.waiting import wait_until


def post(address, *data):
    """A run that is posted by hand; the id of its answers."""
    return httpx.post(f"{address}gradio_api/call/text", json={"data": list(data)}, trust_env=False, verify=False, timeout=30)


def answers(address, event):
    return httpx.get(f"{address}gradio_api/call/text/{event}", trust_env=False, verify=False, timeout=120).text


def test_one_client_with_48_runs_holds_nobody_up(address, client, photo_file, studio, held_steps):
    queue = studio._queues["mini"]
    with ThreadPoolExecutor(3) as listeners:
        heard, events = [], []
        for number in range(48):
            answer = post(address, "a red cube", SMALL, str(number), 2, None)
            assert answer.status_code == 200
            events.append(answer.json()["event_id"])
            if number < 3:  # all that one client may have; nobody listens to the others, and none of these ends meanwhile
                heard.append(listeners.submit(answers, address, events[-1]))
                wait_until(lambda: len(queue._runs) == len(heard))  # each has a thread of its own, so a later one could overtake it
        for event in reversed(events[3:]):
            assert "images under way or waiting" in answers(address, event)
        assert not any(each.done() for each in heard)
        assert client.predict(api_name="/status")["modes"]["text"]["backend"] == "mini"
        client.predict(handle_file(photo_file), SMALL, api_name="/canny_map")
        sphere = client.submit("a blue sphere", SMALL, "7", 1, api_name="/text")
        wait_until(lambda: len(queue._runs) > 3)
        held_steps.release(3 * 2 + 1)
        sphere.result(timeout=120)
        for each in heard:
            assert "event: complete" in each.result()
    wait_until(lambda: not queue._runs)  # nothing is left of those that nobody listened to
    newest = sorted(studio.gallery.folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)[-4:]
    assert [read_recipe(path).prompt for path in newest].index("a blue sphere") < 3  # it had its turn before the last of them


def test_a_second_client_is_another_visitor(address, tmp_path):
    clients = [Client(address, verbose=False, download_files=str(tmp_path / str(number))) for number in range(2)]
    jobs = [clients[0].submit("a red cube", SMALL, str(seed), 2, api_name="/text") for seed in range(3)]
    jobs.append(clients[1].submit("a red cube", SMALL, "9", 2, api_name="/text"))
    recipes = [job.result(timeout=120)[1] for job in jobs]
    assert [recipe["seed"] for recipe in recipes] == [0, 1, 2, 9]
    for each in clients:
        each.close()

"""Many runs of one client: everybody else reads, draws maps and gets the next turn."""

import threading
import time

import httpx
from gradio_client import Client, handle_file

from tests.ui.conftest import SMALL


def post(address, *data):
    """A run that is posted by hand; the id of its answers."""
    return httpx.post(f"{address}gradio_api/call/text", json={"data": list(data)}, trust_env=False, verify=False, timeout=30)


def answers(address, event):
    return httpx.get(f"{address}gradio_api/call/text/{event}", trust_env=False, verify=False, timeout=120).text


def test_one_client_with_48_runs_holds_nobody_up(address, client, photo_file, studio):
    posted = [post(address, "a red cube", "256x256", str(number), 40, None) for number in range(48)]
    assert {answer.status_code for answer in posted} == {200}
    events = [answer.json()["event_id"] for answer in posted]
    said = [answers(address, event) for event in reversed(events[3:])]  # those beyond the limit are answered at once
    refused = [text for text in said if "of yours are under way or waiting" in text]
    unheard = [text for text in said if "Nobody listened" in text]  # on a slow machine the first ones end while the others are posted
    others = [text[-300:] for text in said if text not in refused and text not in unheard]
    assert len(refused) + len(unheard) == 45 and len(refused) >= 36, others
    assert client.predict(api_name="/status")["modes"]["text"]["backend"] == "mini"
    client.predict(handle_file(photo_file), SMALL, api_name="/canny_map")
    client.predict("a blue sphere", SMALL, "7", 1, api_name="/text")
    listening = threading.Thread(target=answers, args=(address, events[0]), daemon=True)
    listening.start()
    deadline = time.monotonic() + 90
    while (queue := studio._queues["mini"])._runs and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not queue._runs  # also those that nobody listens to


def test_a_second_client_is_another_visitor(address, tmp_path):
    clients = [Client(address, verbose=False, download_files=str(tmp_path / str(number))) for number in range(2)]
    jobs = [clients[0].submit("a red cube", SMALL, str(seed), 2, api_name="/text") for seed in range(3)]
    jobs.append(clients[1].submit("a red cube", SMALL, "9", 2, api_name="/text"))
    recipes = [job.result(timeout=120)[1] for job in jobs]
    assert [recipe["seed"] for recipe in recipes] == [0, 1, 2, 9]
    for each in clients:
        each.close()

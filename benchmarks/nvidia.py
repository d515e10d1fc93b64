"""Our own time per request to NVIDIA's services: everything but the wait, against a bare httpx post of the same body.

    python -m benchmarks.nvidia

The service is a process on loopback that answers at once, so what remains is ours: building the body with its map, the connection, reading
and checking the image. Our request and the bare post take turns; the numbers are medians. Writes benchmarks/results/nvidia.json.
"""

import json
import multiprocessing
import os
import statistics
import time
from importlib.metadata import version

import httpx
from PIL import Image, ImageChops, ImageFilter

from benchmarks.record import record
from flux_demo.backends.nvidia import Hosted, Nim
from flux_demo.backends.nvidia.payload import hosted_body, nim_body
from flux_demo.modes import MODES
from flux_demo.request import ControlMap, GenerationRequest
from flux_demo.settings import Settings
from stand_ins.nvidia import GOOD_KEY, HOSTED_PATH, StandIn, answer
from stand_ins.nvidia_images import encoded, scene
from stand_ins.nvidia_schema import MODES as NIM_MODES
from stand_ins.nvidia_schema import NIM_ONLY, SHARED, openapi
from stand_ins.nvidia_wire import Reply

ROUNDS = 60
WARM_UP = 5
GOALS_MS = {"text": 30, "canny": 120, "depth": 120}


def main() -> None:
    load = os.getloadavg()[0]  # other programs'
    here, there = multiprocessing.Pipe()
    service = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    service.start()
    origin = here.recv()
    settings = Settings(backend="hosted", nvidia_api_key=GOOD_KEY, hosted_url=origin + HOSTED_PATH, nim_url=origin)
    hosted, nim = Hosted(settings), Nim(settings)
    rows = [_measured("hosted", hosted, _request("text"), origin + HOSTED_PATH, hosted_body)]
    for mode in ("canny", "depth"):
        rows.append(_measured("nim", nim, _request(mode), f"{origin}/v1/infer", lambda request: nim_body(request, (*SHARED, *NIM_ONLY))))
    here.send("done")
    record(
        "nvidia",
        {
            "what": "median ms per request, the service answering at once; own = ours - bare; work = processor time of ours, which a busy machine changes less",
            "rounds": ROUNDS,
            "load_at_start": round(load, 1),
            "httpx": version("httpx"),
            "rows": rows,
        },
    )


def _measured(name, backend, request, url, body_of):
    whole = backend.dials(MODES[request.mode]).complete(request)
    body = body_of(whole)
    headers = {"Authorization": f"Bearer {GOOD_KEY}", "Content-Type": "application/json", "Accept-Encoding": "identity"}
    ours, bare, work = [], [], []
    with httpx.Client(trust_env=False) as client:
        for _ in range(WARM_UP + ROUNDS):
            started = time.perf_counter()
            client.post(url, content=body, headers=headers).raise_for_status()
            between, worked = time.perf_counter(), time.process_time()
            backend.generate(whole, lambda *step: None, lambda status: None)
            work.append(time.process_time() - worked)
            ours.append(time.perf_counter() - between)
            bare.append(between - started)
    ours_ms, bare_ms, work_ms = (statistics.median(times[WARM_UP:]) * 1000 for times in (ours, bare, work))
    numbers = {"ours_ms": ours_ms, "bare_ms": bare_ms, "own_ms": ours_ms - bare_ms, "ratio": ours_ms / bare_ms, "work_ms": work_ms}
    return {
        "backend": name,
        "mode": request.mode,
        "body_bytes": len(body),
        **{key: round(value, 2) for key, value in numbers.items()},
        "goal_ms": GOALS_MS[request.mode],
    }


def _request(mode: str) -> GenerationRequest:
    """1024x1024: as many edges as in a busy photo; and a depth map like an estimator's, made at 518 pixels and scaled up."""
    grain = Image.effect_noise((1024, 1024), 60)
    if mode == "text":
        return GenerationRequest("text", "a small wooden house by a lake at dawn")
    if mode == "canny":
        control_image = grain.filter(ImageFilter.GaussianBlur(6)).filter(ImageFilter.FIND_EDGES).point(lambda grey: 255 if grey > 3 else 0)
    else:
        seen = ImageChops.add(
            Image.radial_gradient("L").resize((518, 518)), grain.resize((518, 518)).filter(ImageFilter.GaussianBlur(3)), 2
        )
        control_image = seen.resize((1024, 1024), Image.Resampling.BICUBIC)
    return GenerationRequest(mode, "a small wooden house by a lake at dawn", control=ControlMap(mode, control_image.convert("RGB")))


def _serve(pipe) -> None:
    """The service: one prepared answer, as large as a real one."""
    image = Image.blend(scene(1024, 1024, 1), Image.effect_noise((1024, 1024), 40).convert("RGB"), 0.2)
    reply = Reply(body=json.dumps(answer(encoded(image), 1)).encode(), content_type="application/json")
    schema = Reply(body=openapi((*SHARED, *NIM_ONLY), NIM_MODES))
    with StandIn() as service:
        service.answer = lambda request: schema if request.path == "/openapi.json" else reply
        pipe.send(service.origin)
        pipe.recv()


if __name__ == "__main__":
    main()

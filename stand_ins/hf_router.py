"""Hugging Face's Hub and router on loopback, as much of them as Inference Providers need: which provider serves a model, and two
providers' forms, fal-ai's (an address of the picture) and Together's (the picture itself).

Words in a prompt call for what happens now and then: __401__ to __504__, __gated__, __gzip__, __html__, __empty__; with Together also
__black__, __small__, __broken__.
"""

import base64
import re
from typing import Any

from PIL import Image

from stand_ins.nvidia_images import encoded, scene
from stand_ins.nvidia_wire import Recorded, Reply, Wire

MODEL = "black-forest-labs/FLUX.1-dev"
TOKEN = "hf_test"
FAL = {"prompt": str, "image_size": dict, "num_inference_steps": int, "guidance_scale": (int, float), "seed": int}
TOGETHER = {
    "prompt": str,
    "model": str,
    "response_format": str,
    "width": int,
    "height": int,
    "steps": int,
    "guidance_scale": (int, float),
    "seed": int,
}


class Router(Wire):
    """Both hosts on one port: ``origin`` is the Hub, ``template`` the router's address for each provider."""

    def __init__(self, providers: tuple[str, ...] = ("replicate", "nscale", "fal-ai", "together")):
        super().__init__()
        self.providers = providers  # that serve the model, in the account's order
        self.template = self.origin + "/{provider}"

    def answer(self, request: Recorded) -> Reply:
        path = request.path.partition("?")[0]
        if path == f"/api/models/{MODEL}":
            return Reply(body=self._model())
        if path.startswith("/pictures/"):
            if "authorization" in request.headers:
                return Reply(400, "the token was sent to the picture's host")
            width, height, seed = map(int, path.removeprefix("/pictures/").split("-"))
            return Reply(body=encoded(scene(width, height, seed)), content_type="image/jpeg")
        forms = {"/fal-ai/fal-ai/flux/dev": self._fal, "/together/v1/images/generations": self._together}
        if request.method != "POST" or path not in forms:
            return Reply(404, {"error": "Not Found"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"error": "Invalid username or password."})
        asked = request.json
        prompt = asked.get("prompt", "")
        if status := re.search(r"__(\d{3})__", prompt):
            return Reply(int(status[1]), {"error": f"a sentence of the service about {TOKEN}"})
        if "__gated__" in prompt:
            return Reply(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if "__gzip__" in prompt:
            return Reply(body=b"this was never compressed" * 9, headers={"Content-Encoding": "gzip"})
        if "__html__" in prompt:
            return Reply(body="<html>proxy page</html>")
        return forms[path](asked)

    def _model(self) -> dict[str, Any]:
        ids = {"fal-ai": "fal-ai/flux/dev", "together": MODEL, "replicate": "black-forest-labs/flux-dev", "nscale": MODEL}
        rows = [{"provider": name, "providerId": ids[name], "status": "live", "task": "text-to-image"} for name in self.providers]
        return {"_id": "1", "id": MODEL, "inferenceProviderMapping": rows}

    def _fal(self, asked: dict[str, Any]) -> Reply:
        if fault := _fault(asked, FAL) or _fault(asked["image_size"], {"width": int, "height": int}):
            return fault
        size = (asked["image_size"]["width"], asked["image_size"]["height"])
        if "__empty__" in asked["prompt"]:
            return Reply(body={"images": []})
        url = f"{self.origin}/pictures/{size[0]}-{size[1]}-{asked['seed']}"
        return Reply(
            body={"images": [{"url": url, "width": size[0], "height": size[1]}], "seed": asked["seed"], "has_nsfw_concepts": [False]}
        )

    def _together(self, asked: dict[str, Any]) -> Reply:
        if fault := _fault(asked, TOGETHER):
            return fault
        if "__empty__" in asked["prompt"]:
            return Reply(body={"data": []})
        size = (asked["width"], asked["height"])
        content = _odd(asked["prompt"], *size)
        if content is None:
            content = encoded(scene(*size, asked["seed"]), "PNG")
        return Reply(
            body={"id": "1", "model": MODEL, "object": "list", "data": [{"index": 0, "b64_json": base64.b64encode(content).decode()}]}
        )


def _odd(prompt: str, width: int, height: int) -> bytes | None:
    """The picture that a word in the prompt calls for; None for an ordinary one."""
    if "__black__" in prompt:
        return encoded(Image.new("RGB", (width, height)), "PNG")
    if "__small__" in prompt:
        return encoded(Image.new("RGB", (width // 2, height), "teal"), "PNG")
    if "__broken__" in prompt:
        return encoded(scene(width, height, 1), "PNG")[:200]
    return None


def _fault(asked: dict[str, Any], fields: dict[str, Any]) -> Reply | None:
    """422 for a field that is missing, unknown, or of another type."""
    odd = [name for name in fields.keys() | asked.keys() if name not in fields or not isinstance(asked.get(name), fields[name])]
    return Reply(422, {"detail": [{"loc": ["body", name], "msg": "not as documented"} for name in sorted(odd)]}) if odd else None

"""Turns the body of a successful answer into an image, checked to be one and to have the size that was asked for, and says what else it tells.

The order matters: whether the service withheld the image is checked before anything is decoded, because it then sends a black image,
or none, with status 200.
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_demo.backends import another_size
from flux_demo.backends.nvidia.errors import Service
from flux_demo.backends.nvidia.schema import SIZE_LIMITS, Limits
from flux_demo.errors import ContentRefused, GenerationFailed, shortened
from flux_demo.maps.colours import to_rgb
from flux_demo.reading import as_int, parse_base64
from flux_demo.request import BackendOutput, GenerationRequest, Size, SizeLimits
from flux_demo.seeds import MAX_SEED
from flux_demo.texts import Text

if TYPE_CHECKING:
    from PIL.Image import Image

MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}  # the hosted API sends JPEG under any name, a NIM either of the two
MAX_UNPACKED = 64 * 2**20  # bytes of all files in an archive
MAX_MEMBERS = 20


class ImageAnswer(NamedTuple):
    """What an answer holds. An image that is finished is never lost for what is said beside it, so nothing else is checked here."""

    image: Image  # the first one, RGB and exactly of the size that was asked for
    seed: Any  # that the service says it used, whatever it may be; None for none
    images: int = 1  # how many it sent


def read_image(body: bytes, size: Size, service: Service, limits: SizeLimits = SIZE_LIMITS) -> ImageAnswer:
    """The image that was asked for. Raises ContentRefused or GenerationFailed.

    ``limits`` are the sizes that the service takes: another of them is advised where it did not generate this one.
    """
    if body.startswith(b"PK\x03\x04"):
        return _from_archive(body, size, service, limits)
    if _kind(body):
        return ImageAnswer(_open(body, size, service, limits), None)
    artifact, *others = _artifacts(body, service)
    reason = artifact.get("finishReason", artifact.get("finish_reason"))
    if reason == "CONTENT_FILTERED":
        raise ContentRefused(
            f"{service.name} withheld the image: its filter objects to words in the prompt, sometimes to harmless ones. "
            "Word the prompt differently; another seed does not help."
        )
    if reason != "SUCCESS":
        raise GenerationFailed(f"{service.name} did not say that the image is finished. {service.later}")
    image = _open(_decoded(artifact.get("base64"), service), size, service, limits)
    return ImageAnswer(image, artifact.get("seed"), 1 + len(others))


def output_of(request: GenerationRequest, body: bytes, service: Service, limits: Limits, model: str, safety: str | None) -> BackendOutput:
    """What a backend gives for a successful answer: the image, with a note for whatever the service did otherwise than it was asked."""
    assert request.size is not None
    image, seed, images = read_image(body, request.size, service, limits.sizes)
    notes = (Text("{service} sent {count} images; this is the first one.", service=service.name, count=images),) if images > 1 else ()
    if str(as_int(seed)) == str(request.seed):  # sent as text, or as a float
        seed = request.seed
    said_seed = {"service": service.name, "seed": shortened(seed), "asked": request.seed}
    if type(seed) is int and 0 <= seed <= MAX_SEED:
        if seed != request.seed:
            notes = (Text("{service} says that it used seed {seed} instead of {asked}.", **said_seed), *notes)
        return BackendOutput(image, model, safety=safety, seed=seed, notes=notes)
    why = "{service} names {seed} as the seed, which is not a valid one. The recipe has the seed that was asked for, {asked}."
    if seed is None:
        why = "{service} does not say which seed it used. The recipe has the seed that was asked for, {asked}."
    return BackendOutput(image, model, safety=safety, notes=(Text(why, **said_seed), *notes))


def _from_archive(body: bytes, size: Size, service: Service, limits: SizeLimits) -> ImageAnswer:
    """Results above 5 MiB come as a zip of the answer itself, the image, or both. The answer is read first, for its finishReason."""
    import zipfile

    contents: list[bytes] = []
    left = MAX_UNPACKED
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            for member in archive.infolist()[:MAX_MEMBERS]:
                with archive.open(member) as file:
                    contents.append(file.read(left))  # no more than that, whatever sizes the archive declares
                left -= len(contents[-1])
    except Exception as error:  # zipfile lets through errors of zlib and struct beside its own
        raise GenerationFailed(f"{service.name} sent a broken archive instead of an image. {service.later}") from error
    for content in sorted(contents, key=lambda content: not content.lstrip().startswith(b"{")):
        if content.lstrip().startswith(b"{") or _kind(content):
            answered = read_image(content, size, service, limits)
            return answered._replace(images=max(answered.images, sum(_kind(each) is not None for each in contents)))
    raise GenerationFailed(f"{service.name} sent an archive without an image. {service.later}")


def _artifacts(body: bytes, service: Service) -> list[Any]:
    """The answer's artifacts, the first of them an object."""
    if not body.strip():
        raise GenerationFailed(f"{service.name} sent an empty answer. {service.later}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise GenerationFailed(f"{service.name} sent an incomplete answer, or a proxy answered in its place. {service.later}") from error
    artifacts = document.get("artifacts") if isinstance(document, dict) else None
    if not isinstance(artifacts, list) or not artifacts or not isinstance(artifacts[0], dict):
        raise GenerationFailed(f"{service.name} answered without an image. {service.later}")
    return artifacts


def _decoded(text: Any, service: Service) -> bytes:
    if not isinstance(text, str) or not text:
        raise GenerationFailed(f"{service.name} answered without an image. {service.later}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return parse_base64(text)
    except ValueError as error:
        raise GenerationFailed(f"{service.name} sent an image that arrived broken. {service.later}") from error


def _kind(content: bytes) -> str | None:
    return next((kind for magic, kind in MAGIC.items() if content.startswith(magic)), None)


def _open(content: bytes, size: Size, service: Service, limits: SizeLimits) -> Image:
    from PIL import Image as PIL_Image

    kind = _kind(content)
    if kind is None:
        raise GenerationFailed(f"{service.name} sent something other than a JPEG or PNG image. {service.later}")
    try:
        with PIL_Image.open(BytesIO(content), formats=[kind]) as opened:
            sides = opened.size
            # decodes only what has the right size
            image = to_rgb(opened, opened.info.get("icc_profile")) if sides == (size.width, size.height) else None
    except Exception as error:  # Pillow raises errors of many kinds for broken files
        raise GenerationFailed(f"{service.name} sent an image that arrived broken. {service.later}") from error
    if image is None:
        advice = another_size(limits, size)
        raise GenerationFailed(
            f"{service.name} sent {sides[0]}x{sides[1]} pixels instead of {size}. {f'{advice}.' if advice else service.later}"
        )
    return image

"""Several images of one request."""

from dataclasses import replace
from typing import Any

from flux_demo.errors import InvalidRequest, shortened
from flux_demo.request import MAX_SEED, GenerationRequest, random_seed


def consecutive(request: GenerationRequest, count: Any, most: int) -> list[GenerationRequest]:
    """The request once for each image, with consecutive seeds from its own or a random one. Raises InvalidRequest.

    ``count`` is 1 to ``most``, and no seed may pass the last one.
    """
    if type(count) is not int or not 1 <= count <= most:
        raise InvalidRequest(f"{shortened(count)} is not a valid number of images. Choose 1 to {most}.")
    if count == 1:
        return [request]
    seed = request.seed
    if seed is None:
        seed = min(random_seed(), MAX_SEED - count + 1)
    if seed + count - 1 > MAX_SEED:
        raise InvalidRequest(f"{count} images from seed {seed} would pass the last seed, {MAX_SEED}. Give a smaller seed.")
    return [replace(request, seed=seed + number) for number in range(count)]

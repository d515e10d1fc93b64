"""Seeds: read, checked, drawn at random, and several in a row."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flux_demo.errors import InvalidRequest, shortened

if TYPE_CHECKING:
    from flux_demo.request import GenerationRequest

MAX_SEED = 2**32 - 1


def check_seed(seed: Any) -> None:
    """Raise InvalidRequest unless seed is a whole number from 0 to 4294967295."""
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        why = "{seed} is not a valid seed. Give a whole number from 0 to {last}, or leave it out for a random one."
        raise InvalidRequest(why, seed=shortened(seed), last=MAX_SEED)


def parse_seed(text: str | None) -> int | None:
    """Read a decimal seed; empty is None, a random one. A string, because JavaScript rounds large numbers. Raises InvalidRequest."""
    text = "" if text is None else str(text).strip()
    if not text:
        return None
    if not re.fullmatch(r"\+?[0-9]{1,10}", text):
        check_seed(text)
    seed = int(text)
    check_seed(seed)
    return seed


def random_seed() -> int:
    """A seed from 1 up: 0 is a seed like any other here, but means "random" to NVIDIA's services."""
    return random.SystemRandom().randint(1, MAX_SEED)


def with_consecutive_seeds(request: GenerationRequest, count: Any, most: int) -> list[GenerationRequest]:
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
        raise InvalidRequest(
            "{count} images from seed {seed} would pass the last seed, {last}. Give a smaller seed.", count=count, seed=seed, last=MAX_SEED
        )
    return [replace(request, seed=seed + number) for number in range(count)]

"""What a prompt may be. Standard library only."""

from __future__ import annotations

import unicodedata
from typing import Any

from flux_demo.errors import InvalidRequest, shortened

MAX_PROMPT = 10_000  # characters; NVIDIA's API takes no more, and FLUX reads 512 tokens of it
UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Zs"}  # Unicode's categories of controls, of format characters such as soft hyphens, and of spaces
# Fillers, blanks and joiners that Unicode counts as letters, symbols or marks; and variation selectors.
BLANKS = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in it."""
    return all(letter in BLANKS or unicodedata.category(letter) in UNSEEN for letter in text)


def check_prompt(prompt: Any) -> None:
    """Raise InvalidRequest unless this is 1 to 10,000 characters of text, one of them visible."""
    if not isinstance(prompt, str):
        raise InvalidRequest("The prompt is {value}, which is not text. Describe the image in a few words.", value=shortened(prompt))
    if is_blank(prompt) and "\0" not in prompt:
        raise InvalidRequest("The prompt is empty. Describe the image in a few words.")
    if len(prompt) > MAX_PROMPT:
        why = "The prompt has {count} characters, and the limit is {limit}. Shorten it."
        raise InvalidRequest(why, count=f"{len(prompt):,}", limit=f"{MAX_PROMPT:,}")
    if not _is_text(prompt):
        raise InvalidRequest("The prompt contains characters that are not text (half of a surrogate pair, or a null). Type it again.")


def _is_text(prompt: str) -> bool:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in prompt

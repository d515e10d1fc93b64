"""How many T5 tokens a prompt has, against what the route's model reads. Needs the tokenizer's file, and neither torch nor transformers."""

from functools import lru_cache
from pathlib import Path

from flux_demo.backends import Route
from flux_demo.model_files import FLUX_TOKENS, MINI, MINI_TOKENS, SHARED
from flux_demo.modes import MODES, Mode
from flux_demo.prompts import is_blank
from flux_demo.studio import Studio
from flux_demo.ui.tab_state import find_route
from flux_demo.ui.translation import IGNORED, ONE_IGNORED, TOKENS, translate

CUT_SHOWN = 60  # characters of the part that is not read


def measure(studio: Studio, mode: Mode, prompt: str) -> str:
    """The sentence about the prompt's length; empty where nothing runs the mode, or no tokenizer is here."""
    route = find_route(studio, mode)
    if not isinstance(route, Route) or is_blank(prompt):
        return ""
    mini = route.runs_mini(mode)
    file, reads = (MINI if mini else _flux_folder(studio)), MINI_TOKENS if mini else FLUX_TOKENS
    counted = count(str(file / "tokenizer_2" / "tokenizer.json"), prompt) if file else None
    if counted is None:
        return ""
    ends, tokens = counted
    if tokens <= reads:
        return translate(TOKENS, tokens=tokens, reads=reads)
    cut = prompt[ends[reads - 2] :].strip()  # the last place is the end token's
    shown = cut if len(cut) <= CUT_SHOWN else cut[: CUT_SHOWN - 1] + "…"
    if tokens - reads == 1:
        return translate(ONE_IGNORED, reads=reads, cut=shown)
    return translate(IGNORED, reads=reads, ignored=tokens - reads, cut=shown)


@lru_cache(maxsize=64)
def count(file: str, prompt: str) -> tuple[list[int], int] | None:
    """Where each token ends in the prompt, and how many there are with the end token; None without the file."""
    tokenizer = _tokenizer(file)
    if tokenizer is None:
        return None
    encoded = tokenizer.encode(prompt)
    return [end for _, end in encoded.offsets], len(encoded.ids)


@lru_cache(maxsize=4)
def _tokenizer(file: str):
    if not Path(file).is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _flux_folder(studio: Studio) -> Path | None:
    """A folder with FLUX's tokenizers, if there is one on this machine."""
    from flux_demo.hub import local_folder

    # A single file comes with none. Often two of the names are the same.
    names = dict.fromkeys((studio.settings.components, studio.settings.model("text"), MODES["text"].repo))
    return next((folder for name in names if name and (folder := local_folder(name, SHARED))), None)

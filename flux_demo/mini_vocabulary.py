"""The words that the mini FLUX was taught, for the page and the command line to check a prompt against.

The captions that it was trained on, its tokenizers and the sentence that a person sees are all made from these tables.
"""

import re
from collections.abc import Iterable

from flux_demo.texts import Text, join_listed

SHAPES = {  # the renderer's name, then the words for it
    "sphere": ("sphere", "ball", "globe", "orb"),
    "cube": ("cube", "box", "block"),
    "cylinder": ("cylinder", "can", "column", "tube"),
    "cone": ("cone",),
}
COLOURS = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy"),
    "yellow": ("yellow", "golden"),
    "orange": ("orange",),
    "purple": ("purple", "violet"),
    "white": ("white",),
    "black": ("black",),
}
FLOORS = {  # the phrases that end a caption; each of a row means the same floor
    "gray": ("on a gray floor", "on a grey floor", "on a checkered floor", "on a gray checkered floor", "on tiles", "on a tiled floor"),
    "wooden": ("on a wooden floor", "on wood", "on wooden planks", "on a wood floor", "on a wooden table"),
    "grassy": ("on a grassy floor", "on grass", "on a lawn", "in a meadow", "on the grass"),
    "sandy": ("on a sandy floor", "on sand", "on a beach", "in the desert", "on the sand", "at the beach"),
    "snowy": ("on a snowy floor", "on snow", "in the snow", "on snowy ground", "in winter"),
}
LIGHTS = {
    "noon": ("at noon", "noon light", "in daylight", "at midday", "on a sunny day", "by day"),
    "sunset": ("at sunset", "sunset light", "in the evening", "at dusk", "in the evening light", "at dawn", "at sunrise"),
    "night": ("at night", "night light", "in the dark", "at midnight", "in moonlight", "under the moon"),
}
LEFT = ("to the left of", "left of", "on the left of")
RIGHT = ("to the right of", "right of", "on the right of")
BESIDE = ("next to", "beside", "and", "with", "near")
BETWEEN = ("between", "in the middle of")
IN_ORDER = ("from left to right", "left to right")
OPENINGS = (
    "a photo of",
    "a picture of",
    "an image of",
    "a render of",
    "a drawing of",
    "a photograph of",
    "there is",
    "a scene with",
    "a 3d render of",
)

# Words that mean nothing to the mini and do no harm: it has seen them around its captions.
FILLERS = (
    "a an the of in on at to is are it and with under by there this that some very nice beautiful "
    "small large big little shiny matte simple clean high quality detailed realistic standing lying sitting placed"
).split()


def _known() -> frozenset[str]:
    phrases = [*FILLERS, *OPENINGS, *LEFT, *RIGHT, *BESIDE, *BETWEEN, *IN_ORDER]
    for table in (SHAPES, COLOURS, FLOORS, LIGHTS):
        phrases += [form for forms in table.values() for form in forms]
    return frozenset(word for phrase in phrases for word in phrase.split())


KNOWN = _known()


def words(prompt: str) -> list[str]:
    """The prompt's words and emoji in order, in lower case and without punctuation, in any script."""
    return re.findall(r"\w+|[\u2600-\u27bf\U0001f000-\U0001faff]", prompt.lower())


def unknown_words(prompt: str) -> list[str]:
    """The words of the prompt that the mini was never taught, each once, in order; empty when it knows them all."""
    return list(dict.fromkeys(word for word in words(prompt) if word not in KNOWN))


def prompt_notes(prompt: str) -> tuple[str, ...]:
    """A sentence that names the words of the prompt which the mini was never taught; none where it knows them all."""
    unknown = unknown_words(prompt)
    return (Text("The mini does not know: {words}. {knows}", words=", ".join(unknown[:8]), knows=what_it_knows()),) if unknown else ()


def what_it_knows() -> str:
    """One sentence for the person about what the mini can generate."""

    def either(names: Iterable[str]) -> str:
        *first, last = names
        return Text("{before} or {after}", before=join_listed(first), after=last)

    return Text(
        "The mini generates one or two objects (each a {shapes}) in {colours}, on a {floors} floor, at {lights}; other words change little.",
        shapes=either(SHAPES),
        colours=either(COLOURS),
        floors=either(FLOORS),
        lights=either(LIGHTS),
    )

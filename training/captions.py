"""A scene in words, differently each time. What a caption says is true; what it leaves out is left open."""

import random
from dataclasses import dataclass

from flux_demo import mini_vocabulary as vocabulary
from training.scenes import Scene, Thing

NOTHING = -1  # a word that belongs to no thing


@dataclass(frozen=True)
class Caption:
    words: tuple[str, ...]  # punctuation clings to the word before it
    owners: tuple[int, ...]  # for each word the index in scene.things that it speaks of, or NOTHING
    places: tuple[bool, ...]  # for each thing, whether the words tell where it is among the others
    floor: bool  # whether the floor is said
    light: bool

    @property
    def text(self) -> str:
        return " ".join(self.words)


def caption(scene: Scene, draw: random.Random) -> Caption:
    """One of the many captions that are true of `scene`. All its things are always named."""
    parts, places = _things(scene.things, draw)
    floor, light = draw.random() < 0.78, draw.random() < 0.72
    ends = []
    if floor:
        ends.append(_plain(_form(vocabulary.FLOORS[scene.floor], draw)))
    if light:
        ends.append(_plain(_form(vocabulary.LIGHTS[scene.light], draw)))
    if draw.random() < 0.15:
        draw.shuffle(ends)
    first = bool(ends) and draw.random() < 0.08
    if first:
        parts = [*_comma(ends.pop(draw.randrange(len(ends)))), *parts]
    elif draw.random() < 0.2:
        parts = [*_plain(draw.choice(vocabulary.OPENINGS)), *parts]
    for end in ends:
        parts = [*(_comma(parts) if draw.random() < 0.3 else parts), *end]
    if draw.random() < 0.05:
        stray = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 7)))
        parts.insert(draw.randrange(len(parts) + 1), (stray, NOTHING))
    if draw.random() < 0.05:
        parts[-1] = (parts[-1][0] + ".", parts[-1][1])
    return Caption(tuple(word for word, _ in parts), tuple(owner for _, owner in parts), places, floor, light)


def _things(things: tuple[Thing, ...], draw: random.Random) -> tuple[list[tuple[str, int]], tuple[bool, ...]]:
    named = [_noun(thing, index, draw) for index, thing in enumerate(things)]
    if len(things) == 1:
        return named[0], (True,)
    kind = draw.random()
    if len(things) == 2:
        if kind < 0.35:
            return [*named[0], *_plain(_form(vocabulary.LEFT, draw)), *named[1]], (True, True)
        if kind < 0.65:
            return [*named[1], *_plain(_form(vocabulary.RIGHT, draw)), *named[0]], (True, True)
        if kind < 0.7:
            return [*_plain(draw.choice(vocabulary.IN_ORDER)), *named[0], ("and", NOTHING), *named[1]], (True, True)
        draw.shuffle(named)
        return [*named[0], *_plain(draw.choice((*vocabulary.BESIDE, "and", "and"))), *named[1]], (False, False)
    if kind < 0.15:
        left, right = draw.sample((named[0], named[2]), 2)
        return [*named[1], *_plain(_form(vocabulary.BETWEEN, draw)), *left, ("and", NOTHING), *right], (False, True, False)
    ordered = kind < 0.35
    opening = _plain(draw.choice(vocabulary.IN_ORDER)) if ordered else []
    if not ordered:
        draw.shuffle(named)
    if draw.random() < 0.25:
        listed = [*named[0], ("and", NOTHING), *named[1], ("and", NOTHING), *named[2]]
    else:
        listed = [*_comma(named[0]), *(_comma(named[1]) if draw.random() < 0.2 else named[1]), ("and", NOTHING), *named[2]]
    return [*opening, *listed], (ordered,) * 3


def _noun(thing: Thing, index: int, draw: random.Random) -> list[tuple[str, int]]:
    colour, shape = _form(vocabulary.COLOURS[thing.colour], draw), _form(vocabulary.SHAPES[thing.shape], draw)
    spoken = [colour, shape]
    if draw.random() < 0.08:
        spoken.insert(0, draw.choice(("small", "large", "big", "shiny", "nice", "little")))
    kind = draw.random()
    if kind < 0.1:
        spoken.insert(0, "the")
    elif kind < 0.9:
        spoken.insert(0, "an" if spoken[0][0] in "aeiou" else "a")
    return [(word, index) for word in spoken]


def _form(forms: tuple[str, ...], draw: random.Random) -> str:
    """Mostly the first, the plain one."""
    return forms[0] if draw.random() < 0.6 else draw.choice(forms)


def _plain(phrase: str) -> list[tuple[str, int]]:
    return [(word, NOTHING) for word in phrase.split()]


def _comma(parts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [*parts[:-1], (parts[-1][0] + ",", parts[-1][1])]

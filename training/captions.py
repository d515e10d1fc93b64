"""Captions for scenes, a different one each time. Colours, shapes, order, floor and light are true where a caption names them; words for a
size, and stray ones, are noise."""

import random
from dataclasses import dataclass, replace

from flux_demo import mini_vocabulary as vocabulary
from training.scenes import Scene, SceneObject

NO_OBJECT = -1  # marks a word that describes no object

Words = list[tuple[str, int]]  # each word with the index in scene.objects of what it describes, or NO_OBJECT


@dataclass(frozen=True)
class Caption:
    words: tuple[str, ...]  # punctuation stays attached to the word before it
    describes: tuple[int, ...]  # for each word, the index in scene.objects of what it describes, or NO_OBJECT
    tells_position: tuple[bool, ...]  # for each object, whether the caption tells where it stands among the others
    tells_floor: bool
    tells_light: bool

    @property
    def text(self) -> str:
        return " ".join(self.words)


def caption(scene: Scene, rng: random.Random) -> Caption:
    """One of the many captions that are true of `scene`. It always names every object."""
    words, positions = _objects(scene.objects, rng)
    floor, light = rng.random() < 0.78, rng.random() < 0.72
    endings = []
    if floor:
        endings.append(_plain(_synonym(vocabulary.FLOORS[scene.floor], rng)))
    if light:
        endings.append(_plain(_synonym(vocabulary.LIGHTS[scene.light], rng)))
    if rng.random() < 0.15:
        rng.shuffle(endings)
    ending_first = bool(endings) and rng.random() < 0.08
    if ending_first:
        words = [*_with_comma(endings.pop(rng.randrange(len(endings)))), *words]
    elif rng.random() < 0.2:
        words = [*_plain(rng.choice(vocabulary.OPENINGS)), *words]
    for ending in endings:
        words = [*(_with_comma(words) if rng.random() < 0.3 else words), *ending]
    if rng.random() < 0.05:
        stray = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 7)))
        words.insert(rng.randrange(len(words) + 1), (stray, NO_OBJECT))
    if rng.random() < 0.05:
        words[-1] = (words[-1][0] + ".", words[-1][1])
    return Caption(tuple(word for word, _ in words), tuple(index for _, index in words), positions, floor, light)


def between_objects(pair: Caption) -> tuple[int, int]:
    """Where the words between a caption's two objects begin and end in `words`."""
    first = next(index for index in pair.describes if index != NO_OBJECT)
    return len(pair.describes) - pair.describes[::-1].index(first), pair.describes.index(1 - first)


def in_order(pair: Caption) -> Caption:
    """A caption of two objects in no order, with the order in which it names them: from left to right."""
    start, end = between_objects(pair)
    words = vocabulary.LEFT[0].split()
    describes = (*pair.describes[:start], *(NO_OBJECT for _ in words), *pair.describes[end:])
    return replace(pair, words=(*pair.words[:start], *words, *pair.words[end:]), describes=describes, tells_position=(True, True))


def with_fewer_objects(scene: Scene, rng: random.Random) -> Scene:
    """`scene` without some of its objects: its captions are true of an image whose map shows the others as well. One object always stays."""
    kept = sorted(rng.sample(range(len(scene.objects)), rng.randint(1, max(1, len(scene.objects) - 1))))
    return replace(scene, objects=tuple(scene.objects[index] for index in kept))


def _objects(objects: tuple[SceneObject, ...], rng: random.Random) -> tuple[Words, tuple[bool, ...]]:
    """The words for all objects, and for each object whether they tell its position."""
    named = [_noun_phrase(each, index, rng) for index, each in enumerate(objects)]
    if len(objects) == 1:
        return named[0], (True,)
    kind = rng.random()
    if len(objects) == 2:
        if kind < 0.28:
            return [*named[0], *_plain(_synonym(vocabulary.LEFT, rng)), *named[1]], (True, True)
        if kind < 0.54:
            return [*named[1], *_plain(_synonym(vocabulary.RIGHT, rng)), *named[0]], (True, True)
        if kind < 0.6:
            return [*_plain(rng.choice(vocabulary.IN_ORDER)), *named[0], ("and", NO_OBJECT), *named[1]], (True, True)
        rng.shuffle(named)
        return [*named[0], *_plain(rng.choice((*vocabulary.BESIDE, "and", "and"))), *named[1]], (False, False)
    if kind < 0.15:
        first, second = rng.sample((named[0], named[2]), 2)
        return [*named[1], *_plain(_synonym(vocabulary.BETWEEN, rng)), *first, ("and", NO_OBJECT), *second], (False, True, False)
    ordered = kind < 0.35
    opening = _plain(rng.choice(vocabulary.IN_ORDER)) if ordered else []
    if not ordered:
        rng.shuffle(named)
    if rng.random() < 0.25:
        listed = [*named[0], ("and", NO_OBJECT), *named[1], ("and", NO_OBJECT), *named[2]]
    else:
        listed = [*_with_comma(named[0]), *(_with_comma(named[1]) if rng.random() < 0.2 else named[1]), ("and", NO_OBJECT), *named[2]]
    return [*opening, *listed], (ordered,) * 3


def _noun_phrase(described: SceneObject, index: int, rng: random.Random) -> Words:
    colour, shape = _synonym(vocabulary.COLOURS[described.colour], rng), _synonym(vocabulary.SHAPES[described.shape], rng)
    phrase = [colour, shape]
    if rng.random() < 0.08:
        phrase.insert(0, rng.choice(("small", "large", "big", "shiny", "nice", "little")))
    kind = rng.random()
    if kind < 0.1:
        phrase.insert(0, "the")
    elif kind < 0.9:
        phrase.insert(0, "an" if phrase[0][0] in "aeiou" else "a")
    return [(word, index) for word in phrase]


def _synonym(forms: tuple[str, ...], rng: random.Random) -> str:
    """One of the forms; usually the first, which is the plain one."""
    return forms[0] if rng.random() < 0.6 else rng.choice(forms)


def _plain(phrase: str) -> Words:
    return [(word, NO_OBJECT) for word in phrase.split()]


def _with_comma(words: Words) -> Words:
    return [*words[:-1], (words[-1][0] + ",", words[-1][1])]

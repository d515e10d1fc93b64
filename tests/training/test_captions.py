"""Captions say what is true of their scene, and nothing that the vocabulary does not know."""

import random

from flux_demo import mini_vocabulary as vocabulary
from training import captions, scenes


def many(count: int = 300):
    draw = random.Random(0)
    for seed in range(count):
        scene = scenes.sample(seed, 256, 256)
        yield scene, captions.caption(scene, draw)


def first_of(table: dict, word: str) -> str | None:
    return next((name for name, forms in table.items() if word in forms), None)


def test_every_thing_is_named_once_with_its_own_colour_and_shape():
    for scene, caption in many():
        for index, thing in enumerate(scene.things):
            words = [word.strip(",.") for word, owner in zip(caption.words, caption.owners) if owner == index]
            assert [first_of(vocabulary.COLOURS, w) for w in words if first_of(vocabulary.COLOURS, w)] == [thing.colour]
            assert [first_of(vocabulary.SHAPES, w) for w in words if first_of(vocabulary.SHAPES, w)] == [thing.shape]


def test_left_and_right_are_told_truthfully():
    told = 0
    for scene, caption in many():
        text = f" {caption.text} "
        if len(scene.things) != 2 or "from left to right" in text or "left to right" in text:
            continue
        order = [owner for owner in dict.fromkeys(caption.owners) if owner != captions.NOTHING]
        if any(f" {form} " in text for form in vocabulary.LEFT):
            assert order == [0, 1]
            told += 1
        elif any(f" {form} " in text for form in vocabulary.RIGHT):
            assert order == [1, 0]
            told += 1
    assert told > 40


def test_floor_and_light_are_those_of_the_scene_or_left_out():
    seen = set()
    for scene, caption in many():
        said_floor = any(form in caption.text.replace(",", "").replace(".", "") for form in vocabulary.FLOORS[scene.floor])
        assert said_floor == caption.floor
        seen.add((caption.floor, caption.light))
    assert len(seen) == 4


def test_captions_vary_and_stay_in_the_vocabulary_but_for_stray_words():
    texts, strays = set(), 0
    for _, caption in many():
        texts.add(caption.text)
        strays += bool(vocabulary.unknown_words(caption.text))
    assert len(texts) > 290 and strays < 40


def test_the_issue_of_a_prompt_is_told_in_words():
    assert vocabulary.unknown_words("a RED sphere, on a gray floor at noon.") == []
    assert vocabulary.unknown_words("a red dragon and a dragon, 龍") == ["dragon", "龍"]
    assert "sphere" in vocabulary.what_it_knows() and "at noon" in vocabulary.what_it_knows()
    assert vocabulary.unknown_words("") == []

"""Captions say what is true of their scene, in the words of the vocabulary."""

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


def test_every_object_is_named_once_with_its_own_colour_and_shape():
    for scene, caption in many():
        for index, described in enumerate(scene.objects):
            words = [word.strip(",.") for word, i in zip(caption.words, caption.describes) if i == index]
            assert [first_of(vocabulary.COLOURS, w) for w in words if first_of(vocabulary.COLOURS, w)] == [described.colour]
            assert [first_of(vocabulary.SHAPES, w) for w in words if first_of(vocabulary.SHAPES, w)] == [described.shape]


def test_left_and_right_are_true():
    told = 0
    for scene, caption in many():
        text = f" {caption.text} "
        if len(scene.objects) != 2 or "left to right" in text:
            continue
        order = [index for index in dict.fromkeys(caption.describes) if index != captions.NO_OBJECT]
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
        strays = vocabulary.unknown_words(caption.text)  # one may stand within a phrase
        text = " ".join(word for word in caption.text.replace(",", "").replace(".", "").split() if word not in strays)
        assert any(form in text for form in vocabulary.FLOORS[scene.floor]) == caption.tells_floor
        assert any(form in text for form in vocabulary.LIGHTS[scene.light]) == caption.tells_light
        seen.add((caption.tells_floor, caption.tells_light))
    assert len(seen) == 4


def test_captions_vary_and_stay_in_the_vocabulary_but_for_stray_words():
    texts, strays = set(), 0
    for _, caption in many():
        texts.add(caption.text)
        strays += bool(vocabulary.unknown_words(caption.text))
    assert len(texts) > 290 and strays < 40


def test_the_unknown_words_of_a_prompt_are_named():
    assert vocabulary.unknown_words("a RED sphere, on a gray floor at noon.") == []
    assert vocabulary.unknown_words("a red dragon and a dragon, 龍") == ["dragon", "龍"]
    assert "one or two objects" in vocabulary.what_it_knows()  # as its card says
    assert "sphere" in vocabulary.what_it_knows() and "at noon" in vocabulary.what_it_knows()
    assert vocabulary.unknown_words("") == []


def test_a_scene_with_fewer_objects_keeps_one_and_their_order():
    draw, counts = random.Random(0), set()
    for scene, _ in many():
        objects = captions.with_fewer_objects(scene, draw).objects
        assert 1 <= len(objects) <= max(1, len(scene.objects) - 1)
        assert [each for each in scene.objects if each in objects] == list(objects)
        counts.add((len(scene.objects), len(objects)))
    assert counts == {(1, 1), (2, 1), (3, 1), (3, 2)}

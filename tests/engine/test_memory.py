"""The table of plans, a row for each size of card. Estimates: none of these has been run on its card."""

import pytest

from flux_demo.engine.memory import CPU_PLAN, GIB, PLANS, is_tighter, plan, why_none

CONTEXT = 0.8  # GiB that CUDA takes before anything is loaded
# card in GB, main memory in GB -> plan, modes that stay, largest square that is decoded whole
TABLE = [
    (8, 16, "mapped", 1, 1024),
    (8, 48, "streamed", 1, 1024),
    (10, 48, "streamed", 1, 1024),
    (12, 32, "mapped", 1, 1344),
    (12, 48, "streamed", 1, 1344),
    (16, 48, "streamed", 1, 1440),
    (20, 48, "streamed", 1, 1440),
    (24, 16, "body", 1, 1152),
    (32, 16, "one-lean", 1, 1024),
    (40, 32, "two-lean", 2, 1152),
    (48, 32, "two", 2, 1024),
    (80, 32, "three-lean", 3, 1440),
    (96, 32, "three", 3, 1440),
    (141, 32, "three", 3, 1440),
]


def free(card):
    return int((card - CONTEXT) * GIB)


@pytest.mark.parametrize(("card", "memory", "name", "modes", "whole"), TABLE)
def test_each_card_has_its_plan(card, memory, name, modes, whole):
    chosen = plan(free(card), memory * GIB)
    assert (chosen.name, chosen.modes) == (name, modes)
    assert not chosen.tiles(whole * whole)
    assert chosen.needs() <= free(card)
    assert chosen.memory_bytes <= memory * GIB


def test_the_default_size_is_never_decoded_in_tiles_from_8_gb_up():
    assert all(not plan(free(card), 64 * GIB).tiles(1024 * 1024) for card in range(8, 142))


def test_more_memory_never_gives_a_tighter_plan():
    names = [plan(free(card), 64 * GIB).name for card in range(6, 160)]
    assert all(not is_tighter(roomy, than=tight) for tight, roomy in zip(names, names[1:]))


def test_plans_go_from_the_roomiest_to_the_tightest():
    needs = [row.needs() for row in PLANS]
    assert needs == sorted(needs, reverse=True)


def test_a_plan_that_ran_out_is_not_taken_again():
    tried, seen = plan(free(141), 64 * GIB), []
    while tried is not None:
        seen.append(tried.name)
        tried = plan(free(141), 64 * GIB, below=tried.name)
    assert seen == [row.name for row in PLANS if row.name != "mapped"]  # which saves main memory, not the GPU's


def test_a_large_picture_on_a_small_card_says_that_it_was_tiled():
    chosen = plan(free(8), 32 * GIB)
    assert "tiles" in chosen.say(1920 * 1088)
    assert "tiles" not in chosen.say(1024 * 1024)
    assert "tiles" not in CPU_PLAN.say(10**9)


def test_a_card_that_is_too_small_is_refused_with_figures():
    assert plan(free(3), 64 * GIB) is None
    assert "2 GB of GPU memory are free" in why_none(free(3), 64 * GIB)


def test_too_little_main_memory_is_refused_with_figures():
    assert plan(free(8), 8 * GIB) is None
    assert "13 GB of main memory" in why_none(free(8), 8 * GIB) and "9 GB" in why_none(free(8), 8 * GIB)
    assert plan(free(8), 0) is not None  # a system that does not tell is not refused


def test_two_thirds_of_the_stock_pipeline_are_enough():
    """Stock, everything in bfloat16 on the card, peaks at 36.2 GiB (published); the plan for 24 GB streams nothing of the transformer."""
    body = next(row for row in PLANS if row.name == "body")
    assert (body.device_bytes + body.work_bytes()) / (36.17 * GIB) < 0.62

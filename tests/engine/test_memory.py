"""Which plan a card gets. The figures are estimates: none of these plans has been run on its card."""

import re
from dataclasses import replace

import pytest

from flux_demo.engine.memory import CPU_PLAN, FLUX, GIB, PLANS, SHARES, WeightSizes, cpu_plan, plan, why_none

CONTEXT = 0.8  # GiB that CUDA takes before anything is loaded
# GB of the card, GB of main memory -> plan, modes kept, nineteenths of a streamed body kept, side of the largest square decoded whole
TABLE = [
    (8, 16, "mapped", 1, 1, 1088),
    (8, 48, "streamed", 1, 1, 1088),
    (10, 48, "streamed", 1, 4, 1024),
    (12, 16, "mapped", 1, 6, 1056),
    (12, 32, "streamed", 1, 6, 1056),
    (12, 48, "streamed", 1, 6, 1056),
    (16, 16, "mapped", 1, 11, 1040),
    (16, 32, "streamed", 1, 11, 1040),
    (16, 48, "streamed", 1, 11, 1040),
    (20, 16, "streamed", 1, 15, 1104),
    (20, 48, "streamed", 1, 15, 1104),
    (24, 16, "body", 1, 0, 1152),
    (32, 16, "one-lean", 1, 0, 1072),
    (40, 32, "two-lean", 2, 0, 1152),
    (48, 32, "two", 2, 0, 1056),
    (80, 32, "three-lean", 3, 0, 2160),
    (96, 32, "three", 3, 0, 2048),
    (141, 32, "three", 3, 0, 3760),
]


def free(card):
    return int((card - CONTEXT) * GIB)


@pytest.mark.parametrize(("card", "memory", "name", "modes", "kept", "whole"), TABLE)
def test_each_card_gets_its_plan(card, memory, name, modes, kept, whole):
    chosen = plan(free(card), memory * GIB)
    assert (chosen.name, chosen.modes, chosen.kept_shares) == (name, modes, kept)
    assert not chosen.tiles(whole * whole) and chosen.tiles((whole + 16) ** 2)
    assert chosen.needs() <= free(card)
    assert chosen.memory_bytes <= memory * GIB


@pytest.mark.parametrize("memory", [16, 24, 32, 64])
def test_the_default_size_is_never_decoded_in_tiles_from_8_gb_up(memory):
    assert all(not plan(free(card), memory * GIB).tiles(1024 * 1024) for card in range(8, 142))


@pytest.mark.parametrize("memory", [16, 24, 32, 64])
def test_a_larger_card_never_streams_more(memory):
    chosen = [plan(free(card), memory * GIB) for card in range(6, 160)]
    streamed = [
        one.stream_body * (1 - one.kept_shares / SHARES) * (1 if one.pin_body else 2) for one in chosen
    ]  # from the disk it is twice as bad
    assert streamed == sorted(streamed, reverse=True)


def test_more_main_memory_never_reads_more_from_the_disk():
    chosen = [plan(free(12), memory * GIB) for memory in range(12, 80)]
    assert [one.pin_body for one in chosen] == sorted(one.pin_body for one in chosen)
    assert {one.kept_shares for one in chosen} == {6}  # what the card has room for stays there, however much main memory there is


def test_the_sentence_says_how_much_of_a_streamed_model_stays():
    assert plan(free(12), 32 * GIB).sentence == (
        "32% of the model stays on the GPU; the rest is streamed block by block while it runs, from main memory."
    )
    assert plan(free(6), 64 * GIB).sentence == "The model is streamed block by block while it runs, from main memory."


@pytest.mark.parametrize("row", PLANS, ids=lambda row: row.name)
def test_the_roomiest_plan_that_fits_is_taken(row):
    enough = row.needs(tiled=row.stream_body)
    assert plan(enough, row.memory_bytes).name == row.name
    below = plan(enough - 1, row.memory_bytes)
    assert below is None or below.needs(tiled=below.stream_body) < enough


def test_a_plan_that_ran_out_of_memory_is_not_taken_again():
    tried, seen = plan(free(141), 64 * GIB), []
    while tried is not None:
        seen.append((tried.name, tried.kept_shares))
        tried = plan(free(141), 64 * GIB, below=tried)
    resident = [(row.name, 0) for row in PLANS if not row.stream_body]
    assert seen == [*resident, *(("streamed", kept) for kept in (9, 4, 2, 1, 0))]  # "mapped" saves main memory, not the GPU's


def test_a_streamed_model_that_ran_out_keeps_half_as_much_on_the_gpu():
    tried = plan(free(12), 48 * GIB)
    below = plan(free(12), 48 * GIB, below=tried)
    assert (tried.name, tried.kept_shares) == ("streamed", 6)
    assert (below.name, below.kept_shares) == ("streamed", 3)


@pytest.mark.parametrize("memory", [16, 64])
def test_there_is_no_cliff_between_streaming_and_staying(memory):
    """A tenth of a GiB more on the card never changes what is streamed by more than a share or two."""
    kept = [
        one.kept_shares if one.stream_body else SHARES for tenth in range(60, 240) if (one := plan(int(tenth / 10 * GIB), memory * GIB))
    ]
    assert kept == sorted(kept) and kept[-1] == SHARES
    assert max(after - before for before, after in zip(kept, kept[1:], strict=False)) <= 2


# GB of the card, type -> plan, whether a megapixel is decoded in tiles
QUANTISED = {"Q8_0": WeightSizes(8.57, 3.21, 8.87, 0.5, 12, "Q8_0", True), "Q4_0": WeightSizes(4.54, 1.7, 8.87, 0.5, 6, "Q4_0", True)}


@pytest.mark.parametrize(
    ("card", "kind", "name", "tiled"),
    [
        (6, "Q4_0", "streamed", True),
        (8, "Q4_0", "body", True),
        (8, "Q8_0", "streamed", True),
        (12, "Q8_0", "body", True),
        (16, "Q8_0", "body", False),
    ],
)
def test_a_quantised_model_is_rather_decoded_in_tiles_than_streamed(card, kind, name, tiled):
    chosen = plan(free(card), 32 * GIB, sizes=QUANTISED[kind])
    assert (chosen.name, chosen.modes, chosen.tiles(1024 * 1024)) == (name, 1, tiled)
    assert kind in chosen.sentence


@pytest.mark.parametrize(("card", "kind"), [(11, "Q4_K"), (16, "Q8_0"), (24, "BF16")])
def test_a_card_without_units_for_bfloat16_has_room_for_all_scores_of_an_attention(card, kind):
    sizes = QUANTISED.get(kind, FLUX)
    usual, chosen = plan(free(card), 64 * GIB, sizes=sizes), plan(free(card), 64 * GIB, sizes=sizes, fused_attention=False)
    scores = 2 * 24 * (64 * 64 + 512) ** 2 * 4 / GIB  # and their softmax: heads, tokens of image and prompt, bytes
    assert (free(card) - chosen.device_bytes) / GIB >= scores + 1.1
    assert chosen.device_bytes <= usual.device_bytes
    assert chosen.tiles(528 * 512) and not chosen.tiles(512 * 512)  # its convolutions in bfloat16 need more too; that is one tile


def test_a_small_card_without_units_for_bfloat16_has_a_plan_for_smaller_images():
    least = plan(free(8), 64 * GIB, fused_attention=False)
    assert (least.name, least.kept_shares) == ("streamed", 0) and least.needs(tiled=True) > free(8)
    assert plan(free(8), 64 * GIB, least, fused_attention=False) is None


def test_nothing_is_pinned_where_nothing_can_be():
    on_wsl = plan(free(12), 64 * GIB, pinnable_bytes=0)
    assert (on_wsl.name, on_wsl.pin_body, on_wsl.pin_blocks) == ("mapped", False, False)
    assert plan(free(12), 64 * GIB, pinnable_bytes=10 * GIB).name == "mapped"  # a busy machine
    assert plan(free(12), 64 * GIB, pinnable_bytes=40 * GIB).name == "streamed"
    for streamed in (on_wsl, plan(free(24), 64 * GIB, pinnable_bytes=0)):
        assert streamed.sentence.endswith(". No main memory can be pinned here, so streaming is slower.")
    assert "pinned" not in plan(free(80), 64 * GIB, pinnable_bytes=0).sentence


@pytest.mark.parametrize("both", [16, 20, 32, 64, 128])
def test_memory_that_gpu_and_processor_share_is_counted_once(both):
    chosen = plan(free(both), both * GIB, shared=True)
    assert chosen is None or chosen.needs(chosen.tiles(1024 * 1024)) + chosen.memory_bytes <= free(both)
    assert (chosen is None) == (both == 16)
    if chosen is None:
        assert plan(free(both), both * GIB) is not None
        assert re.search(r"16 GB of it is free, and FLUX needs at least \d\d GB", why_none(free(both), both * GIB, shared=True))


def test_a_lora_is_merged_in_main_memory_that_the_plan_counts():
    merged = replace(FLUX, in_files=False)
    assert plan(free(12), 16 * GIB, sizes=merged) is None
    assert plan(free(12), 48 * GIB, sizes=merged).memory_bytes > plan(free(12), 48 * GIB).memory_bytes


def test_the_cpu_keeps_as_many_modes_as_main_memory_has_room_for():
    small = WeightSizes(1, 0.5, 1, 0.2, 0)
    assert [getattr(cpu_plan(memory * GIB, small, "bfloat16"), "modes", 0) for memory in (8, 9, 11, 12)] == [0, 1, 2, 3]
    assert "minutes per image" in cpu_plan(0, small, "bfloat16").sentence


def test_a_large_image_on_a_small_card_says_that_it_was_tiled():
    chosen = plan(free(8), 32 * GIB)
    assert chosen.sentence_for(1920 * 1088).endswith(" The image was decoded in tiles to save memory.")
    assert "The map was encoded, and the image decoded, in tiles" in chosen.sentence_for(1920 * 1088, follows_map=True)
    assert "tiles" not in chosen.sentence_for(1024 * 1024)
    assert "tiles" not in CPU_PLAN.sentence_for(10**9)


def test_a_card_that_is_too_small_is_refused_with_figures():
    assert plan(free(3), 64 * GIB) is None
    assert "2 GB of GPU memory is free" in why_none(free(3), 64 * GIB)
    least = round(PLANS[-1].needs(tiled=True) / 1e9, 1)
    assert f"{least - 0.1:.1f} GB of GPU memory is free, and FLUX needs at least {least} GB" in why_none(int(1e9 * (least - 0.1)), 64 * GIB)


def test_too_little_main_memory_is_refused_with_figures():
    assert plan(free(8), 8 * GIB) is None
    assert "13 GB of main memory" in why_none(free(8), 8 * GIB) and "9 GB" in why_none(free(8), 8 * GIB)
    assert plan(free(8), 0) is not None  # a system that does not say is not refused

"""The README's table of cards: ``local`` is given each row's settings, on files of FLUX's size and a machine of the row's, and plans what the row says."""

import math
import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks import advice
from benchmarks.subjects import files
from flux_demo.backends.local import CONTEXT_BYTES, Local, free_for_flux
from flux_demo.backends.machine import Card, Machine
from flux_demo.engine.memory import GIB, RESERVE
from flux_demo.engine.sizes import sizes_of
from flux_demo.modes import MODES
from flux_demo.settings import Settings

README = Path(__file__).resolve().parents[2] / "README.md"
LINES = re.search(r"<!-- advice -->(.*?)<!-- /advice -->", README.read_text("utf-8"), re.DOTALL)[1].strip().splitlines()[2:]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The files of a row: sparse, so nothing is written."""
    return cache(lambda kind, lora: (folder := tmp_path_factory.mktemp(kind), files.model_files(folder, kind, lora=lora)))


@pytest.mark.parametrize(("row", "line"), list(zip(advice.ROWS, LINES, strict=True)), ids=[f"{row.card} GB" for row in advice.ROWS])
def test_each_row_is_what_happens(row, line, folder_of):
    gpu, download, to_set, happens, counted, main = (cell.strip() for cell in line.strip("|").split("|"))
    folder, on_disk = folder_of(row.kind, row.lora)
    said = dict(setting.split("=") for setting in re.findall(r"`(FLUX_DEMO_\w+=\S+)`", to_set))
    here = {"black-forest-labs/FLUX.1-Canny-dev-lora": on_disk.lora, "black-forest-labs/FLUX.1-Depth-dev-lora": on_disk.lora}
    given = {name: str(here.get(value) or (folder / value if value.endswith(".gguf") else value)) for name, value in said.items()}
    given.setdefault("FLUX_DEMO_TEXT_MODEL", str(folder))
    needed = int(re.fullmatch(r"(\d+) GiB", main)[1])
    card = re.fullmatch(r"(\d+) GB", gpu)
    machine = Machine(card and Card("A card", int(card[1]) * GIB), cuda_torch=bool(card), memory_bytes=needed * GIB)
    local = Local(Settings.from_env({**given, "FLUX_DEMO_COMPONENTS": str(folder)}), machine)
    modes = [mode for mode in MODES.values() if mode.name == "text" or mode.model_variable in said]
    assert [local.refusal(mode) for mode in modes] == [None] * len(modes)
    found = local._models.find(modes[-1])
    plan = local._plan(machine, sizes_of(found)) if card else local._expected_cpu_plan(machine, found)
    tiled = plan.tiles(advice.PIXELS)
    assert happens == plan.sentence + (" Images are decoded in tiles." if card and tiled else "")
    assert needed == math.ceil(plan.memory_bytes / GIB)
    if on_disk.transformer.is_file():
        assert f"({on_disk.transformer.stat().st_size / 1e9:.0f} GB)" in download
    if card:
        free = free_for_flux(machine.card)
        assert free == int(card[1]) * GIB - CONTEXT_BYTES and plan.needs(tiled) <= free
        assert float(counted.removesuffix(" GiB")) + RESERVE < free / GIB


def test_the_rows_go_from_8_to_80_gb():
    cards = [row.card for row in advice.ROWS if row.card]
    assert cards == sorted(cards) and (cards[0], cards[-1]) == (8, 80)

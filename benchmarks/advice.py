"""What the owner of each card downloads and sets, and the plan that follows: rows of the README's table. Measures nothing.

Each row is planned from files of the size that it names, on a card of the size that it names; a test runs ``local`` with its settings.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import memory as counted
from benchmarks.record import RESULTS
from benchmarks.subjects import files
from flux_demo.backends.local import CONTEXT_BYTES
from flux_demo.backends.local_models import COMPONENTS_GB, LORA_GB, OWN_GB, WHOLE_GB
from flux_demo.engine import memory
from flux_demo.engine.sizes import sizes_of
from flux_demo.modes import MODES

PIXELS = 1024 * 1024
ENOUGH = 128 * memory.GIB  # main memory, to see what a plan needs


@dataclass(frozen=True)
class Advice:
    card: int  # GB; 0: no GPU
    kind: str  # that the transformer is stored in: a GGUF type, or "BF16" for diffusers' folders
    download: str  # "{}" stands for the GB of the transformer's file
    settings: Sequence[str]
    lora: bool = False  # canny and depth are LoRAs for the text mode's model

    def plan(self) -> memory.Plan:
        """The plan on that card, with as much main memory as it wants."""
        sizes = sizes_for(self.kind, self.lora)
        plan = (
            memory.plan(self.card * memory.GIB - CONTEXT_BYTES, ENOUGH, sizes=sizes)
            if self.card
            else memory.cpu_plan(int(memory.Plan("cpu", 1, on_cpu=True, sizes=sizes).memory_bytes), sizes, "bfloat16")
        )
        assert plan
        return plan

    def main_memory(self) -> int:
        """GiB that the plan needs, rounded up."""
        return -(-self.plan().memory_bytes // memory.GIB)


LORAS = [f"FLUX_DEMO_{mode.name.upper()}_MODEL={mode.lora}" for mode in MODES.values() if mode.lora]
COMPONENTS = f"the components ({COMPONENTS_GB} GB)"
THREE_GB = WHOLE_GB + 2 * OWN_GB
ROWS = (
    Advice(8, "Q4_0", f"a Q4_0 or Q4_K_S GGUF of FLUX.1-dev ({{}} GB) and {COMPONENTS}", ["FLUX_DEMO_TEXT_MODEL=flux1-dev-Q4_0.gguf"]),
    Advice(12, "Q8_0", f"a Q8_0 GGUF ({{}} GB) and {COMPONENTS}", ["FLUX_DEMO_TEXT_MODEL=flux1-dev-Q8_0.gguf"]),
    Advice(16, "Q8_0", f"a Q8_0 GGUF ({{}} GB) and {COMPONENTS}", ["FLUX_DEMO_TEXT_MODEL=flux1-dev-Q8_0.gguf"]),
    Advice(24, "BF16", f"FLUX.1-dev in bfloat16 ({WHOLE_GB} GB), and the two control LoRAs ({LORA_GB} GB each)", LORAS, lora=True),
    Advice(48, "BF16", f"the three models in bfloat16 ({THREE_GB} GB)", []),
    Advice(80, "BF16", f"the three models in bfloat16 ({THREE_GB} GB)", []),
    Advice(
        0,
        "Q4_0",
        f"a Q4_0 or Q4_K_S GGUF ({{}} GB) and {COMPONENTS}",
        ["FLUX_DEMO_DEVICE=cpu", "FLUX_DEMO_BACKEND=local", "FLUX_DEMO_TEXT_MODEL=flux1-dev-Q4_0.gguf"],
    ),
)


@cache
def sizes_for(kind: str, lora: bool) -> memory.WeightSizes:
    with TemporaryDirectory() as folder:
        return sizes_of(files.model_files(Path(folder), kind, lora=lora))


def table() -> str:
    """For the README."""
    result = json.loads((RESULTS / "memory.json").read_text("utf-8"))
    title = "| your GPU | what to download | what to set | what then happens | counted at 1024x1024 | main memory, at least |"
    return "\n".join([title, "|---|---|---|---|---|---|", *(_line(row, result) for row in ROWS)])


def _line(row: Advice, result: dict) -> str:
    plan = row.plan()
    transformer = round(plan.sizes.transformer * memory.GIB / 1e9)
    settings = ", ".join(f"`{setting}`" for setting in row.settings) or "nothing"
    counts = f"{counted.most(result['plans'][counted.key(plan)]):.1f} GiB" if row.card else "none"
    tiled = " Images are decoded in tiles." if row.card and plan.tiles(PIXELS) else ""
    cells = (
        f"{row.card} GB" if row.card else "none, and patience",
        row.download.format(transformer),
        settings,
        plan.sentence + tiled,
        counts,
    )
    return f"| {' | '.join(cells)} | {row.main_memory()} GiB |"

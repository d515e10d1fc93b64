"""Reading a file of weights takes the memory of the weights, and no second copy: measured on FLUX's full width, one block of each kind."""

from pathlib import Path

import pytest
import torch

from benchmarks.subjects.files import in_bfl_layout, save, save_gguf, transformer_shapes
from flux_demo.engine.load import load_transformer

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def held(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since the last reset."""
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text("ascii").splitlines() if line.startswith(field))


@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_loading_takes_no_second_copy(tmp_path, kind):
    shapes = in_bfl_layout(transformer_shapes(1, 1))
    file = save(tmp_path / "flux.safetensors", shapes) if kind == "BF16" else save_gguf(tmp_path / "flux.gguf", shapes, kind)
    try:
        RESET.write_text("5", "ascii")
    except OSError:
        pytest.skip("the system does not say what a process held at most")
    before = held("VmRSS")
    transformer = load_transformer(file, torch.bfloat16, lambda name: torch.device("cpu"))
    taken, size = held("VmHWM") - before, file.stat().st_size
    assert len(transformer.transformer_blocks) == 1 and 0.8 * size < taken < 1.3 * size

"""Reading a file of weights takes the memory of the weights, and no second copy: measured on FLUX's full width, one block of each kind."""

from pathlib import Path

import pytest

from benchmarks.loading import GIB, peak_of
from benchmarks.subjects.files import in_bfl_layout, save, save_gguf, transformer_shapes

PROGRAM = 0.5  # GiB: what Python, torch and diffusers take, and a little more


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process held at most")
@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_loading_takes_no_second_copy(tmp_path, kind):
    shapes = in_bfl_layout(transformer_shapes(1, 1))
    file = save(tmp_path / "flux.safetensors", shapes) if kind == "BF16" else save_gguf(tmp_path / "flux.gguf", shapes, kind)
    size = file.stat().st_size / GIB
    assert size > PROGRAM  # a second copy would be seen
    assert size < peak_of(file) < size + PROGRAM

"""The main memory that loading FLUX's transformer takes at most, beyond the weights themselves: full width, a few blocks, on the CPU.

    python -m benchmarks.loading

Each file is read in a process of its own, and the system says the most memory that the process ever held (Linux only). Python, torch and diffusers
are in it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.record import record

ROOT = Path(__file__).resolve().parent.parent
DOUBLES, SINGLES = 4, 8
LIMIT = 2.0  # GiB beyond the file
GIB = 2**30
LOAD = """
import sys
from pathlib import Path
import torch
from flux_demo.engine.load import load_transformer

transformer = load_transformer(Path(sys.argv[1]), torch.bfloat16, lambda name: torch.device("cpu"))
status = Path("/proc/self/status").read_text("ascii")
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def main() -> None:
    from benchmarks.subjects.files import in_bfl_layout, save, save_gguf, transformer_shapes

    shapes = in_bfl_layout(transformer_shapes(DOUBLES, SINGLES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = [save(Path(folder, "single-file.safetensors"), shapes)]
        files += [save_gguf(Path(folder, f"{kind}.gguf"), shapes, kind) for kind in ("Q8_0", "Q4_0", "Q4_K")]
        for file in files:
            size, peak = file.stat().st_size / GIB, peak_of(file)
            rows.append({"file": file.name, "gib": round(size, 2), "peak_gib": round(peak, 2), "beyond_gib": round(peak - size, 2)})
    record("loading", {"doubles": DOUBLES, "singles": SINGLES, "limit_gib": LIMIT, "rows": rows})
    sys.exit(any(row["beyond_gib"] > LIMIT for row in rows))


def peak_of(file: Path) -> float:
    """Peak GiB of a process that loads the file."""
    done = subprocess.run([sys.executable, "-c", LOAD, str(file)], cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024 / GIB


if __name__ == "__main__":
    main()

"""Run quick_start.ipynb and store it with its images small and nothing else of a run.

python -m examples.store
"""

import base64
import io
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).with_name("quick_start.ipynb")
SIDE = 192  # pixels of the longer side of a stored image


def executed(folder: Path, steps: int | None = None) -> Any:
    """The notebook after it ran from top to bottom in that folder, with so many steps in place of its own. Raises nbclient's CellExecutionError."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells if steps else ():
        cell.source = re.sub(r'(steps(?:=|": ))\d+', rf"\g<1>{steps}", cell.source)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def small(output: Any) -> Any | None:
    """An output as it is stored: an image as a small JPEG, printed lines as they are; None for what nobody reads again."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    data = output.get("data", {})
    if "image/png" not in data:
        return None
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return nbformat.v4.new_output("display_data", {"image/jpeg": base64.b64encode(buffer.getvalue()).decode("ascii")})


def main() -> None:
    notebook = executed(NOTEBOOK.parent.parent)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [kept for output in cell.outputs if (kept := small(output)) is not None]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()

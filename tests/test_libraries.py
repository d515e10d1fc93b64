"""The page loads its models in one thread while a visitor's first photo needs another in a second one."""

import subprocess
import sys
from pathlib import Path

from flux_demo.settings import ASSETS

# Waits for the moment in which the module that the other thread imports will be replaced by another.
TOGETHER = """
import sys, threading, time
from flux_demo import background
from flux_demo.modes import MODES
from flux_demo.settings import Settings
from flux_demo.studio import Studio

studio = Studio.from_settings(Settings(backend="mini", outputs=sys.argv[2]))

def draw_a_map():
    while not getattr(getattr(sys.modules.get("transformers"), "__spec__", None), "_initializing", False):
        time.sleep(0.001)
    return studio.preview("depth", sys.argv[1])

drawing = background.start(draw_a_map, "map")
studio.route("text").backend.warm_up(MODES["text"])
print(drawing.result(timeout=100).kind)
"""


def test_a_map_can_be_drawn_while_the_models_are_loaded(tmp_path):
    photo = next((ASSETS / "examples").glob("*.png"))
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, str(photo), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert done.stdout == "depth\n", done.stderr

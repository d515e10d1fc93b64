"""The shape of the program: imports point down, the heavy libraries stay out until needed, files stay small."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "flux_demo"
HEAVY = ("torch", "diffusers", "transformers", "cv2", "numpy", "gradio")
LAYERS = (  # from the ground up; a module imports from its own layer and from those before it
    ("version", "texts", "errors", "exit_codes", "display", "streams"),
    ("failures", "progress", "notebook", "background", "libraries", "seeds", "prompts", "request", "folders"),
    ("modes",),
    ("settings", "environment", "listening", "mini_vocabulary", "reading"),
    ("hub", "hub_errors", "hub_parts", "tensor_files", "layouts"),
    ("checkpoints",),
    ("model_names",),
    ("model_files",),
    ("maps",),
    (
        "recipe",
        "parameters",
    ),
    ("engine", "gallery", "safety"),
    ("backends", "experiments"),
    ("studio",),
    ("", "cli", "ui", "serve_schema", "serve_generator", "serve_ingress", "serve"),
    ("__main__",),
)
SOURCES = sorted(PACKAGE.rglob("*.py"))
BESIDE = ("training", "stand_ins", "benchmarks", "tests")  # none of them is needed to run the product
OURS = [ROOT / "app.py", *SOURCES, *(path for folder in BESIDE for path in sorted((ROOT / folder).rglob("*.py")))]


def name_of(path: Path) -> str:
    """``backends.nvidia`` for flux_demo/backends/nvidia.py; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer(name: str) -> int:
    """The height of a module; the longest matching prefix counts."""
    matches = [
        (len(prefix), height)
        for height, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or (prefix and name.startswith(prefix + "."))
    ]
    assert matches, f"flux_demo.{name} is in no layer of this test"
    return max(matches)[1]


def imports(path: Path) -> list[str]:
    """Every module of ours that a file imports, inside functions too, but not what only a type checker reads."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if (ROOT / (name.replace(".", "/"))).with_suffix(".py").exists() else node.module for name in inside]
    return names


def loaded(*arguments: str) -> set[str]:
    """Top-level names of all modules that a fresh Python imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_down(path):
    name = name_of(path)
    for imported in imports(path):
        if imported == "flux_demo" or imported.startswith("flux_demo."):
            below = imported.removeprefix("flux_demo").removeprefix(".")
            assert layer(below) <= layer(name), f"{name} imports {imported}, which lies above it"


def importers(folder: str, *wanted: str) -> list[str]:
    """The files of a folder that import any of these top-level packages."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return [path.name for path in files if {name.partition(".")[0] for name in imports(path)} & set(wanted)]


def test_the_product_needs_nothing_that_lies_beside_it():
    assert importers("flux_demo", *BESIDE) == []


def test_what_lies_beside_the_product_goes_in_no_circles():
    assert importers("stand_ins", "training", "benchmarks", "tests") == []
    assert importers("training", "stand_ins", "benchmarks", "tests") == []
    assert importers("benchmarks", "tests") == []


def test_no_two_modules_import_each_other():
    """Circles hide inside a layer too; only type hints may go both ways."""
    graph = {name_of(path): {module_of(name) for name in imports(path)} - {None} for path in SOURCES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for imported in graph.get(name, ()):
                if imported != name and not name.startswith(f"{imported}."):  # a package's own __init__ comes first anyway
                    visit(imported, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name lies in; None if it is not ours."""
    parts = imported.split(".")
    if parts[0] != "flux_demo":
        return None
    while parts:
        path = ROOT.joinpath(*parts)
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            return ".".join(parts[1:])
        parts.pop()
    return None


def test_only_the_page_imports_gradio():
    importers = {path.parent.name for path in SOURCES if any(name.split(".")[0] == "gradio" for name in imports(path))}
    assert importers <= {"ui"}


def test_only_settings_read_the_environment():
    """Ours are read in settings; what libraries read when they are imported is made fit in environment."""
    readers = {
        name_of(path) for path in SOURCES if re.search(r"getenv\(|environ\.get\(|= os\.environ\[|environ\.copy\(", path.read_text("utf-8"))
    }
    assert readers <= {"settings", "environment"}


@pytest.mark.parametrize(
    "arguments", [("-c", "import flux_demo"), ("-c", "import flux_demo.studio"), ("-m", "flux_demo", "--help")], ids=" ".join
)
def test_nothing_heavy_is_loaded(arguments):
    assert not loaded(*arguments) & {*HEAVY, "httpx", "huggingface_hub"}


def test_importing_the_package_loads_no_picture_library():
    assert "PIL" not in loaded("-c", "import flux_demo")


def test_choosing_routes_loads_nothing_heavy():
    code = "import flux_demo as f; [f.Studio.from_settings(f.Settings(backend='mini')).route(mode) for mode in f.MODES]"
    assert not loaded("-c", code) & {"torch", "diffusers", "transformers", "cv2"}


def test_every_public_name_is_there():
    import flux_demo

    for name in dir(flux_demo):
        assert getattr(flux_demo, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(flux_demo, "nonsense")  # noqa: B009


def test_files_are_small():
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in OURS}
    assert {name: count for name, count in lines.items() if count >= 300} == {}
    assert statistics.median(count for name, count in lines.items() if name.startswith("flux_demo")) < 150


def test_no_file_is_a_drawer_for_everything():
    assert not [path for path in OURS if re.search(r"util|helper|manager|common|misc", path.stem)]

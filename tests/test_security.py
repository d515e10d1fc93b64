"""Each promise of SECURITY.md names tests, and they exist."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
TEXT = (TESTS.parent / "SECURITY.md").read_text("utf-8")


def test_every_promise_names_tests_that_exist():
    promises = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(promises) >= 12
    for promise in promises:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            assert re.search(rf"^def {test}\(", (TESTS / file).read_text("utf-8"), re.MULTILINE), f"{file} has no {test}"


def test_the_variable_that_it_names_is_read():
    from flux_demo.settings import Settings

    assert (
        {"FLUX_DEMO_AUTH", "FLUX_DEMO_HOSTS"}
        == set(re.findall(r"FLUX_DEMO_\w+", TEXT))
        <= {variable.name for variable in Settings.variables()}
    )

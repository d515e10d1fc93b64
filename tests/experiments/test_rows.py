"""Lists as files, before anything is made of their lines."""

import pytest

from flux_demo.errors import InvalidRequest
from flux_demo.experiments.rows import read


@pytest.fixture
def csv(tmp_path):
    def rows(*lines):
        (tmp_path / "list.csv").write_text("\n".join(lines), "utf-8")
        return list(read(tmp_path / "list.csv"))

    return rows


@pytest.mark.parametrize("rest", [[], ['text,"a ball",7']], ids=["never closed", "closed by the next"])
def test_a_row_has_the_number_of_the_line_where_it_begins(csv, rest):
    good, broken = csv("mode,prompt,steps", 'text,"a cube', 'on grass",1', "", 'text,a cube,"1', *["text,a cube,1"] * 9, *rest)
    assert good == (2, {"mode": "text", "prompt": "a cube\non grass", "steps": 1})
    assert broken[0] == 5 and isinstance(broken[1], InvalidRequest) and "lines after it were not read" in str(broken[1])


@pytest.mark.parametrize("separator", [",", ";"])
def test_blank_lines_before_the_names_of_the_columns_are_passed_over(csv, separator):
    rows = csv("", " ", *(line.replace(",", separator) for line in ("mode,prompt,steps", "text,a cube,1")))
    assert rows == [(4, {"mode": "text", "prompt": "a cube", "steps": 1})]

"""Write the recorded results into the README's tables, between their HTML comments.

python -m benchmarks.readme
"""

import json
import re
from pathlib import Path

from benchmarks import engine, memory
from benchmarks.record import RESULTS

README = Path(__file__).resolve().parent.parent / "README.md"


def filled(text: str) -> str:
    """The README's text with its tables made from the results."""
    for name, table in (("memory", memory.table()), ("engine", engine.table()), ("overhead", overhead())):
        rows = table.strip() if table.strip().count("\n") > 1 else "Not recorded yet."
        body = f"<!-- {name} -->\n\n{rows}\n\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda found, body=body: body, text, flags=re.DOTALL)
    return text


def overhead() -> str:
    """What the program itself costs, and its limits."""
    startup, maps, nvidia = (json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in ("startup", "maps", "nvidia"))
    slowest = max(nvidia["rows"], key=lambda row: row["work_ms"] / row["goal_ms"])
    rows = [
        ("`import flux_demo`, beside bare Python", f"{startup['import_extra_seconds'] * 1000:.0f} ms", "50 ms"),
        ("`python -m flux_demo --help`", f"{startup['help_seconds'] * 1000:.0f} ms", "300 ms"),
        ("the page answers, against a bare Gradio page", f"{startup['page_ratio']:.2f} times", "1.3 times"),
        (f"the edges of a {maps['photo']} photo, against the bare OpenCV calls", f"{maps['ratio']:.2f} times", "1.2 times"),
        (
            f"our own work for one request to NVIDIA ({slowest['backend']}, {slowest['mode']})",
            f"{slowest['work_ms']:.0f} ms",
            f"{slowest['goal_ms']} ms",
        ),
    ]
    return "\n".join(
        ["| what | measured | held to |", "|---|---|---|", *(f"| {what} | {value} | {limit} |" for what, value, limit in rows)]
    )


def main() -> None:
    README.write_text(filled(README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

"""Write the recorded results into the tables of README.md and benchmarks/README.md, between their comments.

python -m benchmarks.readme
"""

import json
import re
from pathlib import Path

from benchmarks import advice, engine, memory, soak
from benchmarks.record import RESULTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
FEW_CARDS = (8, 12, 16, 24, 48)  # GB; the README's, the rest is in benchmarks/README.md


def filled(text: str) -> str:
    """A page's text with its tables made from the results."""
    tables = {
        "advice": advice.table(),
        "plans": plans(),
        "memory": memory.table(),
        "gguf": memory.quantised_table(),
        "loading": loading(),
        "engine": engine.table(),
        "overhead": overhead(),
        "soak": soaked(),
    }
    for name, table in tables.items():
        rows = table.strip() if table.strip().count("\n") > 1 else "Not recorded yet."
        body = f"<!-- {name} -->\n\n{rows}\n\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda found, body=body: body, text, flags=re.DOTALL)
    return text


def plans() -> str:
    """The plan that a few cards get with enough main memory; cards with the same plan share a row."""
    title, rule, *lines = memory.table().splitlines()
    by_card: dict[int, str] = {}
    for line in lines:
        if found := re.match(r"\| (\d+) GB (\|.*)", line):
            by_card.setdefault(int(found[1]), found[2])  # the first row of a card is the one with the most main memory
    cards_of: dict[str, list[int]] = {}
    for card in FEW_CARDS:
        cards_of.setdefault(by_card[card], []).append(card)
    rows = [f"| {' to '.join(dict.fromkeys((str(cards[0]), str(cards[-1]))))} GB {rest}" for rest, cards in cards_of.items()]
    return "\n".join((title, rule, *rows))


def loading() -> str:
    """The main memory that reading a transformer takes at most."""
    result = json.loads((RESULTS / "loading.json").read_text("utf-8"))
    rows = [
        f"| `{row['file']}` | {row['gib']:.2f} GiB | {row['peak_gib']:.2f} GiB | {row['beyond_gib']:.2f} GiB | {result['limit_gib']:g} GiB |"
        for row in result["rows"]
    ]
    return "\n".join(["| file | its size | most memory | beyond the file | limit |", "|---|---|---|---|---|", *rows])


def overhead() -> str:
    """What the program itself costs, and its limits."""
    names = ("startup", "maps", "nvidia", "grid", "page", "busy")
    startup, maps, nvidia, grid, page, busy = (json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in names)
    slowest = max(nvidia["rows"], key=lambda row: row["work_ms"] / row["goal_ms"])
    not_quiet = " (measured while the machine was not quiet)" if page["note"] else ""
    rows = [
        *(
            (what, f"{startup[name] * 1000:.0f} ms", f"{startup['limits'][name] * 1000:.0f} ms")
            for what, name in (
                ("`import flux_demo`, beyond bare Python", "import_extra_seconds"),
                ("`python -m flux_demo --help`", "help_seconds"),
            )
        ),
        (
            "time until the page answers, relative to a bare Gradio page",
            f"{startup['page_ratio']:.2f} times",
            f"{startup['limits']['page_ratio']} times",
        ),
        (
            f"from a slider to its map of 256x256, in Chromium; {page['bare_slider_ms']:.0f} ms from a slider to an image on a bare Gradio page{not_quiet}",
            f"{page['map_256_ms']:.0f} ms",
            f"{page['limits']['map_256_ms']} ms",
        ),
        (
            "from a click to its image, without the engine's own time, in Chromium; "
            f"{page['bare_click_ms']:.0f} ms from a click to an image on a bare Gradio page{not_quiet}",
            f"{page['click_to_image_beyond_the_engine_ms']:.0f} ms",
            f"{page['limits']['click_to_image_beyond_the_engine_ms']} ms",
        ),
        (
            "the page's load in Chromium, relative to a bare Gradio page; "
            f"{page['load_ratio_of_the_same_components']:.2f} times a page of the same components{not_quiet}",
            f"{page['load_ratio']:.2f} times",
            f"{page['limits']['load_ratio']} times",
        ),
        *(
            (
                f"an image by the stock pipeline with this program's thread settings, relative to without them, while {others}",
                f"{busy[f'{name}_ratio']:.2f} times",
                f"{busy['limits'][f'{name}_ratio']:g} times",
            )
            for name, others in (("busy", "another program keeps half of the cores busy"), ("quiet", "nothing else runs"))
        ),
        (f"edge map of a {maps['photo']} photo, relative to the bare OpenCV calls", f"{maps['ratio']:.2f} times", f"{maps['limit']} times"),
        (
            f"a grid of {grid['cells']} cells, relative to as many calls of `generate`",
            f"{grid['ratio']:.2f} times",
            f"{grid['limit']} times",
        ),
        (
            f"our own work for one request to NVIDIA ({slowest['backend']}, {slowest['mode']})",
            f"{slowest['work_ms']:.0f} ms",
            f"{slowest['goal_ms']} ms",
        ),
    ]
    return "\n".join(["| what | measured | limit |", "|---|---|---|", *(f"| {what} | {value} | {limit} |" for what, value, limit in rows)])


def soaked() -> str:
    """Whether the page held out, and what it holds more than before."""
    result = json.loads((RESULTS / "soak.json").read_text("utf-8"))
    what = {
        "crossed": f"images that were another client's, of {result['images']}",
        "problems": f"calls that failed, of {result['images'] + sum(result['other_calls'].values())}",
        "clients_that_hang": f"clients that never finished, of {result['clients']}",
        "temporary_files_after_the_end": "temporary files once the page has ended",
        "memory_mib": "memory, more than before (MiB)",
        "handles": "open files and connections, more than before",
        "threads": "threads, more than before",
    }
    limits = result.get("limits", soak.LIMITS)
    rows = [f"| {what[name]} | {value} | {limits[name]} |" for name, value in soak.more(result).items()]
    return "\n".join(["| what | measured | limit |", "|---|---|---|", *rows])


def main() -> None:
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

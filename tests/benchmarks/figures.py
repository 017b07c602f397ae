"""The measured figures as a table, on the terminal and as a page: `python -m tests.benchmarks.figures`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.harness import FIGURES, ROOT

PAGE = ROOT / "docs" / "explanation" / "benchmarks.md"
HEAD = """# Benchmarks

Every figure was printed by the command that stands beside it, which writes one file a figure under
[figures](figures). `make bench` measures them again; `make figures` prints them and makes this page.
Intervals are of 95 %. A ratio says how many times, from runs in turn on the same machine.
"""
COLUMNS = ("figure", "value", "95 % interval", "beside", "measured by")


def read(folder: Path = FIGURES) -> list[dict[str, Any]]:
    """Return all figures, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def shown(value: float | None) -> str:
    """Return a number with three digits that count, large ones whole and small ones as they are."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one figure as a row."""
    unit = "" if figure["unit"] == "ratio" else f" {figure['unit']}"
    interval = "" if figure["lower"] is None else f"{shown(figure['lower'])} to {shown(figure['upper'])}"
    rival = "" if figure["rival"] is None else f"{figure['rival']}: {shown(figure['rival_value'])}"
    return figure["name"], f"{shown(figure['value'])}{unit}", interval, rival, figure["command"]


def page(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return the page: a table a topic, then what has to be known of each figure."""
    lines = [HEAD]
    topics = list(dict.fromkeys(figure["name"].partition(".")[0] for figure in figures))
    for topic in topics:
        held = [figure for figure in figures if figure["name"].partition(".")[0] == topic]
        lines += [f"## {topic}", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        for figure in held:
            name, *middle, command = row(figure)
            lines.append(f"| [`{name}`](figures/{name}.json) | {' | '.join(middle)} | `{command}` |")
        lines.append("")
        for figure in held:
            count = "" if figure["count"] is None else f" n = {figure['count']:,}."
            note = f" {figure['note']}." if figure.get("note") else ""
            lines.append(f"- `{figure['name']}`: {figure['date']}, {figure['cores']} cores.{count}{note}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-page", action="store_true", help="print alone")
    given = parser.parse_args()
    figures = read()
    table = Table(*COLUMNS)
    for figure in figures:
        table.add_row(*row(figure))
    Console().print(table if figures else "no figures yet: run `make bench`")
    if not given.no_page:
        PAGE.write_text(page(figures), encoding="utf-8")
        print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

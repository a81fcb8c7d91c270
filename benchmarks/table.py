"""The table of results in README.md, between two markers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ground.files import write_atomic

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- results: begin (written by make bench) -->", "<!-- results: end -->"


def refresh(results: Iterable[dict[str, Any]], readme: Path = README) -> None:
    """Put the results between the markers of ``readme``; the rest stays as it is."""
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    write_atomic(readme, f"{before}{BEGIN}\n{render(list(results))}{END}{after}")


def render(results: list[dict[str, Any]]) -> str:
    """A Markdown table with one row per result, and under it what each measures."""
    lines = [
        "| benchmark | value | goal | met | baseline | date | commit | machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        goal = "-" if r["goal"] is None else f"{'≥' if r['higher_is_better'] else '≤'} {r['goal']:g} {r['unit']}"
        baseline = r["baseline"]
        against = "-" if baseline is None else f"{baseline['name']}: {baseline['value']:,g} {baseline['unit']}"
        machine = f"{r['machine']['cpu']}, {r['machine']['cores']} cores, {r['machine']['memory_gb']} GB"
        value = f"{r['value']:,g} {r['unit']}"
        cells = [r["name"], value, goal, met(r), against, r["date"], r["commit"] or "-", machine]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- `{r['name']}`: {r['details']['measures']}" for r in results)]
    return "\n".join(lines) + "\n"


def met(result: dict[str, Any]) -> str:
    """Whether the goal is reached: ``yes``, ``no``, or ``-`` without a goal."""
    if result["goal"] is None:
        return "-"
    enough = result["value"] >= result["goal"] if result["higher_is_better"] else result["value"] <= result["goal"]
    return "yes" if enough else "no"

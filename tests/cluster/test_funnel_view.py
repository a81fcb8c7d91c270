"""The funnel and the preview on terminals of two widths, with names and reasons that are too long."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from cluster.funnel_view import middle, show_funnel, show_preview
from pipelines.quality.preview import PreviewRow
from tests.tracking.sample import old_funnel, sample_funnel

LONG = "pubmed-central-open-access-subset-of-2021-in-english-part-a"


def shown(funnel: dict[str, Any], width: int) -> str:
    to = Console(file=io.StringIO(), width=width, highlight=False)
    show_funnel(funnel, to)
    return printed(to)


def printed(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def row(text: str, name: str) -> list[str]:
    """Cells of the table's row of a source."""
    return next(line for line in text.splitlines() if line.startswith("   " + name)).split()


def test_a_row_tells_what_each_stage_left() -> None:
    text = shown(sample_funnel(), 120)
    medical = row(text, "medical")
    assert medical[:7] == ["medical", "14,210", "31.40", "13,286", "13,286", "13,082", "12,952"]
    assert medical[7] == "130"  # held out
    assert row(text, "textbook")[-3:] == ["-", "-", "-"]  # a reference is not stored
    assert text.index("domain") < text.index("general") < text.index("reference")


def test_stages_that_dropped_nothing_have_no_column() -> None:
    funnel = {"wikipedia": sample_funnel()["wikipedia"]}
    text = shown(funnel, 120)
    assert "filters" in text and "duplicates" not in text and "tamination" not in text


def test_reasons_come_largest_first_and_many_are_summed_up() -> None:
    text = shown(sample_funnel(), 120)
    assert "medical  1,128 of 14,210 documents dropped (7.9%)" in text
    assert "dropped   too_short 812  duplicate 204  few_letters 97  malformed_json 15" in text
    assert "repaired  boilerplate_lines 256  unicode 120" in text
    assert "redacted  DATE 1,200  PHONE 31" in text
    assert "repeats tasks  medqa_us 7  pubmedqa 3" in text
    assert "reason_07 93" in text and "reason_08" not in text
    assert f"+ 22 more ({sum(100 - i for i in range(8, 30)):,})" in text.replace("\n", " ")


def test_an_old_store_and_an_empty_one() -> None:
    text = shown(old_funnel(), 120)
    assert row(text, "medical")[1] == "14,210" and "repaired" not in text
    assert "Curation funnel" in shown({}, 120)
    assert row(shown({"a": {"role": "domain"}}, 120), "a")[1] == "0"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_nothing_is_cut_or_wrapped(width: int) -> None:
    funnel = sample_funnel()
    funnel[LONG] = funnel["documentation"] | {"read": {"documents": 402_000_000, "bytes": 9 * 10**12}}
    funnel[LONG]["dropped"] = {
        f"gopher_repetition_duplicate_line_characters_{i}": {"documents": i + 1} for i in range(30)
    }
    text = shown(funnel, width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    lines = text[: text.index("medical  1,128")].splitlines()
    rows = [line.split() for line in lines if line.startswith("   ") and "after" not in line and line.strip()]
    assert len(rows) == 7 and any(cells[1:3] == ["402", "M"] for cells in rows)
    assert not any("\u2026" in cell for cells in rows for cell in cells[1:])  # names may be cut, numbers never
    assert "characters_29 30" in " ".join(text.split())


def preview_rows(source: str, excerpt: str) -> list[PreviewRow]:
    places: list[Any] = ["best", "middle", "worst"]
    return [
        PreviewRow(source, place, 10 * i + j + 1, 1200, 2.0 + i + j / 10, f"{source}/{'deep/' * 9}{i}-{j}", excerpt)
        for i, place in enumerate(places)
        for j in range(2)
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_preview_fits(width: int) -> None:
    to = Console(file=io.StringIO(), width=width, highlight=False)
    hostile = "The [bold]patient[/bold]\n\x1b[31mwas \u202eacute \u6f22\u5b57 " * 9
    show_preview([*preview_rows("medical", hostile), *preview_rows("leaflets", "Short.")], to)
    text = printed(to)
    lines = text.splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert "\x1b" not in text and "\u202e" not in text and "The [bold]patient[/bold]" in text
    assert [line.split()[0] for line in lines if line.strip().startswith(("best", "middle", "worst"))] == [
        *("best", "middle", "worst") * 2
    ]
    assert sum("2.000" in line for line in lines) == 2 and sum("Short." in line for line in lines) == 6
    assert "1,200 documents looked at; lower scores are better" in text


def test_an_empty_preview_shows_nothing() -> None:
    to = Console(file=io.StringIO())
    show_preview([], to)
    assert printed(to) == ""


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("short", 5, "short"),
        ("abcdefghij", 5, "ab\u2026ij"),
        ("abcdefghij", 6, "abc\u2026ij"),
    ],
)
def test_middle(text: str, width: int, wanted: str) -> None:
    cut = middle(text, width)
    assert len(cut) <= width and cut == wanted

"""The page of errors is what the source can raise."""

from __future__ import annotations

import ast

from docs.troubleshooting import PAGE, ROOMS, ROOT, renewed, rows, rows_of


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == renewed(page), "run `python -m docs.troubleshooting`"


def test_every_file_that_raises_is_on_the_page() -> None:
    listed = {row.file for row in rows()}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            raised = [
                node
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and len(node.exc.args) == 3
            ]
            called = {ast.unparse(node.exc.func) for node in raised if isinstance(node.exc, ast.Call)}
            assert "UserError" not in called or name in listed, name


_SOURCE = """
_FIELD = "tracking.uri"

def check(path: str, size: int, wide: bool) -> None:
    mend = "widen it" if wide else f"narrow {path!r}"
    raise UserError(_FIELD, f"{path} holds {size:,} of {len(names)} rows", mend)

def other() -> None:
    mend = "never this"

class TrainingConfig(Section):
    @model_validator(mode="after")
    def _fits(self) -> Self:
        raise ValueError(f"{self.batch_sequences} is too many")
"""


def test_texts_are_followed_to_where_they_stand() -> None:
    first, second = rows_of(_SOURCE, "x.py")
    assert (first.field, first.problem) == ("tracking.uri", "<path> holds <size> of <names> rows")
    assert first.mend == "widen it or narrow <path>"
    assert (second.field, second.problem) == ("training", "<batch sequences> is too many")


def test_a_cell_breaks_no_table() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| **")]
    assert len(lines) > 200
    for line in lines:
        assert line.replace("\\|", "").count("|") == 4, line


def test_renewing_a_page_keeps_its_words() -> None:
    page = "# T\n<!-- errors: begin (written by python -m docs.troubleshooting) -->\nold\n<!-- errors: end -->\nlast\n"
    assert (
        renewed(page).startswith("# T\n") and renewed(page).endswith("-->\nlast\n") and "\nold\n" not in renewed(page)
    )

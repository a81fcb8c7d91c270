"""The table of docs/troubleshooting.md, from the errors in the source: `python -m docs.troubleshooting` renews it.

Every ``UserError(field, problem, mend)`` of the product becomes a row, and every ``ValueError`` of a section's validators,
which the command shows under the section's name. Texts are read from the syntax tree: a variable part is shown in angle
brackets, a name that holds a text is followed to the texts it is given.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = Path(__file__).parent / "troubleshooting.md"
ROOMS = ("ground", "tracking", "pipelines", "training", "tuning", "cluster")
ERRORS = {"UserError", "CorruptError", "BudgetError"}
_BEGIN, _END = "<!-- errors: begin (written by python -m docs.troubleshooting) -->", "<!-- errors: end -->"
_VALIDATORS = {"model_validator", "field_validator"}
_TOPICS = {
    "sources": "Sources",
    "curation": "Curation",
    "quality": "Curation",
    "mixture": "Mixture and plan",
    "training": "Training",
    "evaluation": "Evaluation",
    "model": "Model",
    "tracking": "Tracking",
    "tuning": "Search",
    "cluster": "Cluster and jobs",
    "work": "Folders",
    "runs": "Runs",
}
_READING = ("pipelines/readers", "pipelines/paths", "pipelines/inputs", "pipelines/streams")
_Scope = ast.FunctionDef | ast.Module


@dataclass(frozen=True, order=True)
class Row:
    """One error."""

    field: str
    problem: str
    mend: str
    file: str


def rows() -> list[Row]:
    """All errors, each once, in the order of their texts."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return sorted({row for path in files for row in rows_of(path.read_text(), str(path.relative_to(ROOT)))})


@cache
def page_table() -> str:
    """Markdown: one table for each topic."""
    topics: dict[str, list[Row]] = {}
    for row in rows():
        topics.setdefault(_topic(row), []).append(row)
    order = [*dict.fromkeys(_TOPICS.values()), "Command line", "Files and others"]
    return "".join(_section(topic, topics[topic]) for topic in order if topic in topics)


def renewed(page: str) -> str:
    """The page with its table made anew."""
    head, _, rest = page.partition(_BEGIN)
    return f"{head}{_BEGIN}\n{page_table()}\n{_END}{rest.partition(_END)[2]}"


def _section(topic: str, chosen: list[Row]) -> str:
    lines = [f"\n### {topic}\n\n| error | what to do | from |\n|---|---|---|\n"]
    for row in chosen:
        message = f"**{_safe(row.field)}**: {_safe(row.problem)}"
        lines.append(f"| {message} | {_safe(row.mend)} | `{row.file}` |\n")
    return "".join(lines)


def _topic(row: Row) -> str:
    if row.field.startswith("--") or row.field.isupper() or row.field == "submit":
        return "Command line"
    if row.field.startswith(("<field>", "<name>")) and row.file.startswith("pipelines/"):
        return "Sources" if row.file.startswith(_READING) else "Curation"
    return _TOPICS.get(re.split(r"[.\s<]", row.field)[0], "Files and others")


def _safe(text: str) -> str:
    """For a cell: no bar, no tag, no star. Inside code nothing but the bar is escaped."""
    parts = text.replace("|", "\\|").split("`")
    for index in range(0, len(parts), 2):
        plain = parts[index].replace("<", "&lt;").replace(">", "&gt;").replace("*", "\\*")
        parts[index] = plain.replace("__", "\\_\\_")
    return "`".join(parts)


def rows_of(source: str, file: str) -> Iterator[Row]:
    """The errors of one source text."""
    tree = ast.parse(source)
    for scope, call in _calls(tree, tree):
        name = _name_of(call.func)
        if name in ERRORS and len(call.args) >= 3:
            field, problem, mend = (" or ".join(_texts(argument, scope, tree)) for argument in call.args[:3])
            yield Row(field, problem, mend, file)
    for section in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for problem in _validator_errors(section, tree):
            yield Row(_section_name(section), problem, "see the [recipe reference](recipe.md)", file)


def _calls(node: ast.AST, scope: _Scope) -> Iterator[tuple[_Scope, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        inner = child if isinstance(child, ast.FunctionDef) else scope
        if isinstance(child, ast.Call):
            yield scope, child
        yield from _calls(child, inner)


def _validator_errors(section: ast.ClassDef, tree: ast.Module) -> Iterator[str]:
    for function in (node for node in section.body if isinstance(node, ast.FunctionDef)):
        decorators = {_name_of(d.func if isinstance(d, ast.Call) else d) for d in function.decorator_list}
        if decorators & _VALIDATORS:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _name_of(node.func) == "ValueError" and node.args:
                    yield " or ".join(_texts(node.args[0], function, tree))


def _section_name(section: ast.ClassDef) -> str:
    """``training`` for ``TrainingConfig``; other sections keep their name."""
    short = section.name.removesuffix("Config").lower()
    return short if short in _TOPICS else section.name


def _name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _texts(node: ast.expr, scope: _Scope, tree: ast.Module) -> list[str]:
    """The texts an expression can be; what is not known is its name in angle brackets."""
    if isinstance(node, ast.Constant):
        return [] if node.value is None else [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_piece(value) for value in node.values)]
    if isinstance(node, ast.IfExp):
        return _texts(node.body, scope, tree) + _texts(node.orelse, scope, tree)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [a + b for a in _texts(node.left, scope, tree) for b in _texts(node.right, scope, tree)]
    if isinstance(node, ast.Name):
        given = [value for value in _given(node.id, scope) or _given(node.id, tree) if not _is_name(value, node.id)]
        known = [text for value in given for text in _texts(value, scope, tree)]
        return list(dict.fromkeys(known)) or [f"<{_words(node.id)}>"]
    return [_piece(node)]


def _is_name(value: ast.expr, name: str) -> bool:
    """Whether an assignment only passes the name on, which tells nothing."""
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(value))


def _given(name: str, scope: _Scope) -> list[ast.expr]:
    """What a name is assigned in a scope, where that is a text or another name's."""
    values: list[ast.expr] = []
    # Of a module only its own level: the locals of its functions are other names.
    for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        if isinstance(node, ast.Assign) and any(_name_of(target) == name for target in node.targets):
            values.append(node.value)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            pairs = zip(node.targets[0].elts, node.value.elts, strict=False)
            values += [value for target, value in pairs if _name_of(target) == name]
    return [value for value in values if isinstance(value, ast.Constant | ast.JoinedStr | ast.IfExp | ast.BinOp)]


def _piece(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return _piece(node.value)
    inner = node
    while isinstance(inner, ast.Call | ast.Subscript | ast.Attribute | ast.BinOp):
        if isinstance(inner, ast.Attribute) and inner.attr not in ("name", "path", "folder", "value"):
            return f"<{_words(inner.attr)}>"
        if isinstance(inner, ast.Call):
            inner = inner.args[0] if inner.args else inner.func
        else:
            inner = inner.left if isinstance(inner, ast.BinOp) else inner.value
    return f"<{_words(inner.id)}>" if isinstance(inner, ast.Name) else "<...>"


def _words(name: str) -> str:
    return name.strip("_").replace("_", " ").lower()


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

"""Writes docs/recipe.md, the recipe reference, from the docstrings of the configuration: `python -m docs.build`."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cluster.recipe import Recipe

TARGET = Path(__file__).parent / "recipe.md"

_HEAD = """# Recipe reference

Generated from the configuration's own docstrings by `make docs`; do not edit.

A recipe is one YAML file. Any field can be changed on the command line: `steady train RECIPE training.workers=2
"mixture.shares={medical: 0.9, wikipedia: 0.1}"`. Unknown fields are errors. Relative paths start at the current folder.
"""


def reference() -> str:
    """The whole page."""
    return _HEAD + "".join(_section(model, title) for title, model in _sections(Recipe, "recipe"))


def _sections(model: type[BaseModel], title: str) -> list[tuple[str, type[BaseModel]]]:
    """A model and, depth first, the models its fields hold."""
    found = [(title, model)]
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            path = name if title == "recipe" else f"{title}.{name}"
            is_mapping = typing.get_origin(field.annotation) is dict
            found += _sections(inner, f"{path}.<name>" if is_mapping else path)
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]


def _section(model: type[BaseModel], title: str) -> str:
    doc = " ".join((model.__doc__ or "").split())
    rows = "".join(_row(name, field) for name, field in model.model_fields.items())
    return f"\n## `{title}`\n\n{doc}\n\n| field | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split()).replace("|", "\\|").replace("``", "`")
    return f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |\n"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " \\| ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if annotation is Any:
        return "any"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, "section" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None or isinstance(value, BaseModel) or value in ({}, ""):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    TARGET.write_text(reference())

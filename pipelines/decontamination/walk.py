"""The strings inside a JSON value."""

from __future__ import annotations

from collections.abc import Iterator


def strings_of(value: object) -> Iterator[str]:
    """Every string in ``value``, lists and the values of objects walked in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings_of(part)

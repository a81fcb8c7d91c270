"""One row's values to a document's parts: valid Unicode, canonical JSON, messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from pipelines.readers.config import SourceReading

LONGEST_RECORD = 64 << 20
"""Bytes of the longest row that is read. Longer ones are dumps or lines without an end; curation drops documents far
shorter than this, and a worker holds a few copies of a row."""

_DEEPEST = 200  # levels of kept JSON: far above any real row, far below the interpreter's stack
_INT64 = 1 << 63


class TooDeepError(ValueError):
    """A value is nested deeper than is kept."""


def whole_characters(text: str) -> str:
    """JSON can spell half of a surrogate pair ("\\ud83d"), which UTF-8 cannot hold: join pairs, replace lone halves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def canonical_text(value: Any) -> str:
    """The JSON text of a value, without spaces and with sorted keys: equal values give equal texts.

    Raises:
        TooDeepError: it is nested deeper than 200 levels.
    """
    return orjson.dumps(_plain(value), option=orjson.OPT_SORT_KEYS).decode()


def key_of(value: object, file_name: str, position: int) -> str:
    """A document's id: the row's own when it is a string or a whole number, else file name and position."""
    if isinstance(value, str) and value:
        return whole_characters(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return f"{file_name}#{position}"


def metadata_of(values: Mapping[str, Any], source: SourceReading) -> str | None:
    """The row's ``metadata_fields`` as one JSON text, or None when it has none of them.

    Raises:
        TooDeepError: a value is nested too deep.
    """
    kept = {name: values[name] for name in source.metadata_fields if values.get(name) is not None}
    return canonical_text(kept) if kept else None


def messages_of(value: object) -> tuple[str, str] | None:
    """Text and canonical JSON of a conversation, or None when it is none.

    A message is ``{role, content}``, both strings; other keys are left out. The text is the contents with a blank line
    between them.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    messages: list[dict[str, str]] = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        messages.append({"role": whole_characters(role), "content": whole_characters(content)})
    return "\n\n".join(message["content"] for message in messages), canonical_text(messages)


def _plain(value: Any, depth: int = 0) -> Any:
    """A copy that orjson can write: whole characters, string keys, numbers of 64 bits, other types as their text."""
    if isinstance(value, str):
        return whole_characters(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if depth == _DEEPEST:
        raise TooDeepError(f"it is nested deeper than {_DEEPEST} levels")
    if isinstance(value, Mapping):
        return {whole_characters(str(name)): _plain(child, depth + 1) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child, depth + 1) for child in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else whole_characters(str(value))

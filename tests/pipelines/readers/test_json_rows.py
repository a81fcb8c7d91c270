"""JSON lines, arrays and indented objects: what a row may hold, and what is counted instead."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.readers import Rejects
from pipelines.readers.elements import elements
from tests.pipelines.readers.reading import compress, counts, lines, pairs, read

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=12,
)


def test_rows_without_a_document_are_counted_and_sampled(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        b'\xef\xbb\xbf{"text": "after a byte order mark"}',
        b"{not json",
        b"",
        b'{"text": 7}',
        b'{"text": null}',
        b'{"other": "x"}',
        b"[1, 2]",
        b'"text"',
        b"[" * 100_000,
        b'{"text": "fine", "id": 12}',
        b'{"text": "\x00"}',
        b"\x00\x00\x00",
        b'{"text": "twice", "text": "last", "id": 1.5}',
    ]
    path.write_bytes(b"\n".join(rows))
    found: list[Rejects] = []
    documents = pairs(read(path, rejects=found))
    assert [text for _, text in documents] == ["after a byte order mark", "fine", "last"]
    assert [key for key, _ in documents][:2] == ["a.jsonl#0", "12"]
    assert counts(found) == {"malformed_json": 4, "missing_text": 5}
    assert found[0].rows == 12
    samples = {(sample["reason"], sample["excerpt"]) for sample in found[0].samples}
    assert ("malformed_json", "{not json") in samples and ("missing_text", "[1,2]") in samples
    assert all(len(sample["excerpt"]) <= 500 for sample in found[0].samples)
    assert next(sample["position"] for sample in found[0].samples) == 39


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (b'{"text": "bad \xff byte"}', "bad \ufffd byte"),
        (b'{"text": "half \\ud83d, whole \\ud83d\\ude00"}', "half \ufffd, whole \U0001f600"),
        (b'{"text": "nul \\u0000"}', "nul \0"),
        (
            '{"text": "\u05e9\u05dc\u05d5\u05dd \u202etfel\u202c \U00010348"}'.encode(),
            "\u05e9\u05dc\u05d5\u05dd \u202etfel\u202c \U00010348",
        ),
        (b'{"text": "x", "score": NaN, "count": 123456789012345678901234567890}\r', "x"),
        (b'{"text": "x", "deep": ' + b"[" * 900 + b"]" * 900 + b"}", "x"),
    ],
)
def test_odd_rows_are_documents(tmp_path: Path, row: bytes, text: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row + b"\n")
    found: list[Rejects] = []
    assert [text for _, text in pairs(read(path, rejects=found))] == [text]
    assert not counts(found)
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + row + b"]")
    assert [text for _, text in pairs(read(path))] == [text]


def test_a_row_s_fate_does_not_depend_on_how_deep_the_caller_stands(tmp_path: Path) -> None:
    """The fast parser allows 1,024 levels; the one that mends bad bytes 200, far from the interpreter's limit."""

    def at_depth(levels: int) -> dict[str, int]:
        if levels:
            return at_depth(levels - 1)
        found: list[Rejects] = []
        read(path, rejects=found)
        return counts(found)

    path = tmp_path / "a.jsonl"
    rows = [b'{"text": "half \\ud83d", "deep": ' + b"[" * n + b"]" * n + b"}" for n in (150, 250, 800, 950)]
    path.write_bytes(b"\n".join(rows))
    assert at_depth(0) == at_depth(600) == {"malformed_json": 3}


def test_duplicate_ids_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"id": "same", "text": "one"}, {"id": "same", "text": "two"}, {"id": "", "text": "three"}]))
    assert pairs(read(path)) == [("same", "one"), ("same", "two"), ("a.jsonl#60", "three")]


def test_metadata_is_canonical_and_only_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "a", "z": {"y": 1, "x": [true, null]}, "a": "\\ud83d", "b": 3}\n'
        b'{"text": "b", "a": null}\n'
        b'{"text": "c", "z": ' + b"[" * 300 + b"]" * 300 + b"}\n"
    )
    found: list[Rejects] = []
    (batch,) = read(path, metadata_fields=("z", "a"), rejects=found)
    assert batch.metadata == ['{"a":"\ufffd","z":{"x":[true,null],"y":1}}', None]
    assert batch.messages == [None, None]
    assert counts(found) == {"nested_too_deep": 1}


def test_conversations(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Why?", "weight": 1}, {"content": "Because.", "role": "assistant"}]
    bad: list[Any] = [None, [], "text", [1], [{"role": "user"}], [{"role": 1, "content": "x"}], {"role": "user"}]
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"chat": talk}, *({"chat": value} for value in bad), {"text": "no chat"}]))
    found: list[Rejects] = []
    (batch,) = read(path, messages_field="chat", rejects=found)
    assert batch.texts == ["Why?\n\nBecause."]
    assert batch.messages == ['[{"content":"Why?","role":"user"},{"content":"Because.","role":"assistant"}]']
    assert counts(found) == {"malformed_messages": len(bad) + 1}


@given(
    values=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    block=st.integers(1, 40),
    ascii_only=st.booleans(),
)
def test_an_array_has_its_elements_for_every_block_size(
    values: list[Any], indent: int | None, block: int, ascii_only: bool
) -> None:
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found = list(_elements(data, array=True, block=block))
    assert [json.loads(element) for _, element in found] == values
    assert all(data[start : start + len(element)] == element for start, element in found)
    objects = [value for value in values if isinstance(value, dict)]
    data = "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in objects).encode()
    assert [json.loads(element) for _, element in _elements(data, array=False, block=block)] == objects


def _elements(data: bytes, *, array: bool, block: int, longest: int = 1 << 20) -> list[tuple[int, bytes]]:
    return list(elements(io.BytesIO(data), "a.json", Rejects(), array=array, block_bytes=block, longest=longest))


def test_elements_longer_than_the_limit_are_counted() -> None:
    data = json.dumps(["x" * 50, "short", "y" * 200, "z"]).encode()
    for block in (1, 7, 1000):
        rejects = Rejects()
        found = list(elements(io.BytesIO(data), "a.json", rejects, array=True, block_bytes=block, longest=30))
        assert [json.loads(element) for _, element in found] == ["short", "z"]
        assert rejects.counts == {"too_long": 2}


@pytest.mark.parametrize("ending", ["json", "json.gz", "json.zst"])
def test_json_files_that_are_no_lines(tmp_path: Path, ending: str) -> None:
    documents = [{"id": str(i), "text": f'text {i} with "quotes", [brackets] and \\'} for i in range(50)]
    expected = [(row["id"], row["text"]) for row in documents]
    for data in (
        json.dumps(documents),
        json.dumps(documents, indent=2),
        "\ufeff \n" + json.dumps(documents) + "\n",
        "\n".join(json.dumps(row, indent=1) for row in documents),
        "".join(json.dumps(row) + "\n" for row in documents),
    ):
        path = tmp_path / f"a.{ending}"
        path.write_bytes(compress(data.encode(), ending))
        for target in (1 << 40, 500):
            assert sorted(pairs(read(path, target=target))) == sorted(expected)


def test_broken_elements_are_counted_and_a_cut_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "a"}, {"text" 1}, {"text": "b"}] tail')
    found: list[Rejects] = []
    assert [text for _, text in pairs(read(path, rejects=found))] == ["a", "b"]
    assert counts(found) == {"malformed_json": 2}
    path.write_bytes(b'[{"text": "a"}, {"text": "b')
    with pytest.raises(
        UserError, match=r"^sources\.mine\.paths: cannot read .*a\.json \(it ends inside a JSON value\)"
    ):
        read(path)


@given(data=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_in_brackets_are_elements_or_an_error(data: bytes) -> None:
    try:
        whole = _elements(b"[" + data, array=True, block=1000)
    except EOFError:
        with pytest.raises(EOFError):
            _elements(b"[" + data, array=True, block=3)
    else:
        assert _elements(b"[" + data, array=True, block=3) == whole

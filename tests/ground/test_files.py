"""Files appear whole or not at all; equal values give equal bytes and digests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ground.files import canonical_json, digest_bytes, digest_file, write_atomic

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_write_makes_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    write_atomic(target, "grüße")
    write_atomic(target, b"second")
    assert target.read_bytes() == b"second"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    target = tmp_path / "file"
    write_atomic(target, "old")

    def refuse(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(OSError, match="no space"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=4))
def test_canonical_json_is_lossless_and_ignores_the_order_of_keys(value: dict[str, Any]) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert text == canonical_json(dict(reversed(value.items())))
    assert text.endswith("}\n")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 5])
def test_digest_of_a_file_is_blake3_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(min(size, 4099))) * (size // 4099 + 1)
    data = data[:size]
    (tmp_path / "data").write_bytes(data)
    expected = blake3(data).hexdigest()[:32]
    assert digest_file(tmp_path / "data") == digest_bytes(data) == expected


def test_digest_of_text_is_that_of_its_utf8() -> None:
    assert digest_bytes("naïve") == digest_bytes("naïve".encode())

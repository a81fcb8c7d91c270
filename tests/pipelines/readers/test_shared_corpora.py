"""The shared corpora, read whole and cut: one document a line, none rejected."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import zstandard

from pipelines.readers import Rejects
from tests.pipelines.readers.reading import read

DATA = Path(__file__).parents[3].parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the shared corpora are not here"),
]


@pytest.mark.parametrize("room", ["medical", "general"])
def test_every_line_is_a_document_for_every_cut(room: str) -> None:
    for path in sorted((DATA / room).glob("*.jsonl.zst")):
        with open(path, "rb") as file:
            lines = sum(1 for _ in io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)))
        whole: list[Rejects] = []
        documents = sum(map(len, read(path, rejects=whole)))
        assert documents == whole[0].rows == lines and not whole[0].counts, path.name
        if path.stat().st_size < 2_000_000:
            assert sum(map(len, read(path, target=1_000_000))) == lines, path.name

"""Broken files among good ones: good documents are read, bad rows counted, broken files named; nothing else is raised."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from blake3 import blake3
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.readers import Rejects, SourceReading, expand_source
from pipelines.readers import lines as lines_module
from tests.pipelines.readers.reading import compress, counts, lines, pairs, read, record, response

ROWS = [{"id": f"row-{i}", "text": f"Document {i} says: naïve café, 発熱 and 🤒."} for i in range(300)]
EXPECTED = [(row["id"], row["text"]) for row in ROWS]
BASES = ["jsonl", "json", "parquet", "arrow", "feather", "txt", "md", "warc", "wet", "ndjson"]
ENDINGS = [base + compression for base in BASES for compression in ("", ".gz", ".zst")]
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def whole(base: str, folder: Path) -> bytes:
    """A good file of each format."""
    table = pa.Table.from_pylist(ROWS[:20])
    if base == "parquet":
        pq.write_table(table, folder / "whole")
        return (folder / "whole").read_bytes()
    if base == "arrow":
        with pa.OSFile(str(folder / "whole"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        return (folder / "whole").read_bytes()
    if base == "feather":
        with pa.OSFile(str(folder / "whole"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        return (folder / "whole").read_bytes()
    if base in ("warc", "wet"):
        page = response("http://a/", b"<html><body><main><p>Words</p></main></body></html>")
        return page + record("conversion", "http://b/", b"Words", "text/plain")
    if base == "json":
        return json.dumps(ROWS[:20], indent=1).encode()
    return b"Plain words" if base in ("txt", "md") else lines(ROWS[:20])


@given(data=st.binary(max_size=300), ending=st.sampled_from(ENDINGS), packed=st.booleans(), target=st.integers(1, 400))
@example(data=b"PAR1PAR1", ending="parquet", packed=False, target=100)
@example(data=b"ARROW1\0\0ARROW1", ending="arrow", packed=False, target=100)
@example(data=b"\x1f\x8b\x08\x00", ending="json.gz", packed=False, target=100)
@example(data=b"\x28\xb5\x2f\xfd", ending="jsonl.zst", packed=False, target=100)
@settings(FUZZ, max_examples=400)
def test_arbitrary_bytes_give_documents_or_a_user_error(
    tmp_path: Path, data: bytes, ending: str, packed: bool, target: int
) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_bytes(compress(data, ending) if packed else data)
    with contextlib.suppress(UserError):
        for _, text in pairs(read(path, target=target)):
            text.encode()


@given(data=st.data())
@settings(FUZZ, max_examples=400)
def test_damaged_files_give_documents_or_a_user_error(tmp_path: Path, data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from(ENDINGS))
    content = bytearray(whole(ending.split(".")[0], tmp_path))
    inside = data.draw(st.booleans())
    content = content if inside else bytearray(compress(bytes(content), ending))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(compress(bytes(content), ending) if inside else content)
    with contextlib.suppress(UserError):
        for _, text in pairs(read(path, target=data.draw(st.sampled_from([100, 1 << 40])))):
            text.encode()


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "json.gz", "txt.zst", "parquet", "feather"])
def test_a_truncated_file_is_named_in_every_split(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(compress(whole(ending.split(".", maxsplit=1)[0], tmp_path), ending)[:-9])
    for target in (1 << 40, 300):
        with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*cut\."):
            read(path, target=target)


@pytest.mark.parametrize("ending", ["jsonl.gz", "jsonl.zst", "parquet", "warc.gz"])
def test_a_file_that_is_not_what_its_ending_says_is_named(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(lines(ROWS))
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*a\."):
        read(tmp_path / f"a.{ending}")


def test_members_and_frames_are_one_file(tmp_path: Path) -> None:
    data = lines(ROWS)
    parts = [data[:1000], b"", data[1000:7001], data[7001:]]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(gzip.compress(part) for part in parts) + b"\0" * 10)
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(zstandard.compress(part) for part in parts))
    for ending in ("gz", "zst"):
        assert pairs(read(tmp_path / f"a.jsonl.{ending}")) == EXPECTED


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "json", "txt", "txt.gz", "warc", "arrow"])
def test_an_empty_file_holds_nothing(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(b"")
    found: list[Rejects] = []
    assert read(tmp_path / f"a.{ending}", rejects=found) == []
    assert found[0].rows == 0


def test_bad_rows_among_good_ones(tmp_path: Path) -> None:
    """Invalid UTF-8, NULs, carriage returns, numbers for text, deep nesting: each row stands alone."""
    bad = [b"\0" * 50, b"\xff\xfe{}", b'{"text": 1}', b'{"text": null}', b"{}", b"[" * 5000, b'{"text": "open', b"null"]
    good = lines(ROWS).splitlines()
    rows = [
        row
        for i, line in enumerate(good)
        for row in ([line, bad[i // 20]] if i % 20 == 0 and i // 20 < len(bad) else [line])
    ]
    for end in (b"\n", b"\r\n"):
        path = tmp_path / "a.jsonl"
        path.write_bytes(end.join(rows))
        found: list[Rejects] = []
        assert pairs(read(path, target=1000, rejects=found)) == EXPECTED
        assert counts(found) == {"malformed_json": 4, "missing_text": 4}
        assert sum(rejects.rows for rejects in found) == len(ROWS) + len(bad)


def test_text_files_keep_what_they_can(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbftwo\r\nlines \xff\0")
    assert pairs(read(tmp_path / "a.txt")) == [("a.txt", "two\r\nlines \ufffd\0")]


def test_a_line_longer_than_the_limit_is_counted_whatever_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module.line_blocks, "__defaults__", (3_000_000,))
    long = {"text": "x" * 3_000_000}
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([*ROWS[:150], long, *ROWS[150:]]))
    for target in (1 << 40, 500_000, 5000):
        found: list[Rejects] = []
        assert pairs(read(path, target=target, rejects=found)) == EXPECTED
        assert counts(found) == {"too_long": 1}
        (sample,) = [sample for rejects in found for sample in rejects.samples]
        assert sample["position"] == len(lines(ROWS[:150]))
        assert sample["excerpt"] == json.dumps(long)[:500]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "txt"])
def test_a_line_of_200_mb_takes_a_few_times_the_limit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    block = b"x" * (1 << 20)
    with gzip.open(path, "wb", 1) if ending.endswith("gz") else open(path, "wb") as file:
        file.write(b"[" if ending == "json" else b"")
        file.write(b'{"text": "')
        for _ in range(200):
            file.write(block)
        file.write(b'"}' + (b"," if ending == "json" else b"\n"))
        file.write(b'{"text": "fine"}' + (b"]" if ending == "json" else b""))
    code = (
        "import resource, sys\n"
        "from tests.pipelines.readers.reading import counts, pairs, read\n"
        "import pipelines.readers.json_rows, pipelines.readers.text\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "found = []\n"
        "texts = [text for _, text in pairs(read(sys.argv[1], rejects=found))]\n"
        "print(texts, counts(found), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    texts, _, grown = done.stdout.strip().rpartition(" ")
    assert texts == ("[] {'too_long': 1}" if ending == "txt" else "['fine'] {'too_long': 1}")
    assert int(grown) < 200  # MiB; the limit of a row is 64


def test_a_sample_is_the_same_documents_on_every_run_and_grows_with_its_share(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(ROWS))
    samples = [pairs(read(path, sample_share=share, target=700)) for share in (0.1, 0.5)]
    for share, sample in zip((0.1, 0.5), samples, strict=True):
        limit = int(share * (1 << 128))
        assert sample == [row for row in EXPECTED if int(blake3(row[1].encode()).hexdigest(16), 16) <= limit]
    assert set(samples[0]) < set(samples[1])
    assert pairs(read(path, largest="0" * 32)) == []


def test_the_file_among_good_ones_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS))[:-20])
    (tmp_path / "c.jsonl").write_bytes(lines(ROWS))
    outcomes: dict[str, Any] = {}
    for file in expand_source(SourceReading(paths=(str(tmp_path),)), "sources.mine"):
        try:
            outcomes[Path(file).name] = pairs(read(file))
        except UserError as error:
            outcomes[Path(file).name] = error.problem
    assert outcomes["a.jsonl"] == outcomes["c.jsonl"] == EXPECTED
    assert "b.jsonl.gz" in outcomes["b.jsonl.gz"]

"""Web archives: main text of pages, extracted text as it is, everything else passed over or counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ground.errors import UserError
from pipelines.readers import Rejects
from tests.pipelines.readers.reading import compress, counts, pairs, read, record, response

PAGE = (
    "<html><head><title>T</title><meta charset='{}'><script>var x;</script></head><body>"
    "<nav><a href='/'>Home</a></nav><main><p>Fièvre is a symptom.</p><p>So is <b>cough</b>.</p></main></body></html>"
)
TEXT = "Fièvre is a symptom.\n\nSo is cough."


@pytest.mark.parametrize("ending", ["warc", "warc.gz", "warc.zst"])
def test_pages_and_extracted_texts(tmp_path: Path, ending: str) -> None:
    page = PAGE.format("utf-8").encode()
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(page[i : i + 50]), page[i : i + 50]) for i in range(0, len(page), 50))
    records = [
        record("warcinfo", "about", b"software: x\r\n", "application/warc-fields"),
        record("request", "http://a/", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
        response("http://a/", page),
        response("http://b/", PAGE.format("latin-1").encode("latin-1"), "Content-Type: text/html"),
        response("http://c/", gzip.compress(page), "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip"),
        response("http://d/", chunked + b"0\r\n\r\n", "Content-Type: text/html\r\nTransfer-Encoding: chunked"),
        response("http://gone/", page, status="404 Not Found"),
        response("http://image/", b"\x89PNG", "Content-Type: image/png"),
        record("conversion", "http://e/", "Déjà\nextracted \x00".encode() + b"\xff", "text/plain"),
    ]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"".join(compress(part, ending) for part in records))
    found: list[Rejects] = []
    batches = read(path, rejects=found, metadata_fields=("url", "date", "mime"))
    expected = [(f"http://{name}/", TEXT) for name in "abcd"] + [("http://e/", "Déjà\nextracted \0\ufffd")]
    assert pairs(batches) == expected
    first = '{"date":"2024-01-01T00:00:00Z","mime":"text/html","url":"http://a/"}'
    assert batches[0].metadata[0] == first
    assert not counts(found) and found[0].rows == 5


def test_pages_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    encoding = "Content-Type: text/html\r\nContent-Encoding: "
    path.write_bytes(
        response("http://a/", b"not gzip", encoding + "gzip")
        + response("http://b/", b"not brotli", encoding + "br")
        + response("http://c/", b"?", encoding + "unheard-of")
        + response("http://d/", gzip.compress(b"x" * (9 << 20)), encoding + "gzip")
        + response("http://e/", b"<p>fine</p>", "Content-Type: text/html; charset=unheard-of")
        + response("http://f/", b"")
        + record("response", "http://g/", b"no HTTP at all", "application/http")
        + record("response", "http://h/", b"", "application/http")
        + response("http://i/", b"<p>fine</p>")
    )
    found: list[Rejects] = []
    documents = pairs(read(path, rejects=found))
    assert documents == [("http://e/", "fine"), ("http://f/", ""), ("http://i/", "fine")]
    assert counts(found) == {"malformed_record": 4}
    assert "http://a/" in found[0].samples[0]["excerpt"]


def test_deep_nesting_is_counted_before_it_takes_its_time(tmp_path: Path) -> None:
    """The main-content extractor needs 25 s for 20,000 open elements, and four times as long for twice as many."""
    path = tmp_path / "a.warc"
    deep = b"<div>" * 5_000 + b"deep"
    closed = deep + b"</div>" * 5_000
    flat = b"<p>one<br>two<img src=x>" * 10_000
    path.write_bytes(
        response("http://deep/", deep) + response("http://closed/", closed) + response("http://flat/", flat)
    )
    found: list[Rejects] = []
    documents = pairs(read(path, rejects=found))
    assert [key for key, _ in documents] == ["http://flat/"]
    assert documents[0][1].count("one") == 10_000
    assert counts(found) == {"malformed_record": 2}


@pytest.mark.parametrize("ending", ["warc", "warc.gz", "warc.zst"])
def test_a_cut_archive_is_named(tmp_path: Path, ending: str) -> None:
    records = [record("conversion", f"http://a/{i}", b"words " * 100, "text/plain") for i in range(5)]
    whole = b"".join(compress(part, ending) for part in records)
    path = tmp_path / f"a.{ending}"
    for lost in (20, 60) if ending != "warc" else (20, 500):
        path.write_bytes(whole[:-lost])
        with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*a\.warc"):
            read(path)


@pytest.mark.parametrize("data", [b"hello\n" * 100, b"\0" * 1000, b"WARC/1.0\r\n" + b"a: b\r\n" * 100_000])
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.warc").write_bytes(data)
    with pytest.raises(UserError, match=r"^sources\.mine\.paths: cannot read .*a\.warc"):
        read(tmp_path / "a.warc")


def test_an_empty_archive_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "a.wet").write_bytes(b"")
    assert read(tmp_path / "a.wet") == []

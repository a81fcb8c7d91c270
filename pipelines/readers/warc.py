"""Pages of web archives: the main text of HTML responses (WARC), extracted texts as they are (WET)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree, Node

from pipelines.readers.rejects import Rejects
from pipelines.readers.splits import Split
from pipelines.readers.values import LONGEST_RECORD
from pipelines.streams import UNREADABLE, open_stream

_HTML = ("text/html", "application/xhtml+xml")
_LONGEST_PAGE = 8 << 20  # a page's tree takes many times its size; Common Crawl itself cuts pages far below this
_STEP_BYTES = 1 << 20  # read at a time to pass over a record
_MANY_TAGS = 3000  # a page with more opening tags than this could be too deep
_DEEPEST_TREE = (
    512  # where browsers stop nesting too; the extractor's time grows with the square of the depth (8,000: 2 s)
)


def warc_rows(split: Split, rejects: Rejects, field: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Position (byte of the record in the uncompressed file) and values (``text``, ``id``, ``url``, ``date``, ``mime``) of every
    ``split.count``-th page. Other records (requests, images, failed responses) are passed over and not counted.

    Raises:
        UserError: the file cannot be read to its end, or is no WARC file.
    """
    with open_stream(split.file, split.compression, field) as stream:
        forward = _Forward(stream)
        records = ArchiveIterator(
            forward,
            record_types=WarcRecordType.response | WarcRecordType.conversion,
            parse_http=False,
            stream_detect=False,
        )
        for index, record in enumerate(records):
            position, kind = record.stream_pos, record.record_type
            if index % split.count != split.index:
                continue
            length = record.content_length
            headers = record.headers
            url, date = headers.get("WARC-Target-URI"), headers.get("WARC-Date")
            block = record.reader.read(LONGEST_RECORD + 1)
            if len(block) > LONGEST_RECORD:
                rejects.add("too_long", split.file, position, f"{url}")
                continue
            if len(block) < length:
                raise forward.error or EOFError("it ends inside a record")
            if kind == WarcRecordType.conversion:
                mime, text = headers.get("Content-Type"), block.decode("utf-8", "replace")
            else:
                try:
                    page = _page(block)
                except (OSError, ValueError, LookupError) as error:
                    rejects.add("malformed_record", split.file, position, f"{url} ({error})")
                    continue
                if page is None:
                    continue
                mime, text = page
            yield position, {"text": text, "id": url, "url": url, "date": date, "mime": mime}
        if forward.error is not None:
            raise forward.error


class _Forward:
    """What the record iterator asks of a file, over a stream that cannot jump. An error looks like the end of the file and is
    kept for the reader: fastwarc 2.0.1 panics when a file raises while it passes over a record."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        if self.error is not None:
            return b""
        try:
            data = self._stream.read(size)
        except UNREADABLE as error:
            self.error = error
            return b""
        self._position += len(data)
        return data

    def close(self) -> None:
        self._stream.close()

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        target = offset + (self._position if whence == 1 else 0)
        while self._position < target and self.read(min(_STEP_BYTES, target - self._position)):
            pass
        return self._position


def _page(block: bytes) -> tuple[str, str] | None:
    """Media type and main text of an HTTP response, or None when it is no page.

    Raises:
        OSError, ValueError, LookupError: its body cannot be decoded, or it is too large or too deep to extract.
    """
    response = WarcRecord()
    response.init_headers(WarcRecordType.response)
    response.set_bytes_content(block)
    response.is_http = True
    response.parse_http(auto_decode="all")
    if not response.is_http_parsed or response.http_headers.status_code != 200:
        return None
    mime = response.http_content_type or ""
    if mime not in _HTML:
        return None
    body = response.reader.read(_LONGEST_PAGE + 1)
    if len(body) > _LONGEST_PAGE:
        raise ValueError(f"the page is longer than {_LONGEST_PAGE:,} bytes")
    charset = response.http_charset
    encoding = map_encoding_to_html5(charset) if charset else detect_encoding(body, from_html_meta=True)
    return mime, _main_text(bytes_to_str(body, encoding or "utf-8", errors="replace"))


def _main_text(html: str) -> str:
    """The text of a page without its menus.

    Raises:
        ValueError: its elements are nested too deep.
    """
    tree = HTMLTree.parse(html)
    if html.count("<") - html.count("</") > _MANY_TAGS and _depth(tree) > _DEEPEST_TREE:
        raise ValueError(f"elements are nested deeper than {_DEEPEST_TREE}")
    return str(extract_plain_text(tree, main_content=True, preserve_formatting=True))


def _depth(tree: HTMLTree) -> int:
    """Depth of the tree, or one more than what is allowed."""
    node: Node | None = tree.document
    depth = deepest = 0
    while node is not None and deepest <= _DEEPEST_TREE:
        child = node.first_child
        if child is not None:
            node, depth = child, depth + 1
            deepest = max(deepest, depth)
            continue
        while node is not None and node.next is None:
            node, depth = node.parent, depth - 1
        node = node.next if node is not None else None
    return deepest

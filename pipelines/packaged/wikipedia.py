"""Encyclopaedia and news from gensim's test data: a shortened English Wikipedia dump (CC BY-SA), 300 news articles."""

from __future__ import annotations

import bz2
import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from pipelines.packaged.locate import package_file, package_folder

_SHORT_ARTICLE = 400  # characters left after cleaning; below it is a stub or a disambiguation page

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_REMOVED_TAGS = "ref|math|gallery|timeline|imagemap|score|syntaxhighlight|source|code|pre|table|chem|hiero"
_SELF_CLOSED = re.compile(r"<(?:ref|references|nowiki|br|hr)\b[^<>]*/\s*>", re.IGNORECASE)
_ELEMENT = re.compile(rf"<({_REMOVED_TAGS})\b[^<>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
# Templates that stand for words in the sentence; the first group is what the reader sees.
_CONVERT = re.compile(r"\{\{\s*(?:convert|cvt)\s*\|([^{}|]*\|[^{}|]*)[^{}]*\}\}", re.IGNORECASE)
_WORDS = re.compile(
    r"\{\{\s*(?:lang\s*\|[^{}|]*|nowrap|nobr|quote|blockquote|transl\s*\|[^{}|]*|sic)\s*\|([^{}|=]*)[^{}]*\}\}",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_FILE = re.compile(
    r"\[\[\s*(?:File|Image|Category|[a-z]{2,3}(?:-[a-z]+)?)\s*:(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_EXTERNAL = re.compile(r"\[(?:https?|ftp)://[^\s\]]+\s*([^\]]*)\]")
_QUOTES = re.compile(r"'{2,5}")
_HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*\1\s*$")
_LEFTOVER = re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}")  # unbalanced in the source: the sentence is lost anyway
_MAGIC = re.compile(r"__[A-Z]+__")
_EMPTY_BRACKETS = re.compile(r"\s*\((?:[\s,;:/]|\b(?:pronounced|or|from|IPA|Greek|Latin)\b)*\)")
_OPENED = re.compile(r"\(\s+|\((?:\s*[,;:])+\s*")
_SPACE_BEFORE = re.compile(r" +([,.;:!?)])")
# From here on an article is lists of other works and addresses.
_LAST_SECTIONS = frozenset(
    {"references", "see also", "external links", "further reading", "notes", "bibliography", "sources", "footnotes"}
    | {"citations", "notes and references", "references and notes", "works cited", "gallery"}
)


def wikipedia_and_news() -> Iterator[tuple[str, str]]:
    """Wikipedia articles with case, punctuation and paragraphs, then one document a news article."""
    titles: set[str] = set()  # the dumps overlap
    for dump in sorted((package_folder("gensim") / "test/test_data").glob("enwiki*.bz2")):
        for title, text in _articles(dump):
            if title not in titles:
                titles.add(title)
                yield f"wikipedia/{title}", f"{title}\n\n{text}"
    news = package_file("gensim", "test/test_data/lee_background.cor").read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(dict.fromkeys(" ".join(line.split()) for line in news.splitlines() if line.strip())):
        yield f"news/{number}", line


def _articles(dump: Path) -> Iterator[tuple[str, str]]:
    with bz2.open(dump) as file:
        title, namespace = "", ""
        for _, element in ElementTree.iterparse(file):
            tag = element.tag.rsplit("}", 1)[-1]
            if tag == "title":
                title = element.text or ""
            elif tag == "ns":
                namespace = element.text or ""
            elif tag == "text" and namespace == "0":
                markup = element.text or ""
                text = "" if markup.lstrip().upper().startswith("#REDIRECT") else clean_wiki_markup(markup)
                if len(text) >= _SHORT_ARTICLE:
                    yield title, text
            elif tag == "page":
                element.clear()


def clean_wiki_markup(markup: str) -> str:
    """Readable text of an article: paragraphs and headings stay; templates, tables, notes, files and link lists go."""
    text = _COMMENT.sub("", markup)
    text = _ELEMENT.sub("", _SELF_CLOSED.sub("", text))
    text = _WORDS.sub(r"\1", _CONVERT.sub(lambda match: match.group(1).replace("|", " "), text))
    text = _until_stable(_TEMPLATE, text)
    text = _until_stable(_TABLE, text)
    text = _until_stable(_FILE, text)
    text = _until_stable(_LINK, text, r"\1")
    text = _MAGIC.sub("", _QUOTES.sub("", _EXTERNAL.sub(r"\1", text)))
    text = html.unescape(_TAG.sub("", text)).replace("\xa0", " ")
    text = _SPACE_BEFORE.sub(r"\1", _OPENED.sub("(", _EMPTY_BRACKETS.sub("", text)))
    return "\n\n".join(_paragraphs(text))


def _until_stable(pattern: re.Pattern[str], text: str, replacement: str = "") -> str:
    """Replace innermost matches until none is left: templates and tables nest."""
    count = 1
    while count:
        text, count = pattern.subn(replacement, text)
    return text


def _paragraphs(text: str) -> Iterator[str]:
    heading = ""
    for line in (" ".join(line.split()) for line in text.splitlines()):
        if match := _HEADING.match(line):
            heading = match.group(2)
            if heading.lower() in _LAST_SECTIONS:
                return
        elif not line or line[0] in "|!{}" or _LEFTOVER.search(line) or (line[0] in "*#:;" and len(line) < 40):
            continue
        else:
            if heading:
                yield heading
                heading = ""
            yield line.lstrip("*#:; ")

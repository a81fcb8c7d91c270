"""Menus, navigation, cookie and script notices, share buttons: lines around the text of a web page.

C4 and FineWeb remove every line that does not end like a sentence; headings, tables and lists go with the menus. Here a line
goes only if it says what notices say, or stands in a cluster of menu entries within a run of short lines.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from ahocorasick_rs import BytesAhoCorasick, Implementation

from pipelines.filters.batch import FilterBatch
from pipelines.filters.config import BoilerplateRepair

# What a line says that belongs to no text. Collected from government, news and shop pages.
_NOTICES = (
    "skip directly to", "skip to main content", "skip to content", "skip navigation", "skip to navigation",
    "jump to navigation", "toggle navigation", "enable javascript", "javascript is disabled", "javascript is not enabled",
    "requires javascript", "turn on javascript", "we use cookies", "uses cookies", "use of cookies", "accept cookies",
    "accept all cookies", "cookie policy", "cookie settings", "cookie preferences",
    "page last reviewed:", "page last updated:", "last reviewed:", "share on facebook", "share on twitter", "share this page",
    "tweet this", "follow us on", "sign up for our", "subscribe to our", "back to top", "return to top",
    "an official website of the united states government", "official websites use .gov", "secure .gov websites use https",
    "destination website's privacy policy", "links with this icon indicate", "website disclaimers",
    "constitute an endorsement by cdc", "not responsible for section 508", "cannot attest to the accuracy of a non-federal",
    "persons using assistive technology might not be able",
)  # fmt: skip
# Entries of menus: whole lines, without case and marks.
_ENTRIES = frozenset(
    """
    home|search|menu|navigation|main menu|sitemap|site map|site index|a-z index|contact us|contact|about us|about|help|faq|faqs
    |privacy|privacy policy|privacy notice|policies|accessibility|terms of use|terms of service|terms and conditions|disclaimer
    |disclaimers|legal|legal notices|careers|jobs|press|newsroom|media|news|events|blog|feedback|donate|subscribe|unsubscribe
    |newsletter|rss|rss feed|rss feeds|log in|login|log out|sign in|sign up|register|my account|cart|checkout|share|print|email
    |e-mail|listen|download|tweet|like|follow us|connect with us|facebook|twitter|instagram|linkedin|youtube|pinterest|snapchat
    |flickr|tiktok|whatsapp|reddit|tumblr|google plus|syndicate|foia|no fear act|no fear act data|oig|inspector general
    |usa.gov|whitehouse.gov|nondiscrimination|vulnerability disclosure policy|external links|using this site|link to us
    |plug-ins|viewers & players|web policies|important notices|related pages|cite|cite this|view more|read more|show more
    |load more|next|previous|close|cancel|continue|back|top|skip|français|español|italiano|deutsch|polski|português|русский
    |العربية|tagalog|kreyòl ayisyen|tiếng việt|한국어|繁體中文|简体中文|日本語|فارسی|english
    """.replace("\n", "")
    .replace("    ", "")
    .split("|")
)
# Names of which two in a short line tell a menu.
_STRONG = (
    "facebook", "twitter", "instagram", "linkedin", "youtube", "pinterest", "snapchat", "contact us", "site map", "sitemap",
    "rss feed", "privacy policy", "accessibility", "a-z index", "subscribe", "no fear act", "foia", "editorial board",
    "instructions for authors", "past volumes", "sign in", "log in",
)  # fmt: skip
_ENDS_SENTENCE = (".", "!", "?", ";", ":", ",", '."', ".)", "。")
_MARKS = re.compile(r"^[\W_]+|[\W_]+$")
_MOST_BETWEEN = 8  # lines between two entries of one menu
_ALPHABET = 20  # so many lines of one letter each in a row are an index from A to Z
_MAX_STRONG_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class BoilerplateRepairer:
    """Removes boilerplate lines; a text without any stays as it is, to the byte."""

    limits: BoilerplateRepair
    name: str = "repair_boilerplate"

    def repair(self, texts: Sequence[str]) -> list[str]:
        return [self._repair(text) for text in texts]

    def _repair(self, text: str) -> str:
        lines = text.split("\n")
        removed = boilerplate_lines(text, lines, self.limits)
        if not removed:
            return text
        return "\n".join(line for index, line in enumerate(lines) if index not in removed).strip()


@dataclass(frozen=True, slots=True)
class BoilerplateFilter:
    """Drops when boilerplate lines hold more than ``maximum_share`` of the characters (``boilerplate``)."""

    limits: BoilerplateRepair
    maximum_share: float
    name: str = "boilerplate"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return ["boilerplate" if self._share(text) > self.maximum_share else "" for text in batch.texts]

    def _share(self, text: str) -> float:
        lines = text.split("\n")
        removed = boilerplate_lines(text, lines, self.limits)
        return sum(len(lines[index]) for index in removed) / len(text) if removed else 0.0


def boilerplate_lines(text: str, lines: Sequence[str], limits: BoilerplateRepair) -> set[int]:
    """Which of the text's lines are boilerplate."""
    lower = text.lower().encode()
    found = _finder().find_matches_as_indexes(lower)
    if not found:
        return set()
    removed = set()
    line_ends = list(accumulate(map(len, lower.split(b"\n")), lambda end, size: end + size + 1))
    for pattern, start, _ in found:
        index = bisect_left(line_ends, start)
        if pattern < len(_NOTICES) and len(lines[index]) <= limits.max_notice_characters:
            removed.add(index)
    for run in _runs(lines, limits.max_menu_line_characters):
        for cluster in _clusters(lines, run):
            letters = sum(_is_letter(lines[index]) for index in cluster)
            has_entries = len(cluster) - letters >= limits.min_menu_words
            if letters >= _ALPHABET or (has_entries and len(cluster) >= limits.min_menu_lines):
                removed.update(index for index in run if cluster[0] <= index <= cluster[-1])
    return removed


def _runs(lines: Sequence[str], longest: int) -> Iterator[list[int]]:
    """Runs of short lines that end no sentence; blank lines break none."""
    run: list[int] = []
    for index, line in enumerate(lines):
        stripped = line.strip()
        if not stripped:
            continue
        if len(stripped) <= longest and not stripped.endswith(_ENDS_SENTENCE):
            run.append(index)
            continue
        if run:
            yield run
            run = []
    if run:
        yield run


def _clusters(lines: Sequence[str], run: list[int]) -> Iterator[list[int]]:
    """Entries of menus within a run, grouped where few other lines stand between them."""
    letters = [index for index in run if _is_letter(lines[index])]
    is_alphabet = len(letters) >= _ALPHABET
    cluster: list[int] = []
    since = 0
    for index in run:
        if _is_entry(lines[index]) or (is_alphabet and _is_letter(lines[index])):
            if cluster and since > _MOST_BETWEEN:
                yield cluster
                cluster = []
            cluster.append(index)
            since = 0
        else:
            since += 1
    if cluster:
        yield cluster


def _is_letter(line: str) -> bool:
    stripped = line.strip()
    return len(stripped) == 1 and stripped.isalpha()


def _is_entry(line: str) -> bool:
    lower = line.strip().lower()
    if _MARKS.sub("", lower) in _ENTRIES:
        return True
    return len(lower) <= _MAX_STRONG_CHARACTERS and sum(name in lower for name in _STRONG) >= 2


@lru_cache(maxsize=1)
def _finder() -> BytesAhoCorasick:
    """Finds at once whether a text holds anything that a notice or a menu says; most texts need no closer look."""
    words = [word.encode() for word in (*_NOTICES, *_STRONG)]
    return BytesAhoCorasick(words, implementation=Implementation.DFA)

"""The published filters by loops over words and lines, as they are defined: what the array operations must agree with."""

from __future__ import annotations

import re
from collections import Counter

from pipelines.filters.batch import FilterBatch
from pipelines.filters.config import FineWeb, GopherQuality, GopherRepetition
from pipelines.filters.fineweb import TERMINAL

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def web_words(text: str) -> list[str]:
    batch = FilterBatch([text])
    data = batch.data.tobytes()
    return [data[a:b].decode() for a, b in zip(batch.web_words.starts, batch.web_words.ends, strict=True)]


def duplicates(items: list[str]) -> tuple[int, int]:
    """Items seen before, and their characters."""
    seen: set[str] = set()
    number = characters = 0
    for item in items:
        if item in seen:
            number, characters = number + 1, characters + len(item)
        seen.add(item)
    return number, characters


def top_characters(words: list[str], n: int) -> int:
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    if not grams:
        return 0
    gram, times = Counter(grams).most_common(1)[0]
    return len(gram) * times


def duplicate_characters(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    characters = i = 0
    while i <= len(words) - n:
        gram = tuple(words[i : i + n])
        if gram in seen:
            characters, i = characters + len("".join(gram)), i + n
        else:
            seen.add(gram)
            i += 1
    return characters


def gopher_repetition(text: str, limits: GopherRepetition) -> str:
    paragraphs = re.split(r"\n{2,}", text.strip())
    lines = re.split(r"\n+", text)
    number, characters = duplicates(paragraphs)
    if number / len(paragraphs) > limits.duplicate_paragraphs:
        return "duplicate_paragraphs"
    if characters / len(text) > limits.duplicate_paragraph_characters:
        return "duplicate_paragraph_characters"
    number, characters = duplicates(lines)
    if number / len(lines) > limits.duplicate_lines:
        return "duplicate_lines"
    if characters / len(text) > limits.duplicate_line_characters:
        return "duplicate_line_characters"
    words = web_words(text)
    for n, limit in limits.top_ngrams.items():
        if top_characters(words, n) / len(text) > limit:
            return f"top_{n}_gram"
    for n, limit in limits.duplicate_ngrams.items():
        if duplicate_characters(words, n) / len(text) > limit:
            return f"duplicate_{n}_grams"
    return ""


def gopher_quality(text: str, limits: GopherQuality) -> str:
    words, batch = web_words(text), FilterBatch([text])
    plain = [word for word, sign in zip(words, batch.web_words.is_punctuation, strict=True) if not sign]
    mean = sum(map(len, plain)) / len(plain) if plain else 0
    lines = text.splitlines()
    for reason, holds in (
        ("few_words", lambda: len(plain) < limits.min_words),
        ("many_words", lambda: len(plain) > limits.max_words),
        ("short_words", lambda: mean < limits.min_word_length),
        ("long_words", lambda: mean > limits.max_word_length),
        ("many_hashes", lambda: text.count("#") / len(words) > limits.max_symbols),
        ("many_ellipses", lambda: (text.count("...") + text.count("…")) / len(words) > limits.max_symbols),
        (
            "bullets",
            lambda: sum(x.lstrip().startswith(("-", "•")) for x in lines) / len(lines) > limits.max_bullet_lines,
        ),
        (
            "ellipsis_lines",
            lambda: sum(x.rstrip().endswith(("...", "…")) for x in lines) / len(lines) > limits.max_ellipsis_lines,
        ),
        (
            "few_words_with_letters",
            lambda: sum(any(map(str.isalpha, word)) for word in words) / len(words) < limits.min_words_with_letters,
        ),
        ("few_stop_words", lambda: len(STOP_WORDS & set(words)) < limits.min_stop_words),
    ):
        if holds():
            return reason
    return ""


def fineweb(text: str, limits: FineWeb) -> str:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return "no_lines"
    if sum(line[-1] in TERMINAL for line in lines) / len(lines) < limits.min_terminated_lines:
        return "few_terminated_lines"
    if sum(len(line) <= limits.short_line_characters for line in lines) / len(lines) > limits.max_short_lines:
        return "short_lines"
    if duplicates(lines)[1] / len(text.replace("\n", "")) > limits.max_duplicate_line_characters:
        return "duplicate_line_text"
    return "list" if text.count("\n") / len(web_words(text)) > limits.max_newlines else ""

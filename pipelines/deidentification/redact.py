"""Put tags in the place of identifiers: one scan for where any may stand, then the rules at those places alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import re2

from pipelines.deidentification.checks import trimmed_url
from pipelines.deidentification.config import DeidentificationConfig
from pipelines.deidentification.patterns import RULES, Rule

_ADDRESSES = ("url", "email")
_ADDRESS_SIGNS = (b"@", b"://", b"www.", b"WWW.")
_YEAR = re2.compile(rb"\b((?:1[6-9]|20)\d\d)\b")
_AROUND = 40  # bytes that a check sees on either side
_WINDOW = 256  # bytes in which nearly every match ends; where none does, all rules are tried
_AUTOMATON_BYTES = 64 << 20  # with less, RE2 falls back from its automaton to a machine forty times slower
_PASSES = 8


@dataclass(frozen=True, slots=True)
class Redacted:
    """One text without what was found in it."""

    text: str
    """The text with tags: ``[DATE]``, ``[PHONE]``, ``[HEALTH_PLAN]`` …, or ``[DATE 1992]``."""
    counts: dict[str, int]
    """Tags put in by kind; empty when nothing was found, and ``text`` is then the one given."""


class Redactor:
    """Finds the identifiers of a configuration. Compiling takes some milliseconds: keep one per process.

    A text's result depends on that text alone, and redacting it a second time changes nothing: a tag holds nothing that a
    pattern matches, and since a tag can free what stood beside an identifier to be one itself, a changed text is scanned
    again until nothing more is found (real text: once; at most ``_PASSES`` times, so that time stays linear).
    """

    def __init__(self, config: DeidentificationConfig) -> None:
        self._keep_year = config.keep_year
        rules = [rule for rule in RULES if rule.kind in config.kinds]
        # Addresses go first and by themselves: they are of any length, and looking out for the end of a possible one at
        # every refusal of another rule would take quadratic time.
        self._addresses = _Finder(rule for rule in rules if rule.kind in _ADDRESSES)
        self._others = _Finder(rule for rule in rules if rule.kind not in _ADDRESSES)

    def redact(self, texts: Sequence[str]) -> list[Redacted]:
        """Each text with its identifiers as tags."""
        return [self.redact_one(text) for text in texts]

    def redact_one(self, text: str) -> Redacted:
        """``text`` with its identifiers as tags."""
        data, total = text.encode(), Counter[str]()
        if any(sign in data for sign in _ADDRESS_SIGNS):
            data, total = self._pass(self._addresses, data)
        for _ in range(_PASSES):
            data, counts = self._pass(self._others, data)
            if not counts:
                break
            total += counts
        return Redacted(data.decode() if total else text, dict(sorted(total.items())))

    def _pass(self, finder: _Finder, data: bytes) -> tuple[bytes, Counter[str]]:
        pieces: list[bytes] = []
        counts: Counter[str] = Counter()
        done = position = 0
        while (place := finder.next_place(data, position)) is not None:
            kind, start, end = finder.identify(data, place, done)
            if kind is None:
                position = place + 1
                continue
            pieces += [data[done:start], self._tag(kind, data[start:end])]
            counts[kind] += 1
            done = position = end
        return (b"".join([*pieces, data[done:]]) if pieces else data), counts

    def _tag(self, kind: str, value: bytes) -> bytes:
        name = kind.upper().encode()
        if kind == "date" and self._keep_year and (year := _YEAR.search(value)) is not None:
            name += b" " + year.group(1)
        return b"[" + name + b"]"


class _Finder:
    """Some rules, compiled together for scanning and one by one for what they find."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = list(rules)
        plain, scan = re2.Options(), re2.Options()
        plain.encoding = scan.encoding = re2.Options.Encoding.LATIN1  # a byte at a time
        scan.never_capture = True
        scan.max_mem = _AUTOMATON_BYTES
        self._rules = [(rule.kind, re2.compile(rule.pattern, plain), rule.accept) for rule in rules]
        self._scan = re2.compile(b"|".join(b"(?:" + rule.pattern + b")" for rule in rules), scan)
        self._which = re2.Set.MatchSet(scan)
        for rule in rules:
            self._which.Add(rule.pattern)
        self._which.Compile()

    def next_place(self, data: bytes, position: int) -> int | None:
        """Where the next match of any rule begins, from ``position`` on."""
        found = self._scan.search(data, position) if self._rules else None
        return None if found is None else int(found.start())

    def identify(self, data: bytes, place: int, done: int) -> tuple[str | None, int, int]:
        """The first rule that finds an identifier at ``place``, and what it replaces. Before ``done`` all is dealt with."""
        likely = self._which.Match(data[place : place + _WINDOW])
        for number in sorted(likely) if likely else range(len(self._rules)):
            kind, pattern, accept = self._rules[number]
            found = pattern.match(data, place)
            if found is not None:
                start, end = found.span(1)
                if kind == "url":
                    end = start + len(trimmed_url(data[start:end]))
                if accept(data[max(done, start - _AROUND) : start], data[start:end], data[end : end + _AROUND]):
                    return kind, start, end
        return None, place, place

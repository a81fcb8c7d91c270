"""Properties of redaction: twice is once, nothing else changes, any Unicode, bounded work on adversarial text."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.deidentification import DeidentificationConfig, Redactor, redact
from pipelines.deidentification.checks import anything
from pipelines.deidentification.config import SAFE_HARBOR
from pipelines.deidentification.patterns import RULES, Rule

REDACTOR = Redactor(DeidentificationConfig(kinds=(*SAFE_HARBOR, "name")))
WITH_YEARS = Redactor(DeidentificationConfig(keep_year=True))
TAG = re.compile(r"\[[A-Z_]+\]")

PIECES = st.sampled_from(
    (
        *(
            "3/12/1992",
            "03-04-92",
            "5/6",
            "May",
            "MAY92",
            "12MAY",
            "2001",
            "92",
            "1992-05-03",
            "412-555-0123",
            "555-0123",
        ),
        *(
            "a@b.org",
            "http://a.b/c",
            "www.a.org",
            "10.200.3.4",
            "2001:db8::7334:1",
            "123-45-6789",
            "MRN",
            "SSN",
            "Tel",
            "fax",
        ),
        *(
            "VIN",
            "account",
            "no.",
            "#",
            "PA",
            "15213",
            "zip",
            "aged",
            "year",
            "old",
            "yo",
            "ninety",
            "-",
            "/",
            ".",
            ",",
            ":",
        ),
        *(
            "(",
            ")",
            "+",
            "'",
            "&",
            " ",
            "  ",
            "\n",
            "on",
            "from",
            "to",
            "pt",
            "Dr.",
            "Smith",
            "mg",
            "é",
            "日",
            "\u00a0",
        ),
        *("\u2013", "[DATE]", "[", "]", "0", "1"),
    )
)
TEXTS = st.lists(PIECES, max_size=14).map("".join) | st.lists(PIECES, max_size=14).map(" ".join) | st.text(max_size=60)


@settings(max_examples=600)
@given(TEXTS)
def test_twice_is_once(text: str) -> None:
    for redactor in (REDACTOR, WITH_YEARS):
        once = redactor.redact_one(text)
        twice = redactor.redact_one(once.text)
        assert (twice.text, twice.counts) == (once.text, {})


@settings(max_examples=300)
@given(TEXTS)
def test_what_stands_between_the_tags_is_the_text_untouched(text: str) -> None:
    redacted = REDACTOR.redact_one(text)
    if not redacted.counts:
        assert redacted.text == text
    pattern = ".*".join(re.escape(part) for part in TAG.split(redacted.text))
    assert re.fullmatch(pattern, text, re.DOTALL)
    assert sum(redacted.counts.values()) <= len(TAG.findall(redacted.text))


@given(st.lists(TEXTS, max_size=5))
def test_a_text_does_not_depend_on_its_batch(texts: list[str]) -> None:
    assert REDACTOR.redact(texts) == [REDACTOR.redact_one(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", "\x00", "🙂 3/12/1992 🙂", "עברית 3/12/1992", "日本3/12/1992日本", "e\u0301 a@b.org"]
)
def test_any_unicode(text: str) -> None:
    expected = text.replace("3/12/1992", "[DATE]").replace("a@b.org", "[EMAIL]")
    assert REDACTOR.redact_one(text).text == expected


ADVERSARIES = (
    *(
        "1",
        "1/",
        "1.",
        "1-",
        "1 ",
        "a@",
        "@",
        "a.",
        "http://",
        "(",
        ")",
        "+1 ",
        "May ",
        "May 1 ",
        "1 May",
        "aged ",
        "MRN ",
    ),
    *(
        "MRN 1",
        "mrn1-",
        ":a",
        "::",
        "12-34-",
        "tel. ",
        "tel 1",
        "ninety-",
        "www.",
        "Dr. A.",
        "PA 1",
        "PA ",
        "\n",
        "0/0/",
    ),
    *("a-", "1MAY", "\u2013", "\u00a01", "2001-05-03T12:"),
)


@pytest.mark.parametrize("piece", ADVERSARIES)
def test_work_grows_with_the_text_and_no_faster(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes read by scans, checks and rules, at two sizes; a search that comes back late has read all up to there."""

    def effort(size: int) -> int:
        read = 0
        search = redact._Finder.next_place

        def counted(self: redact._Finder, data: bytes, position: int) -> int | None:
            nonlocal read
            place = search(self, data, position)
            read += 64 + (len(data) if place is None else place) - position
            return place

        with monkeypatch.context() as patch:
            patch.setattr(redact._Finder, "next_place", counted)
            REDACTOR.redact_one(piece * size)
        return read

    assert effort(4000) <= 2.2 * effort(2000) + 300


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_only_addresses_that_are_never_refused_have_any_length(rule: Rule) -> None:
    """Going on from the next byte after a refusal costs the bytes of the longest match again: they must be bounded."""
    unbounded = re.search(rb"(?<=[\])}a-zA-Z])[*+]|,\}", rule.pattern)
    assert unbounded is None or (rule.kind in redact._ADDRESSES and rule.accept is anything)
    assert re.compile(rule.pattern).groups == 1


def test_a_megabyte_without_spaces_is_read_in_one_go() -> None:
    noise = random.Random(7)
    text = "".join(noise.choice("0123456789abcdefMAY./-:@ ") for _ in range(1 << 20))
    once = REDACTOR.redact_one(text)
    assert once.counts
    assert len(once.text) > 1 << 19

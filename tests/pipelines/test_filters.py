"""Filters: each drops what it says at its limit, keeps ordinary text in any script, and never fails on odd text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import FilterConfig
from pipelines.filters import build_filters, first_reason
from pipelines.filters.encoding import EncodingFilter
from pipelines.filters.length import LengthFilter
from pipelines.filters.letters import LetterFilter, _count, _count_ascii
from pipelines.filters.repetition import RepeatedLinesFilter

DEFAULTS = build_filters(FilterConfig())
REASONS = {"too_short", "too_long", "broken_encoding", "few_letters", "repeated_lines", None}


def test_length_counts_without_outer_white_space() -> None:
    keep = LengthFilter(minimum=3, maximum=5)
    assert [keep(text) for text in ("  ab  ", "abc", "abcde", " abcdef")] == ["too_short", None, None, "too_long"]


def test_encoding_limit_is_a_share_of_characters() -> None:
    keep = EncodingFilter(maximum_share=0.1)
    assert keep("a" * 9 + "\ufffd") is None
    assert keep("a" * 8 + "\ufffd\x00") == "broken_encoding"
    assert keep("tabs\tand\r\nnew lines\n\x0c are text") is None


def test_letters_are_a_share_of_what_is_visible() -> None:
    keep = LetterFilter(minimum_share=0.5)
    assert keep("ab \n 12") is None
    assert keep("a 1 2 3") == "few_letters"
    assert keep("é 1 2 3") == "few_letters"


@given(st.text(st.characters(max_codepoint=127)))
def test_both_ways_to_count_letters_agree(text: str) -> None:
    # str.isspace takes four separator controls for white space that bytes do not.
    text = text.translate(dict.fromkeys(range(0x1C, 0x20)))
    assert _count_ascii(text.encode()) == _count(text)


def test_repetition_counts_lines_after_the_first() -> None:
    keep = RepeatedLinesFilter(maximum_share=0.5)
    assert keep("same line\nsame line") is None
    assert keep("same line\n\n  same line\nsame line") == "repeated_lines"
    assert keep("\n\n\n\n") is None


@pytest.mark.parametrize(
    "text",
    [
        "A patient with fever and a headache came to the clinic yesterday.",
        "Un paciente con fiebre y dolor de cabeza acudió ayer a la clínica.",
        "发热和头痛的病人昨天来到诊所就诊，医生为他做了检查并开了药，建议他多休息，多喝水，三天后复诊，如有不适随时就诊。",
        "बुखार और सिरदर्द से पीड़ित एक मरीज कल क्लिनिक में आया था और डॉक्टर ने जांच की।",
        "ผู้ป่วยมีไข้และปวดศีรษะมาที่คลินิกเมื่อวานนี้และแพทย์ได้ตรวจร่างกายแล้ว",
    ],
)
def test_ordinary_text_stays_in_any_script(text: str) -> None:
    assert first_reason(DEFAULTS, text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short.", "too_short"),
        (" " * 100, "too_short"),
        ("word " * 300_000, "too_long"),
        ("\ufffd caf\ufffd" * 20, "broken_encoding"),
        ("1.25 | 3.14 | 2.72 | 9.81 | 6.02 | 1.60 | 8.31", "few_letters"),
        ("Home\nAbout\nContact\n" * 10, "repeated_lines"),
    ],
)
def test_defaults_drop_what_no_one_wants(text: str, reason: str) -> None:
    assert first_reason(DEFAULTS, text) == reason


@given(st.text())
def test_any_text_gets_one_of_the_reasons(text: str) -> None:
    assert first_reason(DEFAULTS, text) in REASONS


def test_names_are_distinct() -> None:
    assert [keep.name for keep in DEFAULTS] == ["length", "encoding", "letters", "repeated_lines"]

"""The plain filters: each drops what it says at its limit, keeps ordinary text in any script, and never fails on odd text."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import UserError
from pipelines.filters.base import Filter
from pipelines.filters.batch import FilterBatch
from pipelines.filters.boilerplate import BoilerplateFilter
from pipelines.filters.config import BoilerplateRepair, LanguageFilter, Markup, Symbols
from pipelines.filters.encoding import EncodingFilter
from pipelines.filters.language import LanguageIdFilter, sample
from pipelines.filters.length import LengthFilter
from pipelines.filters.letters import LetterFilter, count_letters
from pipelines.filters.markup import MarkupFilter
from pipelines.filters.repetition import RepeatedLinesFilter
from pipelines.filters.symbols import SymbolsFilter
from pipelines.filters.terms import BlocklistFilter, DomainTermsFilter, TermList, read_terms


def decide(keep: Filter, *texts: str) -> list[str]:
    return list(keep.reasons(FilterBatch(texts)))


def test_length_counts_without_outer_white_space() -> None:
    found = decide(LengthFilter(minimum=3, maximum=5), "  ab  ", "abc", "abcde", " abcdef")
    assert found == ["too_short", "", "", "too_long"]
    assert decide(LengthFilter(minimum=0, maximum=None), "a" * 10_000) == [""]


def test_encoding_limit_is_a_share_of_characters() -> None:
    keep = EncodingFilter(maximum_share=0.1)
    assert decide(keep, "a" * 9 + "\ufffd", "a" * 8 + "\ufffd\x00") == ["", "broken_encoding"]
    assert decide(keep, "é" * 8 + "\x85\x85", "tabs\tand\r\nnew lines\n\x0c are text") == ["broken_encoding", ""]


def test_letters_are_a_share_of_what_is_visible() -> None:
    found = decide(LetterFilter(minimum_share=0.5), "ab \n 12", "a 1 2 3", "é 1 2 3", "é\u3000中 1 2")
    assert found == ["", "few_letters", "few_letters", ""]


@given(st.text())
def test_letters_are_counted_as_by_a_loop(text: str) -> None:
    visible = [character for character in text if not character.isspace()]
    letters = [character for character in visible if unicodedata.category(character)[0] in "LM"]
    assert count_letters(text.encode()) == (len(letters), len(visible))


def test_repetition_counts_lines_after_the_first() -> None:
    keep = RepeatedLinesFilter(maximum_share=0.5)
    found = decide(keep, "same line\nsame line", "same line\n\n  same line\nsame line", "\n\n\n\n")
    assert found == ["", "repeated_lines", ""]


def test_symbols_and_digits_have_limits_of_their_own() -> None:
    keep = SymbolsFilter(Symbols(max_symbols=0.5, max_digits=0.5))
    found = decide(keep, "ab .;", "a .;!", "ab 12", "a 123", "", "中 …")
    assert found == ["", "many_symbols", "", "many_digits", "", ""]


PAGE = '<html><head><script>var x = "{}";</script></head><body class="wide"><p>Fever.</p></body></html>'
SOURCE = "\\begin{lemma}\\label{one} Let $x^2 + y^2 = z^2$ be \\emph{given}.\\end{lemma}"
RECORD = '{"name": "aspirin", "dose": 100, "forms": ["tablet"], "route": "oral"}'
PROSE = (
    'Values of p<0.05 and x>3 count; "yes": so it says. A path is C:\\temp and the price $5 or $6. See R&D; and </end>.'
)


def test_markup_is_told_from_prose_about_it() -> None:
    keep = MarkupFilter(Markup())
    assert decide(keep, PAGE, SOURCE, RECORD, PROSE) == ["html", "latex", "json", ""]
    off = MarkupFilter(Markup(max_tags=None, max_latex=None, max_keys=None))
    assert decide(off, PAGE, SOURCE, RECORD, PROSE) == [""] * 4


@pytest.mark.parametrize(
    "piece", ["<!-- ", "<script ", "<script>a", "</", "<a", "\\aa{", '"a": ', '"', "$", "$ ", "&a", "<!a"]
)
def test_markup_that_never_ends_is_read_in_one_go(piece: str) -> None:
    # A pattern that began anew at each piece would take minutes here, and the test would run into its time limit.
    assert len(decide(MarkupFilter(Markup()), f'</ "":\\{piece * 200_000}')) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A patient with fever and a headache came to the clinic yesterday.", ""),
        ("PT RECVD YELLOW FEVER IMMUN, DEVELPD CHILLS FOR APPROXIMATELY 1 HR, FELT ACHY, AND HAD A HEADACHE.", ""),
        ("Un paciente con fiebre y dolor de cabeza acudió ayer a la clínica.", "language"),
        ("发热和头痛的病人昨天来到诊所就诊，医生为他做了检查并开了药。", "language"),
    ],
)
def test_language_is_told_from_the_text(text: str, reason: str) -> None:
    assert decide(LanguageIdFilter(LanguageFilter()), text) == [reason]
    both = LanguageIdFilter(LanguageFilter(languages=("en", "es", "zh")))
    assert decide(both, text) == [""]


@given(st.text(), st.integers(100, 200))
def test_samples_are_one_line_of_bounded_length(text: str, characters: int) -> None:
    found = sample(text * 20, characters)
    assert "\n" not in found
    assert len(found) <= 2 * characters + 2  # a capital may become two small letters


def test_terms_are_words_and_phrases_without_case_and_marks() -> None:
    terms = TermList(("Heart failure", "aspirin"))
    number, covered = terms.hits(FilterBatch(["Heart-failure, then heart. ASPIRIN!", "failure of the heart"]))
    assert number.tolist() == [2, 0]
    assert covered.tolist() == [True, True, False, False, True, False, False, False, False]


def test_a_phrase_does_not_reach_into_the_next_document() -> None:
    assert TermList(("heart failure",)).hits(FilterBatch(["heart", "failure"]))[0].tolist() == [0, 0]


def test_density_and_blocklist_have_limits() -> None:
    terms = TermList(("aspirin",))
    texts = ("aspirin one two three", "aspirin one two three four", "", "aspirin aspirin")
    assert decide(DomainTermsFilter(terms, 0.25), *texts) == ["", "off_domain", "off_domain", ""]
    assert decide(BlocklistFilter(terms, 1), *texts) == ["", "", "", "blocked_term"]


def test_term_files_hold_one_term_a_line(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# drugs\naspirin\n\n heart failure \n")
    assert read_terms(["fever"], str(path), "f").terms == ("fever", "aspirin", "heart failure")
    with pytest.raises(UserError, match=r"f\.terms_file: cannot read"):
        read_terms([], str(tmp_path / "none"), "f")
    with pytest.raises(UserError, match=r"f\.terms: holds no word"):
        read_terms(["..."], None, "f")


def test_pages_that_are_menus_go() -> None:
    keep = BoilerplateFilter(BoilerplateRepair(), 0.5)
    menu = "Home\nSearch\nContact Us\nPrivacy\nFacebook\nSite Map | Accessibility\n"
    assert decide(keep, menu, menu + "A sentence of prose that is long enough to be read. " * 3, "") == [
        "boilerplate",
        "",
        "",
    ]


ODD = st.text() | st.text(st.sampled_from("\x00\ufffd\ud7ff😀\u202e<>&;{}\\$\n \u3000")).map(lambda text: text * 5)
ALL = [
    LengthFilter(1, 100),
    EncodingFilter(0.1),
    LetterFilter(0.5),
    RepeatedLinesFilter(0.3),
    SymbolsFilter(Symbols()),
    MarkupFilter(Markup()),
    BoilerplateFilter(BoilerplateRepair(), 0.2),
    LanguageIdFilter(LanguageFilter()),
    DomainTermsFilter(TermList(("a b", "c")), 0.1),
    BlocklistFilter(TermList(("a b", "c")), 0),
]


@pytest.mark.parametrize("keep", ALL, ids=lambda keep: keep.name)
@given(texts=st.lists(ODD, min_size=1, max_size=4))
def test_odd_text_gets_a_decision_of_its_own(keep: Filter, texts: list[str]) -> None:
    assert decide(keep, *texts) == [reason for text in texts for reason in decide(keep, text)]

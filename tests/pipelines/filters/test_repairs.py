"""Repairs: ftfy's result without its price, menus without their pages, and whole texts where nothing is wrong."""

from __future__ import annotations

import ftfy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.filters.boilerplate import BoilerplateRepairer
from pipelines.filters.config import BoilerplateRepair, UnicodeRepair
from pipelines.filters.unicode_repair import UnicodeRepairer

PLAIN = UnicodeRepairer(UnicodeRepair(collapse_blank_lines=False))
FULL = UnicodeRepairer(UnicodeRepair(collapse_blank_lines=True))
MENUS = BoilerplateRepairer(BoilerplateRepair())

LETTERS = "aé—’“ñ中½µ°Ж à\u0301ﬁＡ\u3000\xa0\x9d\x85\u2028\ufeff\r\x00\x1b[&;lt#<e"
MISREAD = st.text(st.sampled_from("é—’“ñ中 ½a\n")).map(lambda text: text.encode().decode("cp1252", errors="replace"))


@given(st.text(st.sampled_from(LETTERS)) | MISREAD | st.text())
def test_repair_does_what_ftfy_does(text: str) -> None:
    config = ftfy.TextFixerConfig(uncurl_quotes=False, unescape_html="<" not in text, explain=False)
    assert PLAIN.repair([text]) == [ftfy.fix_text(text, config)]


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("The patientâ€™s cafÃ© visit", "The patient’s café visit"),
        ("ﬁrst ｌｉｎｅ\r\nsecond\rthird", "first line\nsecond\nthird"),
        ("a&amp;b &lt; c", "a&b < c"),
        ("a&amp;b <b>", "a&amp;b <b>"),
        ("e\u0301", "é"),
        ("bell\x07 and \ufeffmark", "bell and mark"),
        ("  tail \t\n\n\n\nnext\xa0\n", "tail\n\nnext"),
        ("“Quotes” stay — so does this…", "“Quotes” stay — so does this…"),
    ],
)
def test_what_is_mended(broken: str, mended: str) -> None:
    assert FULL.repair([broken]) == [mended]


@given(st.text(st.sampled_from("ab.é \t\xa0\n")))
def test_a_mended_text_stays_as_it_is(text: str) -> None:
    (once,) = FULL.repair([text])
    assert FULL.repair([once]) == [once]


PROSE = "Colorectal cancer is common.\n\nMethods\n\nWe asked 120 people, 60 of whom were women."
HEAD = "Skip directly to search\nSkip directly to A to Z list\n"
FOOT = "Subscribe\nListen\nPage last updated: January 14, 2011\nA-Z Index\nPolicies\nLink to Us\n" + "\n".join(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


def test_menus_go_and_prose_stays() -> None:
    assert MENUS.repair([f"{HEAD}{PROSE}\n{FOOT}"]) == [PROSE]


def test_notices_go_unless_text_stands_beside_them() -> None:
    notice = "We use cookies on this site."
    long = f"{notice} " + "The trial went on for two years. " * 20
    assert MENUS.repair([f"{PROSE}\n{notice}\nMore prose here."]) == [f"{PROSE}\nMore prose here."]
    assert MENUS.repair([f"{PROSE}\n{long}"]) == [f"{PROSE}\n{long}"]


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Table 1\nAge\nSex\nSmoking\nBMI\n23\n45\n67\nA\nB\nC\nD",
        "Risk factors\n- Tobacco use\n- Alcohol use\n- Contact\n- Help",
        "Privacy\n\nPrivacy is the right of a patient. Facebook and Twitter were used to recruit.",
        "References\n1. Smith J. Accessibility of care. Lancet 2001\n2. Doe J. Twitter and Facebook in trials. BMJ 2010",
        "",
    ],
)
def test_headings_tables_lists_and_references_stay(text: str) -> None:
    assert MENUS.repair([text]) == [text]


@given(st.text(st.sampled_from("ab \n.:")))
def test_text_without_boilerplate_stays_to_the_byte(text: str) -> None:
    assert MENUS.repair([text]) == [text]


@given(
    st.lists(
        st.sampled_from([*HEAD.split("\n"), *FOOT.split("\n"), *PROSE.split("\n"), "Home", "Facebook"]), max_size=30
    )
)
def test_what_remains_is_some_of_the_lines_in_order(lines: list[str]) -> None:
    (kept,) = MENUS.repair(["\n".join(lines)])
    rest = iter(lines)
    assert all(line in rest for line in kept.split("\n") if line)

"""The pipeline: one fate for a document in any batch, one reason, and recipes that say what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ground.errors import UserError
from pipelines.filters import FilterConfig, FilterPipeline, Preset, build_steps, resolve_filters
from pipelines.filters import pipeline as module

PRESETS: list[Preset] = ["none", "basic", "web", "literature", "clinical"]
EVERYTHING = resolve_filters(
    "web", {"domain_terms": {"terms": ["fever"], "min_share": 0.001}, "blocklist": {"terms": ["casino"]}}
)
SENTENCE = "The patient had a fever and was given aspirin, which helped within the hour, as she said to the nurse. "
TEXTS = (
    st.sampled_from(
        [
            SENTENCE * 2,
            "".join(
                f"Patient {n} had a fever of {n % 3 + 38} degrees and was {word}.\n"
                for n, word in enumerate(["calm", "ill", "well", "pale"])
            ),
            SENTENCE + "casino",
            "Home\nSearch\nContact Us\nPrivacy\nFacebook\n" + SENTENCE,
            "CafÃ© " + SENTENCE,
            "<html><body><p>Fever.</p></body></html>",
            "short",
            "1.25 | 3.14 | 2.72 | 9.81 | 6.02 | 1.60 | 8.31",
            "",
        ]
    )
    | st.text()
)


@pytest.mark.parametrize("preset", PRESETS)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_document_has_one_fate_in_any_batch(preset: Preset, texts: list[str]) -> None:
    pipeline = FilterPipeline(EVERYTHING if preset == "web" else resolve_filters(preset))
    mended, reasons = pipeline(texts)
    alone = [pipeline([text]) for text in texts]
    assert mended == [text for (text,), _ in alone]
    assert reasons == [reason for _, (reason,) in alone]


def test_slices_do_not_change_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [SENTENCE * n for n in range(1, 40)] + ["short"] * 3
    expected = FilterPipeline(EVERYTHING)(texts)
    monkeypatch.setattr(module, "_SLICE_CHARACTERS", 200)
    assert FilterPipeline(EVERYTHING)(texts) == expected


def test_none_keeps_everything_as_it_is() -> None:
    texts = ["", " x ", "\ufffd\x00\r\n", "a\n" * 100, "1 2 3"]
    assert FilterPipeline(resolve_filters("none"))(texts) == (texts, [""] * len(texts))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short.", "too_short"),
        (" " * 100, "too_short"),
        ("word " * 300_000, "too_long"),
        ("\ufffd caf\ufffd" * 20, "broken_encoding"),
        ("1.25 | 3.14 | 2.72 | 9.81 | 6.02 | 1.60 | 8.31", "few_letters"),
        ("Home\nAbout\nContact\n" * 10, "repeated_lines"),
        (
            "发热和头痛的病人昨天来到诊所就诊，医生为他做了检查并开了药，建议他多休息，多喝水，三天后复诊，如有不适随时就诊。",
            "",
        ),
        ("बुखार और सिरदर्द से पीड़ित एक मरीज कल क्लिनिक में आया था और डॉक्टर ने जांच की।", ""),
        ("ผู้ป่วยมีไข้และปวดศีรษะมาที่คลินิกเมื่อวานนี้และแพทย์ได้ตรวจร่างกายแล้ว", ""),
    ],
)
def test_defaults_drop_what_no_one_wants_in_any_script(text: str, reason: str) -> None:
    assert FilterPipeline(FilterConfig())([text])[1] == [reason]


def test_a_menu_does_not_make_a_short_text_long_enough() -> None:
    page = "Home\nSearch\nContact Us\nPrivacy\nFacebook\nA line of prose here."
    pipeline = FilterPipeline(resolve_filters("none", {"repair_boilerplate": {}, "min_characters": 40}))
    assert pipeline([page, SENTENCE])[1] == ["too_short", ""]


def test_repairs_are_counted_by_document() -> None:
    pipeline = FilterPipeline(resolve_filters("basic", {"repair_boilerplate": {}}))
    pipeline(["CafÃ© " + SENTENCE, SENTENCE.strip(), "We use cookies.\nCafÃ© " + SENTENCE])
    assert pipeline.repaired == {"repair_unicode": 2, "repair_boilerplate": 1}


def test_a_dropped_document_keeps_the_text_it_was_dropped_with() -> None:
    pipeline = FilterPipeline(resolve_filters("none", {"max_characters": 50, "c4": {}}))
    long = "No end\n" + SENTENCE
    assert pipeline([long, "A short line."])[0][0] == long


def test_every_part_of_the_config_has_its_step() -> None:
    names = [step.name for step in build_steps(EVERYTHING)]
    parts = [
        name for name, value in FilterConfig.model_fields.items() if value.default is None or name == "repair_unicode"
    ]
    assert set(parts) <= set(names)
    assert build_steps(resolve_filters("none")) == []


def test_overrides_go_over_the_preset_and_the_source_over_all() -> None:
    config = resolve_filters(
        "literature", {"min_characters": 10, "language": None}, {"min_characters": 5, "c4": {"min_sentences": 2}}
    )
    assert config.min_characters == 5
    assert config.language is None
    assert config.c4 is not None and config.c4.min_sentences == 2
    assert config.gopher_repetition == resolve_filters("literature").gopher_repetition


def test_a_part_is_changed_field_by_field_and_its_lists_as_a_whole() -> None:
    changes = {"gopher_repetition": {"duplicate_lines": 0.4, "top_ngrams": {2: 0.5}}}
    before, after = (resolve_filters("literature", change).gopher_repetition for change in ({}, changes))
    assert before is not None and after is not None
    assert (after.duplicate_lines, after.top_ngrams) == (0.4, {2: 0.5})
    assert after.duplicate_ngrams == before.duplicate_ngrams


def test_presets_are_what_a_dump_of_their_explicit_fields_gives_back() -> None:
    for preset in PRESETS:
        config = resolve_filters(preset)
        assert resolve_filters("none", config.model_dump()) == config
        assert resolve_filters(preset, FilterConfig().model_dump(exclude_unset=True)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_letters": 1}, r"curation\.filters\.min_letters"),
        ({"language": {"languages": ["english"]}}, r"curation\.filters\.language\.languages"),
        ({"fineweb": {"max_newlines": -1}}, r"curation\.filters\.fineweb\.max_newlines"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_filters("basic", changes)


def test_terms_must_be_given() -> None:
    with pytest.raises(UserError, match=r"curation\.filters\.domain_terms\.terms"):
        FilterPipeline(resolve_filters("basic", {"domain_terms": {}}))


def test_unknown_fields_are_errors() -> None:
    with pytest.raises(ValidationError):
        FilterConfig.model_validate({"c5": {}})

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracking.sample import old_funnel, sample_funnel
from tracking.curation import Amount, ScoreBin, Scores, SourceFunnel, by_size, read_funnel


def source(name: str, funnel: dict[str, Any] | None = None) -> SourceFunnel:
    return next(found for found in read_funnel(funnel or sample_funnel()) if found.name == name)


def test_sources_stand_by_role_and_name() -> None:
    assert [(s.role, s.name) for s in read_funnel(sample_funnel())] == [
        ("domain", "medical"),
        ("domain", "patient-leaflets"),
        ("general", "code"),
        ("general", "documentation"),
        ("general", "wikipedia"),
        ("reference", "textbook"),
    ]


def test_each_stage_loses_what_its_reasons_dropped() -> None:
    lost = source("medical").losses()
    assert {stage: amount.documents for stage, amount in lost.items()} == {
        "read": 15,
        "filters": 812 + 97,
        "decontamination": 0,
        "duplicates": 204,
    }
    assert lost["filters"].bytes == 100 * (812 + 97)
    leaflets = source("patient-leaflets")
    assert leaflets.losses()["decontamination"].documents == 9
    assert sum(amount.documents for amount in leaflets.losses().values()) == leaflets.dropped_documents == 92


def test_nothing_is_lost_from_the_account() -> None:
    for found in read_funnel(sample_funnel()):
        stay = found.kept.documents + found.heldout.documents
        assert stay + found.dropped_documents == found.read.documents
        lost = sum(amount.bytes for amount in found.losses().values())
        assert found.kept.bytes + found.heldout.bytes + found.repaired_bytes + lost == found.read.bytes


def test_reasons_come_largest_first() -> None:
    assert [reason for reason, _ in source("medical").reasons()] == [
        "too_short",
        "duplicate",
        "few_letters",
        "malformed_json",
    ]
    assert by_size({"b": 2, "c": 9, "a": 2}) == [("c", 9), ("a", 2), ("b", 2)]


def test_an_old_store_is_read_by_its_reasons() -> None:
    for new, old in zip(read_funnel(sample_funnel()), read_funnel(old_funnel()), strict=True):
        assert [stage.name for stage in old.stages] == ["read", "filters", "decontamination", "duplicates"]
        assert old.stages[-1].left.documents == new.stages[-1].left.documents
        assert old.losses()["duplicates"].documents == new.losses()["duplicates"].documents
        assert (old.kept, old.heldout, old.dropped) == (new.kept, new.heldout, new.dropped)
        assert (old.examples, old.repaired, old.scores, old.pairs) == ({}, {}, None, ())


def test_a_source_of_which_hardly_anything_is_told() -> None:
    found = source("a", {"a": {"role": "domain", "scores": {"width": 0.05, "bins": {}}, "examples": {"x": []}}})
    assert found.read == found.kept == Amount()
    assert found.scores is None and found.examples == {} and found.reasons() == []
    assert found.left_after("filters") == Amount() and found.left_after("prayer") is None


def test_a_text_that_repairs_made_longer_was_not_cut() -> None:
    found = source("code")
    assert replace(found, kept=Amount(bytes=10**9)).repaired_bytes == 0


def test_bins_are_read_in_order_of_score() -> None:
    funnel = {"a": {"role": "domain", "scores": {"width": 0.5, "bins": {"10": [1, 5], "-2": [2, 10], "9": [1, 1]}}}}
    scores = source("a", funnel).scores
    assert scores is not None
    assert [(found.low, found.documents, found.tokens) for found in scores.bins] == [
        (-1, 2, 10),
        (4.5, 1, 1),
        (5, 1, 5),
    ]
    assert scores.quantile(0.5) == pytest.approx(-1 + 0.5 * 8 / 10)


BINS = st.dictionaries(st.integers(-50, 200), st.integers(1, 10**9), min_size=1, max_size=40)


@given(BINS, st.floats(0.001, 1), st.floats(0.001, 1))
def test_quantiles_ascend_and_split_the_tokens(bins: dict[int, int], share: float, other: float) -> None:
    scores = Scores(width=0.05, bins=tuple(ScoreBin(low=i * 0.05, documents=1, tokens=bins[i]) for i in sorted(bins)))
    low, high = sorted((share, other))
    assert scores.quantile(low) <= scores.quantile(high) + 1e-9
    mark = scores.quantile(share)
    surely_below = sum(found.tokens for found in scores.bins if found.low + 0.05 <= mark - 1e-9)
    perhaps_below = sum(found.tokens for found in scores.bins if found.low <= mark + 1e-9)
    assert surely_below <= share * scores.tokens * (1 + 1e-9) and share * scores.tokens <= perhaps_below * (1 + 1e-9)

"""Bands and rows follow from the threshold; priorities from the names of the sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ground.errors import UserError
from pipelines.dedup import DedupConfig, FuzzyConfig


def found(config: FuzzyConfig, similarity: float) -> float:
    return float(1 - (1 - similarity**config.rows) ** config.bands)


def test_the_numbers_of_the_docstring() -> None:
    config = FuzzyConfig()
    assert (config.bands, config.rows, config.accepted_rows) == (32, 8, 192)
    assert found(config, 0.8) == pytest.approx(0.9972, abs=1e-4)
    assert found(config, 0.5) == pytest.approx(0.118, abs=1e-3)


@given(st.floats(0.6, 0.99), st.sampled_from([64, 128, 256, 512, 1024]))
def test_a_pair_at_the_threshold_becomes_a_candidate(threshold: float, permutations: int) -> None:
    config = FuzzyConfig(threshold=threshold, permutations=permutations)
    assert config.bands * config.rows <= permutations
    assert found(config, threshold) >= 0.997
    assert threshold - 0.15 < config.accepted_rows / permutations < threshold + 1 / permutations


def test_fuzzy_needs_exact() -> None:
    with pytest.raises(ValidationError, match="exact"):
        DedupConfig(exact=False)
    assert DedupConfig(exact=False, fuzzy=None).fuzzy is None


def test_sources_rank_as_named_then_as_declared() -> None:
    assert DedupConfig().ranks(["a", "b", "c"]) == [0, 1, 2]
    assert DedupConfig(priorities=("c", "a")).ranks(["a", "b", "c"]) == [1, 2, 0]


@pytest.mark.parametrize(("priorities", "problem"), [(("d",), "'d' is no source"), (("a", "a"), "twice")])
def test_wrong_priorities_are_named(priorities: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        DedupConfig(priorities=priorities).ranks(["a", "b"])
    assert error.value.field == "curation.dedup.priorities"

"""Rejected rows: samples that do not depend on the cut, and the share above which a file is an error."""

from __future__ import annotations

import json
import random

import pytest

from ground.errors import UserError
from pipelines.readers import Rejects, first_samples, require_wellformed
from tests.pipelines.readers.reading import source


def test_the_first_few_of_each_file_and_reason_are_kept() -> None:
    rejects = Rejects()
    for position in range(20):
        for file in ("a", "b"):
            rejects.add("missing_text", file, position, b"\xff" * 1000)
            rejects.add("too_long", file, position, "\ud83d" * 1000)
    assert rejects.rows == 80
    assert rejects.counts == {"missing_text": 40, "too_long": 40}
    assert len(rejects.samples) == 20
    assert {sample["position"] for sample in rejects.samples} == set(range(5))
    assert all(sample["excerpt"] == "\ufffd" * 500 for sample in rejects.samples)
    json.dumps(rejects.samples).encode()
    shuffled = random.Random(0).sample(rejects.samples, len(rejects.samples))
    assert first_samples(shuffled + shuffled) != first_samples(shuffled)
    assert first_samples(shuffled) == first_samples(rejects.samples)


@pytest.mark.parametrize(
    ("rows", "rejected", "share", "fatal"),
    [
        (0, 0, 0.01, False),
        (99, 99, 0.01, False),
        (100, 1, 0.01, False),
        (100, 2, 0.01, True),
        (1_000_000, 10_001, 0.01, True),
        (100, 1, 0.0, True),
        (100, 100, 1.0, False),
    ],
)
def test_a_file_with_too_many_rejected_rows_is_an_error(rows: int, rejected: int, share: float, fatal: bool) -> None:
    counts = {"missing_text": rejected - rejected // 2, "malformed_json": rejected // 2}
    reading = source(max_malformed_share=share)
    if not fatal:
        require_wellformed("f.jsonl", counts, rows, reading, field="sources.mine")
        return
    with pytest.raises(UserError, match=r"^sources\.mine\.max_malformed_share: .* rows of f\.jsonl hold no document"):
        require_wellformed("f.jsonl", counts, rows, reading, field="sources.mine")


def test_the_error_tells_counts_and_reasons() -> None:
    with pytest.raises(UserError) as error:
        require_wellformed("f", {"missing_text": 1500, "too_long": 0}, 2000, source(), field="sources.mine")
    assert error.value.problem == "1,500 of 2,000 rows of f hold no document (missing_text 1,500), more than 1.00%"

"""Tallies add up in any order, and reports tell documents and items by evaluation set."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.decontamination import DecontaminationConfig, Hit, Tally, build_index
from pipelines.words import TextBatch

HITS = st.builds(
    Hit,
    st.lists(st.sampled_from(["a", "b"]), min_size=1, unique=True).map(lambda names: tuple(sorted(names))),
    st.sets(st.integers(0, 9), min_size=1).map(lambda items: tuple(sorted(items))),
    st.just("words"),
)


@given(st.lists(st.lists(HITS, max_size=4), max_size=4))
def test_batches_merge_in_any_order(batches: list[list[Hit]]) -> None:
    whole = Tally()
    whole.add(hit for batch in batches for hit in batch)
    merged = Tally()
    for batch in reversed(batches):
        part = Tally()
        part.add(batch)
        merged.merge(Tally.from_json(json.loads(json.dumps(part.to_json()))))
    assert merged.to_json() == whole.to_json()
    assert whole.contaminated == sum(map(len, batches))


def test_the_report_counts_documents_items_and_what_is_not_compared(tmp_path: Path) -> None:
    long = [" ".join(f"{name}{i}" for i in range(14)) for name in "abc"]
    (tmp_path / "first.jsonl").write_text(
        "".join(json.dumps({"question": text, "options": ["no"]}) + "\n" for text in long)
        + '{"question": "short"}\n{}\n'
    )
    (tmp_path / "second.jsonl").write_text(json.dumps({"question": long[0]}) + "\n")
    index = build_index(DecontaminationConfig(paths=(str(tmp_path / "*.jsonl"),)), tmp_path / "index")
    tally = Tally()
    tally.add(index.hits(TextBatch([long[0], long[0] + " " + long[1], "none"])).values())
    first, second = tally.report(index.header)
    assert (first.name, first.items, first.items_hit, first.documents) == ("first", 5, 2, 2)
    assert (first.texts, first.short_texts, first.unseen_items, first.boilerplate_texts) == (3, 4, 2, 0)
    assert (second.name, second.items, second.items_hit, second.documents) == ("second", 1, 1, 2)
    assert tally.contaminated == 2

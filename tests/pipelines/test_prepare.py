"""One split to a part: what is written, what is redacted, what is kept out, whatever the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import CurationConfig, SourceConfig
from pipelines.decontamination import DecontaminationConfig, build_index
from pipelines.deidentification import DeidentificationConfig
from pipelines.prepare import DOCUMENTS, EXCLUDED, Preparation, is_held_out, is_sampled, prepare
from pipelines.readers import plan_splits

PASSAGE = "the quick brown fox jumps over the lazy dog on March 3, 2021 while everybody else is fast asleep"
NOTE = "Seen on 03/04/2021, call 555-867-5309 or write to jane@example.org about the wound on the left leg."


def run(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Prepare rows as one file; the result and the rows of the part."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reading = {name: changes.pop(name) for name in ("messages_field", "metadata_fields") if name in changes}
    source = SourceConfig.model_validate({"role": "domain", "paths": [str(path)], **reading})
    config = CurationConfig()
    settings: dict[str, Any] = {
        "source": "notes",
        "role": "domain",
        "reading": source,
        "filters": config.filters_of(source),
        "dedup": config.dedup,
        "deidentification": None,
        "contamination_index": None,
        "drop_contaminated": True,
        "heldout_fraction": 0.3,
        "largest": None,
        "excluded_share": 1.0,
    }
    preparation = Preparation.model_validate(settings | changes)
    splits = plan_splits("notes", source, [str(path)], [path.stat().st_size], 1 << 20)
    part = folder / "part"
    part.mkdir()
    item = {
        "preparation": preparation.model_dump(mode="json"),
        "splits": [split.model_dump(mode="json") for split in splits],
    }
    result = prepare(item, part)
    with pa.memory_map(str(part / DOCUMENTS)) as file:
        return result, pa.ipc.open_file(file).read_all().to_pylist()


def test_documents_keep_id_hash_and_metadata(tmp_path: Path) -> None:
    rows = [{"id": f"n{i}", "text": f"{NOTE} Visit number {i}.", "ward": i} for i in range(20)]
    result, kept = run(tmp_path, rows, metadata_fields=["ward"])
    assert [row["id"] for row in kept] == [f"n{i}" for i in range(20)]
    assert kept[3]["metadata"] == '{"ward":3}'
    assert all(row["heldout"] is is_held_out(row["hash"], 0.3) for row in kept)
    assert {row["heldout"] for row in kept} == {True, False}
    assert sum(counts["documents"] for counts in result["kept"].values()) == 20
    assert all(row["bytes"] == len(row["text"].encode()) for row in kept)


def test_nothing_of_a_redacted_text_leaves_the_task(tmp_path: Path) -> None:
    short = "555-867-5309 Jan 3 2020"
    rows = [{"id": "a", "text": NOTE}, {"id": "b", "text": short}, {"id": "c", "text": 5, "phone": "555-867-5309"}]
    result, kept = run(tmp_path, rows, deidentification=DeidentificationConfig())
    assert [row["id"] for row in kept] == ["a"]
    assert result["redacted"]["date"] == 1 and "[DATE]" in kept[0]["text"]
    excluded = pq.read_table(tmp_path / "part" / EXCLUDED).to_pylist()
    assert [row["reason"] for row in excluded] == ["too_short"]
    everything = json.dumps([result, kept, excluded])
    assert "867-5309" not in everything and "jane@" not in everything


def test_conversations_are_redacted_too(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": NOTE},
        {"role": "assistant", "content": "Dressed on 03/05/2021, see jo@example.org."},
    ]
    _, kept = run(
        tmp_path,
        [{"id": "a", "messages": messages}],
        messages_field="messages",
        deidentification=DeidentificationConfig(),
    )
    assert "@example" not in kept[0]["messages"] and "2021" not in kept[0]["messages"]
    assert [message["role"] for message in json.loads(kept[0]["messages"])] == ["user", "assistant"]


@pytest.mark.parametrize("drop", [True, False])
def test_evaluation_items_are_found_before_tags_hide_them(tmp_path: Path, drop: bool) -> None:
    (tmp_path / "task.jsonl").write_text(json.dumps({"question": PASSAGE}) + "\n")
    build_index(DecontaminationConfig(paths=(str(tmp_path / "task.jsonl"),)), tmp_path / "index")
    rows = [{"id": "a", "text": f"As told before: {PASSAGE.upper()}!"}, {"id": "b", "text": NOTE}]
    result, kept = run(
        tmp_path,
        rows,
        contamination_index=str(tmp_path / "index"),
        drop_contaminated=drop,
        deidentification=DeidentificationConfig(),
    )
    assert result["contaminated"]["documents"] == {"task": 1}
    assert [row["id"] for row in kept] == (["b"] if drop else ["a", "b"])
    assert ("contaminated" in result["dropped"]) is drop


def test_samples_and_the_held_out_split_look_at_different_digits() -> None:
    low_first, low_last = "00000000" + "f" * 24, "f" * 24 + "00000000"
    assert is_held_out(low_first, 0.01) and not is_held_out(low_last, 0.5)
    assert is_sampled(low_last, 0.01) and not is_sampled(low_first, 0.5)

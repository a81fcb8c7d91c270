"""One batch of documents: filtered, tokenised, scored; and counted for the funnel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ground.errors import UserError
from ground.files import digest_bytes
from pipelines.config import FilterConfig
from pipelines.documents import Documents
from pipelines.funnel import count_rows, funnel, require_documents
from pipelines.process import KEPT, ROW_SCHEMA, Step, is_held_out, malformed_rows, process
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

TEXTS = [f"A document about symptom number {i}, long enough for the filters to keep it." for i in range(60)]
MIXED = [*TEXTS, "short", "12345 67890 " * 10]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer(TEXTS, 300), folder)
    return str(folder)


def batch(texts: list[str]) -> Documents:
    hashes = [digest_bytes(text) for text in texts]
    return Documents([f"d{i}" for i in range(len(texts))], texts, hashes, [len(text.encode()) for text in texts])


def step(tokenizer: str, **changes: object) -> Step:
    fields = {
        "source": "med",
        "role": "domain",
        "tokenizer": tokenizer,
        "filters": FilterConfig(),
        "heldout_fraction": 0.2,
    }
    return Step.model_validate(fields | changes)


def by_length(documents: list[np.ndarray]) -> list[float]:  # type: ignore[type-arg]
    return [float(len(tokens)) for tokens in documents]


def test_kept_documents_carry_tokens_and_dropped_ones_a_reason(tokenizer: str) -> None:
    rows = process(step(tokenizer), batch(MIXED), by_length)
    assert rows.schema == ROW_SCHEMA
    reasons = rows.column("reason").to_pylist()
    assert reasons == [KEPT] * 60 + ["too_short", "few_letters"]
    loaded = load_tokenizer(tokenizer)
    for row, text in zip(rows.to_pylist()[:60], TEXTS, strict=True):
        ids = np.frombuffer(row["data"], dtype="<u4")
        assert len(ids) == row["tokens"] == row["score"]
        assert ids[-1] == loaded.eos_id
        assert loaded.tokenizer.decode(ids[:-1].tolist()) == text
    for row in rows.to_pylist()[60:]:
        assert (row["tokens"], row["data"]) == (0, b"")


def test_a_row_does_not_depend_on_its_batch(tokenizer: str) -> None:
    whole = process(step(tokenizer), batch(MIXED), by_length)
    single = [process(step(tokenizer), batch([text]), by_length) for text in MIXED]
    columns = [name for name in ROW_SCHEMA.names if name != "id"]
    assert pa.concat_tables(single).select(columns).equals(whole.select(columns))


def test_only_domain_documents_are_scored(tokenizer: str) -> None:
    rows = process(step(tokenizer, role="general"), batch(TEXTS), by_length)
    assert set(rows.column("score").to_pylist()) == {0.0}


def test_a_larger_held_out_share_keeps_those_held_out_before() -> None:
    hashes = [digest_bytes(str(i)) for i in range(5000)]
    small = {h for h in hashes if is_held_out(h, 0.05)}
    large = {h for h in hashes if is_held_out(h, 0.2)}
    assert small < large
    assert 0.03 < len(small) / 5000 < 0.07
    assert 0.17 < len(large) / 5000 < 0.23


def test_the_funnel_adds_up(tokenizer: str) -> None:
    settings = step(tokenizer)
    blocks = [process(settings, batch(MIXED[:40]), by_length), process(settings, batch(MIXED[40:]), by_length)]
    blocks.append(malformed_rows(settings, {"malformed_json": 3}))
    counted = funnel({"med": "domain"}, [count for block in blocks for count in count_rows(block)])["med"]
    assert counted["read"]["documents"] == 65
    dropped = {reason: count["documents"] for reason, count in counted["dropped"].items()}
    assert dropped == {"too_short": 1, "few_letters": 1, "malformed_json": 3}
    assert counted["kept"]["documents"] + counted["heldout"]["documents"] == 60
    assert counted["heldout"]["documents"] == sum(is_held_out(digest_bytes(text), 0.2) for text in TEXTS)
    assert counted["kept"]["bytes"] + counted["heldout"]["bytes"] == sum(len(text.encode()) for text in TEXTS)


def test_a_source_without_documents_is_an_error(tokenizer: str) -> None:
    rows = process(step(tokenizer), batch(["short"]), by_length)
    with pytest.raises(UserError, match=r"sources.med: has no document left: 1 read, all dropped \(too_short 1\)"):
        require_documents(funnel({"med": "domain"}, count_rows(rows)))
    with pytest.raises(UserError, match="its files are empty"):
        require_documents(funnel({"med": "domain"}, []))


def test_the_tokenizer_is_loaded_once(tokenizer: str) -> None:
    from pipelines.process import tokenizer_of

    assert tokenizer_of(tokenizer) is tokenizer_of(str(Path(tokenizer)))

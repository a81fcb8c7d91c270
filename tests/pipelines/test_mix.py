"""A mixture as files: the feed's rows in every format, in any parts, again after a stop, and nothing else."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import pipelines.mix
from ground.errors import CorruptError, UserError
from pipelines.config import MixtureConfig
from pipelines.executor import Function, Item, LocalExecutor, Result
from pipelines.mix import MixManifest, MixSettings, mix_settings, read_mixture, write_mixture
from pipelines.mix_formats import Format
from pipelines.mix_rows import chunks, rows_at
from pipelines.plan import Plan
from pipelines.store import TokenStore
from pipelines.tokenizer import load_tokenizer
from tests.helpers.stores import make_store, random_documents
from tests.pipelines.test_store_writer import write_documents
from training.feed import Feed

BATCH, L = 12, 16
ENDINGS: dict[Format, list[str]] = {"parquet": [".parquet"], "jsonl": [".jsonl.zst"], "megatron": [".bin", ".idx"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    return make_store(folder, {"med": ("domain", 6000), "wiki": ("general", 3000)}, shard_tokens=1000)


@pytest.fixture(scope="module")
def plan(store: TokenStore) -> Plan:
    mixture = MixtureConfig(shares={"med": 0.7, "wiki": 0.3}, epochs=2)
    return Plan(store.sizes, mixture, sequence_length=L, batch_sequences=BATCH, seed=3)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, Plan, NDArray[np.bool_]]:
    mask = np.random.default_rng(0).random(3000) < 0.5
    documents = random_documents(3000, 300, 0)
    store = write_documents(tmp_path_factory.mktemp("masked"), documents, shard_tokens=700, targets=mask)
    return store, Plan(store.sizes, MixtureConfig(), sequence_length=L, batch_sequences=BATCH, seed=3), mask


def fed(store: TokenStore, plan: Plan, steps: range) -> NDArray[np.int64]:
    """What Steady's own feed trains on: int64 of shape [steps * B, L]."""
    feed = Feed(store, plan, rank=0, world=1, micro_batch=BATCH)
    return np.concatenate([part.tokens.numpy() for step in steps for part in feed.micro_batches(step)])


def read(format: Format, folder: Path, manifest: MixManifest) -> NDArray[np.int64]:
    """All tokens of a mixture in order, by readers that share nothing with the writers."""
    rows: list[Any] = []
    for name in (next(iter(part.files)) for part in manifest.parts):
        if format == "parquet":
            rows += pq.read_table(folder / name).column("tokens").to_pylist()
        elif format == "jsonl":
            rows += [row["tokens"] for row in json_rows(folder / name)]
        else:
            rows += read_megatron((folder / name).with_suffix(""))
    return np.array(rows, dtype=np.int64)


def json_rows(path: Path) -> list[dict[str, Any]]:
    with zstandard.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def read_megatron(prefix: Path) -> list[list[int]]:
    """The documents of an indexed dataset, read as Megatron-LM's ``IndexedDataset`` does."""
    with open(prefix.with_suffix(".idx"), "rb") as file:
        assert file.read(9) == b"MMIDIDX\x00\x00"
        assert struct.unpack("<Q", file.read(8)) == (1,)
        (code,) = struct.unpack("<B", file.read(1))
        dtype = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}[code]
        sequences, documents = struct.unpack("<QQ", file.read(16))
        sizes = struct.unpack(f"<{sequences}i", file.read(4 * sequences))
        pointers = struct.unpack(f"<{sequences}q", file.read(8 * sequences))
        document_indices = struct.unpack(f"<{documents}q", file.read(8 * documents))
        assert file.read() == b""
    data = prefix.with_suffix(".bin").read_bytes()
    assert pointers[-1] + sizes[-1] * np.dtype(dtype).itemsize == len(data)
    found = []
    for first, end in pairwise(document_indices):
        parts = [np.frombuffer(data, dtype, sizes[i], pointers[i]).tolist() for i in range(first, end)]
        found.append([token for part in parts for token in part])
    return found


@given(st.data())
def test_rows_are_those_of_the_feed(store: TokenStore, plan: Plan, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, plan.steps - 1))
    table = rows_at(store, plan, np.arange(step * BATCH, (step + 1) * BATCH))
    batch = plan.batch(step)
    assert (np.array(table.column("tokens").to_pylist()) == fed(store, plan, range(step, step + 1))).all()
    assert table.column("step").to_pylist() == [step] * BATCH
    assert table.column("position").to_pylist() == list(range(step * BATCH, (step + 1) * BATCH))
    assert table.column("source").to_pylist() == [plan.sources[i] for i in batch.source]
    assert table.column("sequence").to_pylist() == batch.sequence.tolist()
    for row in table.to_pylist():
        (starts,) = store.document_starts(row["source"], np.array([row["sequence"]]), L)
        assert row["document_starts"] == starts.tolist()
        ends = [i + 1 for i, token in enumerate(row["tokens"]) if token == 0 and i + 1 < L]
        assert [start for start in row["document_starts"] if start] == ends
    assert "targets" not in table.column_names


def test_rows_carry_the_mask_of_their_source(masked: tuple[TokenStore, Plan, NDArray[np.bool_]]) -> None:
    store, plan, mask = masked
    table = rows_at(store, plan, np.arange(2 * BATCH))
    for row in table.to_pylist():
        assert row["targets"] == mask[row["sequence"] * L : (row["sequence"] + 1) * L].tolist()


def test_chunks_are_the_rows(store: TokenStore, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.mix_rows._CHUNK_TOKENS", 5 * L)
    positions = np.arange(7, 7 + 2 * BATCH)
    tables = list(chunks(store, plan, positions))
    assert [table.num_rows for table in tables] == [5, 5, 5, 5, 4]
    assert pa.concat_tables(tables).equals(rows_at(store, plan, positions))


@pytest.mark.parametrize("format", ["parquet", "jsonl", "megatron"])
@pytest.mark.parametrize(("start", "steps", "part_steps"), [(0, None, 7), (5, 10, 3), (0, 1, 100), (55, None, 1)])
def test_files_hold_the_feed_in_training_order(
    store: TokenStore, plan: Plan, tmp_path: Path, format: Format, start: int, steps: int | None, part_steps: int
) -> None:
    settings = mix_settings(
        store, plan, format=format, start_step=start, steps=steps, part_tokens=part_steps * BATCH * L
    )
    manifest = write_mixture(store, settings, tmp_path, LocalExecutor())
    count = plan.steps - start if steps is None else steps
    rows = read(format, tmp_path, manifest)
    assert (rows == fed(store, plan, range(start, start + count))).all()
    assert (manifest.sequences, manifest.tokens) == (*rows.shape[:1], rows.size)
    assert [part.first_step for part in manifest.parts] == list(range(start, start + count, part_steps))
    names = [f"part-{i:05d}{ending}" for i in range(len(manifest.parts)) for ending in ENDINGS[format]]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*names, "COMPLETE", "manifest.json", "settings.json"]
    )
    assert read_mixture(tmp_path, verify=True) == manifest
    assert manifest.settings.plan == plan.describe() and manifest.settings.store == store.digest


@pytest.mark.parametrize("vocabulary", [300, 70_000])
def test_megatron_files_of_both_token_sizes(tmp_path: Path, vocabulary: int) -> None:
    store = make_store(tmp_path / "store", {"med": ("domain", 2000)}, vocabulary=vocabulary, heldout_tokens=0)
    plan = Plan(store.sizes, MixtureConfig(), sequence_length=L, batch_sequences=BATCH, seed=3)
    manifest = write_mixture(store, mix_settings(store, plan, format="megatron"), tmp_path / "to", LocalExecutor())
    rows = read("megatron", tmp_path / "to", manifest)
    assert (rows == fed(store, plan, range(plan.steps))).all()
    assert (tmp_path / "to" / "part-00000.bin").stat().st_size == rows.size * (2 if vocabulary == 300 else 4)


def test_json_rows_are_the_rows_and_their_text(masked: tuple[TokenStore, Plan, Any], tmp_path: Path) -> None:
    store, plan, _ = masked
    settings = mix_settings(store, plan, format="jsonl", text=True, steps=3)
    write_mixture(store, settings, tmp_path, LocalExecutor())
    rows = json_rows(tmp_path / "part-00000.jsonl.zst")
    tokenizer = load_tokenizer(str(store.tokenizer_path)).tokenizer
    assert [row.pop("text") for row in rows] == [
        tokenizer.decode(row["tokens"], skip_special_tokens=False) for row in rows
    ]
    assert rows == rows_at(store, plan, np.arange(3 * BATCH)).to_pylist()


def test_parquet_rows_are_the_rows(masked: tuple[TokenStore, Plan, Any], tmp_path: Path) -> None:
    store, plan, _ = masked
    write_mixture(store, mix_settings(store, plan, format="parquet", steps=3), tmp_path, LocalExecutor())
    expected = rows_at(store, plan, np.arange(3 * BATCH))
    assert pq.read_table(tmp_path / "part-00000.parquet").to_pylist() == expected.to_pylist()


class Killed(LocalExecutor):
    """Stops after some items, in the middle of a part."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.asked = after, 0

    def map(self, function: Function, items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        self.asked = len(items)
        yield from super().map(function, items[: self.after])
        if self.after < len(items):
            item = items[self.after]
            for ending in ENDINGS[json.loads(item["settings"])["format"]]:
                name = f"part-{item['part']:05d}{ending}"
                (Path(item["to"]) / name).write_bytes(b"without a record")
                (Path(item["to"]) / f".{name}.123.tmp").write_bytes(b"half")
            raise KeyboardInterrupt


@pytest.mark.parametrize("format", ["parquet", "jsonl", "megatron"])
def test_a_stopped_mixture_goes_on_with_the_missing_parts(
    store: TokenStore, plan: Plan, tmp_path: Path, format: Format
) -> None:
    settings = mix_settings(store, plan, format=format, part_tokens=8 * BATCH * L)
    write_mixture(store, settings, tmp_path / "whole", LocalExecutor())
    said: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        write_mixture(store, settings, tmp_path / "cut", Killed(3), lambda *done: said.append(done))
    with pytest.raises(UserError, match=r"^--to: .* holds no complete mixture"):
        read_mixture(tmp_path / "cut")
    executor = Killed(1000)
    write_mixture(store, settings, tmp_path / "cut", executor, lambda *done: said.append(done))
    assert executor.asked == settings.parts - 3
    assert said == [(i, settings.parts) for i in range(1, settings.parts + 1)]
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == names
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    again = Killed(0)
    assert write_mixture(store, settings, tmp_path / "cut", again) == read_mixture(tmp_path / "cut", verify=True)
    assert again.asked == 0


@pytest.mark.parametrize("change", [{"format": "jsonl"}, {"start_step": 1}, {"steps": 3}, {"part_tokens": 1}])
def test_another_mixture_in_the_folder_is_refused(
    store: TokenStore, plan: Plan, tmp_path: Path, change: dict[str, Any]
) -> None:
    first: dict[str, Any] = {"format": "parquet", "steps": 2}
    write_mixture(store, mix_settings(store, plan, **first), tmp_path, LocalExecutor())
    with pytest.raises(UserError, match=r"^--to: .* holds another mixture; give another folder"):
        write_mixture(store, mix_settings(store, plan, **(first | change)), tmp_path, LocalExecutor())


def test_a_folder_with_other_things_is_refused(store: TokenStore, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"^--to: .* is not empty and holds no mixture"):
        write_mixture(store, mix_settings(store, plan, format="parquet"), tmp_path, LocalExecutor())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_cannot_be_written_is_one_clear_line(
    store: TokenStore, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> list[str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(pipelines.mix.WRITERS, "parquet", full)
    with pytest.raises(UserError, match=r"^--to: cannot write .* \(No space left on device\); make room"):
        write_mixture(store, mix_settings(store, plan, format="parquet"), tmp_path / "to", LocalExecutor())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--to: cannot write "):
        write_mixture(store, mix_settings(store, plan, format="parquet"), tmp_path / "file" / "to", LocalExecutor())


@pytest.mark.parametrize("name", ["manifest.json", "COMPLETE", "part-00001.parquet"])
def test_a_damaged_mixture_is_found(store: TokenStore, plan: Plan, tmp_path: Path, name: str) -> None:
    settings = mix_settings(store, plan, format="parquet", steps=3, part_tokens=1)
    write_mixture(store, settings, tmp_path, LocalExecutor())
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorruptError, match=name):
        read_mixture(tmp_path, verify=True)


def test_a_part_lost_before_the_end_is_found(store: TokenStore, plan: Plan, tmp_path: Path) -> None:
    settings = mix_settings(store, plan, format="parquet", part_tokens=8 * BATCH * L)
    with pytest.raises(KeyboardInterrupt):
        write_mixture(store, settings, tmp_path, Killed(3))
    (tmp_path / "part-00001.parquet").unlink()
    with pytest.raises(CorruptError, match=r"part-00001\.parquet is missing"):
        write_mixture(store, settings, tmp_path, LocalExecutor())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_step": -1}, r"^--from-step: -1 is outside the run; give 0 to "),
        ({"start_step": 10**9}, r"^--from-step: 1000000000 is outside the run"),
        ({"steps": 0}, r"^--steps: 0 steps from step 0 are not in the run; give 1 to "),
        ({"start_step": 2, "steps": 10**9}, r"^--steps: .* from step 2 are not in the run"),
        ({"text": True}, r"^--text: is not for parquet files"),
    ],
)
def test_what_cannot_be_asked(store: TokenStore, plan: Plan, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mix_settings(store, plan, format="parquet", **options)


def test_megatron_does_not_lose_a_mask(masked: tuple[TokenStore, Plan, Any]) -> None:
    with pytest.raises(UserError, match=r"^--format: megatron files cannot hold the store's target mask; use parquet"):
        mix_settings(masked[0], masked[1], format="megatron")


def test_another_store_at_the_place_is_refused(store: TokenStore, plan: Plan, tmp_path: Path) -> None:
    other = make_store(tmp_path / "store", {"med": ("domain", 7000), "wiki": ("general", 3000)})
    settings = mix_settings(store, plan, format="parquet")
    with pytest.raises(UserError, match="has changed while it was read"):
        write_mixture(other, settings, tmp_path / "to", LocalExecutor())


def test_parts_cover_the_steps() -> None:
    settings = MixSettings(
        format="parquet",
        store="",
        plan={},
        first_step=5,
        steps=10,
        steps_per_part=4,
        vocabulary=300,
        end_of_document=0,
        tokenizer_digest="",
        dtype="uint16",
        targets=False,
    )
    assert [settings.part_steps(i) for i in range(settings.parts)] == [range(5, 9), range(9, 13), range(13, 15)]

"""The store: any window by index, nothing half-written read, nothing damaged read."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError, UserError
from pipelines.config import Role
from pipelines.store import Split, TokenStore, token_dtype
from tests.helpers.stores import make_store, random_documents, whole_stream
from tests.pipelines.test_store_writer import write_documents

SOURCES: dict[str, tuple[Role, int]] = {"med": ("domain", 3000), "wiki": ("general", 1000)}
SHARD = 256
FILES = [
    "COMPLETE",
    "manifest.json",
    "med/train-00000.tokens",
    "med/train-00011.tokens",
    "med/train-00003.docs.parquet",
    "med/heldout-00000.tokens",
    "med/train-00004.starts",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "wiki/train-00002.tokens",
    "wiki/heldout-00001.docs.parquet",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"), SOURCES, shard_tokens=SHARD, heldout_tokens=500)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, Any]:
    """A store of one source with a target mask, and the mask."""
    mask = np.random.default_rng(0).random(3000) < 0.5
    folder = tmp_path_factory.mktemp("masked")
    return write_documents(folder, random_documents(3000, 300, 0), shard_tokens=SHARD, targets=mask), mask


@pytest.fixture
def copy(store: TokenStore, tmp_path: Path) -> Path:
    return shutil.copytree(store.path, tmp_path / "copy")


@given(st.data(), st.sampled_from(["med", "wiki"]), st.sampled_from(["train", "heldout"]), st.integers(1, 400))
def test_windows_are_slices_of_the_joined_stream(
    store: TokenStore, data: st.DataObject, source: str, split: Split, length: int
) -> None:
    joined = whole_stream(SOURCES, source, split, heldout_tokens=500)
    indices = data.draw(st.lists(st.integers(0, len(joined) // length - 1), max_size=8))
    windows = store.windows(source, np.array(indices, dtype=np.int64), length, split)
    assert windows.dtype == np.int64
    assert windows.shape == (len(indices), length)
    for row, index in zip(windows, indices, strict=True):
        assert (row == joined[index * length : (index + 1) * length]).all()
        assert (store.window(source, index, length, split) == row).all()


@pytest.mark.parametrize("index", [-1, 46, 47, 10**9])
def test_windows_outside_the_stream_are_refused(store: TokenStore, index: int) -> None:
    assert store.window("med", 45, 65).shape == (65,)  # 46 x 65 = 2990 of 3000 tokens
    with pytest.raises(IndexError):
        store.window("med", index, 65)


def test_documents_stand_where_they_say(store: TokenStore) -> None:
    documents = random_documents(3000, 300, 0)
    columns = store.documents("med")
    assert columns["id"].tolist() == [f"med-train-{i}" for i in range(len(documents))]
    assert columns["tokens"].tolist() == [len(document) for document in documents]
    assert columns["start"].tolist() == np.cumsum([0, *(len(document) for document in documents)])[:-1].tolist()
    joined = whole_stream(SOURCES, "med", "train")
    assert (joined[columns["start"] + columns["tokens"] - 1] == 0).all()
    stream = store.stream("med")
    assert stream.documents == len(documents) == sum(shard.documents for shard in stream.shards)
    assert stream.tokens == 3000 == sum(shard.tokens for shard in stream.shards)


def test_an_empty_stream_has_no_documents(tmp_path: Path) -> None:
    empty = make_store(tmp_path, {"med": ("domain", 100)}, heldout_tokens=0)
    assert empty.documents("med", "heldout") == {}
    assert empty.stream("med", "heldout").shards == ()
    with pytest.raises(IndexError):
        empty.window("med", 0, 8, "heldout")


@pytest.mark.parametrize(("vocabulary", "width"), [(300, 2), (65_536, 2), (65_537, 4), (128_256, 4)])
def test_tokens_take_two_bytes_where_the_vocabulary_fits(tmp_path: Path, vocabulary: int, width: int) -> None:
    assert token_dtype(vocabulary) == f"uint{8 * width}"
    one = make_store(tmp_path, {"med": ("domain", 200)}, vocabulary=vocabulary, heldout_tokens=0)
    raw = (one.path / "med/train-00000.tokens").read_bytes()
    assert len(raw) == 200 * width
    expected = np.concatenate(random_documents(200, vocabulary, 0))
    assert np.frombuffer(raw, dtype=f"<u{width}").tolist() == expected.tolist()
    assert (one.window("med", 0, 200) == expected).all()


def test_writing_twice_gives_the_same_bytes(store: TokenStore, tmp_path: Path) -> None:
    again = make_store(tmp_path, SOURCES, shard_tokens=SHARD, heldout_tokens=500)
    names = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file())
    assert names == sorted(file.relative_to(store.path) for file in store.path.rglob("*") if file.is_file())
    for name in names:
        assert (tmp_path / name).read_bytes() == (store.path / name).read_bytes(), name
    assert again.digest == store.digest


def test_sizes_are_those_of_training_text(store: TokenStore) -> None:
    assert {name: (size.role, size.tokens) for name, size in store.sizes.items()} == SOURCES


def test_a_whole_store_passes_its_check(copy: Path) -> None:
    TokenStore.open(copy, verify=True)


def test_nothing_there_names_the_command(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=f"has no store at {path}; run `steady curate`"):
            TokenStore.open(path)


@pytest.mark.parametrize("also", [None, "manifest.json"])
def test_a_half_written_store_is_refused(copy: Path, also: str | None) -> None:
    (copy / "COMPLETE").unlink()
    if also:
        (copy / also).unlink()
    with pytest.raises(UserError, match=r"half-written.*run `steady curate`"):
        TokenStore.open(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flipped_byte_in_any_file_is_found_and_named(copy: Path, name: str, place: float, mask: int) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= mask
    (copy / name).write_bytes(data)
    with pytest.raises(CorruptError) as caught:
        TokenStore.open(copy, verify=True)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".tokens")])
def test_a_truncated_shard_is_found_by_its_size(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-2])
    with pytest.raises(CorruptError, match=rf"{name} has {len(data) - 2:,} bytes instead of {len(data):,}"):
        TokenStore.open(copy)


def test_missing_files_are_named(copy: Path) -> None:
    (copy / "wiki/train-00001.docs.parquet").unlink()
    TokenStore.open(copy)
    with pytest.raises(CorruptError, match=r"wiki/train-00001\.docs\.parquet"):
        TokenStore.open(copy, verify=True)
    (copy / "med/train-00002.tokens").unlink()
    with pytest.raises(CorruptError, match=r"med/train-00002\.tokens is missing.*steady curate"):
        TokenStore.open(copy)


def test_a_missing_manifest_is_found(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(CorruptError, match=r"manifest\.json"):
        TokenStore.open(copy)


def test_another_format_is_refused(copy: Path) -> None:
    from ground.files import digest_bytes

    text = (copy / "manifest.json").read_text().replace('"format": 2', '"format": 1')
    (copy / "manifest.json").write_text(text)
    (copy / "COMPLETE").write_text(digest_bytes(text) + "\n")
    with pytest.raises(CorruptError, match="another version of the store format"):
        TokenStore.open(copy)


@given(st.data(), st.sampled_from(["med", "wiki"]), st.sampled_from(["train", "heldout"]), st.integers(1, 400))
def test_document_starts_follow_the_ends_of_documents(
    store: TokenStore, data: st.DataObject, source: str, split: Split, length: int
) -> None:
    joined = whole_stream(SOURCES, source, split, heldout_tokens=500)
    expected = np.flatnonzero(np.concatenate([[True], joined[:-1] == 0]))  # 0 ends a document and stands nowhere else
    indices = data.draw(st.lists(st.integers(0, len(joined) // length - 1), max_size=8))
    found = store.document_starts(source, np.array(indices, dtype=np.int64), length, split)
    assert len(found) == len(indices)
    for starts, index in zip(found, indices, strict=True):
        inside = expected[(expected >= index * length) & (expected < (index + 1) * length)] - index * length
        assert starts.dtype == np.int32
        assert starts.tolist() == inside.tolist()


def test_a_piece_in_which_no_document_starts(tmp_path: Path) -> None:
    one = write_documents(tmp_path, [np.array([5] * 999 + [0]), np.array([6, 0])], shard_tokens=128)
    assert (tmp_path / "med/train-00003.starts").stat().st_size == 0
    starts = one.document_starts("med", np.array([0, 1, 3, 7, 8]), 111)
    assert [found.tolist() for found in starts] == [[0], [], [], [], []]
    assert one.document_starts("med", np.array([0]), 1002)[0].tolist() == [0, 1000]
    assert one.document_starts("med", np.array([9]), 100)[0].tolist() == []
    assert one.document_starts("med", np.array([500]), 2)[0].tolist() == [0]


@given(st.data(), st.integers(1, 300))
def test_targets_are_slices_of_the_mask(masked: tuple[TokenStore, Any], data: st.DataObject, length: int) -> None:
    store, mask = masked
    indices = data.draw(st.lists(st.integers(0, len(mask) // length - 1), max_size=8))
    found = store.targets("med", np.array(indices, dtype=np.int64), length)
    assert found.dtype == np.bool_ and found.shape == (len(indices), length)
    for row, index in zip(found, indices, strict=True):
        assert (row == mask[index * length : (index + 1) * length]).all()


def test_without_a_mask_every_token_is_a_target(masked: tuple[TokenStore, Any], store: TokenStore) -> None:
    assert store.targets("med", np.array([0, 3]), 100).all()
    assert (masked[0].has_targets("med"), store.has_targets("med")) == (True, False)


@pytest.mark.parametrize("index", [-1, 46, 10**9])
def test_starts_and_targets_outside_the_stream_are_refused(
    store: TokenStore, masked: tuple[TokenStore, Any], index: int
) -> None:
    indices = np.array([45, index])
    for read in (store.document_starts, store.targets, masked[0].targets):
        with pytest.raises(IndexError):
            read("med", indices, 65)


def test_a_store_travels_without_its_maps(store: TokenStore) -> None:
    store.window("med", 0, 100)
    store.document_starts("med", np.array([0]), 100)
    sent = pickle.dumps(store)
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    assert again == store
    assert (again.window("med", 1, 100) == store.window("med", 1, 100)).all()


def test_metadata_is_there_where_a_document_has_some(tmp_path: Path) -> None:
    metadata = [None, '{"year": 1999}', *[None] * 8]
    one = write_documents(tmp_path, [np.array([7] * 49 + [0])] * 10, shard_tokens=200, metadata=metadata)
    names = [pq.read_schema(tmp_path / f"med/train-0000{i}.docs.parquet").names for i in range(3)]
    assert ["metadata" in columns for columns in names] == [True, False, False]
    assert one.documents("med")["metadata"].tolist() == metadata
    assert one.documents("med")["start"].tolist() == list(range(0, 500, 50))


def test_a_column_of_no_metadata_changes_no_byte(tmp_path: Path) -> None:
    documents = [np.array([7] * 49 + [0])] * 10
    one = write_documents(tmp_path / "one", documents, shard_tokens=200)
    other = write_documents(tmp_path / "other", documents, shard_tokens=200, metadata=[None] * 10)
    assert one.digest == other.digest

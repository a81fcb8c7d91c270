"""No byte of a store can change unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError, UserError
from pipelines.lineage import write_lineage
from pipelines.store import MARKER, TokenStore, seal
from tests.helpers.stores import random_documents
from tests.pipelines.test_store_writer import write_documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every kind of file."""
    path = tmp_path_factory.mktemp("store")
    documents = random_documents(2000, 300, 0)
    mask = np.random.default_rng(0).random(2000) < 0.5
    metadata = [f'{{"n": {i}}}' for i in range(len(documents))]
    store = write_documents(path, documents, shard_tokens=300, targets=mask, metadata=metadata)
    write_lineage(path, store.manifest)
    seal(path, store.manifest)
    TokenStore.open(path, verify=True)
    return path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def changed(file: Path, data: bytes | None) -> Iterator[None]:
    """The file with other content, or gone, for the time of the block."""
    before = file.read_bytes()
    try:
        if data is None:
            file.unlink()
        else:
            file.write_bytes(data)
        yield
    finally:
        file.write_bytes(before)


def assert_found(folder: Path, file: Path) -> None:
    with pytest.raises(UserError) as caught:
        TokenStore.open(folder, verify=True)
    assert caught.type is CorruptError or not (folder / MARKER).is_file()
    # What the marker vouches for is named when the marker itself is wrong: they cannot be told apart.
    assert file.name in str(caught.value) or file.name == MARKER
    assert "\n" not in str(caught.value)


def test_there_is_every_kind_of_file(folder: Path) -> None:
    names = {"".join(path.suffixes) or path.name for path in files(folder)}
    assert names == {"COMPLETE", ".json", ".tokens", ".starts", ".targets", ".docs.parquet"}
    assert (folder / "lineage.json").is_file() and len(files(folder / "tokenizer")) == 2


@given(st.data(), st.integers(1, 255))
def test_every_flipped_byte_is_found(folder: Path, data: st.DataObject, mask: int) -> None:
    file = data.draw(st.sampled_from(files(folder)))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= mask
    with changed(file, bytes(content)):
        assert_found(folder, file)


@given(st.data())
def test_every_truncation_is_found(folder: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(files(folder)))
    content = file.read_bytes()
    with changed(file, content[: data.draw(st.integers(0, len(content) - 1))]):
        assert_found(folder, file)


@given(st.data(), st.binary(min_size=1, max_size=20))
def test_extra_bytes_are_found(folder: Path, data: st.DataObject, extra: bytes) -> None:
    file = data.draw(st.sampled_from(files(folder)))
    content = file.read_bytes()
    place = data.draw(st.sampled_from([0, len(content) // 2, len(content)]))
    if content[:place] + extra + content[place:] == content:
        return
    with changed(file, content[:place] + extra + content[place:]):
        assert_found(folder, file)


@pytest.mark.parametrize("number", range(34))
def test_every_missing_file_is_found(folder: Path, number: int) -> None:
    assert len(files(folder)) == 33, "one parameter for each file, and one that is none"
    if number == 33:
        TokenStore.open(folder, verify=True)
        return
    file = files(folder)[number]
    with changed(file, None):
        assert_found(folder, file)


@pytest.mark.parametrize("ending", [".tokens", ".starts", ".targets", ".docs.parquet"])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (2, 5)])
def test_swapped_shards_are_found(folder: Path, ending: str, one: int, other: int) -> None:
    first, second = (folder / "med" / f"train-0000{index}{ending}" for index in (one, other))
    a, b = first.read_bytes(), second.read_bytes()
    assert a != b
    with changed(first, b), changed(second, a):
        assert_found(folder, first)


def test_a_file_that_the_manifest_does_not_name_is_not_read(folder: Path) -> None:
    for name in ("notes.txt", "med/train-00099.tokens", "other/train-00000.tokens"):
        extra = folder / name
        extra.parent.mkdir(exist_ok=True)
        extra.write_bytes(b"x")
        assert TokenStore.open(folder, verify=True).stream("med").tokens == 2000
        extra.unlink()


def test_a_file_more_in_the_folder_of_the_tokenizer_is_refused(folder: Path) -> None:
    extra = folder / "tokenizer" / "added_tokens.json"
    extra.write_text('{"<more>": 300}')
    try:
        with pytest.raises(CorruptError, match=r"added_tokens\.json does not belong to the store"):
            TokenStore.open(folder, verify=True)
    finally:
        extra.unlink()


def test_a_lineage_put_into_a_sealed_store_is_refused(tmp_path: Path) -> None:
    write_documents(tmp_path, random_documents(500, 300, 0), shard_tokens=300)
    (tmp_path / "lineage.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"lineage\.json does not match its checksum"):
        TokenStore.open(tmp_path)

"""The node's cache of store pieces: right, bounded, shared, and out of the way when it does not fit."""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError, UserError
from ground.files import digest_file
from pipelines.store import TokenStore
from pipelines.store_cache import CachedFiles, StoreCache, digest_source
from pipelines.store_remote import open_store, publish
from tests.helpers.stores import make_store

KB = 1024


def piece(folder: Path, name: str, size: int = 4 * KB) -> tuple[str, str]:
    """A file of its own content; path and digest."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((name.encode() * size)[:size])
    return str(path), digest_file(path)


def kept(cache: StoreCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if path.suffix == "" and path.name != "lock"}


def size_of(cache: StoreCache) -> int:
    return sum((cache.folder / name).stat().st_size for name in kept(cache))


def in_another_process(cache: StoreCache, *pieces: tuple[str, str]) -> None:
    """Open pieces and end, so that nobody holds them."""
    code = f"from pipelines.store_cache import StoreCache\nc = StoreCache({str(cache.folder)!r}, {cache.limit_bytes})\n"
    code += "".join(f"c.get({source!r}, {digest!r})\n" for source, digest in pieces)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_piece_is_copied_once(tmp_path: Path) -> None:
    source, digest = piece(tmp_path, "a")
    cache = StoreCache(tmp_path / "cache", 100 * KB)
    cached = cache.get(source, digest)
    assert cached.parent == cache.folder and cached.read_bytes() == Path(source).read_bytes()
    Path(source).unlink()  # the storage is slow, or gone
    assert cache.get(source, digest) == StoreCache(cache.folder, 100 * KB).get(source, digest) == cached


def test_a_damaged_source_is_never_kept(tmp_path: Path) -> None:
    source, digest = piece(tmp_path, "a")
    Path(source).write_bytes(b"x" * 4 * KB)
    cache = StoreCache(tmp_path / "cache", 100 * KB)
    with pytest.raises(CorruptError, match="a does not match its checksum"):
        cache.get(source, digest)
    assert not kept(cache) and not list(cache.folder.glob("*.part"))


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    pieces = [piece(tmp_path, name) for name in "abc"]
    cache = StoreCache(tmp_path / "cache", 8 * KB)
    in_another_process(cache, pieces[0], pieces[1])
    in_another_process(cache, pieces[0])
    in_another_process(cache, pieces[2])
    assert kept(cache) == {pieces[0][1], pieces[2][1]}


def test_what_is_in_use_stays_and_the_rest_is_read_where_it_lies(tmp_path: Path) -> None:
    pieces = [piece(tmp_path, name) for name in "abc"]
    cache = StoreCache(tmp_path / "cache", 8 * KB)
    other = StoreCache(cache.folder, 8 * KB)
    assert [cache.get(*one).parent for one in pieces[:2]] == [cache.folder] * 2
    assert other.get(*pieces[2]) == Path(pieces[2][0])
    assert kept(cache) == {digest for _, digest in pieces[:2]}


def test_what_a_killed_copy_left_is_removed(tmp_path: Path) -> None:
    source, digest = piece(tmp_path, "a")
    cache = StoreCache(tmp_path / "cache", 8 * KB)
    cache.folder.mkdir()
    (cache.folder / f"{'0' * 32}.part").write_bytes(b"x" * 6 * KB)
    (cache.folder / f"{digest}.part").write_bytes(b"x" * 6 * KB)
    assert cache.get(source, digest).read_bytes() == Path(source).read_bytes()
    assert not list(cache.folder.glob("*.part"))


def test_a_copy_that_goes_on_counts_and_stays(tmp_path: Path) -> None:
    source, digest = piece(tmp_path, "a")
    cache = StoreCache(tmp_path / "cache", 8 * KB)
    cache.folder.mkdir()
    with open(cache.folder / f"{'0' * 32}.part", "wb") as copying:
        fcntl.flock(copying, fcntl.LOCK_EX)
        copying.truncate(6 * KB)
        assert cache.get(source, digest) == Path(source)
    assert (cache.folder / f"{'0' * 32}.part").exists()


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    source, digest = piece(tmp_path, "a")
    cache = StoreCache(tmp_path / "cache", 100 * KB)
    assert cache.get(source, digest) == Path(source)
    assert not list(cache.folder.glob("*.part"))


def test_threads_share_one_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, digest = piece(tmp_path, "a", 64 * KB)
    cache = StoreCache(tmp_path / "cache", 100 * KB)
    copies: list[str] = []
    copy = StoreCache._copy

    def counted(self: StoreCache, *arguments: str) -> bool:
        copies.append(arguments[0])
        return copy(self, *arguments)

    monkeypatch.setattr(StoreCache, "_copy", counted)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(cache.get(source, digest).read_bytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Path(source).read_bytes()] * 8 and copies == [source]


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    order=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20),
    limit=st.integers(0, 9000),
)
def test_any_order_gives_the_content_within_the_limit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], order: list[tuple[int, bool]], limit: int
) -> None:
    """Pieces of any size, asked for by caches that come and go."""
    folder = tmp_path_factory.mktemp("cache")
    pieces = [piece(folder, f"p{i}", size) for i, size in enumerate(sizes)]
    cache = StoreCache(folder / "cache", limit)
    for index, anew in order:
        if anew:
            for file in cache._held:
                os.close(file)
            cache = StoreCache(folder / "cache", limit)
        source, digest = pieces[index % len(pieces)]
        assert cache.get(source, digest).read_bytes() == Path(source).read_bytes()
        assert size_of(cache) <= limit
    for file in cache._held:
        os.close(file)


def test_cached_files_are_fetched_when_asked_for(tmp_path: Path) -> None:
    pieces = [piece(tmp_path, name) for name in "abc"]
    cache = StoreCache(tmp_path / "cache", 100 * KB)
    files = CachedFiles(cache, pieces)
    assert len(files) == 3 and not cache.folder.exists()
    assert files[1].read_bytes() == Path(pieces[1][0]).read_bytes()
    assert kept(cache) == {pieces[1][1]} and len(files[1:]) == 2


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return make_store(tmp_path / "store", {"med": ("domain", 20_000), "wiki": ("general", 10_000)}, masked=("med",))


def same(one: TokenStore, other: TokenStore) -> bool:
    """Whether two stores read alike, masks and documents too."""
    indices = np.arange(one.stream("med").tokens // 64)
    starts = zip(one.document_starts("med", indices, 64), other.document_starts("med", indices, 64), strict=True)
    return bool(
        (one.windows("med", indices, 64) == other.windows("med", indices, 64)).all()
        and (one.targets("med", indices, 64) == other.targets("med", indices, 64)).all()
        and all(np.array_equal(a, b) for a, b in starts)
        and list(one.documents("wiki")["id"]) == list(other.documents("wiki")["id"])
    )


@pytest.mark.parametrize("limit", [0, 9000, 1 << 20])
def test_a_store_reads_the_same_through_a_cache(store: TokenStore, tmp_path: Path, limit: int) -> None:
    cache = StoreCache(tmp_path / "cache", limit)
    cached = TokenStore.open(store.path, cache=cache)
    assert cached.digest == store.digest and same(cached, store)
    assert same(pickle.loads(pickle.dumps(cached)), store)
    assert size_of(cache) <= limit
    if limit > KB * KB // 2:
        for path in store.path.rglob("*.tokens"):
            path.write_bytes(b"\0" * path.stat().st_size)  # what is in the cache is not read from there again
        assert same(TokenStore.open(store.path, cache=cache), cached)


def test_a_damaged_shard_is_found_on_its_way_into_the_cache(store: TokenStore, tmp_path: Path) -> None:
    path = store.path / "med" / "train-00001.tokens"
    path.write_bytes(b"\0" * path.stat().st_size)
    cached = TokenStore.open(store.path, cache=StoreCache(tmp_path / "cache", 1 << 20))
    cached.window("med", 0, 64)
    with pytest.raises(CorruptError, match=r"train-00001\.tokens does not match its checksum"):
        cached.windows("med", np.arange(store.stream("med").tokens // 64), 64)


def test_a_store_at_a_url(store: TokenStore, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/stores/small/"
    cache = StoreCache(tmp_path / "cache", 1 << 20)
    with pytest.raises(UserError, match="there is no complete store"):
        open_store(url, cache)
    publish(store, url)
    publish(store, url)
    far = open_store(url, cache, verify=True)
    assert far.digest == store.digest and same(far, store)
    assert same(pickle.loads(pickle.dumps(far)), store)
    assert same(open_store(store.path, cache), store)
    with pytest.raises(UserError, match=r"set cluster\.cache_folder"):
        open_store(url, None)
    other = make_store(tmp_path / "other", {"med": ("domain", 5_000)})
    with pytest.raises(UserError, match="holds another store"):
        publish(other, url)
    small = open_store(url, StoreCache(tmp_path / "small", 100))
    with pytest.raises(UserError, match=r"cluster\.cache_gb.*no room"):
        small.windows("med", np.arange(4), 64)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer/tokenizer.json", "med/train-00000.tokens"])
def test_a_damaged_store_at_a_url(store: TokenStore, tmp_path: Path, name: str) -> None:
    url = f"memory://{tmp_path.name}/damaged"
    publish(store, url)
    files, root = fsspec.core.url_to_fs(url)
    content = files.cat_file(f"{root}/{name}")
    files.pipe_file(f"{root}/{name}", content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptError, match="does not match its checksum"):
        open_store(url, StoreCache(tmp_path / "cache", 1 << 20), verify=True)
    assert digest_source(f"{url}/none") == ""

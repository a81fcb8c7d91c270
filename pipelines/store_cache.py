"""A node's cache of store pieces: copied from slow or far storage when first read, checked, kept up to a size.

    cache/<digest>        a piece under the checksum of its content, so that equal pieces of several stores are kept once
    cache/<digest>.part   a piece that is being copied
    cache/<digest>.lock   held by the process that copies it; the others of the node wait for it
    cache/lock            held while room is made

Whoever reads a piece holds a shared lock on its file until its process ends, however it ends. Only pieces that nobody holds
are removed, those that were opened longest ago first. What does not fit beside the pieces in use is read where it lies: a run
reads all pieces of its pool in every batch, so that a smaller cache would copy without end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import fsspec
from blake3 import blake3
from filelock import FileLock

from ground.errors import CorruptError, UserError
from pipelines.paths import URL_ERRORS

_BLOCK_BYTES = 4 << 20
_PART, _LOCK = ".part", ".lock"


def cache_in(folder: str | None, gigabytes: float) -> StoreCache | None:
    """The cache in a folder; None where none is wanted."""
    return StoreCache(folder, int(gigabytes * 1e9)) if folder else None


class StoreCache:
    """A cache in one folder, for any number of processes, threads and stores.

    Args:
        folder: on a disk of this node; created.
        limit_bytes: of all pieces in it.
    """

    def __init__(self, folder: Path | str, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self._held: list[int] = []

    def __reduce__(self) -> tuple[type[StoreCache], tuple[Path, int]]:
        return StoreCache, (self.folder, self.limit_bytes)  # locks belong to a process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreCache) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash((self.folder, self.limit_bytes))

    def get(self, source: str, digest: str) -> Path:
        """A local file with the content of ``source``: the cached piece, or a local ``source`` itself where it does not fit.

        Blocks while it is copied, by this process or another one.

        Args:
            source: path or URL of the piece.
            digest: BLAKE3 of its content, as ``ground.files.digest_file`` gives it.

        Raises:
            CorruptError: ``source`` does not match ``digest``; nothing of it is kept.
            UserError: a URL cannot be read, or does not fit into the cache.
            OSError: the storage of ``source`` or of the cache refuses.
        """
        cached = self.folder / digest
        while not self._hold(cached):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{digest}{_LOCK}"):
                if not cached.is_file() and not self._copy(source, digest):
                    if "://" not in source:
                        return Path(source)
                    problem = f"the cache in {self.folder} has no room for {source} beside what is in use"
                    raise UserError("cluster.cache_gb", problem, "raise it to the size of the store, or free some disk")
        return cached

    def _hold(self, cached: Path) -> bool:
        """Keep a piece from being removed while this process lives; False when it is not there."""
        try:
            file = os.open(cached, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        fcntl.flock(file, fcntl.LOCK_SH)
        state = os.fstat(file)
        if not state.st_nlink:  # removed before it could be held
            os.close(file)
            return False
        self._held.append(file)
        os.utime(file)
        return True

    def _copy(self, source: str, digest: str) -> bool:
        """Copy a piece into the cache; False when there is no room. The caller holds the piece's lock."""
        part = self.folder / f"{digest}{_PART}"
        file = self._reserve(part, _size(source))
        if file is None:
            return False
        try:
            with os.fdopen(file, "wb") as target:
                found = _digest(source, target)
                target.flush()
                os.fsync(target.fileno())
                if found != digest:
                    raise CorruptError(
                        "curation.store", f"{source} does not match its checksum", "restore it, or curate again"
                    )
                part.replace(self.folder / digest)
        finally:
            part.unlink(missing_ok=True)
        return True

    def _reserve(self, part: Path, size: int) -> int | None:
        """An open, locked file of ``size`` bytes, after removing what stands in its way; None when there is no room."""
        with FileLock(self.folder / "lock"):
            part.unlink(missing_ok=True)  # of a process that was killed: its lock is ours
            if not self._make_room(size):
                return None
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if size:
                    os.posix_fallocate(file, 0, size)
            except OSError:  # the disk is smaller than the limit
                os.close(file)
                part.unlink()
                return None
            return file

    def _make_room(self, size: int) -> bool:
        """Remove pieces that nobody holds, oldest first, until ``size`` more bytes fit; none if that is not enough."""
        used, idle = 0, []
        for path in self.folder.iterdir():
            if path.suffix == _LOCK or path.name == "lock":
                continue
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # a part that has just become a piece: its other name is counted
                continue
            state = os.fstat(file)
            used += state.st_size
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                idle.append((state.st_mtime_ns, state.st_size, path, file))
            except BlockingIOError:
                os.close(file)
        excess = used + size - self.limit_bytes
        fits = excess <= sum(each for _, each, _, _ in idle)
        for _, each, path, file in sorted(idle):
            if fits and excess > 0:
                path.unlink(missing_ok=True)
                excess -= each
            os.close(file)
        return fits


class CachedFiles(Sequence[Path]):
    """Pieces as local files, each fetched into the cache when it is asked for.

    Args:
        pieces: path or URL, and digest, of each.
    """

    def __init__(self, cache: StoreCache, pieces: Sequence[tuple[str, str]]) -> None:
        self._cache, self._pieces = cache, pieces

    def __len__(self) -> int:
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        if isinstance(index, slice):
            return CachedFiles(self._cache, self._pieces[index])
        return self._cache.get(*self._pieces[index])


def digest_source(source: str) -> str:
    """BLAKE3 of a file or URL as 32 hex digits; empty when there is none.

    Raises:
        UserError: the URL cannot be read.
    """
    try:
        return _digest(source)
    except FileNotFoundError:
        return ""


def _digest(source: str, copy: Any = None) -> str:
    hasher = blake3()
    try:
        with fsspec.open(source, "rb") if "://" in source else open(source, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                hasher.update(block)
                if copy is not None:
                    copy.write(block)
    except URL_ERRORS as error:
        raise _unreadable(source, error) from None
    return hasher.hexdigest(16)


def _size(source: str) -> int:
    if "://" not in source:
        return Path(source).stat().st_size
    try:
        files, path = fsspec.core.url_to_fs(source)
        return int(files.size(path))
    except URL_ERRORS as error:
        raise _unreadable(source, error) from None


def _unreadable(source: str, error: Exception) -> Exception:
    if "://" not in source or isinstance(error, FileNotFoundError):
        return error
    reason = " ".join(str(error).split())[:240] or type(error).__name__
    return UserError("curation.store", f"{source} cannot be read ({reason})", "check the address and the access rights")

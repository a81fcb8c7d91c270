"""A token store in an object store: `publish` puts one there, `open_store` reads it through the node's cache."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from ground.errors import CorruptError, UserError
from ground.files import digest_bytes, write_atomic
from pipelines.paths import URL_ERRORS
from pipelines.store import LINEAGE, MANIFEST, MARKER, TOKENIZER, TokenStore
from pipelines.store_cache import StoreCache

_HEADS = "stores"


def open_store(location: str | Path, cache: StoreCache | None, *, verify: bool = False) -> TokenStore:
    """Open a store in a folder or at a URL; pieces are read through ``cache``.

    Of a store at a URL the manifest and the tokenizer are kept in the cache's folder, a few megabytes outside its limit.

    Raises:
        UserError: there is no complete store, the URL cannot be read, or there is a URL and no cache.
        CorruptError: something does not match its checksum.
    """
    if "://" not in str(location):
        return TokenStore.open(location, verify=verify, cache=cache)
    url = str(location).rstrip("/")
    if cache is None:
        raise UserError(
            "curation.store", f"{url} is a URL", "set cluster.cache_folder, where nodes keep what they read"
        )
    return TokenStore.open(_head(url, cache.folder), verify=verify, cache=cache, origin=url)


def publish(store: TokenStore, url: str) -> None:
    """Copy a complete store to a URL, its marker last. Nothing is done when the same store is there.

    Raises:
        UserError: the URL cannot be written, or holds another store.
    """
    try:
        files, root = fsspec.core.url_to_fs(url.rstrip("/"))
        marker = (store.path / MARKER).read_bytes()
        if files.exists(f"{root}/{MARKER}"):
            if files.cat_file(f"{root}/{MARKER}") == marker:
                return
            raise UserError("curation.store", f"{url} holds another store", "give another address")
        paths = [path for path in sorted(store.path.rglob("*")) if path.is_file() and path.name != MARKER]
        for path in paths:
            _put(
                files, path.read_bytes() if path.stat().st_size == 0 else path, f"{root}/{path.relative_to(store.path)}"
            )
        _put(files, marker, f"{root}/{MARKER}")
    except URL_ERRORS as error:
        raise _refused(url, error) from None


def _put(files: Any, content: Path | bytes, target: str) -> None:
    files.makedirs(target.rpartition("/")[0], exist_ok=True)
    if isinstance(content, bytes):
        files.pipe_file(target, content)
    else:
        files.put_file(str(content), target)


def _head(url: str, folder: Path) -> Path:
    """The local copy of what a store has beside its pieces."""
    try:
        files, root = fsspec.core.url_to_fs(url)
        if not files.exists(f"{root}/{MARKER}"):
            raise UserError("curation.store", f"there is no complete store at {url}", "publish one there")
        marker: bytes = files.cat_file(f"{root}/{MARKER}")
        head = folder / _HEADS / digest_bytes(marker)
        if (head / MARKER).is_file():
            return head
        manifest: bytes = files.cat_file(f"{root}/{MANIFEST}")
        lines = marker.decode().splitlines()
        if not lines or digest_bytes(manifest) != lines[0]:
            raise CorruptError(
                "curation.store", f"{url}/{MANIFEST} does not match its checksum", "publish the store again"
            )
        names = [MANIFEST, *([LINEAGE] if len(lines) > 1 else ())]
        expected = {f"{TOKENIZER}/{name}": digest for name, digest in json.loads(manifest)["tokenizer_files"].items()}
        for name in (*names, *expected):
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise CorruptError("curation.store", f"{url} names the file {name!r}", "publish the store again")
            content: bytes = files.cat_file(f"{root}/{name}")
            if name in expected and digest_bytes(content) != expected[name]:
                raise CorruptError(
                    "curation.store", f"{url}/{name} does not match its checksum", "publish the store again"
                )
            write_atomic(head / name, content)
        write_atomic(head / MARKER, marker)
    except URL_ERRORS as error:
        raise _refused(url, error) from None
    return head


def _refused(url: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:240] or type(error).__name__
    return UserError("curation.store", f"{url} refuses ({reason})", "check the address and the access rights")

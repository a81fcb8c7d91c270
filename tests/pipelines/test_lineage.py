"""The lineage file: from the manifest alone, the same wherever the store is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ground.errors import CorruptError
from pipelines.lineage import library_versions, lineage, write_lineage
from pipelines.store import Manifest, TokenStore, seal
from tests.helpers.stores import random_documents
from tests.pipelines.test_store_writer import write_documents

MADE_FROM = {
    "version": 2,
    "sources": {"med": {"role": "domain", "text_field": "text", "files": ["bb", "aa"]}, "ref": {"files": ["cc"]}},
    "config": {"heldout_fraction": 0.1},
    "tokenizer": "tt",
    "quality_model": "nn",
    "evaluation_sets": None,
}


def with_lineage(folder: Path) -> tuple[TokenStore, Manifest]:
    store = write_documents(folder, random_documents(500, 300, 0), shard_tokens=300)
    manifest = store.manifest.model_copy(update={"lineage": MADE_FROM, "funnel": {"med": {"kept": 3}}})
    write_lineage(folder, manifest)
    seal(folder, manifest)
    return TokenStore.open(folder, verify=True), manifest


def test_it_names_the_store_its_parents_and_what_is_in_it(tmp_path: Path) -> None:
    store, _ = with_lineage(tmp_path)
    told = json.loads((tmp_path / "lineage.json").read_text())
    assert told["id"] == store.digest
    assert told["parents"] == [
        {"kind": "file", "source": "med", "digest": "aa"},
        {"kind": "file", "source": "med", "digest": "bb"},
        {"kind": "file", "source": "ref", "digest": "cc"},
        {"kind": "tokenizer", "digest": store.manifest.tokenizer_digest},
        {"kind": "quality model", "digest": "nn"},
    ]
    stream = store.stream("med")
    assert told["sources"]["med"]["role"] == "domain"
    assert told["sources"]["med"]["train"] == {
        "documents": stream.documents,
        "tokens": stream.tokens,
        "bytes": stream.bytes,
    }
    assert told["made_with"]["config"] == {"heldout_fraction": 0.1}
    assert told["made_with"]["version"] == 2
    assert told["made_with"]["libraries"]["pyarrow"] == library_versions()["pyarrow"]
    assert told["funnel"] == {"med": {"kept": 3}}


def test_equal_stores_have_equal_files(tmp_path: Path) -> None:
    with_lineage(tmp_path / "one")
    with_lineage(tmp_path / "two")
    one, two = ((tmp_path / name / "lineage.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert str(tmp_path).encode() not in one


def test_it_is_a_function_of_the_manifest(tmp_path: Path) -> None:
    _, manifest = with_lineage(tmp_path)
    assert lineage(manifest, "id", {"a": "1"}) == lineage(manifest, "id", {"a": "1"})
    assert lineage(manifest, "id", {})["made_with"]["libraries"] == {}


def test_a_library_that_is_not_there_is_left_out() -> None:
    assert library_versions(("numpy", "no-such-package")).keys() == {"numpy"}


def test_the_marker_vouches_for_it(tmp_path: Path) -> None:
    with_lineage(tmp_path)
    (tmp_path / "lineage.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"lineage\.json does not match its checksum in COMPLETE"):
        TokenStore.open(tmp_path)

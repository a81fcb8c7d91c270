"""The lineage of a store: what it was made from and with, as one JSON file for people and data catalogues.

After DCLM's dataset references (Li et al. 2024, *DataComp-LM*, repository folder ``exp_data/datasets``): an id, the parents,
the configuration, the counts. Unlike there the id is the store's own digest and nothing depends on when, where or by
whom it was made, so that equal stores have equal files.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ground.files import canonical_json, write_atomic
from pipelines.store import LINEAGE, Manifest, completed

_LIBRARIES = (
    "blake3",
    "datasketch",
    "fasttext-numpy2",
    "fasttext-wheel",
    "ftfy",
    "kenlm-ex",
    "numpy",
    "pyarrow",
    "rensa",
    "resiliparse",
    "tokenizers",
    "trafilatura",
    "transformers",
    "zstandard",
)
"""Packages whose version may show in a store. Those that are not installed are left out."""

_DIGESTS = {"quality_model": "quality model", "evaluation_sets": "evaluation sets"}
"""Entries of the manifest's lineage that are digests of parents, and what these are called here."""


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Installed versions of the libraries that take part in curation."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def lineage(manifest: Manifest, digest: str, libraries: dict[str, str]) -> dict[str, Any]:
    """The lineage of the store with this manifest, as plain JSON values.

    Args:
        digest: of the store.
        libraries: name -> version.
    """
    made_from = manifest.lineage
    sources = made_from.get("sources", {})
    parents: list[dict[str, str]] = [
        {"kind": "file", "source": name, "digest": file}
        for name in sorted(sources)
        for file in sorted(sources[name].get("files", []))
    ]
    parents.append({"kind": "tokenizer", "digest": manifest.tokenizer_digest})
    parents += [{"kind": kind, "digest": made_from[key]} for key, kind in _DIGESTS.items() if made_from.get(key)]
    return {
        "id": digest,
        "kind": "token store",
        "format": manifest.format,
        "parents": parents,
        "made_with": {
            "libraries": libraries,
            **{key: value for key, value in made_from.items() if key not in ("sources", "tokenizer", *_DIGESTS)},
        },
        "sources": {
            name: {
                "role": stored.role,
                **{key: value for key, value in sources.get(name, {}).items() if key not in ("files", "role")},
                **{
                    split: {"documents": stream.documents, "tokens": stream.tokens, "bytes": stream.bytes}
                    for split, stream in (("train", stored.train), ("heldout", stored.heldout))
                },
            }
            for name, stored in sorted(manifest.sources.items())
        },
        "funnel": manifest.funnel,
    }


def write_lineage(store: Path, manifest: Manifest) -> Path:
    """Write ``lineage.json`` into a store that is about to be sealed with this manifest: after the tokenizer, before
    ``seal``, whose marker then vouches for it. Returns its path."""
    _, digest = completed(store, manifest)
    path = store / LINEAGE
    write_atomic(path, canonical_json(lineage(manifest, digest, library_versions())))
    return path

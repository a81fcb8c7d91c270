"""From input files to parts of clean documents: one item a split (``prepare.py``)."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines import prepare
from pipelines.config import CurationConfig, SourceConfig
from pipelines.executor import Item, Result
from pipelines.filters import FilterConfig
from pipelines.inputs import Input
from pipelines.naming import Role
from pipelines.readers import Rejects, Split, file_digest, plan_splits, read_split, require_wellformed
from pipelines.work import Work, content_key

_LIBRARIES = (
    "ftfy",
    "fasttext-predict",
    "resiliparse",
    "rensa",
    "numpy",
)  # whose versions may change what stays of a text

Group = list[tuple[Split, str]]
"""Splits that one item prepares, each with the digest of its file."""


@dataclass(frozen=True)
class Part:
    """The clean documents of one split."""

    source: str
    folder: Path
    result: Result

    @property
    def key(self) -> str:
        """Digest of what determines the part."""
        return self.folder.name

    @property
    def documents(self) -> int:
        """Rows of the part."""
        return sum(counts["documents"] for counts in self.result["kept"].values())


def prepare_parts(
    work: Work,
    config: CurationConfig,
    sources: Mapping[str, SourceConfig],
    inputs: Mapping[str, Sequence[Input]],
    contamination_index: Path | None,
    split_bytes: int,
    *,
    first_of: Collection[Role] = (),
) -> list[Part]:
    """Prepare every split of every source; parts of references too.

    Args:
        first_of: roles of which only the first item of each source is wanted, for a preview.

    Raises:
        UserError: a file cannot be read, or too many of its records are no documents.
    """
    groups = {name: _groups(name, source, inputs[name], split_bytes) for name, source in sources.items()}
    for name, source in sources.items():
        if source.role in first_of:
            del groups[name][1:]
    limits = {name: _limit(work, source, groups[name]) for name, source in sources.items() if source.max_documents}
    items, names, sizes = [], [], []
    for name, source in sources.items():
        preparation = _preparation(name, source, config, contamination_index, limits.get(name))
        skipped: Any = {"reading": {"paths": True, "tokens": True}, "contamination_index": True}
        described = preparation.model_dump(mode="json", exclude=skipped)
        for group in groups[name]:
            key = content_key(
                version=prepare.VERSION,
                libraries={library: version(library) for library in _LIBRARIES},
                preparation=described,
                terms=_term_files(preparation.filters),
                contamination=contamination_index.name if contamination_index is not None else None,
                splits=[_identity(split, digest) for split, digest in group],
            )
            splits = [split.model_dump(mode="json") for split, _ in group]
            items.append((key, {"preparation": preparation.model_dump(mode="json"), "splits": splits}))
            names.append(name)
            sizes.append(sum(split.bytes for split, _ in group))
    made = work.run("prepare", prepare.prepare, items, sizes=sizes)
    parts = [Part(name, entry.folder, entry.result) for name, entry in zip(names, made, strict=True)]
    _require_wellformed(parts, sources)
    return parts


def smallest_of_splits(item: Item, folder: Path) -> Result:
    """The smallest document hashes of some splits (``{"source", "splits"}``), for ``max_documents``."""
    source = SourceConfig.model_validate(item["source"])
    splits = [Split.model_validate(split) for split in item["splits"]]
    hashes = (
        document_hash
        for split in splits
        for documents in read_split(split, source, Rejects(), field=f"sources.{split.source}")
        for document_hash in documents.hashes
    )
    (folder / "hashes.txt").write_text("\n".join(heapq.nsmallest(source.max_documents or 0, hashes)))
    return {}


def _preparation(
    name: str, source: SourceConfig, config: CurationConfig, contamination_index: Path | None, largest: str | None
) -> prepare.Preparation:
    is_reference = source.role == "reference"
    return prepare.Preparation(
        source=name,
        role=source.role,
        reading=source,
        filters=config.filters_of(source),
        dedup=None if is_reference else config.dedup,
        deidentification=config.deidentification_of(source),
        contamination_index=str(contamination_index) if contamination_index and not is_reference else None,
        drop_contaminated=config.decontamination is not None and config.decontamination.action == "drop",
        heldout_fraction=0.0 if is_reference else config.heldout_fraction,
        largest=largest,
        excluded_share=config.excluded_share,
    )


def _term_files(filters: FilterConfig) -> list[str]:
    """Digests of the lists that filters read: the lists decide, not their paths."""
    parts = (filters.domain_terms, filters.blocklist)
    return [file_digest(part.terms_file) for part in parts if part is not None and part.terms_file is not None]


def _limit(work: Work, source: SourceConfig, groups: Sequence[Group]) -> str | None:
    """The largest of the ``max_documents`` smallest hashes of a source, or None when it has no more documents than that."""
    described = source.model_dump(mode="json", exclude={"paths", "tokens"})
    items = [
        (
            content_key(version=1, source=described, splits=[_identity(split, digest) for split, digest in group]),
            {
                "source": source.model_dump(mode="json"),
                "splits": [split.model_dump(mode="json") for split, _ in group],
            },
        )
        for group in groups
    ]
    made = work.run("limits", smallest_of_splits, items, quiet=True)
    lists = [(entry.folder / "hashes.txt").read_text().split() for entry in made]
    count = source.max_documents or 0
    smallest: list[str] = heapq.nsmallest(count, heapq.merge(*lists))
    return smallest[-1] if len(smallest) == count else None


def _groups(name: str, source: SourceConfig, inputs: Sequence[Input], split_bytes: int) -> list[Group]:
    """The splits of a source with the digests of their files; many small ones together make one item."""
    digests = {entry.file: entry.digest for entry in inputs}
    files, sizes = [entry.file for entry in inputs], [entry.size for entry in inputs]
    groups: list[Group] = []
    filled = 0
    for split in plan_splits(name, source, files, sizes, split_bytes):
        if not groups or filled + split.bytes > split_bytes:
            groups.append([])
            filled = 0
        groups[-1].append((split, digests[split.file]))
        filled += split.bytes
    return groups


def _identity(split: Split, digest: str) -> dict[str, Any]:
    """What a split is, wherever its file lies; the name stays, since ids may be made from it."""
    return split.model_dump(mode="json", exclude={"file"}) | {"name": Path(split.file).name, "digest": digest}


def _require_wellformed(parts: Sequence[Part], sources: Mapping[str, SourceConfig]) -> None:
    """Judge every file by the sum over its splits, wherever these went."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    rows: Counter[tuple[str, str]] = Counter()
    for part in parts:
        for rejects in part.result["rejects"]:
            owner = (part.source, rejects["file"])
            counts.setdefault(owner, Counter()).update(rejects["counts"])
            rows[owner] += rejects["rows"]
    for (name, file), rejected in counts.items():
        require_wellformed(file, rejected, rows[name, file], sources[name], field=f"sources.{name}")

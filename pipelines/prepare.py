"""First pass over the corpus: splits of input files to a part of clean documents, with what became of the others.

    read -> repair -> filter -> decontaminate -> de-identify -> sign

    part/documents.arrow     the documents that stay: id, hash, held out, bytes, text, metadata, messages (``PART_SCHEMA``)
    part/excluded.parquet    a sample of those that do not, with the reason
    part/content.npy, ...    signatures for deduplication, one row a document

Memory is flat: a batch of documents is written before the next one is read.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ground.config import Section
from pipelines.config import Role, SourceConfig
from pipelines.decontamination import Index, Tally
from pipelines.dedup import DedupConfig, SignatureWriter
from pipelines.deidentification import DeidentificationConfig, Redactor
from pipelines.executor import Item, Result
from pipelines.filters import FilterConfig, FilterPipeline
from pipelines.readers import Documents, Rejects, Split, read_split
from pipelines.words import TextBatch

DOCUMENTS, EXCLUDED = "documents.arrow", "excluded.parquet"
VERSION = 1  # raise when the same split would give another part

PART_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("hash", pa.string()),
        ("heldout", pa.bool_()),
        ("bytes", pa.int64()),
        ("text", pa.large_string()),
        ("metadata", pa.string()),
        ("messages", pa.large_string()),
    ]
)
"""``hash`` is that of the text as read; ``bytes`` the UTF-8 length of the text as it now stands."""

EXCLUDED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("hash", pa.string()),
        ("reason", pa.string()),
        ("text", pa.large_string()),
        ("metadata", pa.string()),
    ]
)

_EXAMPLES = 3
_EXCERPT = 240


class Preparation(Section):
    """What is done to the documents of one source; small, so that it travels with every item."""

    source: str
    role: Role
    reading: SourceConfig
    filters: FilterConfig
    dedup: DedupConfig | None
    deidentification: DeidentificationConfig | None
    contamination_index: str | None
    """Folder of the n-grams of the evaluation sets."""
    drop_contaminated: bool
    heldout_fraction: float
    largest: str | None
    """Documents with a larger hash are left out (``max_documents``)."""
    excluded_share: float


def is_held_out(document_hash: str, fraction: float) -> bool:
    """Whether a document is held out: by its own hash, so that nothing else in the corpus can change it."""
    return int(document_hash[:8], 16) < fraction * (1 << 32)


def is_sampled(document_hash: str, share: float) -> bool:
    """Whether a document belongs to a sample of this share; independent of ``is_held_out``, which looks at other digits."""
    return int(document_hash[-8:], 16) < share * (1 << 32)


def prepare(item: Item, folder: Path) -> Result:
    """Make the part of some splits (``{"preparation", "splits"}``) in ``folder`` and tell what became of their documents."""
    preparation = Preparation.model_validate(item["preparation"])
    splits = [Split.model_validate(split) for split in item["splits"]]
    return _Part(preparation, splits, folder).make()


@dataclass
class _Part:
    preparation: Preparation
    splits: list[Split]
    folder: Path
    rejects: list[dict[str, Any]] = field(default_factory=list)
    dropped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    kept: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    redacted: Counter[str] = field(default_factory=Counter)
    contaminated: Tally = field(default_factory=Tally)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    examples: dict[str, list[tuple[str, str, str]]] = field(default_factory=lambda: defaultdict(list))

    def make(self) -> Result:
        preparation = self.preparation
        self.pipeline = FilterPipeline(preparation.filters)
        self.redactor = Redactor(preparation.deidentification) if preparation.deidentification else None
        self.index = _index(preparation.contamination_index) if preparation.contamination_index else None
        signatures = SignatureWriter(self.folder, preparation.dedup) if preparation.dedup else None
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            pa.ipc.new_file(self.folder / DOCUMENTS, PART_SCHEMA, options=options) as writer,
            pq.ParquetWriter(self.folder / EXCLUDED, EXCLUDED_SCHEMA, compression="zstd") as excluded,
        ):
            for documents in self._read():
                texts, reasons = self._judge(documents)
                others = self._excluded(documents, texts, reasons)
                if others.num_rows:
                    excluded.write_table(others)
                kept = self._kept(documents, texts, reasons)
                if not kept["id"]:
                    continue
                with self._timed("write"):
                    writer.write_table(pa.table(kept, schema=PART_SCHEMA))
                if signatures is not None:
                    with self._timed("sign"):
                        signatures.add(kept["text"], kept["id"], kept["hash"], kept["heldout"])
        if signatures is not None:
            signatures.close()
        return {
            "source": preparation.source,
            "kept": self.kept,
            "dropped": self.dropped,
            "rejects": self.rejects,
            "repaired": dict(self.pipeline.repaired),
            "redacted": dict(self.redacted),
            "contaminated": self.contaminated.to_json(),
            "examples": {reason: [list(entry) for entry in entries] for reason, entries in self.examples.items()},
            "seconds": dict(self.seconds),
        }

    def _read(self) -> Iterator[Documents]:
        preparation = self.preparation
        for split in self.splits:
            rejects = Rejects()
            batches = read_split(
                split,
                preparation.reading,
                rejects,
                field=f"sources.{preparation.source}",
                largest=preparation.largest,
            )
            while True:
                with self._timed("read"):
                    documents = next(batches, None)
                if documents is None:
                    break
                yield documents
            self.rejects.append(
                {
                    "file": split.file,
                    "rows": rejects.rows,
                    "counts": dict(rejects.counts),
                    "samples": [] if self.redactor is not None else rejects.samples,  # raw rows of clinical text
                }
            )

    def _judge(self, documents: Documents) -> tuple[list[str], list[str]]:
        """The texts as they now stand, and the reason to drop each, or ""."""
        preparation = self.preparation
        with self._timed("filter"):
            texts, reasons = self.pipeline(documents.texts)
        staying = [index for index, reason in enumerate(reasons) if not reason]
        if self.index is not None:  # before tags break the n-grams of a passage
            with self._timed("decontaminate"):
                hits = self.index.hits(TextBatch([texts[i] for i in staying]))
            self.contaminated.add(hits.values())
            for row in hits if preparation.drop_contaminated else ():
                reasons[staying[row]] = "contaminated"
        staying = [index for index in staying if not reasons[index]]
        if self.redactor is not None:
            with self._timed("de-identify"):
                found = self.redactor.redact([texts[i] for i in staying])
            for i, redacted in zip(staying, found, strict=True):
                texts[i] = redacted.text
                self.redacted.update(redacted.counts)
                if documents.messages is not None:
                    documents.messages[i] = self._redact_messages(self.redactor, documents.messages[i])
        return texts, reasons

    @staticmethod
    def _redact_messages(redactor: Redactor, messages: str | None) -> str | None:
        """A conversation with the contents of its messages redacted one by one."""
        if messages is None:
            return None
        parsed = orjson.loads(messages)
        for message, redacted in zip(parsed, redactor.redact([m["content"] for m in parsed]), strict=True):
            message["content"] = redacted.text
        return orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS).decode()

    def _kept(self, documents: Documents, texts: list[str], reasons: list[str]) -> dict[str, list[Any]]:
        """The columns (``PART_SCHEMA``) of the documents that stay, counted."""
        staying = [index for index, reason in enumerate(reasons) if not reason]
        hashes = [documents.hashes[i] for i in staying]
        held_out = [is_held_out(value, self.preparation.heldout_fraction) for value in hashes]
        sizes = [len(texts[i].encode()) for i in staying]
        for i, held, size in zip(staying, held_out, sizes, strict=True):
            counts = self.kept["heldout" if held else "train"]
            counts.update(documents=1, bytes=size, bytes_read=documents.bytes[i])
        columns = [
            [documents.ids[i] for i in staying],
            hashes,
            held_out,
            sizes,
            [texts[i] for i in staying],
            _chosen(documents.metadata, staying),
            _chosen(documents.messages, staying),
        ]
        return dict(zip(PART_SCHEMA.names, columns, strict=True))

    def _excluded(self, documents: Documents, texts: list[str], reasons: list[str]) -> pa.Table:
        """A sample of the documents that go (``EXCLUDED_SCHEMA``), all of them counted."""
        going = [index for index, reason in enumerate(reasons) if reason]
        share = self.preparation.excluded_share
        sampled = [i for i in going if is_sampled(documents.hashes[i], share)]
        for i in going:
            self.dropped[reasons[i]].update(documents=1, bytes=documents.bytes[i])
        if self.redactor is not None:
            # Whatever leaves this task may be shown: in reports, in MLflow, in the sample of excluded documents.
            shown = sorted({*sampled, *(i for i in going if self._is_example(reasons[i], documents.hashes[i]))})
            for i, redacted in zip(shown, self.redactor.redact([texts[i] for i in shown]), strict=True):
                texts[i] = redacted.text
        for i in going:
            self._remember(reasons[i], documents.hashes[i], documents.ids[i], texts[i])
        columns = [
            [documents.ids[i] for i in sampled],
            [documents.hashes[i] for i in sampled],
            [reasons[i] for i in sampled],
            [texts[i] for i in sampled],
            _chosen(documents.metadata, sampled),
        ]
        return pa.table(dict(zip(EXCLUDED_SCHEMA.names, columns, strict=True)), schema=EXCLUDED_SCHEMA)

    def _remember(self, reason: str, document_hash: str, identity: str, text: str) -> None:
        """Keep the examples with the smallest hashes: the same ones however the corpus is cut."""
        if not self._is_example(reason, document_hash):
            return
        entries = self.examples[reason]
        entries.append((document_hash, identity, " ".join(text[: 2 * _EXCERPT].split())[:_EXCERPT]))
        entries.sort()
        del entries[_EXAMPLES:]

    def _is_example(self, reason: str, document_hash: str) -> bool:
        entries = self.examples[reason]
        return len(entries) < _EXAMPLES or document_hash < entries[-1][0]

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[step] += time.perf_counter() - started


def _chosen(values: Sequence[str | None] | None, rows: Sequence[int]) -> list[str | None]:
    return [None] * len(rows) if values is None else [values[i] for i in rows]


@lru_cache(maxsize=2)
def _index(folder: str) -> Index:
    return Index.load(Path(folder))

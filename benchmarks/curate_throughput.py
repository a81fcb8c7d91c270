"""Curation: every stage by itself in one process, and the whole of it through Ray."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import ROOT, Benchmark, Measured
from cluster.session import session
from pipelines.config import CurationConfig, Role, SourceConfig
from pipelines.curate import curate
from pipelines.documents import Documents, read_documents
from pipelines.filters import build_filters, first_reason
from pipelines.packaged import write_packaged_corpora
from pipelines.quality import QualityScorer, train_quality_model
from pipelines.store_writer import write_shard
from pipelines.tokenizer import LoadedTokenizer, encode_batch, load_tokenizer, save_tokenizer, train_tokenizer

_DOMAIN, _REFERENCE = ("medical_hpo", "medical_icd10"), ("reference",)
_TOKENIZER = ROOT / "models" / "tiny-base"
_SAMPLE_TEXTS, _VOCABULARY = 5000, 4096  # of a tokenizer to train when the repository has none


@dataclass
class _Stages:
    """Seconds, documents and bytes that went through each stage."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    documents: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def timed(self, stage: str, documents: int = 0, size: int = 0) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started
        self.documents[stage] += documents
        self.bytes[stage] += size

    def rates(self) -> dict[str, Any]:
        return {
            stage: {
                "seconds": seconds,
                "documents_per_s": self.documents[stage] / seconds,
                "mb_per_s": self.bytes[stage] / seconds / 1e6,
            }
            for stage, seconds in self.seconds.items()
        }


def run() -> Measured:
    """Stages first, then the whole on a local Ray session that is up already."""
    packaged = ROOT / ".steady" / "packaged"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = write_packaged_corpora(packaged if packaged.is_dir() else folder / "packaged")
        sources = {name: _source(name, path) for name, path in files.items()}
        tokenizer = _tokenizer(folder, files)
        stages = _Stages()
        _one_process(folder / "stages", sources, load_tokenizer(str(tokenizer)), stages)
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        with session():
            started = time.perf_counter()
            store = curate(folder / "store", sources, CurationConfig(), str(tokenizer), lambda *_: None)
            whole = time.perf_counter() - started
    read = stages.bytes["read"] / 1e6
    documents = stages.documents["read"]
    plain = sum(stages.seconds.values())
    details = {
        "stages_in_one_process": stages.rates(),
        "whole": {"seconds": whole, "documents_per_s": documents / whole, "mb_per_s": read / whole},
        "documents": documents,
        "mb_of_text": read,
        "tokens": sum(s.train.tokens + s.heldout.tokens for s in store.manifest.sources.values()),
    }
    baseline = {"name": "the same stages one after the other in one process", "value": read / plain, "unit": "MB/s"}
    return Measured(read / whole, baseline, details)


def _source(name: str, path: Path) -> SourceConfig:
    role: Role = "domain" if name in _DOMAIN else "reference" if name in _REFERENCE else "general"
    return SourceConfig(role=role, paths=(str(path),))


def _tokenizer(folder: Path, files: dict[str, Path]) -> Path:
    if (_TOKENIZER / "tokenizer.json").is_file():
        return _TOKENIZER
    texts: list[str] = []
    for name, path in files.items():
        texts += next(read_documents(str(path), _source(name, path), {})).texts[:_SAMPLE_TEXTS]
    save_tokenizer(train_tokenizer(texts, _VOCABULARY), folder / "tokenizer")
    return folder / "tokenizer"


def _one_process(folder: Path, sources: dict[str, SourceConfig], loaded: LoadedTokenizer, stages: _Stages) -> None:
    """The work of curation without Ray: the reference first, since it trains the quality model."""
    config = CurationConfig()
    filters = build_filters(config.filters)
    scorer: QualityScorer | None = None
    for name, source in sorted(sources.items(), key=lambda item: item[1].role != "reference"):
        parts: list[pa.Table] = []
        for batch in _read(source, stages):
            size = sum(batch.bytes)
            with stages.timed("filter", len(batch), size):
                kept = [i for i, text in enumerate(batch.texts) if first_reason(filters, text) is None]
            size = sum(batch.bytes[i] for i in kept)
            with stages.timed("tokenise", len(kept), size):
                encoded = encode_batch(loaded.tokenizer, [batch.texts[i] for i in kept], loaded.eos_id)
            scores = np.zeros(len(kept))
            if source.role == "domain" and scorer is not None:
                with stages.timed("score", len(kept), size):
                    scores = scorer(encoded)
            parts.append(_rows(batch, kept, encoded, scores))
        rows = pa.concat_tables(parts)
        size = int(np.sum(rows.column("bytes").to_numpy()))
        if source.role == "reference":
            with stages.timed("train quality model", len(rows), size):
                documents = [np.frombuffer(data.as_py(), dtype="<u4") for data in rows.column("data")]
                train_quality_model(documents, loaded.eos_id, config.quality.order, folder / "ngram.arpa")
                path, unknown = folder / "ngram.arpa", config.quality.unknown_log10
                scorer = QualityScorer(path, unknown, loaded.eos_id, loaded.vocabulary)
            continue
        with stages.timed("sort and write", len(rows), size):
            _write(folder, name, rows)


def _read(source: SourceConfig, stages: _Stages) -> Iterator[Documents]:
    batches = read_documents(source.paths[0], source, {})
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        stages.seconds["read"] += time.perf_counter() - started
        if batch is None:
            return
        stages.documents["read"] += len(batch)
        stages.bytes["read"] += sum(batch.bytes)
        yield batch


def _rows(batch: Documents, kept: list[int], encoded: list[Any], scores: Any) -> pa.Table:
    columns = {
        "score": scores,
        "hash": [batch.hashes[i] for i in kept],
        "id": [batch.ids[i] for i in kept],
        "bytes": [batch.bytes[i] for i in kept],
        "tokens": [len(ids) for ids in encoded],
        "data": pa.array([ids.astype("<u4").tobytes() for ids in encoded], pa.large_binary()),
    }
    return pa.table(columns)


def _write(folder: Path, name: str, rows: pa.Table) -> None:
    rows = rows.sort_by([("score", "ascending"), ("hash", "ascending"), ("id", "ascending")])
    lengths = rows.column("tokens").to_numpy()
    documents = rows.append_column("start", pa.array(np.cumsum(lengths) - lengths))
    tokens = np.frombuffer(b"".join(rows.column("data").to_pylist()), dtype="<u4")
    write_shard(folder, name, "train", 0, shard_tokens=len(tokens), documents=documents, tokens=tokens, dtype="uint16")


BENCHMARK = Benchmark(
    name="curate_throughput",
    unit="MB/s",
    goal=None,
    higher_is_better=True,
    measures="text through the whole curation (read, filter, tokenise, train the quality model and score, sort, write) "
    "of the packaged corpora on a local Ray session that is up already; the stages one by one are in the details.",
    run=run,
)

"""The stage runner: from files to a sealed token store, on Ray Data.

    files -> read -> filter, tokenise, score (process.py) -> global sort -> shards in parallel -> manifest, marker

Nothing but file names, counts and block sizes passes through the driver. The store depends on the inputs and the
configuration only: the sort key (stream, score, hash, id) is total, and a shard is cut by token offsets, so neither the
number of workers nor the size of blocks can be seen in it.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from ground.errors import UserError
from ground.files import canonical_json, digest_bytes, digest_file, write_atomic
from pipelines.config import CurationConfig, SourceConfig
from pipelines.documents import expand_paths, file_digest, largest_hash, read_documents
from pipelines.funnel import count_rows, funnel, require_documents
from pipelines.ngram import Trainer, ngram_trainer
from pipelines.process import KEPT, Scorer, Step, malformed_rows, process, tokenizer_of
from pipelines.quality import QualityScorer, train_quality_model
from pipelines.store import (
    MANIFEST,
    MARKER,
    TOKENIZER,
    Manifest,
    Shard,
    Split,
    StoredSource,
    Stream,
    TokenStore,
    seal,
    token_dtype,
)
from pipelines.store_writer import write_shard
from pipelines.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

_WORKING = "CURATING"  # present while a store is being made: what is in the folder may be thrown away
_VERSION = 1  # raise when the same inputs would give another store
_DOCUMENTS_PER_BLOCK = 2048
_TASK_CPUS = 1

Progress = Callable[[str, str], None]
"""Called with a stage and what it found, as work goes on."""


@dataclass(frozen=True)
class Extent:
    """The part of one stream that lies in one sorted block."""

    block: int
    stream: str
    documents: int
    tokens: int
    bytes: int


def curate(
    store: Path,
    sources: Mapping[str, SourceConfig],
    config: CurationConfig,
    tokenizer: str | None,
    progress: Progress,
    *,
    documents_per_block: int = _DOCUMENTS_PER_BLOCK,
) -> TokenStore:
    """Make the store, or return it when it is there already.

    Args:
        store: its folder.
        tokenizer: folder or name, unless ``config.train_tokenizer`` asks for a new one.
        documents_per_block: how much a worker holds at a time; does not change the store.

    Raises:
        UserError: a source has no file or no document, or the folder holds something else.
    """
    files = {name: expand_paths(source.paths, f"sources.{name}.paths") for name, source in sources.items()}
    digests = _digest_files(files)
    lineage = _lineage(sources, config, tokenizer, digests)
    if (existing := _existing(store, lineage)) is not None:
        progress("curate", f"the store at {store} is up to date")
        return existing
    store.mkdir(parents=True, exist_ok=True)
    write_atomic(store / _WORKING, "")
    ray.data.DataContext.get_current().enable_progress_bars = False

    folder = store / TOKENIZER
    _prepare_tokenizer(folder, sources, files, config, tokenizer, progress)
    loaded = load_tokenizer(str(folder))
    ngram, reference_funnel = _prepare_ngram(store, sources, files, config, str(folder), progress)
    steps = {
        name: Step(
            source=name,
            role=source.role,
            tokenizer=str(folder),
            filters=config.filters,
            heldout_fraction=config.heldout_fraction,
            ngram=ngram,
            unknown_log10=config.quality.unknown_log10,
        )
        for name, source in sources.items()
        if source.role != "reference"
    }
    started = time.perf_counter()
    progress(
        "read, filter, tokenise, score", f"{sum(len(files[name]) for name in steps)} files of {len(steps)} sources"
    )
    rows = _processed(steps, sources, files, documents_per_block).materialize()
    counted = reference_funnel | _funnel(rows, steps)
    require_documents(counted)
    progress("read, filter, tokenise, score", f"took {time.perf_counter() - started:.0f} s")

    started = time.perf_counter()
    kept = rows.filter(expr=f"reason == '{KEPT}'").sort(["stream", "score", "hash", "id"]).materialize()
    blocks = kept.to_arrow_refs()
    extents = [
        extent for part in ray.get([_extents.remote(i, block) for i, block in enumerate(blocks)]) for extent in part
    ]
    dtype = token_dtype(loaded.vocabulary)
    shard_tokens = config.shard_bytes // np.dtype(dtype).itemsize
    streams = _write_streams(store, blocks, extents, shard_tokens, dtype)
    progress("rank and write", f"took {time.perf_counter() - started:.0f} s")
    empty = Stream(tokens=0, documents=0, bytes=0, shards=())
    stored = {
        name: StoredSource(
            role=step.role, train=streams.get(f"{name}/train", empty), heldout=streams.get(f"{name}/heldout", empty)
        )
        for name, step in steps.items()
        if step.role != "reference"
    }
    manifest = Manifest(
        dtype=dtype,
        vocabulary=loaded.vocabulary,
        end_of_document=loaded.eos_id,
        shard_tokens=shard_tokens,
        tokenizer_digest=loaded.digest,
        sources=stored,
        lineage=lineage | ({"ngram_digest": digest_file(Path(ngram))} if ngram else {}),
        funnel=counted,
    )
    (store / _WORKING).unlink()
    seal(store, manifest)
    return TokenStore.open(store)


def _digest_files(files: Mapping[str, list[str]]) -> dict[str, list[str]]:
    task = ray.remote(num_cpus=_TASK_CPUS)(file_digest)
    pending = {name: [task.remote(path) for path in paths] for name, paths in files.items()}
    return {name: ray.get(references) for name, references in pending.items()}


def _lineage(
    sources: Mapping[str, SourceConfig], config: CurationConfig, tokenizer: str | None, digests: Mapping[str, list[str]]
) -> dict[str, Any]:
    """What determines the store. Paths are left out: the same files elsewhere give the same store."""
    described = {name: source.model_dump(mode="json", exclude={"paths", "tokens"}) for name, source in sources.items()}
    settings = config.model_dump(mode="json", exclude={"store", "tokenizer"})
    return {
        "version": _VERSION,
        "sources": {name: described[name] | {"files": sorted(digests[name])} for name in sources},
        "config_digest": digest_bytes(canonical_json(settings)),
        "config": settings,
        "tokenizer": load_tokenizer(tokenizer, "curation.tokenizer").digest if tokenizer else None,
        # The two trainers agree in scores, not in bytes, so which one was used belongs to what determines the store.
        "ngram_trainer": ngram_trainer() if any(source.role == "reference" for source in sources.values()) else None,
    }


def _existing(store: Path, lineage: dict[str, Any]) -> TokenStore | None:
    """The complete store of this lineage, or None when there is none; clears what an interrupted run left."""
    if (store / MARKER).is_file():
        opened = TokenStore.open(store)
        if all(opened.manifest.lineage.get(key) == value for key, value in lineage.items()):
            return opened
        changed = ", ".join(key for key, value in lineage.items() if opened.manifest.lineage.get(key) != value)
        raise UserError(
            "curation.store",
            f"{store} holds a store made from something else (differs in: {changed})",
            "give another curation.store, or remove the folder",
        )
    if (store / _WORKING).is_file() or (store / MANIFEST).is_file():
        shutil.rmtree(store)
    elif store.is_dir() and any(store.iterdir()):
        raise UserError("curation.store", f"{store} is not empty and holds no store", "give another folder")
    return None


def _prepare_tokenizer(
    folder: Path,
    sources: Mapping[str, SourceConfig],
    files: Mapping[str, list[str]],
    config: CurationConfig,
    tokenizer: str | None,
    progress: Progress,
) -> None:
    """Put the tokenizer into the store's folder: a copy of the given one, or one trained on the sources."""
    training = config.train_tokenizer
    if training is None:
        assert tokenizer is not None  # the recipe's tokenizer or its base model; checked by the caller
        loaded = load_tokenizer(tokenizer, "curation.tokenizer")
        save_tokenizer(loaded.tokenizer, folder, eos_token=loaded.eos_token)
        return
    progress("tokenizer", f"training a BPE of {training.vocabulary:,} tokens")
    jobs = [
        (sources[name], path) for name in sorted(files) if sources[name].role != "reference" for path in files[name]
    ]
    task = ray.remote(num_cpus=_TASK_CPUS)(_train_tokenizer)
    ray.get(task.remote(jobs, training.vocabulary, training.sample_bytes, folder))


def _train_tokenizer(jobs: list[tuple[SourceConfig, str]], vocabulary: int, sample_bytes: int, folder: Path) -> None:
    def texts(source: SourceConfig, path: str) -> Iterator[str]:
        left = sample_bytes // len(jobs)
        for batch in read_documents(path, source, Counter()):
            for text, size in zip(batch.texts, batch.bytes, strict=True):
                if left <= 0:
                    return
                left -= size
                yield text

    save_tokenizer(train_tokenizer(chain.from_iterable(texts(*job) for job in jobs), vocabulary), folder)


def _prepare_ngram(
    store: Path,
    sources: Mapping[str, SourceConfig],
    files: Mapping[str, list[str]],
    config: CurationConfig,
    tokenizer: str,
    progress: Progress,
) -> tuple[str | None, dict[str, Any]]:
    """The n-gram model of the reference sources (or the given one), and the references' part of the funnel."""
    reference = [name for name, source in sources.items() if source.role == "reference"]
    if config.quality.model is not None:
        return config.quality.model, {}
    if not reference:
        return None, {}
    progress("quality model", f"training a {config.quality.order}-gram model on {', '.join(reference)}")
    steps = {
        name: Step(source=name, role="reference", tokenizer=tokenizer, filters=config.filters, heldout_fraction=0.0)
        for name in reference
    }
    rows = _processed(steps, sources, files, _DOCUMENTS_PER_BLOCK).materialize()
    counted = _funnel(rows, steps)
    require_documents(counted)
    kept = rows.filter(expr=f"reason == '{KEPT}'").sort(["stream", "hash", "id"])
    target = store / "ngram.arpa"
    task = ray.remote(num_cpus=_TASK_CPUS)(_train_ngram)
    ray.get(task.remote(tokenizer, config.quality.order, target, ngram_trainer(), *kept.to_arrow_refs()))
    return str(target), counted


def _train_ngram(tokenizer: str, order: int, target: Path, trainer: Trainer, *blocks: pa.Table) -> None:
    documents = (np.frombuffer(data.as_py(), dtype="<u4") for block in blocks for data in block.column("data"))
    train_quality_model(documents, tokenizer_of(tokenizer).eos_id, order, target, trainer)


def _processed(
    steps: Mapping[str, Step],
    sources: Mapping[str, SourceConfig],
    files: Mapping[str, list[str]],
    documents_per_block: int,
) -> ray.data.Dataset:
    """Rows of ``ROW_SCHEMA`` for every document of the given sources."""
    find: Any = ray.remote(num_cpus=_TASK_CPUS)(largest_hash)
    limited = {
        name: find.remote(files[name], sources[name], f"sources.{name}")
        for name in steps
        if sources[name].max_documents
    }
    largest = dict(zip(limited, ray.get(list(limited.values())), strict=True))
    jobs = [
        {
            "step": step.model_dump_json(),
            "source": sources[name].model_dump_json(),
            "path": path,
            "rows": documents_per_block,
            "largest": largest.get(name) or "",
        }
        for name, step in steps.items()
        for path in files[name]
    ]
    return ray.data.from_items(jobs, override_num_blocks=len(jobs)).map_batches(
        _process_file, batch_size=1, batch_format="pyarrow", num_cpus=_TASK_CPUS
    )


def _process_file(job: pa.Table) -> Iterator[pa.Table]:
    row = job.to_pylist()[0]
    step, source = Step.model_validate_json(row["step"]), SourceConfig.model_validate_json(row["source"])
    scorer = _scorer(step) if step.ngram and step.role == "domain" else None
    malformed: Counter[str] = Counter()
    pending: list[pa.Table] = []
    size = 0
    for batch in read_documents(
        row["path"], source, malformed, f"sources.{step.source}", largest=row["largest"] or None
    ):
        pending.append(process(step, batch, scorer))
        size += len(batch.ids)
        if size >= row["rows"]:
            yield pa.concat_tables(pending)
            pending, size = [], 0
    yield pa.concat_tables([*pending, malformed_rows(step, malformed)])


@lru_cache(maxsize=2)
def _scorer(step: Step) -> Scorer:
    assert step.ngram is not None
    tokenizer = tokenizer_of(step.tokenizer)
    return QualityScorer(Path(step.ngram), step.unknown_log10, tokenizer.eos_id, tokenizer.vocabulary)


def _funnel(rows: ray.data.Dataset, steps: Mapping[str, Step]) -> dict[str, Any]:
    count = ray.remote(num_cpus=_TASK_CPUS)(count_rows)
    counts = ray.get([count.remote(block) for block in rows.to_arrow_refs()])
    return funnel({name: step.role for name, step in steps.items()}, chain.from_iterable(counts))


@ray.remote(num_cpus=_TASK_CPUS)
def _extents(index: int, block: pa.Table) -> list[Extent]:
    if not block.num_rows:
        return []
    grouped = block.group_by(["stream"]).aggregate([("count", "sum"), ("tokens", "sum"), ("bytes", "sum")])
    return [
        Extent(index, row["stream"], row["count_sum"], row["tokens_sum"], row["bytes_sum"])
        for row in grouped.to_pylist()
    ]


def _write_streams(
    store: Path, blocks: list[Any], extents: list[Extent], shard_tokens: int, dtype: str
) -> dict[str, Stream]:
    """Write all shards of all streams in parallel; each task fetches only the blocks its shard touches."""
    by_stream: dict[str, list[Extent]] = defaultdict(list)
    for extent in sorted(extents, key=lambda e: e.block):
        by_stream[extent.stream].append(extent)
    pending: dict[str, list[Any]] = {}
    for stream, parts in by_stream.items():
        ends = np.cumsum([part.tokens for part in parts])
        pending[stream] = []
        for index in range(-(-int(ends[-1]) // shard_tokens)):
            low = int(np.searchsorted(ends, index * shard_tokens, side="right"))
            high = int(np.searchsorted(ends, (index + 1) * shard_tokens, side="left"))
            touched = [blocks[part.block] for part in parts[low : high + 1]]
            first_token = int(ends[low]) - parts[low].tokens
            pending[stream].append(
                _write_shard.remote(store, stream, index, first_token, shard_tokens, dtype, *touched)
            )
    return {
        stream: Stream(
            tokens=sum(part.tokens for part in parts),
            documents=sum(part.documents for part in parts),
            bytes=sum(part.bytes for part in parts),
            shards=tuple(ray.get(pending[stream])),
        )
        for stream, parts in by_stream.items()
    }


@ray.remote(num_cpus=_TASK_CPUS)
def _write_shard(
    store: Path, stream: str, index: int, first_token: int, shard_tokens: int, dtype: str, *blocks: pa.Table
) -> Shard:
    rows = pa.concat_tables([block.filter(pc.equal(block.column("stream"), stream)) for block in blocks])
    lengths = rows.column("tokens").to_numpy()
    starts = first_token + np.cumsum(lengths) - lengths
    documents = rows.select(["id", "hash", "score", "tokens", "bytes"]).append_column(
        "start", pa.array(starts, pa.int64())
    )
    tokens = np.frombuffer(b"".join(rows.column("data").to_pylist()), dtype="<u4")
    source, _, split = stream.partition("/")
    chosen: Split = "heldout" if split == "heldout" else "train"
    return write_shard(
        store, source, chosen, index, shard_tokens=shard_tokens, documents=documents, tokens=tokens, dtype=dtype
    )

"""The published web filters, an n-gram score and BPE tokens: Steady against datatrove, same documents, same two cores."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from benchmarks.harness import ROOT, Benchmark, Measured
from benchmarks.selection_data import DATA, REFERENCE, gpt2_tokenizer, read_corpus, require_data
from ground.errors import UserError
from ground.files import digest_bytes
from pipelines.encoder import Encoder, Tokens
from pipelines.filters import FilterPipeline, resolve_filters
from pipelines.quality.arpa import SPECIAL, Grams
from pipelines.quality.config import QualityConfig
from pipelines.quality.kneser_ney import estimate
from pipelines.quality.model import load_scorer, train_scorer
from pipelines.tokenizer import load_tokenizer

_WORKERS = 2
_BATCH_CHARACTERS = 4 << 20
_TRAINING_TOKENS, _ORDER = 1_000_000, 3  # of the n-gram model, which both sides use
_PACKAGES = ("datatrove==0.10.1", "spacy==3.8.18", "regex", "kenlm-ex==0.2.1", "tokenizers", "orjson")
_FILTERS = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
_STAGES = ("filter", "tokenise", "score")
_REPETITIONS = 3


def run() -> Measured:
    """datatrove once, which takes minutes, and ours before and after it."""
    require_data()
    python = _datatrove_python()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        documents, size = _write_sample(folder / "files", float(os.environ.get("STEADY_BENCH_MB", "42")) * 1e6)
        _prepare(folder)
        ours = [_ours(folder, f"ours{k}") for k in range(_REPETITIONS - 1)]
        theirs = _theirs(folder, python)
        ours.append(_ours(folder, f"ours{_REPETITIONS - 1}"))
        agreement = _agreement(folder / "ours0", folder / "datatrove", documents)
        stages = _stages(folder / "ours0")
    seconds = sorted(ours)[len(ours) // 2]
    details = {
        "documents": len(documents),
        "mb_of_text": size / 1e6,
        "workers": _WORKERS,
        "ours": _rates(seconds, len(documents), size) | {"seconds_of_each_run": ours, "mb_per_s_and_core": stages},
        "datatrove": _rates(theirs["seconds"], len(documents), size) | {"seconds_of_each_step": theirs["stages"]},
        "agreement": agreement,
        "differs": "datatrove scores in its tokenizer step with kenlm's score(), ours with a table of the same ARPA file that "
        "charges a fixed price for unknown tokens; both times begin before the workers start; datatrove writes 2-byte tokens "
        "and an index, ours 4-byte tokens and JSON",
    }
    baseline = {"name": "datatrove, 2 local workers", "value": size / theirs["seconds"] / 1e6, "unit": "MB/s"}
    return Measured(theirs["seconds"] / seconds, baseline, details)


def _datatrove_python() -> Path:
    """The interpreter of datatrove's environment, which is made when it is not there."""
    given = os.environ.get("STEADY_DATATROVE_PYTHON")
    if given:
        return Path(given)
    folder = ROOT / ".steady" / "datatrove-venv"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print("  making an environment for datatrove", flush=True)
        commands = [
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "-q", *_PACKAGES],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                problem = f"cannot install {_PACKAGES[0]} ({done.stderr.strip()[-200:]})"
                raise UserError(str(folder), problem, "set STEADY_DATATROVE_PYTHON to a Python that has it")
        (folder / "complete").touch()
    return python


def _write_sample(folder: Path, limit: float) -> tuple[list[str], int]:
    """About ``limit`` bytes of the medical corpora, chosen by hash, in one file a worker. Returns ids and bytes."""
    documents = []
    for path in sorted((DATA / "medical").glob("*.jsonl.zst")):
        with open(path, "rb") as file:
            stream = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
            documents += [json.loads(line)["text"] for line in stream]
    documents.sort(key=digest_bytes)
    lines: list[list[str]] = [[] for _ in range(_WORKERS)]
    sizes, chosen = [0] * _WORKERS, []
    for number, text in enumerate(documents):
        if sum(sizes) >= limit:
            break
        worker = sizes.index(min(sizes))
        chosen.append(str(number))
        lines[worker].append(json.dumps({"id": chosen[-1], "text": text}, ensure_ascii=False) + "\n")
        sizes[worker] += len(text.encode())
    folder.mkdir()
    for worker, content in enumerate(lines):
        (folder / f"{worker}.jsonl").write_text("".join(content), encoding="utf-8")
    return chosen, sum(sizes)


def _prepare(folder: Path) -> None:
    """The tokenizer and the n-gram model that both sides use."""
    loaded = gpt2_tokenizer(folder / "tokenizer")
    encode = Encoder(loaded)
    corpora = [read_corpus("medical", name, encode) for name in REFERENCE]
    reference = [ids[:-1] for corpus in corpora for ids in corpus.tokens]
    arpa = folder / "model.arpa"
    _write_arpa(estimate(_first(reference, _TRAINING_TOKENS), _ORDER), arpa)
    config = QualityConfig(method="perplexity", model=str(arpa))
    train_scorer(config, (), (), folder / "model", end_id=loaded.eos_id, vocabulary=loaded.vocabulary)


def _write_arpa(orders: Sequence[Grams], path: Path) -> None:
    """The model as KenLM reads it, units named by their numbers."""
    lines = ["\\data\\", *(f"ngram {n}={len(grams.ids)}" for n, grams in enumerate(orders, 1))]
    for n, grams in enumerate(orders, 1):
        lines += ["", f"\\{n}-grams:"]
        for ids, log10, backoff in zip(grams.ids.tolist(), grams.log10.tolist(), grams.backoff.tolist(), strict=True):
            names = " ".join(SPECIAL[i] if i < len(SPECIAL) else str(i - len(SPECIAL)) for i in ids)
            lines.append(f"{log10:.7f}\t{names}" + (f"\t{backoff:.7f}" if n < len(orders) else ""))
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="ascii")


def _first(documents: Iterable[Tokens], tokens: int) -> Iterator[Tokens]:
    for ids in documents:
        if tokens <= 0:
            return
        yield ids
        tokens -= len(ids)


def _theirs(folder: Path, python: Path) -> dict[str, Any]:
    out = folder / "datatrove"
    job = {
        "files": str(folder / "files"),
        "out": str(out),
        "tokenizer": str(folder / "tokenizer" / "tokenizer.json"),
        "model": str(folder / "model.arpa"),
        "workers": _WORKERS,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    script = Path(__file__).with_name("datatrove_side.py")
    done = subprocess.run([str(python), str(script), str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(str(python), f"datatrove failed ({done.stderr.strip()[-500:]})", "see the error")
    timing: dict[str, Any] = json.loads((out / "timing.json").read_text())
    return timing


def _ours(folder: Path, name: str) -> float:
    """Seconds that all files take in two processes, their start included.

    The one place that says how Steady runs the work: the functions that its stages map over files.
    """
    out = folder / name
    out.mkdir()
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(_WORKERS) as pool:
        pool.starmap(_work, [(path, folder, out) for path in sorted((folder / "files").iterdir())], chunksize=1)
    return time.perf_counter() - started


def _work(path: Path, folder: Path, out: Path) -> None:
    filters = FilterPipeline(resolve_filters("none", {name: {} for name in _FILTERS}))
    encode, score = Encoder(load_tokenizer(str(folder / "tokenizer"))), load_scorer(folder / "model")
    seconds: defaultdict[str, float] = defaultdict(float)
    amounts: Counter[str] = Counter()
    with open(out / f"{path.stem}.bin", "wb") as tokens, open(out / f"{path.stem}.jsonl", "w") as decisions:
        for ids, texts in _batches(path):
            clock, size = [time.process_time()], sum(map(len, texts))
            mended, reasons = filters(texts)
            clock.append(time.process_time())
            kept = [k for k, reason in enumerate(reasons) if not reason]
            staying = [mended[k] for k in kept]
            encoded = encode(staying)
            clock.append(time.process_time())
            scores = score(encoded, staying)
            clock.append(time.process_time())
            if encoded:
                tokens.write(np.concatenate(encoded).astype("<u4").tobytes())
            found = dict(zip(kept, zip(map(len, encoded), scores.tolist(), strict=True), strict=True))
            for k, (document, reason) in enumerate(zip(ids, reasons, strict=True)):
                length, value = found.get(k, (1, None))
                row = {"id": document, "reason": reason, "tokens": length - 1, "score": value}
                decisions.write(json.dumps(row) + "\n")
            amount = size
            for stage, begin, end in zip(_STAGES, clock[:-1], clock[1:], strict=True):
                seconds[stage] += end - begin
                amounts[stage] += amount
                amount = sum(map(len, staying))
    stages = {stage: [amounts[stage], seconds[stage]] for stage in seconds}
    (out / f"{path.stem}.stages").write_text(json.dumps(stages))


def _batches(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    ids: list[str] = []
    texts: list[str] = []
    size = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            ids.append(record["id"])
            texts.append(record["text"])
            size += len(record["text"])
            if size >= _BATCH_CHARACTERS:
                yield ids, texts
                ids, texts, size = [], [], 0
    if ids:
        yield ids, texts


def _agreement(ours: Path, theirs: Path, documents: list[str]) -> dict[str, Any]:
    """Decisions, token counts and scores held against each other."""
    mine = {row["id"]: row for path in ours.glob("*.jsonl") for row in map(json.loads, path.read_text().splitlines())}
    others = {
        row["id"]: row
        for path in (theirs / "scores").glob("*.jsonl")
        for row in map(json.loads, path.read_text().splitlines())
    }
    same = sum((not mine[name]["reason"]) == (name in others) for name in documents)
    both = [(mine[name], others[name]) for name in documents if not mine[name]["reason"] and name in others]
    return {
        "share_of_documents_with_the_same_decision": same / len(documents),
        "kept_by_us": sum(not row["reason"] for row in mine.values()),
        "kept_by_datatrove": len(others),
        "share_with_as_many_tokens": sum(a["tokens"] == b["tokens"] for a, b in both) / max(1, len(both)),
        "largest_difference_of_scores": max((abs(a["score"] - b["score"]) for a, b in both), default=0.0),
        "reasons": dict(Counter(row["reason"] for row in mine.values() if row["reason"]).most_common()),
    }


def _stages(folder: Path) -> dict[str, float]:
    """MB of text per second and core of each stage, and of each filter by itself on the first file."""
    totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for path in folder.glob("*.stages"):
        for stage, (amount, seconds) in json.loads(path.read_text()).items():
            totals[stage][0] += amount
            totals[stage][1] += seconds
    rates = {stage: amount / seconds / 1e6 for stage, (amount, seconds) in totals.items()}
    texts = [text for _, batch in _batches(folder.parent / "files" / "0.jsonl") for text in batch]
    size = sum(map(len, texts))
    for name in _FILTERS:
        filters = FilterPipeline(resolve_filters("none", {name: {}}))
        started = time.process_time()
        filters(texts)
        rates[name] = size / (time.process_time() - started) / 1e6
    return rates


def _rates(seconds: float, documents: int, size: int) -> dict[str, Any]:
    return {"seconds": seconds, "documents_per_s": documents / seconds, "mb_per_s": size / seconds / 1e6}


BENCHMARK = Benchmark(
    name="curate_vs_datatrove",
    unit="x",
    goal=10.0,
    higher_is_better=True,
    measures="throughput over datatrove's with the same thresholds on the same two cores: Gopher repetition, Gopher quality, C4, "
    "FineWeb, then GPT-2 BPE and a 3-gram score, over the shared medical text (median of three of our runs, one of datatrove's).",
    run=run,
)

"""Does the ranking find the good documents? Methods side by side on the medical corpora, whose kinds are known."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Benchmark, Measured
from benchmarks.selection_data import (
    HIGH,
    NOISY,
    RANKED,
    REFERENCE,
    Corpus,
    gpt2_tokenizer,
    pairs,
    read_corpus,
    read_general,
    require_data,
)
from pipelines.encoder import Encoder
from pipelines.filters import FilterPipeline, resolve_filters
from pipelines.quality import QualityConfig, Scorer, load_scorer, train_scorer

Scores = dict[str, NDArray[np.float64]]
Keep = Mapping[str, NDArray[np.bool_]]
"""By corpus: [documents] which of them a filter left."""

_DEFAULT = "robust"
_METHODS = {
    "robust": QualityConfig(),
    "perplexity": QualityConfig(method="perplexity"),
    "perplexity of words": QualityConfig(method="perplexity", units="words"),
    "difference": QualityConfig(method="difference"),
    "classifier": QualityConfig(method="classifier"),
}
_BATCH = 256
_LENGTH_BINS = 2  # to each doubling of the length
_SPLICED = 400


def run() -> Measured:
    """Train each method on the reference, score everything else, print and return the areas."""
    require_data()
    with tempfile.TemporaryDirectory() as scratch:
        loaded = gpt2_tokenizer(Path(scratch, "tokenizer"))
        encode = Encoder(loaded)
        reference = pairs({name: read_corpus("medical", name, encode) for name in REFERENCE})
        general = list(read_general(encode, sum(len(ids) for ids, _ in reference)))
        corpora = {name: read_corpus("medical", name, encode) for name in RANKED}
        tokens = {name: corpus.lengths for name, corpus in corpora.items()}
        left = {name: filtered(corpora[name]) for name in RANKED}
        length = {name: -tokens[name].astype(np.float64) for name in RANKED}
        table = {"length": evaluate(length, tokens) | after_filters(length, tokens, left)}
        heads = ["by document", "by tokens", "same length", "filtered", "by tokens", "half bad", "train s", "MB/s"]
        print_row("", heads)
        print_row("length", [*table["length"].values()])
        composition: dict[str, Any] = {}
        for name, config in _METHODS.items():
            folder = Path(scratch, "model")
            started = time.perf_counter()
            train_scorer(config, reference, general, folder, end_id=loaded.eos_id, vocabulary=loaded.vocabulary)
            seconds = time.perf_counter() - started
            scorer = load_scorer(folder)
            scores, rate = score_all(scorer, corpora)
            areas = evaluate(scores, tokens) | after_filters(scores, tokens, left)
            areas["half_bad"] = half_bad_area(scorer, corpora, encode)
            table[name] = areas | {"train_seconds": seconds, "mb_per_s": rate}
            print_row(name, list(table[name].values()))
            if name == _DEFAULT:
                composition = {end: tenth(scores, tokens, best=end == "best") for end in ("best", "worst")}
                composition["pairs"] = pairwise(scores, tokens)
    details = {
        "areas": table,
        "documents_left_by_the_filters": {name: float(mask.mean()) for name, mask in left.items()},
        "shares_of_the_tenths": composition,
    }
    ours = table[_DEFAULT]
    baseline = {"name": "plain perplexity", "value": table["perplexity"]["by_tokens"], "unit": "ROC-AUC"}
    return Measured(ours["by_tokens"], baseline, {"by_document": ours["by_document"], **details})


def filtered(corpus: Corpus) -> NDArray[np.bool_]:
    """[documents] which of a corpus's documents the preset for literature keeps."""
    _, reasons = FilterPipeline(resolve_filters("literature"))(corpus.texts)
    return np.array([not reason for reason in reasons], dtype=np.bool_)


def after_filters(
    scores: Mapping[str, NDArray[np.float64]], tokens: Mapping[str, NDArray[np.int64]], left: Keep
) -> dict[str, float]:
    """The areas by document and by tokens over what the filters leave."""
    areas = evaluate(scores, tokens, left)
    return {"filtered_by_document": areas["by_document"], "filtered_by_tokens": areas["by_tokens"]}


def score_all(scorer: Scorer, corpora: Mapping[str, Corpus]) -> tuple[Scores, float]:
    """Scores of all documents, and MB of text scored a second by one core."""
    scores, seconds = {}, 0.0
    for name, corpus in corpora.items():
        parts = []
        started = time.process_time()  # one thread: whatever else the machine does stays out of it
        for start in range(0, len(corpus.texts), _BATCH):
            parts.append(scorer(corpus.tokens[start : start + _BATCH], corpus.texts[start : start + _BATCH]))
        seconds += time.process_time() - started
        scores[name] = np.concatenate(parts)
    return scores, sum(corpus.bytes for corpus in corpora.values()) / seconds / 1e6


def evaluate(
    scores: Mapping[str, NDArray[np.float64]], tokens: Mapping[str, NDArray[np.int64]], keep: Keep | None = None
) -> dict[str, float]:
    """ROC-AUC of high against noisy kinds: by document, weighted by tokens, and among documents of the same length.

    Args:
        scores: by corpus, lower is better.
        tokens: by corpus, tokens of each document.
        keep: what a filter left; absent: everything.
    """

    def chosen(values: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
        return np.concatenate([values[n][keep[n]] if keep is not None else values[n] for n in names]).astype(float)

    high, noisy = chosen(scores, HIGH), chosen(scores, NOISY)
    high_tokens, noisy_tokens = chosen(tokens, HIGH), chosen(tokens, NOISY)
    bins = [np.floor(_LENGTH_BINS * np.log2(np.maximum(t, 1))) for t in (high_tokens, noisy_tokens)]
    areas, weights = [], []
    for value in np.intersect1d(*bins):
        pair = high[bins[0] == value], noisy[bins[1] == value]
        areas.append(roc_area(*pair))
        weights.append(min(map(len, pair)))
    return {
        "by_document": roc_area(high, noisy),
        "by_tokens": roc_area(high, noisy, high_tokens, noisy_tokens),
        "same_length": float(np.average(areas, weights=weights)),
    }


def roc_area(
    better: NDArray[np.float64],
    worse: NDArray[np.float64],
    better_weights: NDArray[np.float64] | None = None,
    worse_weights: NDArray[np.float64] | None = None,
) -> float:
    """Probability that a document of the better kind has the lower score; ties count half. Weighted if weights are given."""
    first = np.ones(len(better)) if better_weights is None else better_weights
    second = np.ones(len(worse)) if worse_weights is None else worse_weights
    order = np.argsort(better, kind="stable")
    ranked, below = better[order], np.concatenate([[0.0], np.cumsum(first[order])])
    wins = below[np.searchsorted(ranked, worse, "left")] + below[np.searchsorted(ranked, worse, "right")]
    return float(np.sum(second * wins) / (2 * np.sum(second) * below[-1]))


def half_bad_area(scorer: Scorer, corpora: Mapping[str, Corpus], encode: Encoder) -> float:
    """ROC-AUC of good documents against the same ones with their second half replaced by as much noisy text."""
    random = np.random.default_rng(0)
    noisy = " ".join(text for name in NOISY for text in corpora[name].texts[:_SPLICED])
    intact, spliced = [], []
    for name in HIGH:
        for text in corpora[name].texts[:_SPLICED]:
            half = len(text) // 2
            at = int(random.integers(0, len(noisy) - half))
            intact.append(text)
            spliced.append(text[:half] + noisy[at : at + half])
    return roc_area(scorer(encode(intact), intact), scorer(encode(spliced), spliced))


def tenth(scores: Scores, tokens: Mapping[str, NDArray[np.int64]], *, best: bool) -> dict[str, float]:
    """Share of each corpus in the best or worst tenth of all tokens; a document at the edge is counted whole."""
    names = np.concatenate([np.full(len(scores[name]), name) for name in RANKED])
    lengths = np.concatenate([tokens[name] for name in RANKED])
    order = np.argsort(np.concatenate([scores[name] for name in RANKED]), kind="stable")[:: 1 if best else -1]
    inside = order[: int(np.searchsorted(np.cumsum(lengths[order]), lengths.sum() / 10)) + 1]
    total = lengths[inside].sum()
    shares = {name: float(lengths[inside][names[inside] == name].sum() / total) for name in RANKED}
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0}


def pairwise(scores: Scores, tokens: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
    """ROC-AUC by tokens of each high corpus against each noisy one."""
    return {
        f"{high} / {noisy}": roc_area(
            scores[high], scores[noisy], tokens[high].astype(float), tokens[noisy].astype(float)
        )
        for high in HIGH
        for noisy in NOISY
    }


def print_row(name: str, values: Sequence[float | str]) -> None:
    """One line of the table."""
    cells = [f"{value:>12.3f}" if isinstance(value, float) else f"{value:>12}" for value in values]
    print(f"  {name:20}" + "".join(cells), flush=True)


BENCHMARK = Benchmark(
    name="selection",
    unit="ROC-AUC",
    goal=0.95,
    higher_is_better=True,
    measures="the default ranking's separation of high from noisy kinds of medical text, weighted by tokens, with a reference "
    "disjoint from what is ranked (textbooks and encyclopaedia; GPT-2 tokens); by document, other methods and document length "
    "as the control in the details.",
    run=run,
)

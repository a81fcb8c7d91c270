"""The funnel: what became of every document, by source, stage and reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ground.errors import UserError
from pipelines.executor import Result
from pipelines.rank import SCORE_BIN

STAGES = ("read", "filters", "decontamination", "duplicates")
"""The stages after which documents are counted, in order."""

EXAMPLES = 3
"""Examples of each reason."""

_STAGE_OF = {
    "contaminated": "decontamination",
    "duplicate": "duplicates",
    "near_duplicate": "duplicates",
    "near_heldout": "duplicates",
}


def source_funnel(
    name: str,
    role: str,
    parts: Iterable[Result],
    ranges: Mapping[str, Sequence[Result]] | None,
    samples: Iterable[Mapping[str, Any]],
    runs: Iterable[Result] = (),
) -> dict[str, Any]:
    """The funnel of one source.

    Args:
        parts: results of ``prepare`` for its parts.
        ranges: results of ``sort_range`` for its two streams; None for a reference, which never enters the store.
        samples: pairs of copies of all sources (``dedup.Outcome``).
        runs: results of ``tokenise`` for its parts.
    """
    dropped: dict[str, Counter[str]] = {}
    kept: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    notes: dict[str, Counter[str]] = {"repaired": Counter(), "redacted": Counter(), "contaminated": Counter()}
    examples: dict[str, list[list[str]]] = {}
    for part in parts:
        for reason, counts in part["dropped"].items():
            dropped.setdefault(reason, Counter()).update(counts)
        for counts in part["kept"].values():
            kept.update(counts)
        for rejects in part["rejects"]:
            rejected.update(rejects["counts"])
        notes["repaired"].update(part["repaired"])
        notes["redacted"].update(part["redacted"])
        notes["contaminated"].update(part["contaminated"]["documents"])
        for reason, entries in part["examples"].items():
            examples[reason] = sorted([*examples.get(reason, []), *entries])[:EXAMPLES]
    for reason, amount in rejected.items():
        dropped.setdefault(reason, Counter()).update(documents=amount, bytes=0)
    read = Counter(documents=kept["documents"], bytes=kept["bytes_read"])
    for counts in dropped.values():
        read.update(counts)
    stored = _stored(kept, ranges)
    for run in runs:
        for reason, counts in run["dropped"].items():
            dropped.setdefault(reason, Counter()).update(counts)
    for results in (ranges or {}).values():
        for result in results:
            for reason, counts in result["dropped"].items():
                dropped.setdefault(reason, Counter()).update(counts)
    return {
        "role": role,
        "read": {"documents": read["documents"], "bytes": read["bytes"]},
        "dropped": {reason: dict(counts) for reason, counts in sorted(dropped.items())},
        "kept": stored["train"],
        "heldout": stored["heldout"],
        "stages": _stages(read, dropped, set(rejected), stored),
        **{key: dict(sorted(total.items())) for key, total in notes.items()},
        "examples": {reason: [entry[1:] for entry in entries] for reason, entries in sorted(examples.items())},
        "scores": _scores(ranges["train"] if ranges else []),
        "pairs": _pairs(name, samples),
    }


def require_documents(counted: Mapping[str, Any]) -> None:
    """Check that every source has documents left.

    Raises:
        UserError: names the source that has none, and what became of its documents.
    """
    for name, source in counted.items():
        if source["kept"]["documents"] + source["heldout"]["documents"]:
            continue
        read, dropped = source["read"]["documents"], source["dropped"]
        reasons = ", ".join(f"{reason} {count['documents']:,}" for reason, count in sorted(dropped.items()))
        why = f"{read:,} read, all dropped ({reasons})" if read else "its files are empty"
        mend = "check its paths and fields, or loosen curation.filters"
        raise UserError(f"sources.{name}", f"has no document left: {why}", mend)


def _stored(kept: Counter[str], ranges: Mapping[str, Sequence[Result]] | None) -> dict[str, dict[str, int]]:
    """Documents, bytes and tokens by split; of a reference, the documents that train the quality model."""
    names = ("documents", "bytes", "tokens")
    if ranges is None:
        counts = {"documents": kept["documents"], "bytes": kept["bytes"], "tokens": 0}
        return {"train": counts, "heldout": dict.fromkeys(names, 0)}
    return {split: {name: sum(result[name] for result in ranges[split]) for name in names} for split in ranges}


def _scores(ranges: Sequence[Result]) -> dict[str, Any]:
    """The histogram of the scores of training documents: documents and tokens by bin of ``width``."""
    bins: dict[int, list[int]] = {}
    for result in ranges:
        for index, (documents, tokens) in result["scores"].items():
            total = bins.setdefault(int(index), [0, 0])
            total[0] += documents
            total[1] += tokens
    return {"width": SCORE_BIN, "bins": {str(index): bins[index] for index in sorted(bins)}}


def _pairs(name: str, samples: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first few pairs of copies whose dropped document is of this source."""
    mine: dict[str, list[dict[str, Any]]] = {}
    for pair in samples:
        if pair["dropped"]["source"] == name:
            similarity = pair["similarity"]
            entry = {
                "kept": pair["kept"]["id"],
                "kept_source": pair["kept"]["source"],
                "dropped": pair["dropped"]["id"],
                "similarity": None if similarity is None else round(similarity, 3),
                "reason": pair["reason"],
            }
            mine.setdefault(pair["reason"], []).append(entry)
    return [entry for entries in mine.values() for entry in entries[:EXAMPLES]]


def _stages(
    read: Counter[str], dropped: Mapping[str, Counter[str]], rejected: set[str], stored: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Documents, bytes and tokens left after each stage.

    Tokens before the last stage are estimated from the bytes, at the rate of the documents that were encoded.
    """
    tokens = sum(stored[split]["tokens"] for split in stored)
    size = sum(stored[split]["bytes"] for split in stored)
    rate = tokens / size if size else 0.0
    left = Counter(read)
    stages = []
    for stage in STAGES:
        for reason, counts in dropped.items():
            if (stage if reason in rejected else _STAGE_OF.get(reason, "filters")) == stage and (
                stage == "read" or reason not in rejected
            ):
                left.subtract(counts)
        is_last = stage == STAGES[-1]
        stages.append(
            {
                "stage": stage,
                "documents": left["documents"],
                "bytes": left["bytes"],
                "tokens": tokens if is_last else round(left["bytes"] * rate),
            }
        )
    return stages

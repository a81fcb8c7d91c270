"""The funnel: what became of every document, by source and reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from ground.errors import UserError
from pipelines.process import KEPT

Count = tuple[str, str, int, int, int]
"""(stream, reason, documents, bytes, tokens)."""


def count_rows(rows: pa.Table) -> list[Count]:
    """Documents, bytes and tokens of a block of ``ROW_SCHEMA`` rows, by stream and reason."""
    sums = [("count", "sum"), ("bytes", "sum"), ("tokens", "sum")]
    grouped = rows.group_by(["stream", "reason"]).aggregate(sums).to_pylist()
    return [(r["stream"], r["reason"], r["count_sum"], r["bytes_sum"], r["tokens_sum"]) for r in grouped]


def funnel(roles: Mapping[str, str], counts: Iterable[Count]) -> dict[str, Any]:
    """Per source: ``read``, ``dropped`` by reason, ``kept`` and ``heldout``, each in documents, bytes and tokens."""
    totals: dict[str, Any] = {
        name: {
            "role": role,
            "read": {"documents": 0, "bytes": 0},
            "dropped": {},
            "kept": {"documents": 0, "bytes": 0, "tokens": 0},
            "heldout": {"documents": 0, "bytes": 0, "tokens": 0},
        }
        for name, role in roles.items()
    }
    for stream, reason, documents, size, tokens in counts:
        name, split = stream.split("/")
        source = totals[name]
        _add(source["read"], documents=documents, bytes=size)
        if reason == KEPT:
            _add(source["heldout" if split == "heldout" else "kept"], documents=documents, bytes=size, tokens=tokens)
        else:
            _add(source["dropped"].setdefault(reason, {"documents": 0, "bytes": 0}), documents=documents, bytes=size)
    return totals


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


def _add(total: dict[str, int], **amounts: int) -> None:
    for key, amount in amounts.items():
        total[key] += amount

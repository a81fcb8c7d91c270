"""Write an estimated n-gram model as an ARPA file, so that KenLM can read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.quality.arpa import SPECIAL, Grams
from pipelines.quality.kneser_ney import estimate


def write_arpa(path: Path, sequences: Sequence[Sequence[int]], order: int, prefix: str = "") -> None:
    """Estimate a model of numbered units and write it; their names are decimal numbers with ``prefix`` before them."""
    grams = estimate([np.array(ids, dtype=np.int64) for ids in sequences], order)
    lines = ["\\data\\", *(f"ngram {n}={len(of_order.ids)}" for n, of_order in enumerate(grams, start=1)), ""]
    for n, of_order in enumerate(grams, start=1):
        lines.append(f"\\{n}-grams:")
        lines += _lines(of_order, prefix, with_backoff=n < len(grams))
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "\\end\\", ""]), encoding="ascii")


def _lines(grams: Grams, prefix: str, *, with_backoff: bool) -> list[str]:
    rows = zip(grams.ids.tolist(), grams.log10.tolist(), grams.backoff.tolist(), strict=True)
    return [
        f"{log10:.7g}\t{' '.join(_word(unit, prefix) for unit in ids)}" + (f"\t{backoff:.7g}" if with_backoff else "")
        for ids, log10, backoff in rows
    ]


def _word(unit: int, prefix: str) -> str:
    return SPECIAL[unit] if unit < len(SPECIAL) else f"{prefix}{unit - len(SPECIAL)}"

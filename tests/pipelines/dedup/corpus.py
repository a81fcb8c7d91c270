"""Small corpora for the tests of deduplication, cut into signed parts, and an executor in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ground.files import digest_bytes
from pipelines.dedup import DedupConfig, Outcome, SignatureWriter, SignedPart, deduplicate, read_reasons
from pipelines.dedup.choose import REASONS


@dataclass(frozen=True)
class Document:
    source: str
    key: str
    text: str
    heldout: bool = False
    score: float = 0.0

    @property
    def hash(self) -> str:
        return digest_bytes(self.text)


@dataclass
class LocalRun:
    """Runs items here; what crosses to a task and back is JSON, as with any executor."""

    items: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], dict[str, Any]]] = field(default_factory=list)
    """Every task and item, in the order of running."""
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Results by phase."""

    def __call__(
        self, name: str, task: Callable[[dict[str, Any]], dict[str, Any]], items: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        self.items += [(task, item) for item in items]
        self.results[name] = [json.loads(json.dumps(task(json.loads(json.dumps(item))))) for item in items]
        return self.results[name]


def words(seed: int, count: int) -> list[str]:
    """Random words; two seeds share no five of them in a row."""
    return [f"w{value}" for value in np.random.default_rng(seed).integers(0, 50_000, count)]


def edited(text: list[str], places: Sequence[int]) -> str:
    """The text with other words at some places."""
    changed = list(text)
    for place in places:
        changed[place % len(text)] = f"edit{place}"
    return " ".join(changed)


def sign(folder: Path, documents: Sequence[Document], config: DedupConfig) -> SignedPart:
    """A part of documents of one source."""
    folder.mkdir(parents=True)
    writer = SignatureWriter(folder, config)
    writer.add(
        [document.text for document in documents],
        [document.key for document in documents],
        [document.hash for document in documents],
        [document.heldout for document in documents],
    )
    np.save(folder / "scores.npy", np.array([document.score for document in documents]))
    return SignedPart(str(folder), writer.close(), documents[0].source)


def dropped(
    folder: Path,
    parts: Sequence[Sequence[Document]],
    sources: Sequence[str],
    config: DedupConfig | None = None,
    task_rows: int = 1 << 21,
) -> tuple[list[tuple[Document, str]], Outcome]:
    """Documents with the reason each goes for ("": it stays), in the order of the parts."""
    config = config or DedupConfig()
    signed = [sign(folder / f"part-{index}", part, config) for index, part in enumerate(parts)]
    scores = [f"{part.folder}/scores.npy" for part in signed]
    outcome = deduplicate(signed, sources, config, folder / "work", LocalRun(), scores, task_rows)
    reasons = [REASONS[code] for path in outcome.reasons for code in read_reasons(path)]
    return list(zip([document for part in parts for document in part], reasons, strict=True)), outcome

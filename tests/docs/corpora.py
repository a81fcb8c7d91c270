"""Small corpora for the tutorials: different documents of made-up prose, good ones and poor ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_WORDS = {
    "subject": "patient doctor nurse wound fever kidney heart liver bone muscle tumour infection artery lung skin",
    "verb": "shows needs receives resembles causes follows precedes prevents accompanies worsens",
    "object": "pain treatment swelling surgery rest dialysis bleeding recovery inflammation medication weakness",
    "place": "tonight tomorrow early late often rarely again everywhere elsewhere sometimes",
}


def prose(random_: random.Random, sentences: int) -> str:
    """Sentences that differ from document to document."""

    def word(kind: str) -> str:
        return random_.choice(_WORDS[kind].split())

    return " ".join(
        f"The {word('subject')} {word('verb')} {word('object')} and {word('object')} {word('place')}, "
        f"as the {word('subject')} of room {random_.randrange(900)} did."
        for _ in range(sentences)
    )


def write_corpora(folder: Path) -> None:
    """``corpora/`` of the tutorial: notes as JSON lines, good ones, general text as Parquet, and questions."""
    words = random.Random(3)
    notes = folder / "corpora" / "notes"
    notes.mkdir(parents=True)
    for name in ("a", "b"):
        _write_lines(notes / f"{name}.jsonl", [{"id": f"{name}{i}", "text": prose(words, 12)} for i in range(200)])
    _write_lines(folder / "corpora" / "good.jsonl", [{"id": f"g{i}", "text": prose(words, 12)} for i in range(60)])
    general = [f"City {i} lies by a river. " + prose(words, 6).replace("patient", "mayor") for i in range(150)]
    pq.write_table(pa.table({"content": general}), folder / "corpora" / "general.parquet")
    (folder / "questions").mkdir()
    questions: list[dict[str, object]] = [
        {"id": f"{i}", "question": f"Which is {i}?", "options": {"A": f"{i}", "B": f"{i + 1}"}, "answer": "AB"[i % 2]}
        for i in range(10)
    ]
    _write_lines(folder / "questions" / "mine.jsonl", questions)


def _write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

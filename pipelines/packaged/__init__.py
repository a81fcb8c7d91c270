"""Demo corpora made from data that installed PyPI packages ship, so that the demo needs no download of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import zstandard

from ground.files import write_atomic
from pipelines.packaged.instructions import Conversations, general_questions, medical_questions
from pipelines.packaged.medical import hpo_domain, hpo_reference, icd10
from pipelines.packaged.software import documentation, standard_library
from pipelines.packaged.wikipedia import wikipedia_and_news

Entries = Iterator[tuple[str, str]]
Rows = Iterator[dict[str, Any]]

_CORPORA: dict[str, Callable[[], Entries]] = {
    "medical_hpo": hpo_domain,
    "medical_icd10": icd10,
    "reference": hpo_reference,
    "wikipedia": wikipedia_and_news,
    "documentation": documentation,
    "code": standard_library,
}
_CONVERSATIONS: dict[str, Callable[[], Conversations]] = {
    "medical_instructions": medical_questions,
    "general_instructions": general_questions,
}
_LEVEL = 9


def write_packaged_corpora(folder: Path) -> dict[str, Path]:
    """Write each demo corpus as ``<folder>/<name>.jsonl.zst``, one ``{"id", "text"}`` a line, unless it is there.

    ``medical_hpo`` (Human Phenotype Ontology terms) and ``medical_icd10`` (ICD-10-CM tabular list) are domain text,
    ``reference`` (a quarter of the HPO terms with a long definition, absent from ``medical_hpo``) trains the quality
    model, ``wikipedia``, ``documentation`` and ``code`` are general. The same package versions give the same bytes.

    Returns:
        The file of each corpus by name.

    Raises:
        UserError: a package that ships a corpus is not installed.
    """
    return _write_missing(folder, {name: partial(_texts, make) for name, make in _CORPORA.items()})


def write_packaged_instructions(folder: Path) -> dict[str, Path]:
    """Write each corpus of conversations as ``<folder>/<name>.jsonl.zst``, one ``{"id", "messages"}`` a line, unless it is there.

    ``medical_instructions`` asks about the terms of the Human Phenotype Ontology, ``general_instructions`` about Wikipedia
    articles and documented objects of Python packages. The same package versions give the same bytes.

    Returns:
        The file of each corpus by name.

    Raises:
        UserError: a package that ships a corpus is not installed.
    """
    return _write_missing(folder, {name: partial(_chats, make) for name, make in _CONVERSATIONS.items()})


def _texts(make: Callable[[], Entries]) -> Rows:
    return ({"id": key, "text": text} for key, text in make())


def _chats(make: Callable[[], Conversations]) -> Rows:
    for key, question, answer in make():
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield {"id": key, "messages": turns}


def _write_missing(folder: Path, corpora: Mapping[str, Callable[[], Rows]]) -> dict[str, Path]:
    files = {}
    for name, rows in corpora.items():
        path = files[name] = folder / f"{name}.jsonl.zst"
        if not path.exists():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())
            write_atomic(path, zstandard.ZstdCompressor(level=_LEVEL).compress(lines.encode()))
    return files

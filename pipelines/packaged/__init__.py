"""Demo corpora made from data that installed PyPI packages ship, so that the demo needs no download of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from ground.files import write_atomic
from pipelines.packaged.medical import hpo_domain, hpo_reference, icd10
from pipelines.packaged.software import documentation, standard_library
from pipelines.packaged.wikipedia import wikipedia_and_news

Entries = Iterator[tuple[str, str]]

_CORPORA: dict[str, Callable[[], Entries]] = {
    "medical_hpo": hpo_domain,
    "medical_icd10": icd10,
    "reference": hpo_reference,
    "wikipedia": wikipedia_and_news,
    "documentation": documentation,
    "code": standard_library,
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
    files = {}
    for name, entries in _CORPORA.items():
        path = files[name] = folder / f"{name}.jsonl.zst"
        if not path.exists():
            lines = (json.dumps({"id": key, "text": text}, ensure_ascii=False) + "\n" for key, text in entries())
            write_atomic(path, zstandard.ZstdCompressor(level=_LEVEL).compress("".join(lines).encode()))
    return files

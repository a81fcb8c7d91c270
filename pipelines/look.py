"""A look at the ranking before anything expensive runs: the first few megabytes of every domain source, scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from ground.errors import UserError
from pipelines.curate import Curation, tokenise_parts
from pipelines.inputs import read_inputs
from pipelines.models import contamination_index, quality_model, tokenizer_folder
from pipelines.parts import Part, prepare_parts
from pipelines.prepare import DOCUMENTS
from pipelines.quality.preview import PreviewRow, ScoredDocument, excerpt, preview
from pipelines.runs import Run
from pipelines.store import SPLITS
from pipelines.work import Made

_ITEM_BYTES = 4 << 20


def look(curation: Curation, rows: int) -> list[PreviewRow]:
    """The best, middle and worst documents, ``rows`` in all of each domain source, of the part that was looked at.

    Raises:
        UserError: there is no domain source, or nothing to rank it by.
    """
    sources, config, work = curation.sources, curation.config, curation.work
    if not any(source.role == "domain" for source in sources.values()):
        raise UserError("sources", "none has the role domain, so there is nothing to rank", "give one that role")
    needed = {"domain", "reference", "general"} if config.quality.needs_general else {"domain", "reference"}
    seen = {name: source for name, source in sources.items() if source.role in needed}
    inputs = read_inputs(work, seen)
    index = contamination_index(work, config.decontamination)
    parts = prepare_parts(work, config, seen, inputs, index, _ITEM_BYTES, first_of={"domain", "general"})
    tokenizer = tokenizer_folder(work, config, seen, curation.tokenizer, parts)
    quality = quality_model(work, config, seen, parts, tokenizer)
    if quality is None:
        raise UserError("sources", "none has the role reference, so there is nothing to rank by", "give one that role")
    domain = [part for part in parts if seen[part.source].role == "domain"]
    runs = tokenise_parts(work, config, seen, domain, tokenizer, quality)
    return preview(_scored(domain, runs), rows)


def _scored(parts: list[Part], runs: list[Made]) -> Iterator[ScoredDocument]:
    for part, run in zip(parts, runs, strict=True):
        scores: dict[int, float] = {}
        for split in SPLITS:
            keys = Run(run.folder, split).keys
            scores.update(zip(keys.column("row").to_pylist(), keys.column("score").to_pylist(), strict=True))
        row = 0
        with pa.memory_map(str(Path(part.folder) / DOCUMENTS)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                columns = (batch.column(name).to_pylist() for name in ("id", "hash", "text"))
                for identity, document_hash, text in zip(*columns, strict=True):
                    yield ScoredDocument(part.source, identity, document_hash, scores[row], excerpt(text))
                    row += 1

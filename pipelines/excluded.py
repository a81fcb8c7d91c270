"""The excluded documents: a sample of what was dropped and why, one Parquet file a part, to look at."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ground.files import digest_file, link_or_copy
from pipelines.dedup import REASONS, read_reasons
from pipelines.executor import Item, Result
from pipelines.parts import Part
from pipelines.prepare import EXCLUDED, EXCLUDED_SCHEMA, PART_SCHEMA, is_sampled
from pipelines.work import Work, content_key

_VERSION = 1  # raise when the same documents would give other files
_FEW_DOCUMENTS = 2_000_000  # read in less time than workers take to start


def write_excluded(work: Work, share: float, parts: Sequence[Part], reasons: Mapping[str, Path]) -> Path:
    """Write ``excluded/<source>-<part>.parquet`` (``EXCLUDED_SCHEMA``) in the work folder, replacing those of an earlier
    curation, and return that folder.

    Args:
        share: of the copies to write; what the filters dropped was sampled when the parts were made.
        reasons: file of reason codes of what deduplication left out, by key of the part.
    """
    items = []
    for part in parts:
        mask = reasons.get(part.key)
        key = content_key(version=_VERSION, part=part.key, share=share, mask=digest_file(mask) if mask else None)
        items.append((key, {"part": str(part.folder), "mask": mask and str(mask), "share": share}))
    few = sum(part.documents for part in parts) < _FEW_DOCUMENTS
    made = work.run("exclusions", collect_excluded, items, quiet=True, here=few)
    folder = work.folder / "excluded"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part, entry in zip(parts, made, strict=True):
        if entry.result["documents"]:
            link_or_copy(entry.folder / EXCLUDED, folder / f"{part.source}-{part.key[:12]}.parquet")
    return folder


def collect_excluded(item: Item, folder: Path) -> Result:
    """Join what ``prepare`` excluded from a part with a sample of its copies."""
    part = Path(item["part"])
    tables = [pq.read_table(part / EXCLUDED, schema=EXCLUDED_SCHEMA)]
    if item["mask"]:
        tables += _copies(part, read_reasons(Path(item["mask"])), item["share"])
    rows = pa.concat_tables(tables)
    pq.write_table(rows, folder / EXCLUDED, compression="zstd")
    return {"documents": rows.num_rows}


def _copies(part: Path, reasons: NDArray[np.uint8], share: float) -> list[pa.Table]:
    """A sample of the documents that deduplication dropped, found a batch at a time by their hashes alone."""
    tables, first = [], 0
    only_hashes = pa.ipc.IpcReadOptions(included_fields=[PART_SCHEMA.get_field_index("hash")])
    with pa.memory_map(str(part / "documents.arrow")) as source:
        reader, hashes_of = pa.ipc.open_file(source), pa.ipc.open_file(source, options=only_hashes)
        for index in range(reader.num_record_batches):
            hashes = hashes_of.get_batch(index).column(0)
            codes = reasons[first : first + len(hashes)]
            first += len(hashes)
            chosen = [i for i in np.flatnonzero(codes).tolist() if is_sampled(hashes[i].as_py(), share)]
            if not chosen:
                continue
            rows = pa.Table.from_batches([reader.get_batch(index)]).take(pa.array(chosen, pa.int64()))
            names = pa.array([REASONS[codes[i]] for i in chosen], pa.string())
            columns = [rows.column("id"), rows.column("hash"), names, rows.column("text"), rows.column("metadata")]
            tables.append(pa.table(dict(zip(EXCLUDED_SCHEMA.names, columns, strict=True)), schema=EXCLUDED_SCHEMA))
    return tables

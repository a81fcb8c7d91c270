"""Readers: corpus files of any common format to batches of documents, cut so that one large file feeds many tasks.

    expand_source -> plan_splits -> read_split (one task each) -> Documents, Rejects -> require_wellformed

A document and its default id depend on the file alone, never on where the file was cut. A row that holds no document is
counted by reason and a few are kept to look at; a file that cannot be read to its end is one clear error.
"""

from pipelines.readers.config import SourceReading
from pipelines.readers.files import expand_source
from pipelines.readers.read import Documents, read_split
from pipelines.readers.rejects import Reject, Rejects, first_samples, require_wellformed
from pipelines.readers.splits import Split, plan_splits
from pipelines.streams import file_digest

__all__ = [
    "Documents",
    "Reject",
    "Rejects",
    "SourceReading",
    "Split",
    "expand_source",
    "file_digest",
    "first_samples",
    "plan_splits",
    "read_split",
    "require_wellformed",
]

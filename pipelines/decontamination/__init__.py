"""Which training documents repeat evaluation sets, by n-grams of words, and which items they repeat.

``build_index(config, folder)`` reads the evaluation sets once; workers map the index into memory with ``Index.load`` and
ask ``index.hits(batch)``. Two texts match although case, punctuation and spacing differ (``TextBatch.plain_words``); a
paraphrase or a translation is not found.
"""

from __future__ import annotations

from pipelines.decontamination.build import build_index
from pipelines.decontamination.config import DecontaminationConfig, TaskConfig
from pipelines.decontamination.index import Hit, Index
from pipelines.decontamination.report import Tally, TaskReport

__all__ = ["DecontaminationConfig", "Hit", "Index", "Tally", "TaskConfig", "TaskReport", "build_index"]

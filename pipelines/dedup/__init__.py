"""Exact and near duplicates of a whole corpus, found by tasks that read and write files (see ``drive``)."""

from __future__ import annotations

from pipelines.dedup.choose import REASONS, read_reasons
from pipelines.dedup.config import DedupConfig, FuzzyConfig
from pipelines.dedup.drive import VERSION, Found, Outcome, choose_members, deduplicate, find_duplicates
from pipelines.dedup.layout import SignedPart
from pipelines.dedup.signatures import SignatureWriter

__all__ = [
    "REASONS",
    "VERSION",
    "DedupConfig",
    "Found",
    "FuzzyConfig",
    "Outcome",
    "SignatureWriter",
    "SignedPart",
    "choose_members",
    "deduplicate",
    "find_duplicates",
    "read_reasons",
]

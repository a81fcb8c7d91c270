"""The recipe sections that curation and the plan use: ``sources``, ``curation``, ``mixture``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ground.config import Section
from pipelines.decontamination.config import DecontaminationConfig
from pipelines.dedup.config import DedupConfig
from pipelines.deidentification.config import DeidentificationConfig
from pipelines.filters.config import FilterConfig
from pipelines.filters.presets import Preset, resolve_filters
from pipelines.naming import Name, Role
from pipelines.quality.config import QualityConfig
from pipelines.readers.config import SourceReading

__all__ = ["CurationConfig", "MixtureConfig", "Name", "Role", "SourceConfig", "TokenizerTraining"]


class SourceConfig(SourceReading):
    """One named corpus."""

    role: Role
    """``domain``: what the model shall learn, ranked by quality. ``general``: what it must not forget (replay).
    ``reference``: clean domain text that only trains the quality model and never enters the store."""
    preset: Preset | None = None
    """Filters for this source; absent: ``curation.preset``. Code and formulas want ``none`` or ``basic``."""
    filters: FilterConfig | None = None
    """Filters and thresholds that differ from the preset's for this source."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Expected tokens after curation, so that `steady plan` works before the store exists; ignored once it does."""


class TokenizerTraining(Section):
    """Train a byte-level BPE tokenizer on the general and domain sources, for a model that starts from nothing."""

    vocabulary: Annotated[int, Field(ge=300, le=1_000_000)] = 4096
    """Size of the vocabulary, special tokens included."""
    sample_bytes: Annotated[int, Field(ge=10_000)] = 50_000_000
    """Bytes of text to train on; merges hardly change beyond some tens of megabytes."""


class CurationConfig(Section):
    """From sources to a token store."""

    store: str | None = None
    """Folder of the token store, or a URL (``s3://``, ``gs://``) to which it is put and from which nodes read it through
    ``cluster.cache_folder``; absent: ``store`` in the recipe's work folder. It is immutable once complete."""
    work: str | None = None
    """Folder for the results of the stages, so that a second curation does only what is missing; about the size of the
    corpus. Absent: ``curation`` in the recipe's work folder. May be removed once the store is complete."""
    tokenizer: str | None = None
    """Tokenizer folder or Hugging Face name; absent: the one of ``model.base``."""
    train_tokenizer: TokenizerTraining | None = None
    """Train the tokenizer instead (then ``tokenizer`` must be absent)."""
    fast_tokenizer: bool = True
    """Encode with gigatoken where it gives the same ids (checked at the start and on a part of the documents): 20 to 60
    times as fast for tokenizers like GPT-2's, Llama 3's and Qwen's; others are encoded by their own library."""
    preset: Preset = "basic"
    """Which filters and repairs are on: ``none``, ``basic``, ``web``, ``literature``, ``clinical`` (literature, and
    de-identification)."""
    filters: FilterConfig = FilterConfig()
    """Filters and thresholds that differ from the preset's, for all sources."""
    dedup: DedupConfig | None = DedupConfig()
    """Removal of exact and near duplicates; null keeps them all."""
    decontamination: DecontaminationConfig | None = None
    """Removal of documents that repeat evaluation sets; off until sets are named."""
    deidentification: DeidentificationConfig | None = None
    """Redaction of identifiers by patterns, an aid and no guarantee; absent: on with its defaults for sources of the
    ``clinical`` preset, off for others."""
    quality: QualityConfig = QualityConfig()
    """How domain documents are ranked."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of each source's documents held out for evaluation, chosen by document hash, so that the same ones are
    held out whatever else changes. Near copies of held-out documents are left out of training."""
    excluded_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the dropped documents that are written, with the reason, to ``excluded`` in the work folder, to look at;
    1 writes all."""
    shard_bytes: Annotated[int, Field(ge=4096, le=256 << 20)] = 128 << 20
    """Largest size of a shard file. Smaller shards write and check in parallel; above 256 MiB object stores get slow."""

    def filters_of(self, source: SourceConfig) -> FilterConfig:
        """The filters of a source: its preset, then the curation's overrides, then its own."""
        own = source.filters.model_dump(exclude_unset=True) if source.filters is not None else None
        return resolve_filters(source.preset or self.preset, self.filters.model_dump(exclude_unset=True), own)

    def deidentification_of(self, source: SourceConfig) -> DeidentificationConfig | None:
        """How a source is de-identified, if at all."""
        clinical = (source.preset or self.preset) == "clinical"
        return self.deidentification or (DeidentificationConfig() if clinical else None)


class MixtureConfig(Section):
    """A view of a store: which tokens, how often, in which proportion (design: *The plan, exactly*)."""

    subset_tokens: Annotated[int, Field(ge=1)] | None = None
    """S, the tokens of one epoch over all sources, and the size of the pool of domain tokens. Absent: all domain tokens."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """E; the run is S x E tokens."""
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]] | None = None
    """Share of each source in every global batch; they sum to 1. Absent: domain sources only, by size."""
    select: Literal["quality", "random"] = "quality"
    """Pool of domain documents: the best S tokens, or a seeded random S."""
    redraw: Literal["once", "epoch", "cycle"] = "epoch"
    """Domain part of an epoch: the same each time, drawn afresh (the paper's best), or going on through a permutation of
    the pool so that exposure is even."""
    max_repetition: Annotated[float, Field(ge=1)] = 16.0
    """Largest number of times a source may be seen on average; effective tokens saturate near 16 (Muennighoff et al. 2023)."""

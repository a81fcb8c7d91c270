"""The recipe sections that curation and the plan use: ``sources``, ``curation``, ``mixture``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ground.config import Section

Role = Literal["domain", "general", "reference"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class SourceConfig(Section):
    """One named corpus."""

    role: Role
    """``domain``: what the model shall learn, ranked by quality. ``general``: what it must not forget (replay).
    ``reference``: clean domain text that only trains the quality model and never enters the store."""
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, globs, folders or URLs (``s3://``, ``gs://``, ``file://``: anything fsspec reads)."""
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    """``auto`` goes by the ending: ``.jsonl``/``.json``/``.ndjson``, ``.parquet``, ``.txt``/``.md``; ``.gz`` and ``.zst``
    may follow. ``text`` makes one document of each file."""
    text_field: str = "text"
    """Field (JSONL) or column (Parquet) that holds the document."""
    id_field: str | None = "id"
    """Field that holds the document's id; absent or null: ``<file name>#<row>``."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Expected tokens after curation, so that `steady plan` works before the store exists; ignored once it does."""
    max_documents: Annotated[int, Field(ge=1)] | None = None
    """Keep only the documents with the smallest hashes, this many: a random choice, the same on every run, for trials. Held-out
    documents come first in that order, so a trial is measured on the same ones as the full corpus."""


class FilterConfig(Section):
    """Which documents may stay. The defaults drop only what no one wants; deeper filters are opt-in."""

    min_characters: Annotated[int, Field(ge=0)] = 40
    """Shorter documents are dropped (reason ``too_short``): below about 40 characters there is no sentence."""
    max_characters: Annotated[int, Field(ge=1)] = 1_000_000
    """Longer ones are dropped (``too_long``): such files are dumps or concatenations, and one would fill a worker's memory."""
    max_replacement_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest share of U+FFFD and control characters (``broken_encoding``)."""
    min_letter_share: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Smallest share of letters among non-space characters (``few_letters``); tables and number dumps fall below it."""
    max_line_repetition: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of characters in repeated lines (``repeated_lines``); Gopher (Rae et al. 2021, A1.1) uses 0.2 to 0.3
    on web text."""


class QualityConfig(Section):
    """How domain documents are ranked: perplexity under an n-gram model trained on the reference sources."""

    order: Annotated[int, Field(ge=2, le=6)] = 3
    """Order of the n-gram model. The paper does not state its order; 3 trains in seconds, 5 is KenLM's usual choice."""
    model: str | None = None
    """An existing ``.arpa`` or ``.bin`` over the same units, instead of training one."""
    unknown_log10: Annotated[float, Field(lt=0)] = -6.5
    """log10 probability charged for a token the n-gram model has not seen, so that one rare term does not sink a document."""


class TokenizerTraining(Section):
    """Train a byte-level BPE tokenizer on the general and domain sources, for a model that starts from nothing."""

    vocabulary: Annotated[int, Field(ge=300, le=1_000_000)] = 4096
    """Size of the vocabulary, special tokens included."""
    sample_bytes: Annotated[int, Field(ge=10_000)] = 50_000_000
    """Bytes of text to train on; merges hardly change beyond some tens of megabytes."""


class CurationConfig(Section):
    """From sources to a token store."""

    store: str | None = None
    """Folder of the token store; absent: ``store`` in the recipe's work folder. It is immutable once complete."""
    tokenizer: str | None = None
    """Tokenizer folder or Hugging Face name; absent: the one of ``model.base``."""
    train_tokenizer: TokenizerTraining | None = None
    """Train the tokenizer instead (then ``tokenizer`` must be absent)."""
    filters: FilterConfig = FilterConfig()
    """Which documents may stay."""
    quality: QualityConfig = QualityConfig()
    """How domain documents are ranked."""
    heldout_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of each source's documents held out for evaluation, chosen by document hash, so that the same ones are
    held out whatever else changes."""
    shard_bytes: Annotated[int, Field(ge=4096, le=256 << 20)] = 128 << 20
    """Largest size of a shard file. Smaller shards write and check in parallel; above 256 MiB object stores get slow."""


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

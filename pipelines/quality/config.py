"""The recipe section ``curation.quality``: how domain documents are ranked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ground.config import Section

Method = Literal["robust", "perplexity", "difference", "classifier", "ifd", "field"]
Units = Literal["tokens", "words"]


class ClassifierConfig(Section):
    """The linear classifier of reference against general text (``method: classifier``)."""

    bits: Annotated[int, Field(ge=10, le=26)] = 20
    """2**bits weights for hashed tokens and pairs of tokens: a million keep collisions rare for a reference of some million
    tokens and stay in a processor's cache (4 MB)."""
    chunk_tokens: Annotated[int, Field(ge=16)] = 400
    """Training texts are cut to this many tokens, so that a book does not count as one example and its length says nothing."""
    inverse_penalty: Annotated[float, Field(gt=0)] = 100.0
    """C of the logistic regression (inverse weight of the L2 penalty). Features are shares of a chunk, about 1/400 each, so that
    C must be large; ten and a hundred times as much separate the medical kinds worse (ROC-AUC 0.88 by tokens against 0.91)."""


class IfdConfig(Section):
    """The language model that measures instruction-following difficulty (``method: ifd``)."""

    model: str
    """A small causal language model: a folder, or a name on the Hugging Face hub such as ``openai-community/gpt2``, which ranks
    as much larger models do (Li et al. 2024, Superfiltering). It runs on CPU and is copied into the work folder."""
    max_tokens: Annotated[int, Field(ge=16)] = 1024
    """Longest input, in the model's own tokens: an answer is cut to half of it, what came before to its last tokens that still
    fit. Never more than the model's positions."""


class FieldConfig(Section):
    """A score that the data brings along (``method: field``), such as Deita's."""

    name: str
    """Field of the document; it must be among ``metadata_fields`` of every domain source. Documents without a number in it are
    ranked last."""
    higher_is_better: bool = True
    """Whether larger numbers are better, as with Deita's scores."""


class QualityConfig(Section):
    """How domain documents are ranked; lower scores are better."""

    method: Method = "robust"
    """``robust``: perplexity under an n-gram model of the reference, guarded against single rare terms, short texts and
    documents of which half is good (measured best, see benchmarks). ``perplexity``: the same, plain, as published.
    ``difference``: that minus the perplexity under a model of the general sources (Moore & Lewis 2010): asks for text like the
    reference rather than for well-written text. ``classifier``: a linear classifier of reference against general text (Li et
    al. 2024, DCLM). ``ifd``: for conversations, instruction-following difficulty under a small language model (Li et al. 2024).
    ``field``: a number that each document has in a field. The last two take no reference."""
    units: Units = "tokens"
    """What n-grams are made of. ``tokens``: the model's own subword tokens, of which few are unknown, so that markup and other
    languages cost more. ``words``: lower-cased words and signs, for an existing model over words."""
    order: Annotated[int, Field(ge=2, le=6)] = 3
    """Order of the n-gram models. The paper does not state its order; 3 trains in seconds, 5 is KenLM's usual choice."""
    model: str | None = None
    """An existing ``.arpa`` or ``.bin`` of the reference over the same units, instead of training one."""
    general_model: str | None = None
    """The same for the general side of ``difference``."""
    unknown_log10: Annotated[float, Field(lt=0)] = -6.5
    """log10 probability charged for a unit the n-gram model has not seen: about one occurrence in a reference of three million,
    so that one rare term does not sink a document and a run of them does. ``robust`` charges its ceiling instead if lower."""
    ceiling: Annotated[float, Field(gt=0)] = 4.0
    """``robust``: the most that one unit may cost, in log10 (4: one in ten thousand). A higher cost only says that the reference
    is too small to know the term; the smaller the reference, the more this helps. 3.5 to 5 rank alike within 0.002 of ROC-AUC."""
    window: Annotated[int, Field(ge=16)] = 128
    """``robust``: units in a window, about a paragraph. The windows of a document's worse half count three times, so that good
    paragraphs do not hide tables, markup or a second text. 256 and 512 notice a half-bad document less often."""
    doubt: Annotated[int, Field(ge=0)] = 8
    """``robust``: every document is scored as if it held this many more units at the cost of domain words without context, a few
    words: a very short text must be better to rank as high, since its mean is known less well. More prefers long documents as
    such, which helps where the good ones are long and harms where they are short; among documents of one length it changes
    nothing."""
    training_tokens: Annotated[int, Field(ge=1000)] = 10_000_000
    """Largest number of tokens a model is trained on, of the reference and of the general sources each; later documents (by
    hash) are left out. The n-grams are counted in memory, about 150 bytes for each token at order 3; a model made of more
    text by another program can be given as ``model``."""
    classifier: ClassifierConfig = ClassifierConfig()
    """Settings of ``method: classifier``."""
    ifd: IfdConfig | None = None
    """Settings of ``method: ifd``, which needs them."""
    field: FieldConfig | None = None
    """Settings of ``method: field``, which needs them."""

    @model_validator(mode="after")
    def _fits_the_method(self) -> Self:
        if self.general_model is not None and self.method != "difference":
            raise ValueError(f"general_model serves method difference only, not {self.method}; leave it out")
        if self.method == "classifier" and (self.model is not None or self.units == "words"):
            raise ValueError("method classifier trains on tokens and takes no model; leave out model and units")
        for method, settings in (("ifd", self.ifd), ("field", self.field)):
            if (self.method == method) != (settings is not None):
                raise ValueError(f"method {method} and the section {method} go together; give both or neither")
        if self.scores_a_column and self.model is not None:
            raise ValueError(f"method {self.method} takes no n-gram model; leave out model")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Sections of methods that are not used stay out, so that they do not change the digest of a store."""
        return {name: value for name, value in write(self).items() if value is not None or name not in ("ifd", "field")}

    @property
    def scores_a_column(self) -> bool:
        """Whether documents are scored by what stands beside their text: messages, or a field of the metadata."""
        return self.method in ("ifd", "field")

    @property
    def needs_general(self) -> bool:
        """Whether training reads the general sources."""
        return self.method == "classifier" or (self.method == "difference" and self.general_model is None)

    @property
    def needs_reference(self) -> bool:
        """Whether training reads the reference sources."""
        return self.model is None and not self.scores_a_column

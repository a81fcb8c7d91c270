"""The filters and repairs of a configuration, run over batches of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ground.config import Section
from pipelines.filters.base import Repair, Step
from pipelines.filters.batch import FilterBatch
from pipelines.filters.boilerplate import BoilerplateFilter, BoilerplateRepairer
from pipelines.filters.c4 import C4Filter, C4Lines
from pipelines.filters.config import BoilerplateRepair, FilterConfig
from pipelines.filters.encoding import EncodingFilter
from pipelines.filters.fineweb import FineWebFilter
from pipelines.filters.gopher_quality import GopherQualityFilter
from pipelines.filters.gopher_repetition import GopherRepetitionFilter
from pipelines.filters.language import LanguageIdFilter
from pipelines.filters.length import LengthFilter
from pipelines.filters.letters import LetterFilter
from pipelines.filters.markup import MarkupFilter
from pipelines.filters.repetition import RepeatedLinesFilter
from pipelines.filters.symbols import SymbolsFilter
from pipelines.filters.terms import BlocklistFilter, DomainTermsFilter
from pipelines.filters.unicode_repair import UnicodeRepairer

_SLICE_CHARACTERS = 1 << 18  # large enough for array operations to pay, small enough for the processor's cache


class FilterPipeline:
    """Repairs and filters in a fixed order, cheapest first: a document is counted under the first filter that drops it.

    Invariant: what happens to a document depends on its text and the configuration alone, never on the others of a call.

    Args:
        config: which filters are on, and their limits.
        field: dotted name of the configuration, for errors.

    Raises:
        UserError: a list of terms cannot be read.
    """

    def __init__(self, config: FilterConfig, field: str = "curation.filters") -> None:
        self.steps = build_steps(config, field)
        self.repaired: Counter[str] = Counter()
        """Documents changed so far, by the name of the repair."""

    def __call__(self, texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """The texts as repaired, and for each the reason to drop it or "" to keep it; same order, same length."""
        mended, reasons = list(texts), [""] * len(texts)
        for indices in _slices(texts):
            self._run(indices, mended, reasons)
        return mended, reasons

    def _run(self, indices: list[int], mended: list[str], reasons: list[str]) -> None:
        batch = FilterBatch([mended[index] for index in indices])
        for step in self.steps:
            staying = [k for k, index in enumerate(indices) if not reasons[index]]
            if not staying:
                return
            # Words are dear: once found they serve until a repair changes texts or half of the documents are gone.
            worthwhile = isinstance(step, Repair) or not batch.has_words or 2 * len(staying) < len(indices)
            if len(staying) < len(indices) and worthwhile:
                indices = [indices[k] for k in staying]
                batch = FilterBatch([batch.texts[k] for k in staying])
            if isinstance(step, Repair):
                batch = self._repair(step, batch, indices, mended)
                continue
            for index, reason in zip(indices, step.reasons(batch), strict=True):
                reasons[index] = reasons[index] or reason

    def _repair(self, step: Repair, batch: FilterBatch, indices: list[int], mended: list[str]) -> FilterBatch:
        repaired = step.repair(batch.texts)
        changed = [k for k, text in enumerate(repaired) if text != batch.texts[k]]
        if not changed:
            return batch
        self.repaired[step.name] += len(changed)
        for k in changed:
            mended[indices[k]] = repaired[k]
        return FilterBatch(repaired)


def build_steps(config: FilterConfig, field: str = "curation.filters") -> list[Step]:
    """The repairs and filters of a configuration, in the order in which they run.

    Raises:
        UserError: a list of terms cannot be read.
    """
    menus = config.repair_boilerplate or BoilerplateRepair()
    parts: list[tuple[Section | None, Callable[[Any], Step]]] = [
        (config.boilerplate, lambda part: BoilerplateFilter(menus, part.max_boilerplate)),
        (config.repair_boilerplate, BoilerplateRepairer),
    ]
    cheap = [make(part) for part, make in parts if part is not None]
    parts = [
        (config.symbols, SymbolsFilter),
        (config.markup, MarkupFilter),
        (config.language, LanguageIdFilter),
        (config.domain_terms, lambda part: DomainTermsFilter.build(part, f"{field}.domain_terms")),
        (config.blocklist, lambda part: BlocklistFilter.build(part, f"{field}.blocklist")),
        (config.gopher_repetition, GopherRepetitionFilter),
        (config.gopher_quality, GopherQualityFilter),
        (config.c4, C4Lines),
        (config.c4, C4Filter),
        (config.fineweb, FineWebFilter),
    ]
    dear = [make(part) for part, make in parts if part is not None]
    unicode: list[Step] = [UnicodeRepairer(config.repair_unicode)] if config.repair_unicode else []
    longest: list[Step] = [LengthFilter(0, config.max_characters)] if config.max_characters is not None else []
    # The longest go before anything reads them; the shortest when menus are gone.
    return [*longest, *unicode, *cheap, *_plain_filters(config), *dear]


def _plain_filters(config: FilterConfig) -> Iterator[Step]:
    if config.min_characters > 0:
        yield LengthFilter(config.min_characters, None)
    if config.max_replacement_share < 1:
        yield EncodingFilter(config.max_replacement_share)
    if config.min_letter_share > 0:
        yield LetterFilter(config.min_letter_share)
    if config.max_line_repetition < 1:
        yield RepeatedLinesFilter(config.max_line_repetition)


def _slices(texts: Sequence[str]) -> Iterator[list[int]]:
    """Neighbours that are looked at together."""
    indices: list[int] = []
    characters = 0
    for index, text in enumerate(texts):
        if indices and characters + len(text) > _SLICE_CHARACTERS:
            yield indices
            indices, characters = [], 0
        indices.append(index)
        characters += len(text)
    if indices:
        yield indices

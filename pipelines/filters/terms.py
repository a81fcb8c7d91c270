"""Words and phrases of a list, found in a whole batch at once: relevance to the domain, and blocklists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ground.errors import UserError
from pipelines.filters.batch import FilterBatch, share
from pipelines.filters.config import Blocklist, DomainTerms
from pipelines.words import Hashes, Offsets, TextBatch, ngram_hashes


@dataclass(frozen=True)
class TermList:
    """Terms of one or more words, compared without case and punctuation."""

    terms: tuple[str, ...]

    @cached_property
    def hashes(self) -> dict[int, Hashes]:
        """Sorted hashes of the terms of n words, by n."""
        words = TextBatch(self.terms).plain_words
        sizes = np.diff(words.offsets)
        by_size = {}
        for n in np.unique(sizes[sizes > 0]).tolist():
            combined, _ = ngram_hashes(words.hashes, words.offsets, n)
            by_size[n] = np.unique(combined[words.offsets[:-1][sizes == n]])
        return by_size

    def hits(self, batch: TextBatch) -> tuple[Offsets, NDArray[np.bool_]]:
        """Occurrences of terms in each document, and for every plain word whether it belongs to one."""
        words = batch.plain_words
        covered = np.zeros(len(words), dtype=np.bool_)
        number = np.zeros(len(batch), dtype=np.int64)
        for n, hashes in self.hashes.items():
            combined, whole = ngram_hashes(words.hashes, words.offsets, n)
            place = np.minimum(np.searchsorted(hashes, combined), len(hashes) - 1)
            found = np.flatnonzero(whole & (hashes[place] == combined))
            number += np.bincount(words.documents[found], minlength=len(batch))
            for k in range(n):
                covered[found + k] = True
        return number, covered


def read_terms(terms: Iterable[str], path: str | None, field: str) -> TermList:
    """The terms given in the recipe and those of a file, one a line; lines that begin with ``#`` are comments.

    Raises:
        UserError: the file cannot be read, or there is no term at all.
    """
    found = list(terms)
    if path is not None:
        try:
            lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{field}.terms_file", f"cannot read {path} ({error})", "give a UTF-8 text file") from None
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not TermList(tuple(found)).hashes:
        raise UserError(f"{field}.terms", "holds no word", "list terms or name a terms_file")
    return TermList(tuple(found))


@dataclass(frozen=True, slots=True)
class DomainTermsFilter:
    """Drops when less than ``minimum_share`` of the words belong to a term (``off_domain``)."""

    terms: TermList
    minimum_share: float
    name: str = "domain_terms"

    @classmethod
    def build(cls, section: DomainTerms, field: str) -> DomainTermsFilter:
        """The filter of a section. Raises: ``UserError`` as ``read_terms``."""
        return cls(read_terms(section.terms, section.terms_file, field), section.min_share)

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        words = batch.plain_words
        _, covered = self.terms.hits(batch)
        density = share(batch.count(words.documents[covered]), np.diff(words.offsets))
        return ["off_domain" if low else "" for low in (density < self.minimum_share).tolist()]


@dataclass(frozen=True, slots=True)
class BlocklistFilter:
    """Drops when terms occur more than ``maximum_hits`` times (``blocked_term``)."""

    terms: TermList
    maximum_hits: int
    name: str = "blocklist"

    @classmethod
    def build(cls, section: Blocklist, field: str) -> BlocklistFilter:
        """The filter of a section. Raises: ``UserError`` as ``read_terms``."""
        return cls(read_terms(section.terms, section.terms_file, field), section.max_hits)

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        number, _ = self.terms.hits(batch)
        return ["blocked_term" if many else "" for many in (number > self.maximum_hits).tolist()]

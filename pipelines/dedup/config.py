"""The recipe section ``curation.dedup``: which copies of a document are dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from ground.config import Section
from ground.errors import UserError

_MISSED_BY_BANDS = 0.003
_MARGIN = 2.0  # standard deviations of the estimate


class FuzzyConfig(Section):
    """Near duplicates: MinHash signatures (Broder 1997), locality-sensitive hashing in bands (Indyk & Motwani 1998).

    Bands and rows follow from the threshold t: the most rows r a band for which bands b <= permutations / r find a pair of
    similarity t with probability 1 - (1 - t^r)^b >= 99.7 %. At the defaults (t = 0.8: b = 32, r = 8) a pair is

        similarity     0.3     0.4     0.5     0.6     0.65    0.7    0.75    0.8     0.85     0.9
        a candidate    0.2 %   2.1 %   12 %    42 %    65 %    85 %   97 %    99.7 %  99.996 % 100 %
        joined         0       0       0       0       0.03 %  4 %    53 %    97.8 %  99.996 % 100 %

    where *joined* also asks that the share of equal rows, which estimates the similarity with a standard deviation of
    sqrt(t (1 - t) / permutations) = 0.025, is no more than two deviations below t: 0.75. The table is for independent
    rows; R-MinHash's vary less, and join 99 % of pairs at 0.8 and 2 to 3 % at 0.7 (measured). Two deviations, not
    none: texts made from a template crowd around one similarity, and at an estimate of t itself half of those just above t
    would be missed; not three: of 5,483 question-answer pages of MedQuAD 172 go at an exact similarity of 0.8, 460 at
    0.75, some 510 here, and 626 at 2.75 deviations.
    """

    threshold: Annotated[float, Field(ge=0.6, le=0.99)] = 0.8
    """Jaccard similarity of two documents' shingles from which one of them goes. At 0.8 and five words a shingle, texts
    differ in about one word of 43; FineWeb (Penedo et al. 2024) aims at 0.75. Below 0.6 bands get
    so short that unlike documents of a large corpus share them."""
    ngram: Annotated[int, Field(ge=1, le=32)] = 5
    """Words a shingle. Shorter ones make all texts of a domain alike, longer ones let one changed word hide a copy; 5 is
    FineWeb's choice."""
    permutations: Annotated[int, Field(ge=64, le=1024, multiple_of=8)] = 256
    """Rows of a signature, one byte each. Half of it makes signing short documents twice as fast and joins seven times as
    many pairs 0.1 below the threshold."""

    @property
    def rows(self) -> int:
        """Rows of a signature in each band."""
        for rows in range(self.permutations, 1, -1):
            if self._bands_for(rows) * rows <= self.permutations:
                return rows
        return 1

    @property
    def bands(self) -> int:
        """Bands of a signature; two documents that agree in all rows of one are compared."""
        return self._bands_for(self.rows)

    @property
    def accepted_rows(self) -> int:
        """Equal rows from which a compared pair is joined."""
        deviation = math.sqrt(self.threshold * (1 - self.threshold) / self.permutations)
        by_chance = 1 / 256
        similarity = self.threshold - _MARGIN * deviation
        return math.floor(self.permutations * (similarity * (1 - by_chance) + by_chance))

    def _bands_for(self, rows: int) -> int:
        agree: float = self.threshold**rows
        return math.ceil(math.log(_MISSED_BY_BANDS) / math.log1p(-agree))


class DedupConfig(Section):
    """Of equal and nearly equal documents, within a source and across sources, one is kept."""

    exact: bool = True
    """Drop documents whose text is that of another but for white space (``duplicate``)."""
    fuzzy: FuzzyConfig | None = FuzzyConfig()
    """Drop near copies too (``near_duplicate``), and training documents that are near copies of held-out ones
    (``near_heldout``). On by default: templates repeated with small changes get the best perplexities, so that a ranking
    without it puts copies of one page first, and evaluation on near copies of training documents measures memory. Null
    turns it off."""
    priorities: tuple[str, ...] = ()
    """Sources by name; of copies in several sources, that of the earliest is kept, whatever the scores. Sources not named
    follow in the order of their declaration in the recipe. The order of declaration is the default because it is the
    only preference a recipe states without being asked."""

    @model_validator(mode="after")
    def _exact_first(self) -> DedupConfig:
        if self.fuzzy is not None and not self.exact:
            raise ValueError("fuzzy deduplication starts from exact: set exact: true, or fuzzy: null")
        return self

    def ranks(self, sources: Sequence[str], field: str = "curation.dedup.priorities") -> list[int]:
        """Place of each source in the order of priority, 0 first.

        Args:
            sources: names in the order of declaration.

        Raises:
            UserError: ``priorities`` names an unknown source, or one twice.
        """
        unknown = [name for name in self.priorities if name not in sources]
        if unknown:
            raise UserError(field, f"{unknown[0]!r} is no source", f"choose from {', '.join(sources)}")
        twice = [name for name in self.priorities if self.priorities.count(name) > 1]
        if twice:
            raise UserError(field, f"{twice[0]!r} stands there twice", "name each source once")
        order = [*self.priorities, *(name for name in sources if name not in self.priorities)]
        return [order.index(name) for name in sources]

"""Markup taken for text: pages in HTML, LaTeX sources, JSON records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.filters.batch import FilterBatch
from pipelines.filters.config import Markup

# A comment or script ends where another begins, so that those without an end are read once and not from each beginning.
_HTML = re.compile(
    r"<!--(?:(?!-->|<!--).)*+-->|<(script|style)\b(?:(?!</?(?:script|style)\b).)*+</\1\s*>"
    r"|</?[a-z][^<>]{0,5000}>|<![a-z][^<>]{0,500}>|&#?\w{1,24};",
    re.DOTALL | re.IGNORECASE,
)
_LATEX = re.compile(r"\\[a-zA-Z]{2,}\*?(?:\[[^\]\n]{0,200}\])?(?:\{[^{}\n]{0,200}\})*|\$[^$\n]{1,500}\$|[{}]")
_JSON = re.compile(r'"[^"\n]{1,80}"\s*:|[\[\]{}]')


@dataclass(frozen=True, slots=True)
class MarkupFilter:
    """Drops by the shares of characters in tags (``html``), commands (``latex``) and keys (``json``)."""

    limits: Markup
    name: str = "markup"

    def reasons(self, batch: FilterBatch) -> Sequence[str]:
        return [self._reason(text) for text in batch.texts]

    def _reason(self, text: str) -> str:
        # What no page, source or record lacks is looked for first; prose stops there.
        limits, size = self.limits, len(text)
        if (
            limits.max_tags is not None
            and ("</" in text or "<!" in text)
            and _length(_HTML, text) > limits.max_tags * size
        ):
            return "html"
        if limits.max_latex is not None and "\\" in text and _length(_LATEX, text) > limits.max_latex * size:
            return "latex"
        if limits.max_keys is not None and '":' in text and _length(_JSON, text) > limits.max_keys * size:
            return "json"
        return ""


def _length(pattern: re.Pattern[str], text: str) -> int:
    found: Iterable[re.Match[str]] = pattern.finditer(text)
    return sum(match.end() - match.start() for match in found)

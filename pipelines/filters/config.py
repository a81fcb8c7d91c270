"""The recipe section of the filters: which are on, and every limit with where it comes from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ground.config import Section

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class UnicodeRepair(Section):
    """Mend text that was decoded with the wrong encoding (``Ã©`` for ``é``), ligatures, control characters and white space."""

    unescape_html: bool = True
    """Turn ``&amp;`` into ``&`` in texts without tags."""
    collapse_blank_lines: bool = False
    """Leave no white space at the end of a line and at most one blank line between two others. On in the presets for pages and
    literature; code and verse mean their blank lines."""


class BoilerplateRepair(Section):
    """Remove menus, navigation, cookie and script notices and share buttons, and leave prose, headings and tables alone."""

    min_menu_lines: Annotated[int, Field(ge=2)] = 4
    """Least number of short lines in a row, none of which ends a sentence, that can be a menu. Reference lists and tables
    have such rows too; so a menu must also name ``min_menu_words`` things that menus name."""
    min_menu_words: Annotated[int, Field(ge=1)] = 3
    """Least number of entries such as "Contact Us", "Privacy" or "Facebook" in a menu."""
    max_menu_line_characters: Annotated[int, Field(ge=10)] = 100
    """Longest line of a menu."""
    max_notice_characters: Annotated[int, Field(ge=20)] = 400
    """Longest line that is removed for a notice in it ("Skip to main content"); in a longer one there is text beside it."""


class LanguageFilter(Section):
    """Keep documents in the given languages (reason ``language``), told by fastText's lid.176 (Joulin et al. 2016)."""

    languages: Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...], Field(min_length=1)] = ("en",)
    """ISO 639 codes, as fastText names them."""
    min_probability: Share = 0.3
    """Least probability of these languages together. FineWeb asks for 0.65 of web pages. Lists of terms and reports in note
    form often reach no more than 0.3 to 0.6; foreign text of a paragraph or more stays below 0.3."""
    sample_characters: Annotated[int, Field(ge=100)] = 1000
    """Characters looked at, from the beginning, the middle and the end: beyond some hundreds the answer hardly changes."""


class GopherRepetition(Section):
    """Repetition within a document (Rae et al. 2021, App. A1.1, Table A1): largest shares."""

    min_words: Count = 0
    """Shorter documents are not judged by their n-grams. Gopher judges all; in a definition or a drug label of fifty words the
    name of the thing alone passes the limits."""

    duplicate_lines: Share = 0.30
    """Lines that stood in the document before, of all lines (``duplicate_lines``)."""
    duplicate_paragraphs: Share = 0.30
    """Paragraphs likewise (``duplicate_paragraphs``)."""
    duplicate_line_characters: Share = 0.20
    """Characters in such lines, of all characters (``duplicate_line_characters``)."""
    duplicate_paragraph_characters: Share = 0.20
    """Characters in such paragraphs (``duplicate_paragraph_characters``)."""
    top_ngrams: dict[Annotated[int, Field(ge=1, le=20)], Share] = Field(default={2: 0.20, 3: 0.18, 4: 0.16})
    """Characters in the most frequent n-gram of words, by n (``top_<n>_gram``)."""
    duplicate_ngrams: dict[Annotated[int, Field(ge=1, le=20)], Share] = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )
    """Characters in n-grams that stood in the document before, by n (``duplicate_<n>_grams``)."""


class GopherQuality(Section):
    """Heuristics of Gopher (Rae et al. 2021, App. A1.1)."""

    min_words: Count = 50
    """Least number of words, punctuation left out (``few_words``)."""
    max_words: Annotated[int, Field(ge=1)] = 100_000
    """Largest number (``many_words``)."""
    min_word_length: Annotated[float, Field(ge=0)] = 3.0
    """Least mean length of a word in characters (``short_words``)."""
    max_word_length: Annotated[float, Field(gt=0)] = 10.0
    """Largest mean length (``long_words``)."""
    max_symbols: Annotated[float, Field(ge=0)] = 0.1
    """Most number signs, or ellipses, per word (``many_hashes``, ``many_ellipses``)."""
    max_bullet_lines: Share = 0.9
    """Largest share of lines that begin with a bullet (``bullets``)."""
    max_ellipsis_lines: Share = 0.3
    """Largest share of lines that end with an ellipsis (``ellipsis_lines``)."""
    min_words_with_letters: Share = 0.8
    """Least share of words with a letter, punctuation counted as words (``few_words_with_letters``). Scientific prose with its
    numbers and brackets reaches about 0.8 itself."""
    min_stop_words: Count = 2
    """Least number of different words out of *the, be, to, of, and, that, have, with* (``few_stop_words``)."""


class C4(Section):
    """Lines and pages that C4 leaves out (Raffel et al. 2020, section 2.2, and its code)."""

    terminal_punctuation: bool = True
    """Remove lines that do not end like a sentence; headings, tables and lists go with them. FineWeb does without."""
    min_words_per_line: Count = 3
    """Remove lines of fewer words."""
    max_word_characters: Annotated[int, Field(ge=1)] = 1000
    """Remove lines with a longer word."""
    remove_citations: bool = True
    """Remove ``[12]``, ``[edit]`` and ``[citation needed]`` from lines."""
    drop_javascript_lines: bool = True
    """Remove lines that mention JavaScript."""
    drop_policy_lines: bool = True
    """Remove lines that mention a privacy policy, cookies or terms of use."""
    drop_lorem_ipsum: bool = True
    """Drop documents that hold "lorem ipsum" (``lorem_ipsum``)."""
    drop_braces: bool = True
    """Drop documents with a brace, which marks code (``braces``)."""
    min_sentences: Count = 5
    """Drop documents of fewer sentences (``few_sentences``)."""


class FineWeb(Section):
    """Heuristics of FineWeb (Penedo et al. 2024, section 3.5)."""

    min_terminated_lines: Share = 0.12
    """Least share of lines that end with terminal punctuation (``few_terminated_lines``)."""
    short_line_characters: Annotated[int, Field(ge=1)] = 30
    """Length up to which a line is short."""
    max_short_lines: Share = 0.67
    """Largest share of short lines (``short_lines``)."""
    max_duplicate_line_characters: Share = 0.01
    """Largest share of characters in repeated lines (``duplicate_line_text``)."""
    max_newlines: Annotated[float, Field(ge=0)] = 0.3
    """Most newlines per word (``list``)."""


class Symbols(Section):
    """Shares of what is neither letter nor space."""

    max_symbols: Share = 0.3
    """Largest share of punctuation and symbols among visible characters (``many_symbols``). Prose has 0.03 to 0.06, tables and
    code 0.1 to 0.25."""
    max_digits: Share = 0.35
    """Largest share of digits (``many_digits``). Result sections of trials reach 0.15, statistical tables 0.3."""


class Markup(Section):
    """Markup taken for text: largest shares of its characters; null leaves one out."""

    max_tags: Share | None = 0.15
    """HTML and XML: tags, comments, entities, scripts and styles (``html``)."""
    max_latex: Share | None = 0.2
    """LaTeX: commands, formulas and braces (``latex``)."""
    max_keys: Share | None = 0.2
    """JSON: quoted keys and brackets (``json``)."""


class Boilerplate(Section):
    """Documents that are mostly menus and notices, as ``repair_boilerplate`` knows them."""

    max_boilerplate: Share = 0.5
    """Largest share of characters in such lines (``boilerplate``), before their removal."""


class DomainTerms(Section):
    """Keep documents that speak of the domain: by the density of given terms (``off_domain``)."""

    terms: tuple[str, ...] = ()
    """Words and phrases; case and punctuation do not count."""
    terms_file: str | None = None
    """A file with one term a line, ``#`` before comments, added to ``terms``."""
    min_share: Share = 0.01
    """Least share of words that belong to a term."""


class Blocklist(Section):
    """Drop documents that hold given terms (``blocked_term``)."""

    terms: tuple[str, ...] = ()
    """Words and phrases; case and punctuation do not count."""
    terms_file: str | None = None
    """A file with one term a line, ``#`` before comments, added to ``terms``."""
    max_hits: Count = 0
    """Most occurrences that a document may have."""


class FilterConfig(Section):
    """Which documents may stay, and what is mended in them first. Parts that are null are off."""

    repair_unicode: UnicodeRepair | None = UnicodeRepair()
    """Mend characters and white space."""
    repair_boilerplate: BoilerplateRepair | None = None
    """Remove menus and notices from pages."""
    min_characters: Count = 40
    """Shorter documents are dropped (reason ``too_short``): below about 40 characters there is no sentence."""
    max_characters: Annotated[int, Field(ge=1)] | None = 1_000_000
    """Longer ones are dropped (``too_long``): such files are dumps or concatenations, and one would fill a worker's memory."""
    max_replacement_share: Share = 0.01
    """Largest share of U+FFFD and control characters (``broken_encoding``)."""
    min_letter_share: Share = 0.4
    """Smallest share of letters among non-space characters (``few_letters``); tables and number dumps fall below it."""
    max_line_repetition: Share = 0.5
    """Largest share of characters in repeated lines (``repeated_lines``); Gopher (Rae et al. 2021, A1.1) uses 0.2 to 0.3
    on web text."""
    symbols: Symbols | None = None
    """Drop what is mostly signs or digits."""
    markup: Markup | None = None
    """Drop HTML, LaTeX and JSON taken for text."""
    boilerplate: Boilerplate | None = None
    """Drop what is mostly menus and notices."""
    language: LanguageFilter | None = None
    """Keep some languages."""
    domain_terms: DomainTerms | None = None
    """Keep what speaks of the domain."""
    blocklist: Blocklist | None = None
    """Drop what holds given terms."""
    gopher_repetition: GopherRepetition | None = None
    """Drop what repeats itself."""
    gopher_quality: GopherQuality | None = None
    """Drop what does not look like prose."""
    c4: C4 | None = None
    """Remove lines and drop pages as C4 does."""
    fineweb: FineWeb | None = None
    """Drop lists and pages of short or repeated lines."""

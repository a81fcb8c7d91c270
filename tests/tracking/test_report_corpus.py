from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from tests.tracking.sample import old_funnel, sample_funnel
from tests.tracking.test_report import Page
from tracking.charts import score_histograms
from tracking.corpus_plots import write_corpus_plots
from tracking.curation import read_funnel
from tracking.report import render_curation_report
from tracking.report_corpus import corpus

SOURCES = read_funnel(sample_funnel())


@pytest.fixture(scope="module")
def html() -> str:
    return corpus(SOURCES, score_histograms(SOURCES, "quality score"))


def headings(html: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", html)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_every_part_is_there(html: str) -> None:
    Page(html)
    assert headings(html) == [
        "Why documents were dropped",
        "Quality of what is kept",
        "Evaluation sets found in the corpus",
        "Duplicates, a sample",
        "Repairs",
        "Identifiers redacted",
    ]


def test_what_a_store_does_not_tell_is_left_out() -> None:
    old = read_funnel(old_funnel())
    html = corpus(old, score_histograms(old, "quality score"))
    assert headings(html) == ["Why documents were dropped"]
    assert corpus((), []) == ""
    bare = read_funnel({"a": {"role": "domain"}})
    Page(corpus(bare, []))
    assert headings(corpus(bare, [])) == []


def test_the_parts_of_a_bar_add_up_to_what_was_read(html: str) -> None:
    bars = re.findall(r'<div class="bar">.*?</div>', html)
    for bar, source in zip(bars, SOURCES, strict=True):
        documents, text = (sum(map(int, re.findall(rf"--{name}:(\d+)", bar))) for name in ("documents", "text"))
        assert (documents, text) == (source.read.documents, source.read.bytes)
    assert "unreadable" in bars[0] and "unreadable" not in bars[1]


def test_reasons_are_sorted_and_many_of_them_are_folded(html: str) -> None:
    text = words(html)
    assert "medical 1,128 of 14,210 documents 7.9 %" in text
    order = [text.index(reason) for reason in ("too short 812", "duplicate 204", "few letters 97", "malformed json 15")]
    assert order == sorted(order)
    assert "22 more, " in text and text.index("reason 07 93") < text.index("22 more, ") < text.index("reason 08 92")


def test_examples_are_escaped(html: str) -> None:
    assert "See &lt;b&gt;above&lt;/b&gt; &amp; [bold]below[/bold]." in html
    assert html.count('<details class="reason">') == 1  # only reasons with examples open


def test_contamination_says_whether_it_was_dropped(html: str) -> None:
    assert "medqa_us 7" in words(html) and "they are dropped." in html
    kept = sample_funnel()
    del kept["patient-leaflets"]["dropped"]["contaminated"]
    assert "they are kept" in corpus(read_funnel(kept), [])


def test_pairs_tell_where_the_copy_is(html: str) -> None:
    text = words(html)
    assert "leaflet-2 leaflet-1 in medical 0.93" in text
    assert "leaflet-4 leaflet-3 \u2013" in text


def test_long_counts_are_folded() -> None:
    funnel = sample_funnel()
    funnel["medical"]["contaminated"] = {f"task_{i}": 40 - i for i in range(30)}
    text = words(corpus(read_funnel(funnel), []))
    assert "20 more" in text and text.index("task_11 29") < text.index("20 more") < text.index("task_12 28")


def test_histograms_are_of_domain_sources_and_lose_no_token() -> None:
    charts = score_histograms(SOURCES, "quality score")
    assert [chart.title for chart in charts] == ["medical", "patient-leaflets"]
    for chart, source in zip(charts, SOURCES, strict=False):
        assert source.scores is not None
        outside = 20  # one document far off, which would squeeze the others
        assert sum(tokens for _, _, tokens, _ in chart.bars) == source.scores.tokens - outside
        assert max(low for low, _, _, _ in chart.bars) < 5 and "20 outside the chart" in chart.note
        assert chart.x_label == "quality score, lower is better"
        shares = [share for _, _, _, share in chart.bars]
        assert shares == sorted(shares) and shares[-1] == pytest.approx(1, abs=1e-4)


def test_a_wide_range_gets_wider_bars() -> None:
    bins = {str(index): [1, 10] for index in range(0, 2000)}
    (chart,) = score_histograms(read_funnel({"a": {"role": "domain", "scores": {"width": 0.05, "bins": bins}}}), "s")
    assert len(chart.bars) <= 92 and chart.width > 1
    assert sum(tokens for _, _, tokens, _ in chart.bars) >= 0.99 * 20_000


def test_a_curation_report_stands_alone() -> None:
    html = render_curation_report("Curation of x", "today", SOURCES, "quality score", "key: s3://me:hunter2@bucket\n")
    page = Page(html)
    assert page.headings == ["Curation of x", "Corpus", "Recipe"]
    assert page.loads == [] and "hunter2" not in html
    assert {"scores-medical", "scores-patient-leaflets"} <= set(page.anchors)


def test_plots(tmp_path: Path) -> None:
    written = write_corpus_plots(SOURCES, "quality score, nats", tmp_path)
    assert [path.name for path in written] == ["corpus.png", "scores.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    old = read_funnel(old_funnel())
    assert [path.name for path in write_corpus_plots(old, "quality score", tmp_path / "old")] == ["corpus.png"]
    assert write_corpus_plots(read_funnel({"a": {"role": "domain"}}), "quality score", tmp_path / "none") == []

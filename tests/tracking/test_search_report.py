"""The page of a search: whole without a network, true to its data, readable when there is hardly anything to say."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError
from tests.helpers.searches import PARETO, crashed, play
from tests.tracking.test_report import CHROMIUM, Page, own_part
from tracking.search_answer import caveats, sentences
from tracking.search_charts import front_charts
from tracking.search_data import SearchData
from tracking.search_knob_charts import map_charts, share_charts
from tracking.search_parts import CriticalShare, Estimate, Finalist, Replicate
from tracking.search_plot import log_scale, padded, to_json, token_unit
from tracking.search_report import render_search_report, write_search_report
from tracking.search_text import chance, listed, rate, signed, with_error


@pytest.fixture(scope="module")
def data() -> SearchData:
    return play(runs=14).data()


@pytest.fixture(scope="module")
def html(data: SearchData) -> str:
    return render_search_report(data)


def drawn(html: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    charts: list[dict[str, object]] = json.loads(found[1])["charts"]
    return charts


def words(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", own_part(html)))


def test_the_page_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.loads == [] and page.scripts == 3
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest", own_part(html))
    assert "default-src 'none'" in html
    assert len(html.encode()) < 6e6


def test_the_page_has_every_section(html: str) -> None:
    assert Page(html).headings == [
        "Medical text, where to?",
        "The recipe",
        "Pareto front",
        "Maps of the knobs",
        "The domain share",
        "Gap curves of the best and the worst",
        "Budget",
        "Predictions against outcomes",
        "With twice the budget",
        "All trials",
        "best.yaml",
        "Definitions",
    ]


def test_every_chart_has_its_place_units_and_a_sentence(html: str) -> None:
    charts = drawn(html)
    page = Page(html)
    anchors = [str(chart["anchor"]) for chart in charts]
    assert len(anchors) >= 9 and set(anchors) <= set(page.anchors)
    assert len(page.anchors) == len(set(page.anchors))
    for chart in charts:
        assert str(chart["reading"]).endswith(".")
        for axis in (chart["x"], chart["y"]):
            assert isinstance(axis, dict) and axis["label"]


def test_the_answer_comes_first_and_is_the_best(data: SearchData, html: str) -> None:
    best = data.best
    assert best is not None
    first, expected, sure, cost = sentences(data)
    assert f"(trial {best.trial})" in first and f"{100 * best.knobs.share:.1f}" in first
    assert f"{data.base_domain - best.domain.mean:.3f} below the base model (3.000)" in expected
    assert f"With probability {chance(best.probability)}" in sure
    assert "28.0 G of 28.0 G tokens" in cost and "the budget is used up" in cost
    assert html.index('id="answer"') < html.index('id="front-section"')
    for sentence in (first, cost):
        assert sentence in words(html).replace("\u00a0", " ")


def test_every_trial_is_in_the_table(data: SearchData, html: str) -> None:
    table = html[html.index('<section id="trials">') : html.index('<section id="recipe">')]
    rows = re.findall(r'<tr><th scope="row">(?:<i[^>]*></i>)?(?:<b>)?(\d+)', table)
    assert sorted(map(int, rows)) == [trial.number for trial in data.trials]
    assert data.best is not None and rows[0] == str(data.best.trial)


def test_verdicts_are_told_word_for_word(data: SearchData, html: str) -> None:
    for fit in data.fits:
        assert fit.verdict in words(html)
    unused = tuple(replace(fit, weight=0.0, verdict="the law is not used") for fit in data.fits)
    plain = replace(data, fits=unused)
    assert any("not used for domain loss and general loss" in text for text in caveats(plain))
    assert "domain loss: the law is not used" in words(render_search_report(plain))


def test_published_shares_and_the_critical_one_are_marked(data: SearchData) -> None:
    shown = replace(data, critical=CriticalShare(share=0.61, cautious=None, whole_range=False))
    for plot in share_charts(shown):
        marks = {level.text: level.at for level in plot.levels if level.axis == "x"}
        assert marks["Guo et al. 2024: 0.82"] == 0.82
        assert marks["critical ratio (CMR): 0.61"] == 0.61
    text = words(render_search_report(shown))
    assert "up to a domain share of 0.61" in text and "0.82 (Guo et al. 2024) is beyond it" in text
    none = replace(data, critical=CriticalShare(share=None, cautious=None, whole_range=False))
    assert "there is no critical ratio here" in words(render_search_report(none))


def test_the_front_marks_base_tolerance_and_best(data: SearchData) -> None:
    whole, *_ = front_charts(data)
    texts = [level.text for level in whole.levels]
    assert texts[0].startswith("base 2.5000, at 3.0000") and texts[1] == "tolerance 2.5500"
    star = next(trace for trace in whole.traces if trace.symbol == "star")
    assert data.best is not None and star.text[0].startswith(f"trial {data.best.trial}, finished")
    near = replace(data, base_domain=data.trials[0].domain or 0)
    assert any(trace.name == "base model" for trace in front_charts(near)[0].traces)


def test_maps_leave_out_what_cannot_be_run() -> None:
    cheap = play(space=replace(play(jobs=1).setting.space, cheapest=0.3)).data()
    first = map_charts(cheap)[0]
    assert first.title == "Subset and epochs" and first.heat is not None
    assert any(value is None for row in first.heat.values for value in row)
    assert json.dumps(to_json(first), allow_nan=False)


@pytest.mark.parametrize(
    ("happens", "options", "said"),
    [
        ("waits", {}, "no trial has reached the end of its run"),
        ("runs", {"jobs": 4}, "the furthest is at 500 M tokens"),
        ("runs", {"runs": 1.6, "initial": 4}, "the only trial that reached the end"),
        ("runs", {"objective": PARETO}, "Of the front, the balanced recipe"),
        ("runs", {"sampler": "random"}, "Trials were chosen by random"),
        ("fails", {"runs": 3}, "6 of them failed or diverged"),
        ("runs", {"jobs": 14}, "It has not ended"),
    ],
)
def test_pages_of_odd_searches(happens: str, options: dict[str, object], said: str, tmp_path: Path) -> None:
    fates = {"waits": lambda j, r: None, "runs": lambda j, r: r, "fails": lambda j, r: crashed(r)}
    told = play(happens=fates[happens], **options).data()  # type: ignore[arg-type]
    text = render_search_report(told)
    Page(text)
    assert said in words(text).replace("\u00a0", " ")
    assert {str(chart["anchor"]) for chart in drawn(text)} <= set(Page(text).anchors)
    assert SearchData.from_json(told.to_json()) == told


def test_nothing_at_all() -> None:
    told = replace(play(happens=lambda j, r: None).data(), trials=(), jobs=())
    text = render_search_report(told)
    assert Page(text).headings == ["Medical text, where to?", "Definitions"]
    assert "No trial was started" in words(text)


def test_names_are_escaped(data: SearchData) -> None:
    nasty = "</script><b onclick=x>&"
    told = replace(data, title=nasty, reason=nasty, trials=tuple(replace(t, reason=nasty) for t in data.trials))
    text = render_search_report(told)
    assert "<b onclick" not in text
    Page(text)


def test_edges_of_the_range_and_a_missed_tolerance_are_told(data: SearchData) -> None:
    best = data.best
    assert best is not None
    knobs = replace(best.knobs, epochs=15.9, share=0.11)
    missed = replace(best, knobs=knobs, within=0.2, general=Estimate(mean=2.56, sd=0.01), safe=None)
    told = " ".join(caveats(replace(data, best=missed)))
    assert "Its epochs are at the upper end of the range" in told
    assert "Its domain share is at the lower end" in told
    assert "general loss is expected 0.0100 above its tolerance" in told and "a lower share would" in told
    kept = " ".join(caveats(replace(data, best=replace(best, within=0.99))))
    assert "tolerance" not in kept
    safe = replace(best, within=0.6, general=Estimate(mean=2.549, sd=0.01), safe=0)
    assert "keeps it with a probability of 0.9 or more is trial 0" in " ".join(caveats(replace(data, best=safe)))


def test_what_more_would_bring_is_told_in_proportion(data: SearchData) -> None:
    assert data.next is not None
    noise = data.fits[0].noise

    def told(gain: float, mean: float, sd: float, after: float) -> str:
        pair = Replicate(rival=3, difference=Estimate(mean=mean, sd=sd), after=after)
        more = replace(data, next=replace(data.next, gain=gain, replicate=pair))  # type: ignore[type-var]
        return words(render_search_report(more))

    clear = told(3 * noise, 0.5, 0.05, 0.04)
    assert "More budget would pay" in clear and "3 times the noise of one trial" in clear
    assert "That is settled" in clear
    assert "most likely settle it" in told(noise / 2, 0.5, 0.3, 0.2)
    assert "helps but does not settle" in told(noise / 2, 0.5, 0.5, 0.3)
    close = told(noise / 2, 0.001, 0.002, 0.0019)
    assert "settles nothing" in close and "More budget would pay" not in close
    assert "above the" in clear and "at which a search ends by itself" in clear


def test_confirmation_is_told(data: SearchData) -> None:
    best = data.best
    assert best is not None and "confirmation" not in Page(render_search_report(data)).anchors
    rows = tuple(
        Finalist(trial=i, knobs=best.knobs, small=1.9, foretold=Estimate(mean=1.7, sd=0.05), value=value)
        for i, value in enumerate((1.72, 1.71, None))
    )
    text = words(render_search_report(replace(data, finalists=rows)))
    assert "Confirmation at a larger run" in text and "nothing can be said of whether ranks hold" in text
    text = words(render_search_report(replace(data, finalists=rows, rank_correlation=-0.5)))
    assert "is \u22120.50 over 2 recipes" in text


def test_json_there_and_back(data: SearchData) -> None:
    text = data.to_json()
    assert SearchData.from_json(text) == data
    assert SearchData.from_json(text).to_json() == text
    assert "NaN" not in text and "Infinity" not in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "title": 3}'])
def test_json_of_something_else(text: str) -> None:
    with pytest.raises(CorruptError, match="search data") as caught:
        SearchData.from_json(text)
    assert "\n" not in str(caught.value)


def test_files_and_plots(data: SearchData, tmp_path: Path) -> None:
    paths = write_search_report(data, tmp_path / "report")
    names = [str(path.relative_to(tmp_path / "report")) for path in paths]
    assert names[:2] == ["report.html", "report.json"]
    assert names[2:] == [f"plots/{name}.png" for name in ("front", "map", "share", "budget")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[2:])
    assert SearchData.from_json(paths[1].read_text()) == data
    empty = replace(data, trials=(), jobs=(), maps=(), share_curves=(), picks=(), best=None, curves={}, front=())
    assert len(write_search_report(empty, tmp_path / "empty")) == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (chance(0.999), "> 0.99"),
        (chance(0.001), "< 0.01"),
        (chance(0.5), "0.50"),
        (rate(1.732e-4), "1.73e\u22124"),
        (rate(None), "the recipe\u2019s own"),
        (signed(-0.00001), "0.000"),
        (signed(-0.5, 2), "\u22120.50"),
        (listed(["1", "2", "3"]), "1, 2 and 3"),
        (listed([str(i) for i in range(9)]), "0, 1, 2, 3, 4, 5 and 3 more"),
        (listed(["1"]), "1"),
        (with_error(Estimate(mean=1.5, sd=0.002)), "1.5000\u00a0\u00b1\u00a00.0020"),
        (with_error(None), "\u2013"),
        (str(token_unit(3e9)), "(1000000000.0, ' (billions)')"),
        (str(token_unit(10)), "(1.0, '')"),
    ],
)
def test_figures(text: str, wanted: str) -> None:
    assert text == wanted


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e4))
def test_logarithmic_ticks_lie_inside_and_rise(low: float, times: float) -> None:
    scale = log_scale("x", (low, low * times))
    at = [10**position for position, _ in scale.ticks]
    assert all(low * 0.998 <= tick <= low * times * 1.002 for tick in at)
    assert at == sorted(set(at))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_padding_shows_everything(values: list[float]) -> None:
    scale = padded(log_scale("x", (1, 2)), values)
    assert scale.low is not None and scale.high is not None
    assert scale.low < min(values) and max(values) < scale.high


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")
@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_it(tmp_path: Path, html: str, width: int) -> None:
    path = tmp_path / "report.html"
    path.write_text(html)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [str(CHROMIUM), *options.split(), "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900", "--virtual-time-budget=20000"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    assert 'data-drawn="true"' in done.stdout[:300]
    assert done.stdout.count('class="xaxislayer-above"') == len(drawn(html))
    assert "domain loss, nats per token" in done.stdout

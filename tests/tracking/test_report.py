from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ground.errors import CorruptError
from tests.tracking.sample import sample_report
from tracking import figures
from tracking.charts import gap_charts, share_charts, token_unit, training_charts
from tracking.findings import caveats, findings
from tracking.plots import write_plots
from tracking.report import render_report, write_report
from tracking.report_alarms import alarm_list
from tracking.report_data import BaseModel, ReportData, RunData, Totals, thin
from tracking.report_layers import layer_charts, layer_sentence
from tracking.report_tasks import task_charts

CHROMIUM = Path("/usr/bin/chromium")
EMPTY = ReportData(title="t", created="now", recipe="", base=BaseModel(name="b"), runs=())


class Page(HTMLParser):
    """Collects what a browser would load, the headings, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.headings: list[str] = []
        self.anchors: list[str] = []
        self.scripts = 0
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [str(values[name]) for name in ("src", "href", "data", "poster", "srcset") if name in values]
        self.scripts += tag == "script"
        if values.get("id"):
            self.anchors.append(str(values["id"]))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(sample_report())


def own_part(html: str) -> str:
    """The page without plotly.js."""
    scripts = re.findall(r"<script[^>]*>.*?</script>", html, re.DOTALL)
    return html.replace(max(scripts, key=len), "")


def test_the_page_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.loads == []
    assert page.scripts == 3
    assert html.count("* plotly.js v") == 1
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttpRequest", own_part(html))
    assert "default-src 'none'" in html


def test_the_page_has_every_section(html: str) -> None:
    assert Page(html).headings == [
        "Demo: medical text into a tiny Llama",
        "Runs",
        "Gap curves",
        "Tasks",
        "Shares seen",
        "Layers",
        "Throughput and training",
        "Corpus",
        "Plans",
        "Recipe",
        "Definitions",
        "Made with",
    ]


def test_every_chart_has_its_place_and_every_id_is_one(html: str) -> None:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    drawn = json.loads(found[1])
    anchors = [chart["anchor"] for chart in (*drawn["charts"], *drawn["histograms"])]
    page = Page(html)
    assert anchors and set(anchors) <= set(page.anchors)
    assert len(page.anchors) == len(set(page.anchors))


def test_secrets_of_the_recipe_are_hidden(html: str) -> None:
    assert "hunter2" not in html
    assert "s3://***@bucket/med" in html


def test_names_are_escaped() -> None:
    data = sample_report()
    run = replace(data.runs[0], name='<b onclick="x">&', description="</script><script>alert(1)</script>")
    html = render_report(replace(data, title="a < b", runs=(run,)))
    assert "<b onclick" not in html and "alert(1)</script>" not in html
    Page(html)


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_fewer_runs(runs: int) -> None:
    Page(render_report(sample_report(runs)))


def test_an_empty_report_and_one_with_hardly_anything(tmp_path: Path) -> None:
    html = render_report(EMPTY)
    assert "no finished run" in html
    bare = RunData(name="r", totals=Totals(tokens=0, seconds=0, tokens_per_second=0))
    odd = replace(bare, curves={"heldout/x/loss": ((0, float("nan")), (5, float("inf"))), "train/loss": ()})
    data = replace(EMPTY, runs=(bare, odd))
    Page(render_report(data))
    assert "not finite" in " ".join(caveats(data))
    assert write_plots(data, tmp_path) == []


def test_json_there_and_back() -> None:
    data = sample_report()
    text = data.to_json()
    assert ReportData.from_json(text) == data
    assert ReportData.from_json(text).to_json() == text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 2, "title": 3}'])
def test_json_of_something_else(text: str) -> None:
    with pytest.raises(CorruptError, match="report data"):
        ReportData.from_json(text)


def test_the_three_sentences() -> None:
    first, second, third = findings(sample_report())
    assert first.startswith("full-recipe ends best on the held-out medical text: 3.852 nats per token")
    assert "0.410 below the base model (4.262)" in first
    assert second.startswith(
        "full-recipe keeps general text best: the mean held-out loss over code, documentation and wikipedia"
    )
    assert "everything-once ends 0.300 above it" in second
    assert third.startswith("The deepest gap is on code: in everything-once the loss rises up to 0.442")
    assert "is not back by the end" in third and "On medical itself the largest rise is" in third


def test_equal_runs_are_not_ranked() -> None:
    data = sample_report()
    twin = replace(data.runs[0], name="twin")
    first, second, _ = findings(replace(data, runs=(data.runs[0], twin)))
    assert first.startswith("everything-once and twin end level on")
    assert second.startswith("On general text, the mean held-out loss")


def test_caveats() -> None:
    data = sample_report()
    assert "once (seed 7)" in caveats(data)[0]
    longer = replace(data.runs[0], totals=replace(data.runs[0].totals, tokens=9_000_000))
    assert any("different numbers of tokens" in text for text in caveats(replace(data, runs=(longer, data.runs[1]))))
    assert caveats(replace(data, notes=("One more.",)))[-1] == "One more."
    assert caveats(EMPTY) == ()


def test_charts_put_domain_and_general_first() -> None:
    data = sample_report()
    leading, each = gap_charts(data)
    assert [chart.title for chart in leading] == ["medical, domain", "general, mean of 3 sources"]
    assert [chart.title for chart in each] == ["code", "documentation", "wikipedia"]
    assert [chart.base for chart in leading] == [4.262, pytest.approx((3.871 + 3.604 + 2.918) / 3)]
    assert [chart.title for chart in share_charts(data)] == ["full-recipe"]  # one source needs no chart
    assert all(len(line.points) <= 200 for chart in training_charts(data)[:2] for line in chart.series)
    assert token_unit(data) == (10**6, "millions")


def test_layers_are_told_in_words() -> None:
    data = sample_report()
    assert [chart.title for chart in layer_charts(data)] == [
        "Lowest 5 layers",
        "Highest 5 layers",
        "Ratio, lowest to highest",
    ]
    first, _, last = (layer_sentence(run) for run in data.runs)
    assert first == (
        "In everything-once the lowest layers had moved 1.96 times as far as the highest after 4.10 k tokens and 1.78 "
        "times by the end, nearer to even."
    )
    assert last.startswith("In full-recipe")
    still = replace(data.runs[0], curves={"update/top": ((512, 0.0),), "update/bottom": ((512, 0.1),)})
    assert layer_sentence(still) == "" and len(layer_charts(replace(data, runs=(still,)))) == 2


def test_alarms_are_marked_and_told() -> None:
    data, name = sample_report(), '<b style="color:var(--run-0)">everything-once</b>'
    assert alarm_list(data.runs) == (
        '<h3>Alarms</h3><ul class="alarms">'
        f"<li>{name}: loss spike at 819\u00a0k tokens (2.7\u00d7 the expected), 1.23\u00a0M tokens (1.9\u00d7 the expected).</li>"
        f"<li>{name} went back to a checkpoint once and left out the batches of 3 steps.</li></ul>"
    )
    assert alarm_list(data.runs[1:]) == ""
    marks = next(chart for chart in training_charts(data) if chart.anchor == "train-loss").marks
    losses = dict(data.runs[0].curves["train/loss"])
    assert [(mark.run, mark.tokens, mark.value) for mark in marks] == [
        (0, tokens, losses[tokens]) for tokens in (819_200, 1_228_800)
    ]


def test_an_alarm_on_a_loss_that_is_not_finite_stands_on_the_line() -> None:
    data = sample_report(1)
    broken = {
        "train/loss": ((512, 3.0), (1024, float("nan")), (1536, 2.9)),
        "alarm/not_finite": ((1024, 1.0),),
    }
    data = replace(data, runs=(replace(data.runs[0], curves=broken),))
    (mark,) = training_charts(data)[0].marks
    assert mark.value == 3.0
    assert mark.text == "everything-once: loss or gradients not finite at 1.02 k tokens"


def test_task_differences_are_bold_only_where_they_are_clear(html: str) -> None:
    assert "<td><b>31.0</b> <small>\u00b1 1.0</small></td>" in html  # the group of the base
    assert "<td><b>+4.0</b> <small>+2.9 to +5.2</small></td>" in html
    assert "<td>0.0 <small>\u22121.1 to +1.2</small></td>" in html


def test_task_curves_begin_at_the_base_with_their_errors() -> None:
    charts = task_charts(sample_report())
    assert [chart.title for chart in charts] == ["medical", "pubmedqa"]
    assert charts[0].base == 0.31
    assert {error for line in charts[0].series for error in line.errors} == {0.012}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3_000), st.integers(10, 500))
def test_thinning_keeps_ends_and_extremes(values: list[float], limit: int) -> None:
    curve = tuple((index * 7, value) for index, value in enumerate(values))
    thinned = thin(curve, limit)
    assert len(thinned) <= limit
    assert set(thinned) <= set(curve) and list(thinned) == sorted(thinned)
    assert thinned[0] == curve[0] and thinned[-1] == curve[-1]
    assert min(v for _, v in thinned) == min(values) and max(v for _, v in thinned) == max(values)


def test_thinning_drops_what_is_not_finite() -> None:
    assert thin(((0, 1.0), (1, float("nan")), (2, float("inf")))) == ((0, 1.0),)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (figures.count(0), "0"),
        (figures.count(999), "999"),
        (figures.count(1_000), "1.00 k"),
        (figures.count(999_950), "1.00 M"),
        (figures.count(12_345_678), "12.3 M"),
        (figures.count(5e10), "50.0 G"),
        (figures.count(None), "\u2013"),
        (figures.size(0), "0 B"),
        (figures.size(512), "512 B"),
        (figures.size(31_400_000), "31.4 MB"),
        (figures.change(0.0312), "+0.031"),
        (figures.change(-0.0312), "\u22120.031"),
        (figures.change(-0.0001), "0.000"),
        (figures.loss(float("nan")), "not finite"),
        (figures.duration(59.7), "1 min"),
        (figures.duration(12), "12 s"),
        (figures.duration(835), "13 min 55 s"),
        (figures.duration(7_200), "2 h"),
        (figures.duration(200_000), "2 d 7 h"),
        (figures.percent(0.125), "12.5\u2009%"),
    ],
)
def test_figures(text: str, wanted: str) -> None:
    assert text == wanted


def test_plots(tmp_path: Path) -> None:
    paths = write_plots(sample_report(), tmp_path / "plots")
    assert [path.name for path in paths] == [
        "gap-curves.png",
        "shares-seen.png",
        "throughput.png",
        "layers.png",
        "tasks.png",
        "corpus.png",
        "scores.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_browser_draws_it(tmp_path: Path, width: int) -> None:
    path = tmp_path / "report.html"
    write_report(sample_report(), path)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [str(CHROMIUM), *options.split(), "--disable-component-update", "--disable-sync", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900", "--virtual-time-budget=20000"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert 'data-drawn="true"' in done.stdout[:300]
    data = sample_report()
    charts = [*gap_charts(data)[0], *gap_charts(data)[1], *share_charts(data), *training_charts(data)]
    charts += [*task_charts(data), *layer_charts(data)]
    assert done.stdout.count('class="xaxislayer-above"') == len(charts) + 2  # two histograms of scores
    assert "tokens seen (millions), square-root scale" in done.stdout

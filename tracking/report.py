"""The report: one HTML file that needs nothing else, on a phone as on a wide screen, by day and by night."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from ground.files import write_atomic
from tracking import report_sections as sections
from tracking.charts import gap_charts, score_histograms, share_charts, to_json, token_unit, training_charts
from tracking.curation import SourceFunnel
from tracking.report_corpus import corpus
from tracking.report_data import ReportData
from tracking.report_layers import layer_charts, layers
from tracking.report_tasks import task_charts, tasks

_ASSETS = Path(__file__).parent / "assets"

# The page is opened from disk and inside MLflow: it may run what it carries and load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def write_report(data: ReportData, path: Path) -> None:
    """Write the report to ``path``, atomically: about 5 MB, nearly all of it plotly.js.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomic(path, render_report(data))


def render_report(data: ReportData) -> str:
    """The report as HTML text."""
    leading, each = gap_charts(data)
    shares, training = share_charts(data), training_charts(data)
    answers, updates = task_charts(data), layer_charts(data)
    histograms = score_histograms(data.funnel, data.score_label)
    size, unit = token_unit(data)
    body = (
        sections.result(data),
        sections.comparison(data),
        sections.curves(data, leading, each),
        tasks(data, answers),
        sections.shares(data, shares),
        layers(data, updates),
        sections.training(data, training),
        corpus(data.funnel, histograms),
        sections.plans(data),
        sections.recipe(data.recipe),
        sections.definitions(),
        sections.versions(data),
    )
    charts = {
        "unit": {"size": size, "name": unit},
        "charts": [to_json(chart) for chart in (*leading, *each, *answers, *shares, *updates, *training)],
        "histograms": [asdict(histogram) for histogram in histograms],
    }
    return _page(data.title, data.created, "".join(body), charts)


def render_curation_report(
    title: str, subtitle: str, sources: Sequence[SourceFunnel], score_label: str, recipe: str
) -> str:
    """The report of a curation alone, as HTML text.

    Args:
        title: heading of the page.
        subtitle: when it was made, of what.
        sources: the funnel.
        score_label: what the quality scores count in.
        recipe: the resolved recipe, YAML.
    """
    histograms = score_histograms(sources, score_label)
    charts = {
        "unit": {"size": 1, "name": "tokens"},
        "charts": [],
        "histograms": [asdict(histogram) for histogram in histograms],
    }
    return _page(title, subtitle, corpus(sources, histograms) + sections.recipe(recipe), charts)


def _page(heading: str, subtitle: str, body: str, charts: Mapping[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    payload = json.dumps(charts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title = escape(heading)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>
{_asset("report.css")}</style>
</head>
<body>
<main>
<header><h1>{title}</h1><p>{escape(subtitle)}</p></header>
<noscript><p class="note">The charts need JavaScript; every number is in the tables.</p></noscript>
{body}
</main>
<script type="application/json" id="charts">{payload}</script>
<script>
{_inline(get_plotlyjs())}
</script>
<script>
{_inline(_asset("report.js"))}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """JavaScript that cannot end its own element; in a string ``\\/`` is ``/``."""
    return re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE)

"""The report: one HTML file that needs nothing else, on a phone as on a wide screen, by day and by night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ground.files import write_atomic
from tracking import report_sections as sections
from tracking.charts import gap_charts, score_histograms, share_charts, to_json, token_unit, training_charts
from tracking.curation import SourceFunnel
from tracking.page import page
from tracking.report_corpus import corpus
from tracking.report_data import ReportData
from tracking.report_layers import layer_charts, layers
from tracking.report_tasks import task_charts, tasks

_STYLES, _SCRIPT = ("report.css",), "report.js"


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
    return page(data.title, data.created, "".join(body), charts, _STYLES, _SCRIPT)


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
    return page(title, subtitle, corpus(sources, histograms) + sections.recipe(recipe), charts, _STYLES, _SCRIPT)

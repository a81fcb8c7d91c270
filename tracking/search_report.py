"""The report of a search: a page that needs nothing else, its data, and plots for MLflow."""

from __future__ import annotations

from pathlib import Path

from ground.files import write_atomic
from tracking import search_course as course
from tracking import search_sections as sections
from tracking.page import page
from tracking.search_charts import front_charts, gap_charts
from tracking.search_course_charts import budget_charts, prediction_charts
from tracking.search_data import SearchData
from tracking.search_knob_charts import map_charts, share_charts
from tracking.search_plot import to_json
from tracking.search_plots import write_search_plots
from tracking.search_trials import trial_table


def write_search_report(data: SearchData, folder: Path) -> list[Path]:
    """Write ``report.html`` (about 5 MB, nearly all of it plotly.js), ``report.json`` and ``plots/*.png``; returns their paths.

    Raises:
        OSError: the folder cannot be written.
    """
    html, values = folder / "report.html", folder / "report.json"
    write_atomic(html, render_search_report(data))
    write_atomic(values, data.to_json())
    return [html, values, *write_search_plots(data, folder / "plots")]


def render_search_report(data: SearchData) -> str:
    """The report as HTML text."""
    front = front_charts(data)
    maps, over_share, gaps = map_charts(data), share_charts(data), gap_charts(data)
    spending, foretold = budget_charts(data), prediction_charts(data)
    body = (
        sections.answer(data),
        sections.front(data, front),
        sections.maps(maps),
        sections.shares(data, over_share),
        sections.gaps(data, gaps),
        course.budget(data, spending),
        course.predictions(data, foretold),
        course.more(data),
        course.confirmation(data),
        trial_table(data),
        sections.recipe(data),
        course.definitions(data),
    )
    charts = [to_json(plot) for plot in (*front, *maps, *over_share, *gaps, *spending, *foretold)]
    return page(
        data.title,
        sections.subtitle(data),
        "".join(body),
        {"charts": charts},
        ("report.css", "search.css"),
        "search.js",
    )

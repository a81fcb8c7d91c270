"""The funnel and the score histograms as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracking.charts import Histogram, score_histograms
from tracking.curation import SourceFunnel
from tracking.plot_style import GRID, INK, dress, grid, new_figure, save, title_and_legend
from tracking.report_corpus import MEANING, bar_parts

_COLOURS = {
    "kept": "#2f7d74",
    "heldout": "#8fc0b8",
    "lost-duplicates": "#d8b44a",
    "lost-decontamination": "#96578f",
    "lost-filters": "#c8793f",
    "lost-read": "#6f747c",
}


def write_corpus_plots(sources: Sequence[SourceFunnel], score_label: str, folder: Path) -> list[Path]:
    """Write ``corpus.png`` and, if there are scores of a domain source, ``scores.png``; returns the paths.

    Raises:
        OSError: the folder cannot be written.
    """
    read = [source for source in sources if source.read.documents]
    histograms = score_histograms(sources, score_label)
    written = [_funnel(read, folder / "corpus.png")] if read else []
    return [*written, *([_scores(histograms, folder / "scores.png")] if histograms else [])]


def _funnel(sources: Sequence[SourceFunnel], path: Path) -> Path:
    figure = new_figure(9, 1.5 + 0.34 * len(sources))
    axes = figure.subplots()
    handles = {}
    names = [f"{source.name} ({source.role})" for source in sources]
    parts = [dict(bar_parts(source)) for source in sources]
    left = [0.0] * len(sources)
    for kind, colour in _COLOURS.items():
        widths = [
            100 * part[kind].documents / max(1, sum(amount.documents for amount in part.values())) for part in parts
        ]
        if any(widths):
            handles[MEANING[kind]] = axes.barh(names, widths, left=left, color=colour, height=0.62)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    dress(axes, "", "share of the documents read, %", "")
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    title_and_legend(figure, "What became of the documents of each source", handles, 3)
    return save(figure, path)


def _scores(histograms: Sequence[Histogram], path: Path) -> Path:
    from matplotlib.ticker import EngFormatter

    figure, places = grid(len(histograms))
    low = min(bar[0] for chart in histograms for bar in chart.bars)
    high = max(bar[0] + chart.width for chart in histograms for bar in chart.bars)
    for axes, chart in zip(places, histograms, strict=True):
        starts, tokens = ([bar[column] for bar in chart.bars] for column in (0, 2))
        axes.bar(
            starts, tokens, width=chart.width, align="edge", color=_COLOURS["kept"], edgecolor="white", linewidth=0.3
        )
        dress(axes, chart.title, chart.x_label.replace(", ", "\n", 1), "tokens")
        axes.set_xlim(low, high)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(axis="y", color=GRID, linewidth=0.8)
    figure.suptitle("Quality scores of the tokens that are kept", x=0.01, ha="left", fontsize=13, color=INK)
    return save(figure, path)

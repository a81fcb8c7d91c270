"""The sections of the report as HTML; each takes the data and returns one string, empty when it has nothing to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from tracking.charts import Chart, share_sources
from tracking.figures import NONE, change, count, duration, exact, loss, percent
from tracking.findings import base_loss, caveats, final_loss, findings, mean_base, mean_final
from tracking.html import Cell, details, mark_runs, paragraph, run_colour, section, source_colour, table
from tracking.redact import redact
from tracking.report_alarms import alarm_list, last_value
from tracking.report_data import Gap, ReportData, RunData

_DEFINITIONS = (
    (
        "Held-out loss",
        "the mean negative log-likelihood of documents never trained on, in nats per token; lower is better.",
    ),
    ("Base", "the held-out loss of the model all runs start from, measured before the first step."),
    ("Depth", "the largest rise of the held-out loss above the base during the run; 0 if it never rises."),
    (
        "Recovery",
        "the tokens seen at the first measurement after the worst one at which the loss is at the base or below.",
    ),
    ("Area", "the rise above the base, integrated over the tokens seen: depth and duration in one number."),
    ("Lowest loss", "the best the run reaches on the source, and the tokens seen by then."),
    ("Forgetting", "final minus base loss on a general source; negative means better than the base."),
)
_CITATION = (
    "The stability gap, an initial drop in performance that later recovers, is described for continual pre-training by "
    "Guo et al., \u201cEfficient Continual Pre-training by Mitigating the Stability Gap\u201d (arXiv 2406.14833, ACL "
    "2025). "
    "Depth, recovery and area are this project\u2019s own measures of it, taken from loss rather than task accuracy."
)


def result(data: ReportData) -> str:
    """Three sentences with numbers, and what they cannot say."""
    sentences = "".join(f"<p>{mark_runs([run.name for run in data.runs], sentence)}</p>" for sentence in findings(data))
    if not sentences:
        sentences = paragraph("There is no finished run with held-out losses yet.")
    doubts = " ".join(caveats(data))
    return f'<section id="result" class="findings">{sentences}{paragraph(doubts, "caveat") if doubts else ""}</section>'


def comparison(data: ReportData) -> str:
    """One row a run: domain, general, gap, cost; the best of each column in bold."""
    if not data.runs:
        return ""
    domain = [name for name in data.sources("domain") if name in data.measured()]
    general = [name for name in data.sources("general") if name in data.measured()]
    bases = mean_base(data, domain), mean_base(data, general)
    ends = [(mean_final(run, domain), mean_final(run, general)) for run in data.runs]
    worst = [_deepest(run) for run in data.runs]
    best_domain, best_general = _best([end[0] for end in ends]), _best([end[1] for end in ends])
    best_depth = _best([found[1].depth if found else None for found in worst])
    best_area = _best([found[1].area if found else None for found in worst])
    rows: list[list[Cell | str]] = [[Cell("base model", soft=True), loss(bases[0]), "", loss(bases[1]), *[""] * 8]]
    for index, (run, (on_domain, on_general), deepest) in enumerate(zip(data.runs, ends, worst, strict=True)):
        gap = deepest[1] if deepest else None
        rows.append(
            [
                Cell(run.name, swatch=run_colour(index)),
                Cell(loss(on_domain), on_domain == best_domain),
                change(_minus(on_domain, bases[0])),
                Cell(loss(on_general), on_general == best_general),
                change(_minus(on_general, bases[1])),
                Cell(loss(gap.depth), gap.depth == best_depth) if gap else NONE,
                deepest[0] if deepest and deepest[1].depth > 0 else NONE,
                _recovery(gap),
                Cell(_area(gap.area), gap.area == best_area) if gap else NONE,
                count(run.totals.tokens),
                duration(run.totals.seconds),
                percent(run.totals.mfu),
            ]
        )
    groups = [
        ("", 1),
        (_label("domain loss", domain), 2),
        (_label("general loss", general), 2),
        ("deepest gap", 4),
        ("cost", 3),
    ]
    head = [
        "run",
        "final",
        "change",
        "final",
        "forgetting",
        "depth",
        "on",
        "recovered at",
        "area",
        "tokens",
        "time",
        "MFU",
    ]
    note = (
        "Losses and depth in nats per token, lower is better; area in nats per token times million tokens. "
        "Recovered at: tokens seen when the loss is back at the base. Bold is the best of a column."
    )
    return section("comparison", "Runs", _run_list(data), table(head, rows, groups), paragraph(note, "note"))


def curves(data: ReportData, leading: Sequence[Chart], each: Sequence[Chart]) -> str:
    """The gap curves with their controls, and the gap metrics of every source and run."""
    if not leading and not each:
        return ""
    keys = "".join(
        f'<button type="button" class="key" data-run="{index}" aria-pressed="true">'
        f'<i class="swatch" style="background:{run_colour(index)}"></i>{escape(run.name)}</button>'
        for index, run in enumerate(data.runs)
    )
    scales = "".join(
        f'<button type="button" data-scale="{name}" aria-pressed="{pressed}">{text}</button>'
        for name, text, pressed in (
            ("log", "log", "false"),
            ("sqrt", "square root", "true"),
            ("linear", "linear", "false"),
        )
    )
    controls = (
        f'<div class="controls"><div class="keys" role="group" aria-label="Runs shown">{keys}'
        '<span class="key base"><i></i>base model</span></div>'
        f'<div class="scales" role="group" aria-label="Scale of the tokens axis">'
        f"<span>tokens axis</span>{scales}</div></div>"
    )
    note = (
        "A curve above the dashed line has lost ground against the base model. The square-root axis widens the first "
        "steps, where a gap appears; log widens them further, linear shows how long a gap lasts."
    )
    return section(
        "curves",
        "Gap curves",
        paragraph(note, "note"),
        controls,
        grid(leading),
        grid(each),
        _gap_table(data),
    )


def shares(data: ReportData, charts: Sequence[Chart]) -> str:
    """Planned against seen."""
    names = share_sources(data)
    if not names:
        return ""
    rows: list[list[Cell | str]] = []
    for index, run in enumerate(data.runs):
        row: list[Cell | str] = [Cell(run.name, swatch=run_colour(index))]
        for source in names:
            seen = run.curves.get(f"train/share/{source}", ())
            planned = run.shares.get(source)
            difference = abs(seen[-1][1] - planned) if seen and planned is not None else None
            row += [percent(planned), percent(seen[-1][1] if seen else None)]
            row.append(NONE if difference is None else f"{100 * difference:.2f}")
        rows.append(row)
    head: list[Cell | str] = ["run", *(["planned", "seen", "off by"] * len(names))]
    groups = [("", 1), *((name, 3) for name in names)]
    keys = "".join(
        f'<span class="key"><i class="swatch" style="background:{source_colour(i)}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
    )
    note = (
        "Share of all tokens seen so far that came from each source; the dotted lines are the plan. Differences are in "
        "percentage points."
    )
    key = f'<div class="controls"><div class="keys">{keys}</div></div>' if charts else ""
    return section("shares", "Shares seen", paragraph(note, "note"), key, grid(charts), table(head, rows, groups))


def training(data: ReportData, charts: Sequence[Chart]) -> str:
    """Throughput, the optimiser's curves, and alarms."""
    if not charts:
        return ""
    head = ["run", "tokens", "time", "tokens per second", "MFU"]
    waits = any(run.curves.get("train/data_wait") for run in data.runs)
    returns = any(run.curves.get("train/rollbacks") or run.curves.get("train/skipped_steps") for run in data.runs)
    head += ["waiting for data"] * waits + ["went back", "steps left out"] * returns
    rows: list[list[Cell | str]] = []
    for index, run in enumerate(data.runs):
        row: list[Cell | str] = [
            Cell(run.name, swatch=run_colour(index)),
            exact(run.totals.tokens),
            duration(run.totals.seconds),
            f"{run.totals.tokens_per_second:,.0f}",
            percent(run.totals.mfu),
        ]
        row += [_mean_share(run, "train/data_wait")] * waits
        row += [exact(last_value(run, f"train/{name}")) for name in ("rollbacks", "skipped_steps") if returns]
        rows.append(row)
    marked = any(chart.marks for chart in charts)
    key = '<div class="controls"><span class="key"><i class="alarm"></i>alarm</span></div>' if marked else ""
    return section("training", "Throughput and training", key, grid(charts), table(head, rows), alarm_list(data.runs))


def plans(data: ReportData) -> str:
    """The plans side by side, and all parameters."""
    parts = [
        _side_by_side(data, lambda run: run.plan),
        details("All parameters", _side_by_side(data, lambda run: run.params))
        if any(r.params for r in data.runs)
        else "",
    ]
    return section("plans", "Plans", *parts) if any(parts) else ""


def recipe(yaml: str) -> str:
    """The recipe, word for word, but for secrets."""
    if not yaml:
        return ""
    return section("recipe", "Recipe", details("Show the resolved recipe", f"<pre>{escape(redact(yaml))}</pre>"))


def definitions() -> str:
    """What the numbers mean, one sentence each."""
    items = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in _DEFINITIONS)
    return section("definitions", "Definitions", f"<dl>{items}</dl>", paragraph(_CITATION, "note"))


def versions(data: ReportData) -> str:
    """The base model, software and machine."""
    rows = [["base model", data.base.name]]
    if data.base.parameters is not None:
        rows.append(["parameters", count(data.base.parameters)])
    for source in {**data.base.losses, **data.base.bits_per_byte}:
        bits = data.base.bits_per_byte.get(source)
        parts = [f"{loss(base_loss(data, source))} nats per token"] if source in data.base.losses else []
        rows.append(
            [f"base on {source}", ", ".join(parts + ([f"{bits:.3f} bits per byte"] if bits is not None else []))]
        )
    if data.base.note:
        rows.append(["note", data.base.note])
    rows += [[name, redact(value)] for name, value in data.versions.items()]
    rows += [[f"MLflow run of {run.name}", run.run_id] for run in data.runs if run.run_id]
    return section(
        "versions", "Made with", table(["", ""], rows, words=True).replace("<thead><tr>", "<thead hidden><tr>")
    )


def _gap_table(data: ReportData) -> str:
    rows: list[list[Cell | str]] = []
    for source in data.measured():
        for index, run in enumerate(data.runs):
            gap = run.gaps.get(source)
            if gap is None:
                continue
            rows.append(
                [
                    Cell(source, note=run.name, swatch=run_colour(index)),
                    loss(base_loss(data, source)),
                    loss(gap.depth),
                    _recovery(gap),
                    _area(gap.area),
                    loss(gap.peak),
                    count(gap.tokens_to_peak),
                    loss(final_loss(run, source)),
                    change(gap.forgetting),
                ]
            )
    head = ["source and run", "base", "depth", "recovered at", "area", "lowest", "reached at", "final", "change"]
    return details("Gap metrics of every source and run", table(head, rows)) if rows else ""


def _side_by_side(data: ReportData, values: Callable[[RunData], dict[str, str]]) -> str:
    labels = list(dict.fromkeys(label for run in data.runs for label in values(run)))
    if not labels:
        return ""
    rows: list[list[Cell | str]] = []
    for label in labels:
        row = [values(run).get(label, NONE) for run in data.runs]
        same = len(row) > 1 and len(set(row)) == 1
        rows.append([label, *(Cell(redact(value), soft=same) for value in row)])
    head: list[Cell | str] = ["", *(Cell(run.name, swatch=run_colour(i)) for i, run in enumerate(data.runs))]
    return table(head, rows, words=True)


def _mean_share(run: RunData, metric: str) -> str:
    values = [value for _, value in run.curves.get(metric, ()) if math.isfinite(value)]
    return percent(sum(values) / len(values)) if values else NONE


def _run_list(data: ReportData) -> str:
    items = "".join(
        f'<dt><i class="swatch" style="background:{run_colour(index)}"></i>{escape(run.name)}</dt>'
        f"<dd>{escape(run.description)}</dd>"
        for index, run in enumerate(data.runs)
        if run.description
    )
    return f'<dl class="runs">{items}</dl>' if items else ""


def grid(charts: Sequence[Chart]) -> str:
    """Places for the charts, with their titles and units."""
    kind = "three" if len(charts) % 3 == 0 else "two"
    figures = "".join(
        f"<figure><figcaption><b>{escape(chart.title)}</b><span>{escape(chart.y_label)}{_base_note(chart)}</span></figcaption>"
        f'<div class="chart" id="{escape(chart.anchor)}" role="img" aria-label="{escape(chart.title)}: '
        f'{escape(chart.y_label)} over tokens seen"></div></figure>'
        for chart in charts
    )
    return f'<div class="grid {kind}">{figures}</div>' if figures else ""


def _base_note(chart: Chart) -> str:
    if chart.base is None:
        return ""
    if chart.base_label != "base":
        return f" (dashed: {escape(chart.base_label)})"
    return f" (base {percent(chart.base) if chart.unit == 'fraction' else loss(chart.base)})"


def _deepest(run: RunData) -> tuple[str, Gap] | None:
    return max(run.gaps.items(), key=lambda item: item[1].depth, default=None)


def _best(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None and math.isfinite(value)]
    return min(present) if len(present) > 1 and min(present) < max(present) else None


def _minus(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _recovery(gap: Gap | None) -> str:
    if gap is None:
        return NONE
    if gap.depth <= 0:
        return "no gap"
    return "not in run" if gap.recovery_tokens is None else count(gap.recovery_tokens)


def _area(value: float) -> str:
    if not math.isfinite(value):
        return "not finite"
    millions = value / 1e6
    return f"{millions:.4f}" if millions < 1 else f"{millions:.3g}" if millions < 1000 else f"{millions:,.0f}"


def _label(text: str, sources: Sequence[str]) -> str:
    return f"{text}, {sources[0]}" if len(sources) == 1 else f"{text}, mean of {len(sources)}" if sources else text

"use strict";
(() => {
  const page = JSON.parse(document.getElementById("charts").textContent);
  const small = window.matchMedia("(max-width: 640px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const DASHES = ["solid", "solid", "solid", "dash", "dash", "dash"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star"];
  const hidden = new Set();
  let scale = "sqrt";

  // The log axis starts at zero: log(1 + t / first), where first is the earliest measurement after the start.
  const early = (chart) => chart.anchor.startsWith("gap-") || chart.anchor.startsWith("update-"); // measured as densely
  const heldout = page.charts.filter(early);
  const starts = heldout.flatMap((chart) => chart.series.flatMap((line) => line.x.filter((x) => x > 0)));
  const first = starts.length ? Math.min(...starts) : 1;
  const forward = {
    linear: (t) => t,
    sqrt: (t) => Math.sqrt(t),
    log: (t) => Math.log10(1 + t / first),
  };

  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue(name).trim();

  const tokens = (t) => {
    const value = t / page.unit.size;
    const digits = value === 0 || value >= 100 ? 0 : value >= 1 ? 2 : 3;
    const unit = { billions: "billion ", millions: "million ", thousands: "thousand " }[page.unit.name] || "";
    return `${Number(value.toFixed(digits))} ${unit}tokens`;
  };

  // Ticks at round counts of tokens, as many as the width carries.
  function ticks(most, how, width) {
    const map = forward[how], top = map(most) || 1;
    const apart = (how === "linear" ? 52 : 42) / Math.max(width - 60, 120);
    const candidates = [0];
    if (how === "linear") {
      const raw = most * Math.max(apart, 0.16);
      const power = 10 ** Math.floor(Math.log10(raw || 1));
      const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
      for (let t = step; t <= most * 1.0001; t += step) candidates.push(t);
    } else {
      const decades = [[1], [5, 2]];
      for (const group of decades)
        for (let power = Math.floor(Math.log10(most)); power >= 0 && 10 ** power >= first / 10; power--)
          for (const m of group) if (m * 10 ** power <= most) candidates.push(m * 10 ** power);
    }
    const kept = [];
    for (const t of candidates)
      if (kept.every((other) => Math.abs(map(t) - map(other)) / top >= apart)) kept.push(t);
    kept.sort((a, b) => a - b);
    return { at: kept.map(map), text: kept.map((t) => String(Number((t / page.unit.size).toPrecision(3)))) };
  }

  function draw(chart) {
    const element = document.getElementById(chart.anchor);
    if (!element) return;
    const how = early(chart) ? scale : "linear";
    const map = forward[how];
    const most = Math.max(1, ...chart.series.map((line) => line.x[line.x.length - 1]));
    const format = { share: ".1%", fraction: ".2~%", rate: ",.0f", loss: ".3f", small: ".2~e", plain: ".3~g" }[chart.unit];
    // Error bars of several runs stand side by side.
    const aside = (line) => line.errors.length ? (chart.series.indexOf(line) - (chart.series.length - 1) / 2) * 0.008 * map(most) : 0;
    const traces = chart.series.filter((line) => !hidden.has(line.run)).map((line) => {
      const few = line.x.length <= 60 && !line.dashed;
      return {
        x: line.x.map((x) => map(x) + aside(line)), y: line.y, customdata: line.x.map(tokens), name: line.name, type: "scatter",
        mode: few ? "lines+markers" : "lines",
        line: {
          color: colour(line.dashed ? "--ink" : `--${line.kind}-${line.colour % 6}`),
          width: line.dashed ? 1.1 : chart.unit === "share" ? 3 : 2,
          dash: line.dashed ? "dot" : line.kind === "run" ? DASHES[line.colour % 6] : "solid",
        },
        marker: { size: few && line.x.length > 25 ? 4 : 5.5, symbol: SYMBOLS[line.kind === "run" ? line.colour % 6 : 0] },
        error_y: { type: "data", array: line.errors, visible: line.errors.length > 0, thickness: 1.2, width: 3 },
        hoverinfo: line.dashed ? "skip" : "all",
        hovertemplate: line.dashed ? null : `${line.name}: %{y:${format}}<br>at %{customdata}<extra></extra>`,
      };
    });
    if (chart.base !== null)
      traces.unshift({
        x: [0, 1.02 * map(most)], y: [chart.base, chart.base], type: "scatter", mode: "lines", hoverinfo: "skip",
        line: { color: colour("--soft"), width: 1.3, dash: "dash" },
      });
    const marks = chart.marks.filter((mark) => !hidden.has(mark.run));
    if (marks.length)
      traces.push({
        x: marks.map((mark) => map(mark.tokens)), y: marks.map((mark) => mark.value), text: marks.map((mark) => mark.text),
        type: "scatter", mode: "markers", hovertemplate: "%{text}<extra></extra>",
        marker: { symbol: "x-thin", size: 9, line: { width: 2.4, color: colour("--alarm") } },
      });
    const values = traces.flatMap((trace) => trace.y);
    const digits = Math.max(...values) - Math.min(...values) < 0.1 ? ".3f" : ".2f";
    const axis = {
      color: colour("--soft"), gridcolor: colour("--grid"), zeroline: false, fixedrange: touch || small.matches,
      tickfont: { size: 12 }, automargin: true, showline: false,
    };
    const tick = ticks(most, how, element.clientWidth);
    const words = { log: ", log scale", sqrt: ", square-root scale", linear: "" }[how];
    const unit = page.unit.name === "tokens" ? "tokens seen" : `tokens seen (${page.unit.name})`;
    const layout = {
      margin: { l: 48, r: 10, t: 8, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style().getPropertyValue("--sans"), color: colour("--ink"), size: 12 },
      showlegend: false, hovermode: "closest", hoverdistance: 40, dragmode: touch || small.matches ? false : "zoom",
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 13 } },
      xaxis: {
        ...axis, tickvals: tick.at, ticktext: tick.text, range: [-0.015 * map(most), 1.02 * map(most)],
        title: { text: unit + words, font: { size: 12 }, standoff: 8 }, ticks: "outside", ticklen: 4, tickcolor: colour("--rule"),
      },
      yaxis: {
        ...axis, nticks: 6, rangemode: chart.from_zero ? "tozero" : "normal",
        tickformat: { share: ".0%", fraction: ".2~%", rate: ",.2~s", loss: digits, small: "", plain: "" }[chart.unit], exponentformat: "e",
      },
    };
    Plotly.react(element, traces, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
  }

  // Tokens over quality score; all histograms share one range of scores.
  const lows = page.histograms.flatMap((chart) => chart.bars.map((bar) => bar[0]));
  const highs = page.histograms.flatMap((chart) => chart.bars.map((bar) => bar[0] + chart.width));
  function drawHistogram(chart) {
    const element = document.getElementById(chart.anchor);
    if (!element) return;
    const narrow = touch || small.matches;
    const axis = {
      color: colour("--soft"), zeroline: false, fixedrange: narrow, tickfont: { size: 12 }, automargin: true, showline: false,
    };
    const digits = chart.width < 0.01 ? 3 : 2;
    const thin = element.clientWidth < 400;
    const label = thin ? chart.x_label.replaceAll(", ", "<br>") : chart.x_label;
    const trace = {
      type: "bar", x: chart.bars.map((bar) => bar[0] + chart.width / 2), y: chart.bars.map((bar) => bar[2]), width: chart.width,
      marker: { color: colour("--kept"), line: { width: 0.6, color: colour("--paper") } },
      customdata: chart.bars.map((bar) => [bar[0].toFixed(digits), (bar[0] + chart.width).toFixed(digits), bar[1], bar[3]]),
      hovertemplate: "score %{customdata[0]} to %{customdata[1]}<br>%{y:,} tokens, %{customdata[2]:,} documents" +
        "<br>%{customdata[3]:.1%} of the tokens up to here<extra></extra>",
    };
    Plotly.react(element, [trace], {
      margin: { l: 48, r: 10, t: 8, b: thin ? 72 : 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: style().getPropertyValue("--sans"), color: colour("--ink"), size: 12 },
      hovermode: "closest", dragmode: narrow ? false : "zoom", bargap: 0,
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 13 } },
      xaxis: {
        ...axis, range: [Math.min(...lows), Math.max(...highs)], nticks: 8, showgrid: false, ticks: "outside", ticklen: 4,
        tickcolor: colour("--rule"), title: { text: label, font: { size: 12 }, standoff: 8 },
      },
      yaxis: {
        ...axis, nticks: 5, rangemode: "tozero", gridcolor: colour("--grid"), tickformat: ",.2~s",
        title: { text: "tokens", font: { size: 12 }, standoff: 6 },
      },
    }, { responsive: true, displayModeBar: false, doubleClick: "reset" });
  }

  const drawAll = () => {
    page.charts.forEach(draw);
    page.histograms.forEach(drawHistogram);
  };
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));

  document.querySelectorAll("[data-run]").forEach((button) =>
    button.addEventListener("click", () => {
      const run = Number(button.dataset.run);
      if (!hidden.delete(run)) hidden.add(run);
      press(button, !hidden.has(run));
      drawAll();
    }));
  document.querySelectorAll("[data-scale]").forEach((button) =>
    button.addEventListener("click", () => {
      scale = button.dataset.scale;
      document.querySelectorAll("[data-scale]").forEach((other) => press(other, other === button));
      drawAll();
    }));
  document.querySelectorAll("button[data-by]").forEach((button) =>
    button.addEventListener("click", () => {
      document.querySelector(".funnel").dataset.by = button.dataset.by;
      document.querySelectorAll("button[data-by]").forEach((other) => press(other, other === button));
    }));
  dark.addEventListener("change", drawAll);
  small.addEventListener("change", drawAll);
  drawAll();
  document.documentElement.dataset.drawn = "true";
})();

"use strict";
(() => {
  const page = JSON.parse(document.getElementById("charts").textContent);
  const small = window.matchMedia("(max-width: 640px)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue(`--${name}`).trim();
  const faded = (name, alpha) => {
    const hex = colour(name).slice(1);
    const parts = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  };

  function drawn(trace) {
    const ink = trace.faint ? faded(trace.colour, 0.55) : colour(trace.colour);
    const hover = trace.text.length
      ? { text: trace.text, hovertemplate: "%{text}<extra></extra>" } : { hoverinfo: "skip" };
    if (trace.kind === "band") {
      const none = { mode: "lines", type: "scatter", line: { width: 0 }, hoverinfo: "skip" };
      return [
        { ...none, x: trace.x, y: trace.low },
        { ...none, x: trace.x, y: trace.y, fill: "tonexty", fillcolor: faded(trace.colour, 0.16) },
      ];
    }
    if (trace.kind === "bars")
      return [{ type: "bar", x: trace.x, y: trace.y, marker: { color: ink, line: { width: 0 } }, textposition: "none", ...hover }];
    const bar = (errors) => ({
      type: "data", array: errors, visible: errors.length > 0, width: 0, thickness: 1.1,
      color: trace.colour === "ink" ? faded("ink", 0.4) : faded(trace.colour, 0.45),
    });
    const lines = trace.kind === "line";
    return [{
      type: "scatter", mode: lines ? (trace.size && !trace.dash ? "lines+markers" : "lines") : "markers",
      x: trace.x, y: trace.y, error_x: bar(trace.x_errors), error_y: bar(trace.y_errors),
      line: { color: ink, width: trace.dash ? 1.6 : 2.2, dash: trace.dash ? "dash" : "solid" },
      marker: {
        color: ink, size: trace.size || 6, symbol: trace.symbol,
        line: trace.symbol === "star" ? { width: 1.2, color: colour("paper") } : { width: trace.symbol.endsWith("open") ? 1.4 : 0, color: ink },
      },
      ...hover,
    }];
  }

  function heat(map) {
    const scale = [0, 1, 2, 3, 4].map((i) => [i / 4, colour(`heat-${i}`)]);
    const out = [{
      type: "heatmap", x: map.x, y: map.y, z: map.values, text: map.text, hovertemplate: "%{text}<extra></extra>", hoverongaps: false,
      colorscale: scale, zauto: false, zmin: Math.min(...map.values.flat().filter((v) => v !== null)), zmax: map.top,
      colorbar: {
        orientation: "h", thickness: 10, len: 1, x: 0.5, y: 1.01, yanchor: "bottom", outlinewidth: 0, nticks: 5,
        tickfont: { size: 11, color: colour("soft") }, title: { text: map.label, side: "top", font: { size: 12, color: colour("soft") } },
      },
    }];
    if (map.edge.length)
      out.push({
        type: "contour", x: map.x, y: map.y, z: map.edge, autocontour: false, showscale: false, hoverinfo: "skip", connectgaps: false,
        contours: { start: map.edge_at, end: map.edge_at, size: 1, coloring: "none" },
        line: { color: colour("alarm"), width: 1.8 },
      });
    return out;
  }

  // Lines with their meaning: labels of vertical ones stand below each other; of two horizontal ones the lower is labelled below.
  function levels(plot) {
    const shapes = [], labels = [];
    let across = 0;
    const lowest = Math.min(...plot.levels.filter((level) => level.axis === "y").map((level) => level.at));
    const several = plot.levels.filter((level) => level.axis === "y").length > 1;
    const [low, high] = [plot.x.low, plot.x.high];
    for (const level of plot.levels) {
      const vertical = level.axis === "x";
      const line = { color: colour(level.colour), width: 1.4, dash: "dash" };
      shapes.push(vertical
        ? { type: "line", xref: "x", yref: "paper", x0: level.at, x1: level.at, y0: 0, y1: 1, line, layer: "above" }
        : { type: "line", xref: "paper", yref: "y", x0: 0, x1: 1, y0: level.at, y1: level.at, line, layer: "below" });
      const label = {
        text: level.text, showarrow: false, font: { size: 11.5, color: colour(level.colour) }, bgcolor: faded("paper", 0.8), borderpad: 1,
      };
      if (vertical) {
        const right = low !== null && high !== null && level.at > (low + high) / 2;
        labels.push({ ...label, x: level.at, xref: "x", y: 1 - 0.075 * across, yref: "paper", yanchor: "top", xanchor: right ? "right" : "left", xshift: right ? -3 : 3 });
        across += 1;
      } else {
        const under = several && level.at === lowest;
        labels.push({ ...label, x: level.left ? 0 : 1, xref: "paper", xanchor: level.left ? "left" : "right", y: level.at, yref: "y", yanchor: under ? "top" : "bottom" });
      }
    }
    return { shapes, annotations: labels };
  }

  function axis(scale) {
    const narrow = touch || small.matches;
    const out = {
      color: colour("soft"), gridcolor: colour("grid"), zeroline: false, fixedrange: narrow, tickfont: { size: 12 }, automargin: true,
      nticks: 6, title: { text: scale.label, font: { size: 12 }, standoff: 8 }, exponentformat: "e",
    };
    if (scale.ticks.length) Object.assign(out, { tickvals: scale.ticks.map((t) => t[0]), ticktext: scale.ticks.map((t) => t[1]) });
    if (scale.low !== null && scale.high !== null) out.range = [scale.low, scale.high];
    else if (scale.low !== null) out.rangemode = "tozero";
    return out;
  }

  function draw(plot) {
    const element = document.getElementById(plot.anchor);
    if (!element) return;
    const traces = [...(plot.heat ? heat(plot.heat) : []), ...plot.traces.flatMap(drawn)];
    Plotly.react(element, traces, {
      margin: { l: 52, r: 12, t: plot.heat ? 62 : 10, b: 46 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style().getPropertyValue("--sans"), color: colour("ink"), size: 12 }, showlegend: false,
      hovermode: "closest", hoverdistance: 30, dragmode: touch || small.matches ? false : "zoom", barmode: "stack", bargap: 0.12,
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("rule"), font: { color: colour("ink"), size: 13 }, align: "left" },
      xaxis: { ...axis(plot.x), ticks: "outside", ticklen: 4, tickcolor: colour("rule"), showgrid: !plot.heat },
      yaxis: { ...axis(plot.y), showgrid: !plot.heat },
      ...levels(plot),
    }, { responsive: true, displayModeBar: false, doubleClick: "reset+autosize" });
  }

  const drawAll = () => page.charts.forEach(draw);
  dark.addEventListener("change", drawAll);
  small.addEventListener("change", drawAll);
  drawAll();
  document.documentElement.dataset.drawn = "true";
})();

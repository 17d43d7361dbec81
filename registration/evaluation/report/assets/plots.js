// Plots of one metric: spread before and after by label, and every pair from worst to best.

const MOST_DOTS = 4000;

/** An axis from the smallest to the largest figure with a little air; shares and overlaps end at their bound. */
function scaleOf(values, from, to) {
  const ordered = sorted(values);
  let [low, high] = ordered.length ? [ordered[0], ordered[ordered.length - 1]] : [0, 1];
  if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const air = 0.04 * (high - low);
  [low, high] = [low >= 0 && low < 2 * air ? 0 : low - air, high <= 1 && high + air > 1 ? 1 : high + air];
  return { low, high, at: (v) => from + ((v - low) / (high - low)) * (to - from) };
}

function labelPlot(m, width) {
  const metric = data.metrics[m];
  const groups = figures.labelsOf(m).map((l) => ({ name: `label ${data.labels[l]}`, short: data.labels[l], label: l }));
  const rows = groups.length ? groups : [{ name: metric.title, short: "all", label: -1 }];
  const left = Math.min(140, 24 + 7 * Math.max(...rows.map((row) => Math.min(18, row.short.length))));
  const [top, step] = [8, 34];
  const height = top + rows.length * step + 36;
  const values = rows.map((row) => [BEFORE, AFTER].map((w) => valuesAt(m, row.label, w)));
  const scale = scaleOf(values.flat(2), left, width - 14);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img",
    "aria-label": `${titled(metric)} before and after, by label; the table of labels below holds the numbers` });
  plot.append(...crossAxis(scale, metric, top, height - 36, width));
  const dots = values.flat(2).length <= MOST_DOTS;
  rows.forEach((row, r) => {
    const y = top + r * step + step / 2;
    const name = row.short.length > 18 ? `${row.short.slice(0, 17)}\u2026` : row.short;
    plot.append(svg("text", { x: left - 10, y: y + 4, class: "name", "text-anchor": "end" }, name));
    [BEFORE, AFTER].forEach((w) => plot.append(...strip(values[r][w], scale, y + (w === BEFORE ? -7 : 7), w, dots)));
  });
  return plot;
}

function valuesAt(m, label, w) {
  return label < 0 ? figures.overall(m, w).filter(known) : figures.column(m, label, w).filter(known);
}

function crossAxis(scale, metric, top, bottom, width) {
  const { values, digits } = ticks(scale.low, scale.high, Math.max(2, Math.floor(width / 90)));
  const parts = values.flatMap((v) => [
    svg("line", { x1: scale.at(v), x2: scale.at(v), y1: top, y2: bottom, class: "rule" }),
    svg("text", { x: scale.at(v), y: bottom + 14, "text-anchor": "middle" }, told(v, digits)),
  ]);
  const middle = (scale.at(scale.low) + scale.at(scale.high)) / 2;
  parts.push(svg("text", { x: middle, y: bottom + 31, "text-anchor": "middle" }, titled(metric)));
  return parts;
}

/** Every value as a dot, the middle half as a bar, the median as a tick. */
function strip(values, scale, y, w, dots) {
  const ordered = sorted(values);
  if (!ordered.length) return [];
  const kind = w === BEFORE ? "b" : "a";
  const [first, middle, last] = [0.25, 0.5, 0.75].map((share) => scale.at(quantile(ordered, share)));
  const parts = [
    svg("line", { x1: scale.at(ordered[0]), x2: scale.at(ordered[ordered.length - 1]), y1: y, y2: y, class: kind,
      "stroke-width": 1 }),
    svg("line", { x1: first, x2: Math.max(last, first + 0.5), y1: y, y2: y, class: kind, "stroke-width": 8,
      opacity: 0.35 }),
  ];
  if (dots) {
    const path = ordered.map((v, n) => circle(scale.at(v), y + ((n * 7) % 5) - 2, ordered.length > 60 ? 1.5 : 2.3)).join("");
    parts.push(svg("path", { d: path, class: `${kind}fill`, opacity: 0.8 }));
  }
  parts.push(svg("line", { x1: middle, x2: middle, y1: y - 6, y2: y + 6, class: kind, "stroke-width": 2.5 }));
  return parts;
}

function circle(x, y, r) {
  return `M${(x - r).toFixed(1)} ${y.toFixed(1)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
}

/** All pairs in a row, worst at the left: a line from before to after. A click, or Enter on a marked one, opens it. */
function rankPlot(m, width, open) {
  const metric = data.metrics[m];
  const [before, after] = [figures.overall(m, BEFORE), figures.overall(m, AFTER)];
  const order = worstFirst(m).filter((c) => known(after[c]));
  const [left, top, bottom] = [52, 10, 250];
  const scale = scaleOf([...order.map((c) => after[c]), ...order.map((c) => before[c])], bottom, top);
  const at = (n) => left + ((n + 0.5) / order.length) * (width - left - 10);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${bottom + 26}`, class: "plot", role: "group", tabindex: 0,
    "aria-label": `${titled(metric)} of every pair, worst first. Left and right choose a pair, Enter opens it.` });
  const { values, digits } = ticks(scale.low, scale.high, 5);
  for (const v of values) {
    plot.append(svg("line", { x1: left, x2: width - 10, y1: scale.at(v), y2: scale.at(v), class: "rule" }),
      svg("text", { x: left - 6, y: scale.at(v) + 4, "text-anchor": "end" }, told(v, digits)));
  }
  const wide = Math.max(0.8, Math.min(2, (width - left) / order.length / 3));
  const radius = Math.max(1.2, Math.min(3.2, (width - left) / order.length / 3));
  order.forEach((c, n) => {
    const worse = known(before[c]) && metric.better * (after[c] - before[c]) < 0;
    if (known(before[c])) {
      plot.append(svg("line", { x1: at(n), x2: at(n), y1: scale.at(before[c]), y2: scale.at(after[c]),
        class: worse ? "worse" : "b", "stroke-width": wide }),
      svg("circle", { cx: at(n), cy: scale.at(before[c]), r: radius, class: "b", "stroke-width": 1.2 }));
    }
    plot.append(svg("circle", { cx: at(n), cy: scale.at(after[c]), r: radius, class: "afill" }));
  });
  const title = `${metric.better ? "worst" : "smallest"}  \u2190  ${order.length} pairs  \u2192  ${metric.better ? "best" : "largest"}`;
  plot.append(svg("text", { x: (left + width) / 2, y: bottom + 20, "text-anchor": "middle" }, title));
  choosing(plot, { order, at, width, scale, bottom, top }, m, open);
  return plot;
}

/** Pointer and keys on a plot of pairs. */
function choosing(plot, { order, at, width, bottom, top }, m, open) {
  const mark = svg("line", { y1: top - 4, y2: bottom, class: "hot", visibility: "hidden" });
  plot.prepend(mark);
  let chosen = -1;
  const choose = (n, x, y) => {
    chosen = Math.max(0, Math.min(order.length - 1, n));
    mark.setAttribute("x1", at(chosen));
    mark.setAttribute("x2", at(chosen));
    mark.setAttribute("visibility", "visible");
    tip.show(pairLine(m, order[chosen]), x, y);
  };
  const leave = () => {
    mark.setAttribute("visibility", "hidden");
    tip.hide();
  };
  const box = () => plot.getBoundingClientRect();
  const nearest = (event) => {
    const x = ((event.clientX - box().left) / box().width) * width;
    return Math.round(((x - at(0)) / Math.max(1e-9, at(1) - at(0) || 1)));
  };
  plot.style.cursor = "pointer";
  plot.addEventListener("pointermove", (event) => choose(nearest(event), event.clientX, event.clientY));
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("click", (event) => order.length && open(order[Math.max(0, Math.min(order.length - 1, nearest(event)))]));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined && order.length) {
      event.preventDefault();
      const n = chosen < 0 ? 0 : Math.max(0, Math.min(order.length - 1, chosen + step));
      choose(n, box().left + (at(n) / width) * box().width, box().top + 20);
    }
    if (event.key === "Enter" && chosen >= 0) open(order[chosen]);
  });
}

function pairLine(m, c) {
  const { digits, unit } = data.metrics[m];
  const [before, after] = [figures.overall(m, BEFORE)[c], figures.overall(m, AFTER)[c]];
  const change = known(before) ? `${told(before, digits)} \u2192 ${told(after, digits)}` : told(after, digits);
  return `${data.cases[c].id}\n${data.metrics[m].title} ${change}${unit ? ` ${unit}` : ""}`;
}

// The page of the cohort: summary, plots of one metric, all pairs, what failed, definitions and origin.

const failed = data.cases.map((_, c) => c).filter((c) => data.cases[c].error || /fail|error/i.test(data.cases[c].status));
let shownMetric = 0;

const linkTo = (c) => `#pair=${encodeURIComponent(data.cases[c].id)}`;
const openPair = (c) => {
  location.hash = linkTo(c);
};

function drawCohort() {
  const view = $("cohort-view");
  if (!data.metrics.length) {
    replace(view, failedPanel(), el("p", { class: "notice" }, "metrics.csv holds no figures."), originPanel());
    return;
  }
  const plots = el("div", { class: "columns" });
  const pairs = pairsPanel();
  const choice = el("select", { id: "metric", onchange: () => {
    shownMetric = Number(choice.value);
    drawPlots(plots);
    pairs.order(worstFirst(shownMetric));
  } }, data.metrics.map((metric, m) => el("option", { value: m }, titled(metric))));
  const head = el("p", { class: "screen", style: "margin: 0 0 10px" }, el("label", {}, "Plots and order by ", choice));
  replace(view, failedPanel(), summaryPanel(), head, plots, pairs.node, originPanel());
  drawPlots(plots);
  let width = plots.clientWidth;
  new ResizeObserver(() => {
    if (plots.clientWidth && plots.clientWidth !== width) {
      width = plots.clientWidth;
      drawPlots(plots);
    }
  }).observe(plots);
}

function panel(title, aside, ...content) {
  return el("section", { class: "panel" }, el("header", {}, el("h2", {}, title), aside), ...content);
}

function failedPanel() {
  if (!failed.length) return null;
  const rows = failed.map((c) => el("tr", {}, el("td", { class: "id" }, el("a", { href: linkTo(c) }, data.cases[c].id)),
    el("td", { class: "text" }, data.cases[c].status), el("td", { class: "wide bad" }, data.cases[c].error || "\u2013")));
  return panel(`${failed.length} of ${data.cases.length} pairs failed`, null, el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["pair", "status", "error"].map((t) => el("th", { class: "text", scope: "col" }, t)))),
    el("tbody", {}, rows))));
}

function summaryPanel() {
  const rows = [];
  data.metrics.forEach((metric, m) => {
    const digits = metric.digits;
    const [before, after] = [BEFORE, AFTER].map((w) => summaryOf(m, w));
    const interval = known(after.low) && known(after.high) ? `${told(after.low, digits)} to ${told(after.high, digits)}` : "\u2013";
    rows.push([
      el("span", { title: metric.definition || null }, titled(metric), " ", el("span", { class: "muted" },
        metric.better > 0 ? "\u2191" : metric.better < 0 ? "\u2193" : "")),
      told(before.mean, digits), el("b", {}, told(after.mean, digits)), signed(after.mean - before.mean, digits), interval, told(after.median, digits),
      told(after.std, digits), told(after.min, digits), told(after.max, digits), String(after.n ?? "\u2013"),
    ]);
  });
  const given = Object.values(data.summary).map((by) => (by.after || by.before || {}).confidence).find(known);
  const level = given ? `${Math.round(100 * given)} %` : "95 %";
  const titles = ["metric", "mean before", "mean after", "change", `${level} interval`, "median", "SD", "min", "max", "pairs"];
  return panel("Summary", el("span", { class: "muted" },
    "\u2191 more is better, \u2193 less is better; the interval is that of the mean after, by bootstrap; median to max are of after, too"),
  plainTable("Summary of all metrics", titles, rows));
}

function drawPlots(place) {
  const m = shownMetric;
  const metric = data.metrics[m];
  const wide = Math.max(300, (place.clientWidth > 934 ? place.clientWidth / 2 - 7 : place.clientWidth) - 32);
  const key = () => el("span", { class: "key" }, el("span", {}, el("i"), "before"), el("span", {}, el("i", { class: "a" }), "after"));
  const labels = figures.labelsOf(m).length;
  const spread = panel(labels ? `${metric.title} by label` : `${metric.title}: spread`, key(), labelPlot(m, wide),
    el("p", { class: "muted" }, "Dots: pairs; bar: middle half; tick: median."));
  const ranked = figures.overall(m, AFTER).some(known)
    ? panel(`${metric.title} of every pair, worst first`, key(), rankPlot(m, wide, openPair),
      el("p", { class: "muted" }, metric.better ? "A red line marks a pair that became worse. Click a pair to open it." : "Click a pair to open it."))
    : null;
  replace(place, spread, ranked, labels ? labelPanel(m) : null);
}

function labelPanel(m) {
  const { digits, title } = data.metrics[m];
  const rows = figures.labelsOf(m).map((l) => {
    const [before, after] = [BEFORE, AFTER].map((w) => figures.column(m, l, w));
    const asked = data.cases.filter((_, c) => figures.asked(c, m, l)).length;
    const ordered = sorted(after);
    return [data.labels[l], told(mean(before), digits), el("b", {}, told(mean(after), digits)),
      signed(mean(after) - mean(before), digits), told(quantile(ordered, 0.5), digits), told(ordered[0], digits),
      told(ordered[ordered.length - 1], digits), String(ordered.length), String(asked - ordered.length)];
  });
  const box = panel(`${title} by label: numbers`, null, plainTable(`${title} by label`,
    ["label", "mean before", "mean after", "change", "median", "min", "max", "pairs", "missing"], rows));
  box.style.gridColumn = "1 / -1";
  return box;
}

function pairsPanel() {
  const box = el("div");
  const words = el("input", { type: "search", placeholder: "part of a name", "aria-label": "Show pairs whose name holds", oninput: () => filter() });
  const every = el("input", { type: "checkbox", onchange: () => build() });
  let table;
  let order = worstFirst(shownMetric);
  function filter() {
    const text = words.value.trim().toLowerCase();
    table.show((c) => !text || data.cases[c].id.toLowerCase().includes(text) || data.cases[c].status.toLowerCase().includes(text));
  }
  function build() {
    const chosen = every.checked ? data.metrics.map((_, m) => m) : mainMetrics();
    table = sortableTable({ caption: "All pairs", tall: data.cases.length > 25, rows: order, columns: [
      { title: "pair", text: true, kind: "id", cell: (c) => el("a", { href: linkTo(c), title: data.cases[c].id }, data.cases[c].id), sort: (c) => data.cases[c].id },
      { title: "status", text: true, cell: (c) => el("span", { class: failed.includes(c) ? "bad" : null }, data.cases[c].status), sort: (c) => data.cases[c].status },
      ...metricColumns(chosen),
    ] });
    replace(box, table.node);
    filter();
  }
  build();
  const tools = el("span", { class: "screen key" }, el("label", {}, "Find ", words), el("label", {}, every, " all metrics"));
  return {
    node: panel("Pairs, worst first", tools, box),
    order(next) {
      order = next;
      table.order(next);
    },
  };
}

function originPanel() {
  const defined = data.metrics.filter((metric) => metric.definition);
  const list = defined.flatMap((metric) => [el("dt", {}, titled(metric)), el("dd", {}, metric.definition)]);
  return el("section", { class: "panel" },
    defined.length ? el("details", { open: true }, el("summary", {}, "What the metrics are"), el("dl", {}, list)) : null,
    Object.keys(data.provenance).length ? el("details", {}, el("summary", {}, "Where the figures come from"),
      el("pre", {}, JSON.stringify(data.provenance, null, 2))) : null,
    el("p", { class: "muted" }, `Made by registration ${data.version}. Not a medical device.`));
}

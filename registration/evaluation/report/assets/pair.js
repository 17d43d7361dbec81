// The page of one pair: its views, its figures beside those of the cohort, its labels, what is missing.

let viewer = null;

async function drawPair(c) {
  const view = $("pair-view");
  const entry = data.cases[c];
  if (viewer) viewer.close();
  viewer = null;
  const place = el("div", {}, el("div", { class: "planes" }, el("p", {}, "Decoding\u2026")));
  const notes = el("div");
  replace(view, headOf(c), entry.error ? el("p", { class: "notice" }, el("b", {}, `${entry.status}: `), entry.error) : null,
    el("section", { class: "panel" }, place, notes, keysHelp()), el("div", { class: "columns" }, figuresPanel(c), labelsPanel(c)));
  let pair;
  try {
    pair = await loadPair(c);
  } catch (error) {
    pair = { notes: [`This pair cannot be decoded: ${error.message}`] };
  }
  if (currentPair() !== c) return;
  if (pair.images) viewer = new Viewer(place, pair);
  else replace(place, el("p", { class: "notice" }, "There are no pictures of this pair."));
  if (pair.notes && pair.notes.length) {
    const lines = pair.notes.map((note) => el("li", {}, note));
    replace(notes, el("ul", { class: "notes" }, lines));
  }
}

function neighbours(c) {
  const order = data.metrics.length ? worstFirst(shownMetric) : data.cases.map((_, n) => n);
  const n = order.indexOf(c);
  return { previous: order[n - 1], next: order[n + 1], place: n + 1, count: order.length };
}

function headOf(c) {
  const { previous, next, place, count } = neighbours(c);
  const turn = (title, to, key) => el("button", { type: "button", disabled: to === undefined, title: `key ${key}`,
    onclick: () => openPair(to) }, title);
  const metric = data.metrics[shownMetric];
  return el("div", { class: "pairhead" }, el("h2", {}, data.cases[c].id),
    el("span", { class: failed.includes(c) ? "bad" : "muted" }, data.cases[c].status),
    el("span", { class: "screen" }, turn("\u2190 worse", previous, "["), " ", turn("better \u2192", next, "]")),
    el("span", { class: "muted" }, metric ? `${place} of ${count}, worst ${metric.title} first` : `${place} of ${count}`));
}

function figuresPanel(c) {
  const several = data.cases.length > 1;
  const rows = data.metrics.flatMap((metric, m) => {
    const [before, after] = [BEFORE, AFTER].map((w) => figures.overall(m, w)[c]);
    const there = figures.asked(c, m, -1) || figures.labelsOf(m).some((l) => figures.asked(c, m, l));
    if (!there) return [];
    const rank = rankOf(m, c);
    const change = known(before) && known(after) ? after - before : NaN;
    const worse = metric.better * change < 0;
    return [[
      el("span", { title: metric.definition || null }, titled(metric)), told(before, metric.digits),
      known(after) ? el("b", {}, told(after, metric.digits)) : "missing",
      el("span", { class: worse ? "bad" : null }, signed(change, metric.digits)),
      ...(several ? [told(summaryOf(m, AFTER).median, metric.digits), rank ? `${rank.place} of ${rank.count}` : "\u2013"] : []),
    ]];
  });
  if (!rows.length) return panel("Figures", null, el("p", { class: "muted" }, "There are no figures of this pair."));
  return panel("Figures", several ? el("span", { class: "muted" }, "rank 1 is the worst") : null, plainTable("Figures of this pair",
    ["metric", "before", "after", "change", ...(several ? ["median of all", "rank"] : [])], rows));
}

function labelsPanel(c) {
  const places = data.metrics.map((_, m) => m).filter((m) => figures.labelsOf(m).some((l) => figures.asked(c, m, l)));
  if (!places.length) return null;
  const all = [...new Set(places.flatMap((m) => figures.labelsOf(m)))].sort((a, b) => a - b).filter((l) => places.some((m) => figures.asked(c, m, l)));
  const shown = places.filter((m) => MAIN.includes(data.metrics[m].name));
  const columns = (shown.length ? shown : places).flatMap((m) => [BEFORE, AFTER].filter((w) => figures.has(m, w)).map((w, n) => {
    const { digits } = data.metrics[m];
    return { title: w === BEFORE ? "before" : "after", group: titled(data.metrics[m]), edge: n === 0, kind: w === BEFORE ? "was" : "",
      cell: (l) => {
        const value = figures.column(m, l, w)[c];
        return known(value) ? told(value, digits) : figures.asked(c, m, l) ? "missing" : "\u2013";
      },
      sort: (l) => figures.column(m, l, w)[c] };
  }));
  const table = sortableTable({ caption: "Figures of this pair by label", rows: all, columns: [
    { title: "label", text: true, cell: (l) => data.labels[l], sort: (l) => data.labels[l] }, ...columns] });
  return panel("By label", null, table.node);
}

function keysHelp() {
  const line = (keys, text) => [el("dt", {}, keys.flatMap((key, n) => [n ? " " : "", el("kbd", {}, key)])), el("dd", {}, text)];
  return el("details", { class: "keys screen", style: "margin-top: 8px" }, el("summary", {}, "Keys"), el("dl", {},
    line(["\u2190", "\u2191", "\u2192", "\u2193"], "move the crosshair in the plane that has the focus (with Shift by 5 voxels)"),
    line(["Page up", "Page down"], "the next slice of that plane; the wheel does the same"),
    line(["<", ">"], "move the divider between before and after; the pointer drags it too"),
    line(["1", "\u2026", "7"], "kinds of view"), line(["b", "a"], "the moving image before, after registration"),
    line(["Space"], "flicker between fixed and moving image"), line(["l", "e", "c"], "outlines, fixed edges, crosshair"),
    line(["[", "]"], "the next worse, the next better pair"), line(["Esc"], "back to the cohort")));
}

/** Keys of the whole page of a pair; none that a focused control needs itself. */
function pairKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || currentPair() < 0) return;
  const tag = event.target.tagName;
  const typing = tag === "SELECT" || (tag === "INPUT" && event.target.type === "search");
  if (event.key === "Escape" && !typing) location.hash = "#cohort";
  if (typing) return;
  const { previous, next } = neighbours(currentPair());
  if (event.key === "[" && previous !== undefined) openPair(previous);
  if (event.key === "]" && next !== undefined) openPair(next);
  if (!viewer) return;
  const mode = Object.keys(MODES)[Number(event.key) - 1];
  if (mode && possible(viewer.pair, mode)) state.mode = mode;
  else if ((event.key === "b" || event.key === "a") && viewer.pair.volumes[event.key === "b" ? "before" : "after"]) state.when = event.key === "b" ? "before" : "after";
  else if ((event.key === "<" || event.key === ">") && state.mode === "slider") {
    viewer.divide(state.amounts.slider + (event.key === "<" ? -5 : 5));
    return;
  } else if (event.key === "l") state.outlines = !state.outlines;
  else if (event.key === "e") state.fixedEdges = !state.fixedEdges;
  else if (event.key === "c") state.crosshair = !state.crosshair;
  else if (event.key === " " && !["BUTTON", "INPUT", "SUMMARY"].includes(tag) && possible(viewer.pair, "flicker")) {
    event.preventDefault();
    state.other = state.mode === "flicker" ? !state.other : true;
    state.mode = "flicker";
  } else return;
  viewer.build();
}

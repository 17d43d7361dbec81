// Tables whose columns sort by a click or Enter on their headings.

/**
 * columns: {title, group, text (align left), cell(row) -> node or text, sort(row) -> number or text, kind (class), rising}
 * order: the rows as they stand until a heading is used. Returns {node, show(filter)}.
 */
function sortableTable({ columns, rows, caption, tall }) {
  let chosen = null;
  let rising = true;
  const body = el("tbody");
  const heads = columns.map((column, n) => el("th", {
    scope: "col", class: [column.text ? "text" : "", column.edge ? "edge" : ""].join(" ").trim() || null,
  }, column.sort ? el("button", { type: "button", title: column.hint, onclick: () => sort(n) }, column.title) : column.title));
  const table = el("table", {}, el("caption", { class: "muted screen", hidden: true }, caption),
    el("thead", {}, groupRow(columns), el("tr", {}, heads)), body);
  let keep = () => true;
  let given = rows;

  function sort(n) {
    rising = chosen === n ? !rising : columns[n].rising !== false;
    chosen = n;
    heads.forEach((head, k) => (k === n
      ? head.setAttribute("aria-sort", rising ? "ascending" : "descending") : head.removeAttribute("aria-sort")));
    fill();
  }

  function ordered() {
    if (chosen === null) return given;
    const key = columns[chosen].sort;
    return [...given].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      // Missing figures stay at the end, whichever way.
      if (known(x) !== known(y)) return known(x) ? -1 : 1;
      if (!known(x)) return 0;
      const less = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return rising ? less : -less;
    });
  }

  function fill() {
    body.replaceChildren(...ordered().filter(keep).map((row) => el("tr", {}, columns.map((column) => el("td", {
      class: [column.kind || (column.text ? "text" : ""), column.edge ? "edge" : ""].join(" ").trim() || null,
    }, column.cell(row))))));
  }

  fill();
  return {
    node: el("div", { class: tall ? "scroll tall" : "scroll", tabindex: 0, role: "region", "aria-label": caption }, table),
    show(filter) {
      keep = filter;
      fill();
    },
    order(next) {
      given = next;
      chosen = null;
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      fill();
    },
  };
}

/** One heading over columns that belong together; none where nothing is grouped. */
function groupRow(columns) {
  if (!columns.some((column) => column.group)) return null;
  const cells = [];
  for (const column of columns) {
    const last = cells[cells.length - 1];
    if (last && column.group && last.group === column.group) last.span += 1;
    else cells.push({ group: column.group, span: 1 });
  }
  return el("tr", {}, cells.map(({ group, span }) => (group
    ? el("th", { colspan: span, scope: "colgroup", class: "group" }, group) : el("td", {}))));
}

/** Columns before, after of metrics, those that are there. */
function metricColumns(places) {
  return places.flatMap((m) => {
    const metric = data.metrics[m];
    const whens = [BEFORE, AFTER].filter((w) => figures.has(m, w));
    return whens.map((w, n) => ({
      title: w === BEFORE ? "before" : "after", group: titled(metric), edge: n === 0, hint: metric.definition || null,
      kind: w === BEFORE ? "was" : "", rising: metric.better > 0,
      cell: (c) => told(figures.overall(m, w)[c], metric.digits), sort: (c) => figures.overall(m, w)[c],
    }));
  });
}

/** A plain table of texts; the first column stands at the left. */
function plainTable(caption, titles, rows) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, el("table", {},
    el("thead", {}, el("tr", {}, titles.map((title, n) => el("th", { scope: "col", class: n ? null : "text" }, title)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, n) => (n
      ? el("td", {}, cell) : el("th", { scope: "row", class: "text" }, cell))))))));
}

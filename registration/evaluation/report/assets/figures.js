// The figures of metrics.csv, by metric, label, time and case.

const BEFORE = 0;
const AFTER = 1;

const figures = (() => {
  const columns = new Map();
  const units = data.cases.length;
  const { case: cases, metric, label, when, value } = data.figures;
  for (let n = 0; n < value.length; n++) {
    const key = `${metric[n]}/${label[n]}/${when[n]}`;
    if (!columns.has(key)) columns.set(key, new Array(units).fill(null));
    columns.get(key)[cases[n]] = value[n];
  }
  const none = new Array(units).fill(null);
  const means = new Map();
  const rows = new Set(Array.from(value, (_, n) => `${cases[n]}/${metric[n]}/${label[n]}`));

  /** Values of all cases under one label, -1 for none. */
  const column = (m, l, w) => columns.get(`${m}/${l}/${w}`) || none;
  const has = (m, w) => labelsOf(m).some((l) => columns.has(`${m}/${l}/${w}`)) || columns.has(`${m}/-1/${w}`);
  const labels = data.metrics.map((_, m) => data.labels.map((_, l) => l).filter(
    (l) => columns.has(`${m}/${l}/${BEFORE}`) || columns.has(`${m}/${l}/${AFTER}`)));
  function labelsOf(m) {
    return labels[m];
  }

  /** One value per case: the figure without label where there is one, else the mean over labels. */
  function overall(m, w) {
    const key = `${m}/${w}`;
    if (!means.has(key)) {
      const whole = column(m, -1, w);
      means.set(key, whole.map((v, c) => {
        if (known(v)) return v;
        const average = mean(labelsOf(m).map((l) => column(m, l, w)[c]));
        return known(average) ? average : null;
      }));
    }
    return means.get(key);
  }

  /** Whether a case has a line for this metric and label at all, be its value missing. */
  const asked = (c, m, l) => rows.has(`${c}/${m}/${l}`);

  return { column, has, labelsOf, overall, asked };
})();

/** Mean, interval and spread of a metric over the cases: from summary.json, else counted here. */
function summaryOf(m, w) {
  const name = data.metrics[m].name;
  const given = (data.summary[name] || {})[w === BEFORE ? "before" : "after"];
  const ordered = sorted(figures.overall(m, w));
  const own = {
    mean: mean(ordered), median: quantile(ordered, 0.5), min: ordered[0], max: ordered[ordered.length - 1],
    n: ordered.length,
  };
  return given && typeof given === "object" ? { ...own, ...given } : own;
}

/** The cases from worst to best; those without a figure come first, for they failed. */
function worstFirst(m, w = AFTER) {
  const values = figures.overall(m, w);
  const sign = data.metrics[m].better < 0 ? -1 : 1;
  return data.cases.map((_, c) => c).sort((a, b) => {
    if (known(values[a]) !== known(values[b])) return known(values[a]) ? 1 : -1;
    return known(values[a]) ? sign * (values[a] - values[b]) || a - b : a - b;
  });
}

/** "3 of 60, 1 is worst"; empty for metrics without a better side. */
function rankOf(m, c) {
  const values = figures.overall(m, AFTER);
  const { better } = data.metrics[m];
  if (!better || !known(values[c])) return null;
  const all = values.filter(known);
  // Where all are equal there is no worst.
  if (all.length < 2 || all.every((v) => v === all[0])) return null;
  return { place: 1 + all.filter((v) => (v - values[c]) * better < 0).length, count: all.length };
}

const MAIN = ["dice", "hd95", "assd", "tre", "ncc", "lncc", "folding", "sdlogj", "seconds"];

/** Metrics for narrow tables; all of them where none of the usual ones is there. */
function mainMetrics() {
  const places = data.metrics.map((_, m) => m);
  const chosen = places.filter((m) => MAIN.includes(data.metrics[m].name));
  return chosen.length ? chosen : places;
}

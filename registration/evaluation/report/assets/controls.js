// What the views show: one state for all pairs, so that turning pages keeps the way of looking.

const state = {
  mode: "slider", when: "after", outlines: true, label: 0, fixedEdges: false, landmarks: true, crosshair: true,
  bright: 0, contrast: 1, mirrored: true, only: "", other: false, cross: [0, 0, 0],
  amounts: Object.fromEntries(Object.entries(MODES).filter(([, m]) => m.range).map(([name, m]) => [name, m.range[2]])),
  reach: 0,
};

/** Lengths in mm follow the size of the field of view: a mouse and a torso both get a handful of fields. */
function fitAmounts(pair) {
  const reach = Math.max(...pair.shape.map((n, a) => (n > 1 ? n * pair.spacing[a] : 0)));
  if (state.reach && Math.abs(Math.log(reach / state.reach)) < 0.7) return;
  state.reach = reach;
  const round = (v) => Number(v.toPrecision(1));
  MODES.checker.range = [round(reach / 40), round(reach / 3), round(reach / 9)];
  MODES.grid.range = [round(reach / 80), round(reach / 8), round(reach / 22)];
  for (const name of ["checker", "grid"]) state.amounts[name] = MODES[name].range[2];
}

/** The first mode that a pair has everything for, if the chosen one is not. */
function possible(pair, name) {
  return Boolean(MODES[name].needs(pair, state.when));
}

function settle(pair) {
  if (!pair.volumes[state.when]) state.when = pair.volumes.after ? "after" : "before";
  if (possible(pair, state.mode)) return;
  state.mode = Object.keys(MODES).find((name) => possible(pair, name)) || "flicker";
}

/** The rows of controls; `changed` redraws, `rebuilt` also makes the controls anew. */
function controlsOf(pair, planes, changed, rebuilt) {
  const mode = MODES[state.mode];
  const set = (key, value, anew) => {
    state[key] = value;
    (anew ? rebuilt : changed)();
  };
  const modes = segments("View", "mode", Object.entries(MODES).map(([name, { title }]) => ({
    value: name, title, disabled: !possible(pair, name),
  })), state.mode, (value) => set("mode", value, true));
  const whens = segments("Moving image", "when", ["before", "after"].map((value) => ({
    value, title: value, disabled: !mode.when || !pair.volumes[value],
  })), mode.when ? state.when : "", (value) => set("when", value, true));
  return [
    el("div", { class: "controls" }, modes, whens, amountOf(mode, changed)),
    el("div", { class: "controls" }, overlays(pair, mode, set), window_(set), places(pair, planes, set)),
  ];
}

function segments(title, name, options, chosen, pick) {
  return el("fieldset", {}, el("legend", {}, title), el("span", { class: "segments" }, options.map(({ value, title: text, disabled }) => {
    const input = el("input", { type: "radio", name, value, disabled, onchange: () => pick(value) });
    input.checked = value === chosen;
    return el("label", {}, input, text);
  })));
}

function amountOf(mode, changed) {
  if (!mode.range) return el("span", { class: "muted" }, "Space or the button changes images ", el("button", { type: "button", onclick: () => {
    state.other = !state.other;
    changed();
  } }, "Flip"));
  const [low, high] = mode.range;
  const shown = el("output", {}, amountText(mode));
  return el("label", {}, `${mode.amount} `, el("input", { type: "range", id: "amount", min: low, max: high, step: (high - low) / 100,
    value: state.amounts[state.mode], oninput: (event) => {
      state.amounts[state.mode] = Number(event.target.value);
      shown.textContent = amountText(mode);
      changed();
    } }), " ", shown);
}

const amountText = (mode) => (mode.unit ? `${Number(state.amounts[state.mode].toPrecision(2))} ${mode.unit}` : "");

function check(title, key, set, disabled, hint) {
  const input = el("input", { type: "checkbox", disabled, onchange: () => set(key, input.checked) });
  input.checked = state[key] && !disabled;
  return el("label", { title: hint }, input, ` ${title}`);
}

function overlays(pair, mode, set) {
  const labels = Object.keys(pair.maps).length > 0;
  const choice = el("select", { "aria-label": "Which labels are outlined", disabled: !labels, onchange: () => set("label", Number(choice.value)) },
    el("option", { value: 0 }, "all labels"),
    labels ? pair.labels.values.map((value, n) => el("option", { value: n + 1 }, `label ${value}`)) : []);
  if (state.label > (labels ? pair.labels.values.length : 0)) state.label = 0;
  choice.value = state.label;
  return el("fieldset", {}, el("legend", {}, "Show"), check("outlines", "outlines", set, !labels, "l"), choice,
    mode === MODES.slider ? check("fixed edges", "fixedEdges", set, false, "e") : null,
    pair.points ? check("landmarks", "landmarks", set, false) : null, check("crosshair", "crosshair", set, false, "c"));
}

function window_(set) {
  const range = (title, key, min, max, step) => el("label", {}, `${title} `, el("input", { type: "range", min, max, step,
    value: state[key], style: "width: 70px", oninput: (event) => set(key, Number(event.target.value)) }));
  return el("fieldset", {}, range("Brightness", "bright", -120, 120, 2), range("Contrast", "contrast", 0.4, 4, 0.05));
}

function places(pair, planes, set) {
  const only = el("select", { "aria-label": "Which planes are shown", onchange: () => set("only", only.value, true) },
    el("option", { value: "" }, "all planes"), planes.map((plane) => el("option", { value: plane.name }, `${plane.name} alone`)));
  only.value = planes.some((plane) => plane.name === state.only) ? state.only : "";
  const side = el("select", { "aria-label": "Which side of the patient is at the left", onchange: () => set("mirrored", side.value === "r", true) },
    el("option", { value: "r" }, "R at left (radiological)"), el("option", { value: "l" }, "L at left (neurological)"));
  side.value = state.mirrored ? "r" : "l";
  return el("fieldset", {}, planes.length > 1 ? only : null, pair.letters ? side : null);
}

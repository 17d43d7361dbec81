// What stands over the picture and beside it: crosshair, sides, scale bar, landmarks, legend, values under the crosshair.

function marks(sheet, scale, bar) {
  const { plane, state: s, pair } = sheet;
  if (pair.points && s.landmarks) landmarks(sheet, scale);
  const { context, dot, w, h } = sheet;
  if (s.crosshair) {
    const at = (axis, n, flip) => ((flip ? n - 1 - s.cross[axis] : s.cross[axis]) + 0.5) / n;
    const [x, y] = [at(plane.u, plane.nu, plane.flipU) * w, at(plane.v, plane.nv, plane.flipV) * h];
    const gap = 7 * dot;
    const path = new Path2D();
    for (const [x1, y1, x2, y2] of [[0, y, x - gap, y], [x + gap, y, w, y], [x, 0, x, y - gap], [x, y + gap, x, h]]) {
      path.moveTo(x1, y1);
      path.lineTo(x2, y2);
    }
    context.globalAlpha = 0.55;
    sheet.stroke(path, INK.mark, 1);
    context.globalAlpha = 1;
  }
  if (pair.letters) {
    const sides = lettersOf(plane);
    sheet.rim(sides.left, 4 * dot, h / 2, "left", "middle");
    sheet.rim(sides.right, w - 4 * dot, h / 2, "right", "middle");
    sheet.rim(sides.top, w / 2, 4 * dot, "center", "top");
    sheet.rim(sides.bottom, w / 2, h - 4 * dot, "center", "bottom");
  }
  if (s.mode === "slider") {
    sheet.rim("before", 4 * dot, 4 * dot, "left", "top");
    sheet.rim("after", w - 4 * dot, 4 * dot, "right", "top");
  }
  if (s.mode === "flicker") sheet.rim(s.other ? `moving, ${s.when}` : "fixed", 4 * dot, 4 * dot, "left", "top");
  scaleBar(sheet, scale, bar);
}

/** A bar of a round length, the same in all planes: at most about a quarter of the narrowest. */
function scaleBar(sheet, scale, narrowest) {
  const { context, dot, h } = sheet;
  const length = [500, 200, 100, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1].find((mm) => mm <= narrowest * 0.28);
  if (!length) return;
  const [x, y] = [6 * dot, h - 6 * dot];
  context.fillStyle = "#000";
  context.fillRect(x - dot, y - 2 * dot, length * scale + 2 * dot, 4 * dot);
  context.fillStyle = INK.mark;
  context.fillRect(x, y - dot, length * scale, 2 * dot);
  sheet.rim(`${length} mm`, x, y - 4 * dot, "left", "bottom");
}

/** A ring at each fixed landmark near the plane, and a line to where its partner lies: what is left of the error. */
function landmarks(sheet, scale) {
  const { plane, pair, dot } = sheet;
  const error = pair.points[MODES[state.mode].when ? state.when : "after"] || pair.points.before;
  const [rings, lines] = [new Path2D(), new Path2D()];
  const reach = Math.max(0.6, 2 / pair.spacing[plane.w]);
  pair.points.fixed.forEach((point, n) => {
    if (plane.nw > 1 && Math.abs((point[plane.w] ?? 0) - sheet.k) > reach) return;
    const across = (axis, count, flip) => (flip ? count - 1 - point[axis] : point[axis]) + 0.5;
    const x = across(plane.u, plane.nu, plane.flipU) * sheet.steps.stepX;
    const y = across(plane.v, plane.nv, plane.flipV) * sheet.steps.stepY;
    rings.moveTo(x + 3.5 * dot, y);
    rings.arc(x, y, 3.5 * dot, 0, 7);
    lines.moveTo(x, y);
    lines.lineTo(x + (plane.flipU ? -1 : 1) * error[n][plane.u] * scale, y + (plane.flipV ? -1 : 1) * error[n][plane.v] * scale);
  });
  sheet.stroke(rings, INK.ring, 1.4);
  sheet.stroke(lines, INK.moving, 1.8);
}

const swatch = (colour, text) => el("span", {}, el("i", { class: "swatch", style: `background: ${colour}` }), text);

const ramp = (colour, from, to) => {
  const stops = Array.from({ length: 17 }, (_, n) => colour(n / 16));
  return el("span", {}, from, el("i", { class: "ramp", style: `background: linear-gradient(90deg, ${stops.join(", ")})` }), to);
};

function legendOf(pair, mode) {
  const parts = [];
  const rgb = ([r, g, b, a]) => `rgba(${Math.round(r)},${Math.round(g)},${Math.round(b)},${(a / 255).toFixed(2)})`;
  if (mode === MODES.slider) parts.push("left of the line the moving image before registration, right of it after");
  if (mode === MODES.checker) parts.push(`fields of the fixed image and of the moving one ${state.when} registration`);
  if (mode === MODES.flicker) parts.push(`the fixed image, and at a stroke of Space the moving one ${state.when} registration`);
  if (mode === MODES.edges || (mode === MODES.slider && state.fixedEdges)) parts.push(swatch(INK.edge, "edges of the fixed image"));
  if (mode === MODES.edges) parts.push(`over the moving image ${state.when} registration`);
  if (mode === MODES.grid) parts.push(swatch(INK.line, `lines of constant moving coordinates, every ${brief(state.amounts.grid)} mm, over the ${pair.volumes.after ? "warped" : "fixed"} image`));
  if (mode === MODES.difference) {
    parts.push(ramp((t) => rgb(differenceColour(Math.round(255 * t))), "moving darker", "moving brighter"),
      `than the fixed image, each in its own window, ${state.when} registration`);
  }
  if (mode === MODES.jacobian) {
    const { octave, range, folded } = pair.jacobian;
    parts.push(ramp((t) => rgb(jacobianColour(octave)(Math.round(128 + octave * (2 * t - 1)))), "0.5", "2"),
      "volume in the moving image per volume here (clear: 1)", swatch(INK.folded, `folded: ${told(folded, 3)} %`),
      `range ${told(range[0], 2)} to ${told(range[1], 2)}`);
  }
  if (state.outlines && pair.maps.fixed) parts.push(swatch(INK.fixed, "labels of the fixed image"));
  if (state.outlines && (pair.maps.before || pair.maps.after)) parts.push(swatch(INK.moving, "labels of the moving image"));
  if (pair.points && state.landmarks) parts.push(swatch(INK.ring, "rings: landmarks of the fixed image; lines: what is left to their partners"));
  if (pair.letters) parts.push(pair.tilt > 5 ? `on the image\u2019s own axes, ${pair.tilt}\u00b0 off the patient\u2019s; letters name the nearest side` : "");
  return parts.filter(Boolean).map((part) => el("span", {}, part));
}

/** World coordinates and values at the crosshair. */
function readoutOf(pair) {
  const voxel = state.cross.map(Math.round);
  const n = voxel[0] + pair.shape[0] * (voxel[1] + pair.shape[1] * voxel[2]);
  const world = worldOf(pair, voxel).slice(0, pair.ndim);
  const text = world.map((v, a) => `${Math.abs(v).toFixed(1)} ${SIDES[a][v >= 0 ? 1 : 0]}`).join("  ");
  const fact = (name, value) => el("span", {}, `${name} `, el("b", {}, value));
  const parts = [pair.letters ? fact("at", `${text} mm`) : fact("at pixel", voxel.slice(0, 2).map((v, a) => Math.round(pair.shape[a] - 1 - v)).join(", "))];
  for (const [name, title] of [["fixed", "fixed"], ["before", "moving before"], ["after", "after"]]) {
    const picture = pair.images[name];
    if (picture) parts.push(fact(title, brief(picture.low + (pair.volumes[name][n] / 255) * (picture.high - picture.low))));
  }
  const labels = ["fixed", "before", "after"].filter((name) => pair.maps[name]).map((name) => {
    const code = pair.maps[name][n];
    return code ? pair.labels.values[code - 1] : "0";
  });
  if (labels.length) parts.push(fact("label", labels.join(" / ")));
  if (pair.shift) parts.push(fact("moved by", `${told(shiftAt(pair, voxel), 2)} mm`));
  if (pair.jacobian) {
    const value = jacobianAt(pair, voxel);
    parts.push(fact("Jacobian", value ? told(value, 2) : "folded"));
  }
  return parts;
}

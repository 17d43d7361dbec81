// What one plane shows, on its canvas.

const INK = { fixed: "#4cc9ff", moving: "#ffa62b", edge: "#ffd23f", line: "#54e0ff", mark: "#ffe08a", folded: "#ff2fd0", ring: "#7dff9a" };

/** A slice as a small canvas in grey (or any colour of `colour(value) -> [r, g, b, a]`). */
function pictureOf(values, w, h, colour) {
  const sheet = document.createElement("canvas");
  sheet.width = w;
  sheet.height = h;
  const context = sheet.getContext("2d");
  const image = context.createImageData(w, h);
  const table = Array.from({ length: 256 }, (_, v) => colour(v));
  for (let n = 0, to = 0; n < values.length; n++, to += 4) {
    const [r, g, b, a] = table[values[n]];
    image.data[to] = r;
    image.data[to + 1] = g;
    image.data[to + 2] = b;
    image.data[to + 3] = a;
  }
  context.putImageData(image, 0, 0);
  return sheet;
}

function greyTable(state) {
  return (v) => {
    const grey = Math.max(0, Math.min(255, (v - 127.5) * state.contrast + 127.5 + state.bright));
    return [grey, grey, grey, 255];
  };
}

/** Everything that drawing a plane needs: slices by name, size of the canvas. */
class Sheet {
  constructor(canvas, pair, plane, state) {
    Object.assign(this, { canvas, pair, plane, state, context: canvas.getContext("2d") });
    this.k = Math.round(state.cross[plane.w]);
    this.w = canvas.width;
    this.h = canvas.height;
    this.steps = { stepX: this.w / plane.nu, stepY: this.h / plane.nv, off: 0.5 };
    // One screen pixel in canvas pixels.
    this.dot = Math.max(1, window.devicePixelRatio || 1);
  }

  slice(name) {
    const volume = this.pair.volumes[name];
    return volume ? sliceOf(volume, this.pair.shape, this.plane, this.k) : null;
  }

  put(picture, smooth = true) {
    this.context.imageSmoothingEnabled = smooth;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(picture, 0, 0, this.w, this.h);
  }

  grey(name) {
    const values = this.slice(name);
    if (values) this.put(pictureOf(values, this.plane.nu, this.plane.nv, greyTable(this.state)));
  }

  clipped(rectangles, draw) {
    const { context } = this;
    context.save();
    context.beginPath();
    for (const [x, y, w, h] of rectangles) context.rect(x, y, w, h);
    context.clip();
    draw();
    context.restore();
  }

  stroke(path, colour, width) {
    Object.assign(this.context, { strokeStyle: colour, lineWidth: width * this.dot, lineJoin: "round" });
    this.context.stroke(path);
  }

  outlines(name, colour, width) {
    const map = this.pair.maps[name];
    if (!map) return;
    const path = new Path2D();
    const { nu, nv } = this.plane;
    outline(path, sliceOf(map, this.pair.shape, this.plane, this.k), nu, nv, this.steps.stepX, this.steps.stepY, this.state.label);
    this.stroke(path, colour, width);
  }

  /** Outlines of the fixed labels under those of a moving image. */
  labels(name) {
    if (!this.state.outlines) return;
    this.outlines("fixed", INK.fixed, 2);
    this.outlines(name, INK.moving, 1);
  }

  rim(text, x, y, align, base) {
    const { context } = this;
    context.font = `600 ${12 * this.dot}px system-ui, sans-serif`;
    Object.assign(context, { textAlign: align, textBaseline: base, lineWidth: 3 * this.dot, strokeStyle: "#000", fillStyle: INK.mark });
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}

const MODES = {
  slider: {
    title: "Before | after", needs: (pair) => pair.volumes.before && pair.volumes.after, amount: "divider",
    range: [0, 100, 50], paint(sheet) {
      const x = (sheet.state.amounts.slider / 100) * sheet.w;
      sheet.clipped([[0, 0, x, sheet.h]], () => {
        sheet.grey("before");
        sheet.labels("before");
      });
      sheet.clipped([[x, 0, sheet.w - x, sheet.h]], () => {
        sheet.grey("after");
        sheet.labels("after");
      });
      fixedEdges(sheet, 0.35, sheet.state.fixedEdges);
      sheet.context.fillStyle = INK.mark;
      sheet.context.fillRect(x - sheet.dot / 2, 0, sheet.dot, sheet.h);
    },
  },
  checker: {
    title: "Checkerboard", needs: (pair, name) => pair.volumes[name], when: true, amount: "field", unit: "mm",
    range: [2, 60, 14], paint(sheet, name) {
      sheet.grey("fixed");
      const cell = sheet.state.amounts.checker * (sheet.w / sheet.plane.wide);
      const fields = [];
      for (let y = 0; y * cell < sheet.h; y++) {
        for (let x = (y + 1) % 2; x * cell < sheet.w; x += 2) fields.push([x * cell, y * cell, cell, cell]);
      }
      sheet.clipped(fields, () => sheet.grey(name));
      sheet.labels(name);
    },
  },
  edges: {
    title: "Edges", needs: (pair, name) => pair.volumes[name], when: true, amount: "edges shown", unit: "%",
    range: [5, 80, 35], paint(sheet, name) {
      sheet.grey(name);
      fixedEdges(sheet, sheet.state.amounts.edges / 100, true);
      sheet.labels(name);
    },
  },
  difference: {
    title: "Difference", needs: (pair, name) => pair.volumes[name], when: true, amount: "gain", unit: "\u00d7",
    range: [1, 8, 2], paint(sheet, name) {
      const [fixed, moving] = [sheet.slice("fixed"), sheet.slice(name)];
      const gain = sheet.state.amounts.difference;
      const values = Uint8Array.from(fixed, (v, n) => Math.max(0, Math.min(255, 128 + ((moving[n] - v) * gain) / 2)));
      sheet.put(pictureOf(values, sheet.plane.nu, sheet.plane.nv, differenceColour));
      sheet.labels(name);
    },
  },
  flicker: {
    title: "Flicker", needs: (pair, name) => pair.volumes[name], when: true, paint(sheet, name) {
      sheet.grey(sheet.state.other ? name : "fixed");
      sheet.labels(name);
    },
  },
  grid: {
    title: "Grid", needs: (pair) => pair.shift, amount: "every", unit: "mm", range: [1, 40, 5], paint(sheet) {
      sheet.grey(sheet.pair.volumes.after ? "after" : "fixed");
      gridLines(sheet, sheet.state.amounts.grid);
      sheet.labels("after");
    },
  },
  jacobian: {
    title: "Jacobian", needs: (pair) => pair.jacobian, amount: "opacity", unit: "%", range: [10, 100, 65], paint(sheet) {
      sheet.grey("fixed");
      jacobianMap(sheet, sheet.state.amounts.jacobian / 100);
      sheet.labels("after");
    },
  },
};

function fixedEdges(sheet, share, wanted) {
  if (!wanted) return;
  const path = new Path2D();
  edges(path, sheet.slice("fixed"), sheet.plane.nu, sheet.plane.nv, sheet.steps, share);
  sheet.stroke(path, INK.edge, 1.2);
}

/** Blue where the moving image is darker than the fixed one, orange where brighter, black where they agree. */
function differenceColour(v) {
  const t = Math.min(1, Math.abs(v - 128) / 127);
  return v < 128 ? [50 * t, 150 * t, 255 * t, 255] : [255 * t, 150 * t, 40 * t, 255];
}

/** Lines of constant moving coordinates. */
function gridLines(sheet, every) {
  const { plane } = sheet;
  const most = 120;
  const p = Math.max(2, Math.round(most * Math.min(1, plane.wide / plane.tall)));
  const q = Math.max(2, Math.round(most * Math.min(1, plane.tall / plane.wide)));
  const place = { stepX: sheet.w / (p - 1), stepY: sheet.h / (q - 1), off: 0 };
  const path = new Path2D();
  for (const values of mappedPlane(sheet.pair, plane, sheet.k, p, q)) {
    let [low, high] = [Infinity, -Infinity];
    for (const v of values) [low, high] = [Math.min(low, v), Math.max(high, v)];
    const first = Math.ceil(low / every);
    for (let n = first; n * every <= high && n < first + 400; n++) contour(path, values, p, q, n * every, place);
  }
  sheet.stroke(path, INK.line, 1);
}

/** Blue below 1, clear at 1, red above; folded voxels in magenta. */
function jacobianColour(octave) {
  return (code) => {
    if (!code) return [255, 47, 208, 255];
    const t = Math.max(-1, Math.min(1, (code - 128) / octave));
    return [...(t < 0 ? [60, 130, 255] : [255, 80, 50]), 255 * Math.sqrt(Math.abs(t))];
  };
}

function jacobianMap(sheet, opacity) {
  const { shape, codes, octave } = sheet.pair.jacobian;
  const k = nearestSlice(sheet.k, sheet.plane.nw, shape[sheet.plane.w]);
  const values = sliceOf(codes, shape, sheet.plane, k);
  const [w, h] = [shape[sheet.plane.u], shape[sheet.plane.v]];
  const { context } = sheet;
  context.globalAlpha = opacity;
  sheet.put(pictureOf(values, w, h, (code) => (code ? jacobianColour(octave)(code) : [0, 0, 0, 0])));
  context.globalAlpha = 1;
  // Folded voxels stand out, unsmoothed and opaque.
  if (values.includes(0)) sheet.put(pictureOf(values, w, h, (code) => (code ? [0, 0, 0, 0] : jacobianColour(octave)(0))), false);
}

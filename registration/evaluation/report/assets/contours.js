// Lines of equal value, edges, and outlines, as paths in the pixels of a canvas.

/**
 * Marching squares: where values (w x h) cross a level. A sample n lies at (n + off) * step on the canvas.
 * `keep`, of the same size, leaves out cells whose first corner is 0.
 */
function contour(path, values, w, h, level, { stepX, stepY, off }, keep) {
  for (let y = 0; y + 1 < h; y++) {
    for (let x = 0; x + 1 < w; x++) {
      const n = y * w + x;
      if (keep && !keep[n]) continue;
      const corners = [values[n] - level, values[n + 1] - level, values[n + w + 1] - level, values[n + w] - level];
      const signs = (corners[0] > 0) + 2 * (corners[1] > 0) + 4 * (corners[2] > 0) + 8 * (corners[3] > 0);
      if (signs === 0 || signs === 15) continue;
      const points = [];
      for (let side = 0; side < 4; side++) {
        const [a, b] = [corners[side], corners[(side + 1) % 4]];
        if ((a > 0) === (b > 0)) continue;
        const t = a / (a - b);
        points.push(side === 0 ? [x + t, y] : side === 1 ? [x + 1, y + t] : side === 2 ? [x + 1 - t, y + 1] : [x, y + 1 - t]);
      }
      for (let k = 0; k + 1 < points.length; k += 2) {
        path.moveTo((points[k][0] + off) * stepX, (points[k][1] + off) * stepY);
        path.lineTo((points[k + 1][0] + off) * stepX, (points[k + 1][1] + off) * stepY);
      }
    }
  }
}

/** Outlines of labels along the sides of their pixels; `only` is a position in the list of labels, 0 for all. */
function outline(path, codes, w, h, stepX, stepY, only) {
  const at = (x, y) => {
    const code = x < 0 || y < 0 || x >= w || y >= h ? 0 : codes[y * w + x];
    return only && code !== only ? 0 : code;
  };
  for (let y = 0; y < h; y++) {
    for (let x = 0; x <= w; x++) {
      if (at(x - 1, y) !== at(x, y)) {
        path.moveTo(x * stepX, y * stepY);
        path.lineTo(x * stepX, (y + 1) * stepY);
      }
    }
  }
  for (let y = 0; y <= h; y++) {
    for (let x = 0; x < w; x++) {
      if (at(x, y - 1) !== at(x, y)) {
        path.moveTo(x * stepX, y * stepY);
        path.lineTo((x + 1) * stepX, y * stepY);
      }
    }
  }
}

/** Gaussian smoothing of a slice, mirrored at its borders. */
function blurred(values, w, h, sigma) {
  const radius = Math.ceil(3 * sigma);
  const kernel = Array.from({ length: 2 * radius + 1 }, (_, n) => Math.exp(-0.5 * ((n - radius) / sigma) ** 2));
  const total = kernel.reduce((a, b) => a + b, 0);
  const mirror = (n, size) => {
    const m = ((n % (2 * size)) + 2 * size) % (2 * size);
    return m < size ? m : 2 * size - 1 - m;
  };
  const once = (from, inner, outer, stepIn, stepOut) => {
    const to = new Float32Array(w * h);
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        for (let k = -radius; k <= radius; k++) sum += kernel[k + radius] * from[mirror(i + k, inner) * stepIn + o * stepOut];
        to[i * stepIn + o * stepOut] = sum / total;
      }
    }
    return to;
  };
  return once(once(values, w, h, 1, w), h, w, w, 1);
}

/** Edges of a slice (Marr and Hildreth 1980): zero crossings of the Laplacian where the slope is steep. */
function edges(path, values, w, h, steps, share) {
  const soft = blurred(values, w, h, Math.max(1, Math.max(w, h) / 160));
  const laplacian = new Float32Array(w * h);
  const slope = new Float32Array(w * h);
  for (let y = 1; y + 1 < h; y++) {
    for (let x = 1; x + 1 < w; x++) {
      const n = y * w + x;
      laplacian[n] = soft[n - 1] + soft[n + 1] + soft[n - w] + soft[n + w] - 4 * soft[n];
      slope[n] = Math.hypot(soft[n + 1] - soft[n - 1], soft[n + w] - soft[n - w]) / 2;
    }
  }
  const steep = sorted(Array.from(slope).filter((v) => v > 1.5));
  const least = steep.length ? quantile(steep, 1 - share) : Infinity;
  contour(path, laplacian, w, h, 0, steps, Uint8Array.from(slope, (v) => (v >= least ? 1 : 0)));
}

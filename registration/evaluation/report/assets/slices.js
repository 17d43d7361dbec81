// Planes of a volume as they stand on the screen: row 0 at the top, mirrored where the patient faces us.

// u runs along the width of the picture, v along its height, w through it; a flip says the axis runs against the screen.
const PLANES = [
  { name: "axial", u: 0, v: 1, w: 2 },
  { name: "coronal", u: 0, v: 2, w: 1 },
  { name: "sagittal", u: 1, v: 2, w: 0 },
];
const SIDES = [["L", "R"], ["P", "A"], ["I", "S"]];

/** Left and right are mirrored as radiologists look, unless asked otherwise; on sagittal views the face is at the left. */
function planesOf(pair, mirrored) {
  const chosen = pair.ndim === 2 ? [{ ...PLANES[0], name: "image" }] : PLANES.filter((p) => pair.shape[p.u] > 1 && pair.shape[p.v] > 1);
  return (chosen.length ? chosen : [PLANES[0]]).map((plane) => ({
    ...plane, flipU: plane.u === 1 || mirrored || !pair.letters, flipV: true,
    nu: pair.shape[plane.u], nv: pair.shape[plane.v], nw: pair.shape[plane.w],
    wide: pair.shape[plane.u] * pair.spacing[plane.u], tall: pair.shape[plane.v] * pair.spacing[plane.v],
  }));
}

/** Letters at left, right, top and bottom of a plane. */
function lettersOf(plane) {
  const [low, high] = SIDES[plane.u];
  const [down, up] = SIDES[plane.v];
  return { left: plane.flipU ? high : low, right: plane.flipU ? low : high, top: up, bottom: down };
}

/** One slice of a volume of any shape: (nu x nv) values in screen order. */
function sliceOf(volume, shape, plane, k) {
  const stride = [1, shape[0], shape[0] * shape[1]];
  const [nu, nv] = [shape[plane.u], shape[plane.v]];
  const result = new volume.constructor(nu * nv);
  let to = 0;
  for (let y = 0; y < nv; y++) {
    const row = k * stride[plane.w] + (plane.flipV ? nv - 1 - y : y) * stride[plane.v];
    for (let x = 0; x < nu; x++) result[to++] = volume[row + (plane.flipU ? nu - 1 - x : x) * stride[plane.u]];
  }
  return result;
}

/** The slice of a coarse grid of the same field of view that lies nearest to slice k of n. */
const nearestSlice = (k, n, coarse) => Math.max(0, Math.min(coarse - 1, Math.floor(((k + 0.5) / n) * coarse)));

/**
 * Moving coordinates (mm along the view's axes u and v) at (p x q) points from edge to edge of a plane, in screen order:
 * position plus displacement, linear between the nodes of the coarse grid, whose outer nodes lie on the edges.
 */
function mappedPlane(pair, plane, k, p, q) {
  const { shape, parts } = pair.shift;
  const length = [0, 1, 2].map((a) => pair.shape[a] * pair.spacing[a]);
  const along = [new Float32Array(p * q), new Float32Array(p * q)];
  const share = [0, 0, 0];
  share[plane.w] = (k + 0.5) / plane.nw;
  for (let y = 0; y < q; y++) {
    share[plane.v] = plane.flipV ? 1 - y / (q - 1) : y / (q - 1);
    for (let x = 0; x < p; x++) {
      share[plane.u] = plane.flipU ? 1 - x / (p - 1) : x / (p - 1);
      const n = y * p + x;
      along[0][n] = share[plane.u] * length[plane.u] + between(parts[plane.u], shape, share);
      along[1][n] = share[plane.v] * length[plane.v] + between(parts[plane.v], shape, share);
    }
  }
  return along;
}

/** Trilinear value at a place given in shares of the field of view. */
function between(values, shape, share) {
  const base = [0, 0, 0];
  const part = [0, 0, 0];
  for (let a = 0; a < 3; a++) {
    const place = share[a] * (shape[a] - 1);
    base[a] = Math.max(0, Math.min(shape[a] - 2, Math.floor(place)));
    part[a] = shape[a] > 1 ? place - base[a] : 0;
  }
  const [sx, sy, sz] = [shape[0] > 1 ? 1 : 0, shape[1] > 1 ? shape[0] : 0, shape[2] > 1 ? shape[0] * shape[1] : 0];
  const n = base[0] + base[1] * shape[0] + base[2] * shape[0] * shape[1];
  let sum = 0;
  for (let corner = 0; corner < 8; corner++) {
    const [i, j, l] = [corner & 1, (corner >> 1) & 1, corner >> 2];
    const weight = (i ? part[0] : 1 - part[0]) * (j ? part[1] : 1 - part[1]) * (l ? part[2] : 1 - part[2]);
    if (weight > 0) sum += weight * values[n + i * sx + j * sy + l * sz];
  }
  return sum;
}

/** Displacement in mm at a voxel: the length of the vector. */
function shiftAt(pair, voxel) {
  const share = voxel.map((v, a) => (v + 0.5) / pair.shape[a]);
  return Math.hypot(...pair.shift.parts.map((part) => between(part, pair.shift.shape, share)));
}

/** The determinant at a voxel: 0 stands for folded. */
function jacobianAt(pair, voxel) {
  const { shape, codes, octave } = pair.jacobian;
  const [i, j, k] = voxel.map((v, a) => nearestSlice(v, pair.shape[a], shape[a]));
  const code = codes[i + shape[0] * (j + shape[1] * k)];
  return code ? 2 ** ((code - 128) / octave) : 0;
}

/** RAS mm of a voxel index. */
const worldOf = (pair, voxel) => pair.affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);

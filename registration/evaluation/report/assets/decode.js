// From the text in the page to volumes: only when a pair is opened, and only the last few are kept.

const KEPT = 3;
const decoded = new Map();

/** The data of a pair, which stand behind this script and may still be on their way. */
async function textOf(c) {
  for (;;) {
    const node = $(`pair-${c}`);
    // While a page loads its last element may be half there.
    if (node && (node.nextSibling || document.readyState !== "loading")) return node.textContent;
    if (document.readyState !== "loading") throw new Error("the page ends before this pair; it was not copied completely");
    await new Promise((resume) => setTimeout(resume, 30));
  }
}

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let n = 0; n < raw.length; n++) bytes[n] = raw.charCodeAt(n);
  return bytes;
}

async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The grey volume, x fastest, of a picture that shows all slices. */
async function fromMosaic(picture, [nx, ny, nz]) {
  const blob = new Blob([bytesOf(picture.data)], { type: picture.mime });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const sheet = document.createElement("canvas");
  const { columns } = picture;
  sheet.width = columns * nx;
  sheet.height = ny;
  const context = sheet.getContext("2d", { willReadFrequently: true });
  const volume = new Uint8Array(nx * ny * nz);
  // Row by row of slices, so that the canvas stays small.
  for (let first = 0; first < nz; first += columns) {
    context.drawImage(bitmap, 0, -(first / columns) * ny);
    const pixels = context.getImageData(0, 0, sheet.width, ny).data;
    for (let k = 0; k < Math.min(columns, nz - first); k++) {
      let to = (first + k) * nx * ny;
      for (let y = 0; y < ny; y++) {
        let from = 4 * (y * sheet.width + k * nx);
        for (let x = 0; x < nx; x++, from += 4) volume[to++] = pixels[from];
      }
    }
  }
  bitmap.close();
  return volume;
}

/** Sums along x, y and z undo the differences; `width` is 256 or 65536. Several volumes may follow each other. */
function summed(steps, [nx, ny, nz], width) {
  const each = nx * ny * nz;
  for (let n = 0; n < steps.length; n++) if (n % nx) steps[n] = (steps[n] + steps[n - 1]) % width;
  for (let n = 0; n < steps.length; n++) if (n % (nx * ny) >= nx) steps[n] = (steps[n] + steps[n - nx]) % width;
  for (let n = 0; n < steps.length; n++) if (n % each >= nx * ny) steps[n] = (steps[n] + steps[n - nx * ny]) % width;
  return steps;
}

/** Displacements in mm along the axes of the view: three volumes of the coarse grid. */
async function fromField(field) {
  const bytes = await inflated(field.data);
  const count = bytes.length / 2;
  const codes = new Uint32Array(count);
  for (let n = 0; n < count; n++) codes[n] = bytes[n] * 256 + bytes[count + n];
  summed(codes, field.shape, 65536);
  const each = field.shape[0] * field.shape[1] * field.shape[2];
  const parts = field.low.map((low, d) => Float32Array.from(codes.subarray(d * each, (d + 1) * each), (v) => low + v * field.step));
  while (parts.length < 3) parts.push(new Float32Array(each));
  return { shape: field.shape, parts };
}

async function decode(raw) {
  const pair = { ...raw, volumes: {}, maps: {} };
  if (!raw.images) return pair;
  await Promise.all([
    ...Object.entries(raw.images).map(async ([name, picture]) => {
      pair.volumes[name] = await fromMosaic(picture, raw.shape);
    }),
    ...Object.entries(raw.labels ? raw.labels.maps : {}).map(async ([name, text]) => {
      pair.maps[name] = await inflated(text);
    }),
  ]);
  if (raw.field) {
    pair.shift = await fromField(raw.field);
    const codes = summed(Uint32Array.from(await inflated(raw.jacobian.data)), raw.jacobian.shape, 256);
    pair.jacobian = { ...raw.jacobian, codes };
  }
  return pair;
}

async function loadPair(c) {
  if (!decoded.has(c)) {
    const text = await textOf(c);
    decoded.set(c, await decode(JSON.parse(text)));
    while (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(c);
}

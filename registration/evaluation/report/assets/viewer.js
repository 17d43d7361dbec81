// Linked planes: a crosshair that a click, a drag, the wheel or the keys move in all of them.

class Viewer {
  constructor(place, pair) {
    Object.assign(this, { place, pair, canvases: [] });
    fitAmounts(pair);
    settle(pair);
    state.cross = middleOf(pair);
    this.controls = el("div", { class: "screen" });
    this.planes = el("div", { class: "planes" });
    this.legend = el("div", { class: "legend muted" });
    this.readout = el("div", { class: "readout muted", role: "status", "aria-live": "polite" });
    replace(place, this.controls, this.planes, this.legend, this.readout);
    this.build();
    this.watch = new ResizeObserver(() => this.planes.clientWidth && this.planes.clientWidth !== this.wide && this.layout());
    this.watch.observe(this.planes);
  }

  close() {
    this.watch.disconnect();
  }

  build() {
    const focused = document.activeElement && this.controls.contains(document.activeElement)
      ? [document.activeElement.name, document.activeElement.value] : null;
    settle(this.pair);
    this.all = planesOf(this.pair, state.mirrored);
    replace(this.controls, controlsOf(this.pair, this.all, () => this.draw(), () => this.build()));
    if (focused) {
      const again = [...this.controls.querySelectorAll("input, select")].find((node) => node.name === focused[0] && node.value === focused[1]);
      if (again) again.focus();
    }
    this.layout();
  }

  /** One scale in pixels per mm for all planes, so that lengths compare. */
  layout() {
    const shown = this.all.filter((plane) => !state.only || plane.name === state.only || !this.all.some((p) => p.name === state.only));
    this.wide = this.planes.clientWidth;
    const room = Math.max(200, this.wide - 12);
    const most = Math.max(260, Math.min(shown.length > 1 ? 460 : 760, innerHeight * 0.72));
    const across = shown.reduce((sum, plane) => sum + plane.wide, 0);
    const gaps = 6 * (shown.length - 1) + 1;
    const tallest = Math.max(...shown.map((plane) => plane.tall));
    const inRow = Math.min((room - gaps) / across, most / tallest);
    const stacked = Math.min(room / Math.max(...shown.map((plane) => plane.wide)), most / tallest);
    // On a narrow window planes below each other are larger than side by side.
    const scale = room < 560 ? Math.max(inRow, stacked) : inRow;
    const dot = window.devicePixelRatio || 1;
    this.canvases = shown.map((plane) => {
      const canvas = el("canvas", { tabindex: 0, role: "application", width: Math.max(1, Math.round(plane.wide * scale * dot)),
        height: Math.max(1, Math.round(plane.tall * scale * dot)), style: `width: ${plane.wide * scale}px; height: ${plane.tall * scale}px` });
      const caption = el("figcaption");
      this.listen(canvas, plane);
      return { canvas, caption, plane, scale: scale * dot };
    });
    replace(this.planes, this.canvases.map(({ canvas, caption }) => el("figure", {}, caption, canvas)));
    this.draw();
  }

  listen(canvas, plane) {
    let divides = false;
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      if (divides) {
        this.divide(100 * x);
        return;
      }
      this.step(plane, { u: Math.floor((plane.flipU ? 1 - x : x) * plane.nu), v: Math.floor((plane.flipV ? 1 - y : y) * plane.nv) });
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      // Near the divider the pointer takes hold of it.
      const box = canvas.getBoundingClientRect();
      divides = state.mode === "slider" && Math.abs(event.clientX - box.left - (state.amounts.slider / 100) * box.width) < 7;
      move(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && move(event));
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || plane.nw < 2 || document.activeElement !== canvas) return;
      event.preventDefault();
      this.step(plane, { w: state.cross[plane.w] - Math.sign(event.deltaY) });
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event, plane));
  }

  divide(percent) {
    state.amounts.slider = Math.max(0, Math.min(100, percent));
    const slider = document.getElementById("amount");
    if (slider) slider.value = state.amounts.slider;
    this.draw();
  }

  key(event, plane) {
    const far = event.shiftKey ? 5 : 1;
    const moves = {
      ArrowLeft: ["u", plane.flipU ? far : -far], ArrowRight: ["u", plane.flipU ? -far : far],
      ArrowUp: ["v", plane.flipV ? far : -far], ArrowDown: ["v", plane.flipV ? -far : far],
      PageUp: ["w", far], PageDown: ["w", -far],
    };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [axis, by] = moves[event.key];
    this.step(plane, { [axis]: state.cross[plane[axis]] + by });
  }

  step(plane, to) {
    for (const [axis, value] of Object.entries(to)) {
      const a = plane[axis];
      state.cross[a] = Math.max(0, Math.min(this.pair.shape[a] - 1, value));
    }
    this.draw();
  }

  /** Once per frame, however many events there were. */
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.paint();
    });
  }

  paint() {
    const mode = MODES[state.mode];
    for (const { canvas, caption, plane, scale } of this.canvases) {
      const sheet = new Sheet(canvas, this.pair, plane, state);
      sheet.context.fillStyle = "#000";
      sheet.context.fillRect(0, 0, sheet.w, sheet.h);
      mode.paint(sheet, state.when);
      marks(sheet, scale, Math.min(...this.canvases.map((shown) => shown.plane.wide)));
      const place = plane.nw > 1 ? `${plane.name} ${sheet.k + 1}/${plane.nw}` : plane.name;
      caption.textContent = place;
      canvas.setAttribute("aria-label", `${place}, ${mode.title}. Arrow keys move the crosshair, page up and down the slice.`);
    }
    replace(this.legend, legendOf(this.pair, mode));
    replace(this.readout, readoutOf(this.pair));
  }
}

/** Where to look first: the middle of the labels, else of what is bright. */
function middleOf(pair) {
  const map = pair.maps.fixed || pair.maps.after;
  const values = map || pair.volumes.fixed;
  const [nx, ny, nz] = pair.shape;
  const sums = [0, 0, 0, 0];
  for (let k = 0, n = 0; k < nz; k++) {
    for (let j = 0; j < ny; j++) {
      for (let i = 0; i < nx; i++, n++) {
        const weight = map ? (values[n] ? 1 : 0) : values[n] > 60 ? values[n] : 0;
        sums[0] += weight * i;
        sums[1] += weight * j;
        sums[2] += weight * k;
        sums[3] += weight;
      }
    }
  }
  return pair.shape.map((n, a) => (sums[3] ? Math.round(sums[a] / sums[3]) : Math.floor(n / 2)));
}

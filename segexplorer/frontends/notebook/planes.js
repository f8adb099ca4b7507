// Three linked planes of a case, composed in the browser from uint8 volumes that the kernel sends once.
// What may be drawn, and in which colours, is decided by segexplorer.viewmodels.planes; `render` there is the reference.

const ORDERS = { axial: [0, 1, 2], coronal: [1, 0, 2], sagittal: [2, 0, 1] };
const HERE = "#F0C83C";
const GAP = 12;
const stores = new Map();

function storeOf(model) {
  const uid = model.get("uid");
  if (!stores.has(uid)) {
    stores.set(uid, {
      layers: new Map(), lines: new Map(), scene: { layers: [], lines: [] }, text: {}, problem: "", pieces: [], heard: false,
      views: new Set(), queue: Promise.resolve(), shown: 0,
    });
  }
  return stores.get(uid);
}

async function inflate(buffer) {
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function copied(buffer) {
  return new Uint8Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
}

// The buffers of a message, of which the first may have come in pieces before it.
function joined(store, message, buffers) {
  const pieces = [...store.pieces, copied(buffers[0])];
  store.pieces = [];
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  let from = 0;
  return message.sizes.map((size) => whole.slice(from, (from += size)));
}

async function take(store, message, buffers) {
  if (message.kind === "piece") {
    store.pieces.push(copied(buffers[0]));
  } else if (message.kind === "layer") {
    const [volume, table] = joined(store, message, buffers);
    const data = await inflate(volume);
    store.layers.set(message.key, { ...message, data, table, cache: new Map() });
  } else if (message.kind === "lines") {
    const faces = await Promise.all(joined(store, message, buffers).map(inflate));
    store.lines.set(message.key, { ...message, faces });
  } else if (message.kind === "scene") {
    store.scene = message;
    for (const part of ["layers", "lines"])
      for (const key of [...store[part].keys()]) if (!message[part].includes(key)) store[part].delete(key);
    store.shown += 1;
  } else if (message.kind === "text") {
    store.text = message;
  }
  if (message.kind === "scene" || message.kind === "text") for (const view of store.views) view.draw();
}

function hasWebGL() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}

export default {
  initialize({ model }) {
    const store = storeOf(model);
    let ended = false;
    const heard = (message, buffers) => {
      store.heard = true;
      store.queue = store.queue.then(() => take(store, message, buffers)).catch((error) => {
        console.error(error);
        store.problem = `The planes cannot be drawn here: ${error.message}`;
        for (const view of store.views) view.draw();
      });
    };
    model.on("msg:custom", heard);
    ask(model, () => ({ kind: "ready", webgl: hasWebGL() }), () => store.heard || ended);
    return () => {
      ended = true;
      model.off("msg:custom", heard);
      stores.delete(model.get("uid"));
    };
  },

  render({ model, el }) {
    const store = storeOf(model);
    const view = new PlanesView(model, store, el);
    store.views.add(view);
    model.send({ kind: "views", count: store.views.size });
    return () => {
      store.views.delete(view);
      view.close();
      model.send({ kind: "views", count: store.views.size });
    };
  },
};

function element(parent, tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

class PlanesView {
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    this.root = element(el, "div", "segexplorer-planes");
    this.style = element(this.root, "style");
    this.gone = element(this.root, "div", "segexplorer-gone"); // seen in a page whose kernel has gone
    this.caption = element(this.root, "div", "segexplorer-caption");
    this.grid = element(this.root, "div", "segexplorer-grid");
    this.planes = Object.keys(ORDERS).map((name) => new Plane(this, name, this.grid));
    this.side = element(this.grid, "div", "segexplorer-side");
    this.width = 0;
    this.seen = new ResizeObserver(() => {
      if (Math.abs(this.root.clientWidth - this.width) > 2) this.draw();
    });
    this.seen.observe(this.root);
    this.onPlace = () => this.drawPlanes();
    model.on("change:place", this.onPlace);
    this.draw();
  }

  close() {
    this.seen.disconnect();
    this.model.off("change:place", this.onPlace);
    clearTimeout(this.saving);
  }

  get base() {
    return this.store.layers.get(this.store.scene.layers[0]);
  }

  get place() {
    return this.model.get("place");
  }

  moveTo(place) {
    const base = this.base;
    if (!base) return;
    const kept = place.map((p, a) =>
      Math.min(Math.max(p, base.translate[a]), base.translate[a] + base.scale[a] * (base.shape[a] - 1)));
    this.model.set("place", kept);
    this.drawPlanes();
    clearTimeout(this.saving);
    this.saving = setTimeout(() => { if (this.alive) this.model.save_changes(); }, 80);
  }

  get alive() {
    return !this.root.closest(".jupyter-widgets-disconnected");
  }

  click(place) {
    this.moveTo(place);
    clearTimeout(this.saving);
    if (!this.alive) return;
    this.model.save_changes();
    this.model.send({ kind: "click", place: this.place });
  }

  draw() {
    // once this view has something to show, the still picture that is kept for a notebook without a kernel is hidden
    if (this.store.shown) this.style.textContent = `.segexplorer-still-${this.model.get("uid")} { display: none; }`;
    this.width = this.root.clientWidth;
    const columns = this.width > 700 ? 3 : this.width > 300 ? 2 : 1;
    this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, max-content))`;
    this.grid.classList.toggle("segexplorer-wide", columns === 3);
    const base = this.base;
    this.grid.classList.toggle("segexplorer-empty", !base);
    if (base) {
      const room = Math.max(120, Math.floor((this.width - (columns - 1) * GAP) / columns));
      const sizes = this.planes.map((plane) => plane.millimetres(base));
      const tall = columns === 3 ? 360 : 300;
      const each = Math.max(...sizes.map(([high, wide]) => Math.max(wide / room, high / tall)));
      for (const plane of this.planes) plane.fit(base, each);
    }
    this.drawText();
    this.drawPlanes();
  }

  drawPlanes() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      for (const plane of this.planes) plane.draw();
      this.root.dataset.shown = String(this.store.shown);
      // what a page has from a saved notebook alone; of older browsers none knows :has
      const cell = this.root.closest(".segexplorer-cell");
      if (cell) cell.classList.toggle("segexplorer-restored", !this.store.shown);
    });
  }

  drawText() {
    const text = this.store.text;
    this.gone.textContent = text.gone || "";
    this.caption.replaceChildren();
    for (const [name, said] of text.caption || []) if (said) element(this.caption, "span", `segexplorer-${name}`, said);
    this.side.replaceChildren();
    if (this.store.problem) element(this.side, "div", "segexplorer-failed", this.store.problem);
    if (text.message) element(this.side, "div", text.failed ? "segexplorer-failed" : "segexplorer-note", text.message);
    if (text.bar) this.drawBar(text.bar);
    if (text.legend && text.legend.length) {
      const legend = element(this.side, "div", "segexplorer-legend");
      for (const [name, colour, form] of text.legend) {
        const entry = element(legend, "div", "segexplorer-entry");
        element(entry, "span", `segexplorer-swatch segexplorer-${form}`).style.setProperty("--ink", colour);
        element(entry, "span", "", name);
      }
    }
    for (const said of text.absent || []) element(this.side, "div", "segexplorer-note", said);
    if (this.base) {
      const read = element(this.side, "div", "segexplorer-read", text.read || "Click a voxel to read what is there.");
      read.setAttribute("aria-live", "polite");
    }
    const label = (text.caption || []).map(([, said]) => said).filter(Boolean).join(", ");
    for (const plane of this.planes) plane.canvas.setAttribute("aria-label", `${plane.name} plane. ${label}`);
  }

  drawBar(bar) {
    const box = element(this.side, "div", "segexplorer-bar");
    element(box, "div", "segexplorer-bar-title", bar.title);
    const inks = bar.colours.map(([r, g, b, a]) => `rgba(${r},${g},${b},${a / 255})`);
    element(box, "div", "segexplorer-ramp").style.background = `linear-gradient(90deg, ${inks.join(",")}), #000`;
    const ticks = element(box, "div", "segexplorer-ticks");
    for (const tick of bar.ticks) element(ticks, "span", "", tick);
    const ends = element(box, "div", "segexplorer-ticks");
    for (const end of bar.ends) element(ends, "span", "", end);
    element(box, "div", "segexplorer-note", `${bar.note}; ${bar.scope}`);
  }
}

class Plane {
  constructor(view, name, parent) {
    this.view = view;
    this.name = name;
    this.order = ORDERS[name];
    this.zoom = 1;
    this.middle = null;
    const box = element(parent, "div", "segexplorer-plane");
    this.canvas = element(box, "canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.title = "Click or drag: move the crosshair. After a click: wheel or arrow keys change the slice, "
      + "Ctrl + wheel zooms, double click shows all.";
    const row = element(box, "div", "segexplorer-slice");
    this.slider = element(row, "input");
    this.slider.type = "range";
    this.slider.setAttribute("aria-label", `${name} slice`);
    this.number = element(row, "span");
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.view.moveTo(this.placeAt(event));
    });
    this.canvas.addEventListener("pointerup", (event) => this.view.click(this.placeAt(event)));
    this.canvas.addEventListener("dblclick", () => { this.zoom = 1; this.middle = null; this.draw(); });
    this.canvas.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  millimetres(base) {
    return [1, 2].map((i) => base.scale[this.order[i]] * base.shape[this.order[i]]);
  }

  fit(base, each) {
    const [high, wide] = this.millimetres(base);
    this.ratio = window.devicePixelRatio || 1;
    this.css = [Math.round(wide / each), Math.round(high / each)];
    this.canvas.style.width = `${this.css[0]}px`;
    this.canvas.style.height = `${this.css[1]}px`;
    this.canvas.width = Math.round(this.css[0] * this.ratio);
    this.canvas.height = Math.round(this.css[1] * this.ratio);
    this.slider.max = String(base.shape[this.order[0]] - 1);
    this.slider.style.width = `${Math.max(60, this.css[0] - 56)}px`;
  }

  // pixel = offset + mm * factor, for columns and rows
  transform(base) {
    const [, down, across] = this.order;
    const [high, wide] = this.millimetres(base);
    const centre = this.middle || [down, across].map((a) =>
      base.translate[a] + base.scale[a] * (base.shape[a] - 1) / 2);
    const y = -(this.canvas.height / high) * this.zoom;
    const x = (this.canvas.width / wide) * this.zoom * (this.view.store.scene.neurological ? 1 : -1);
    return { x, y, left: this.canvas.width / 2 - centre[1] * x, top: this.canvas.height / 2 - centre[0] * y };
  }

  placeAt(event) {
    const base = this.view.base;
    if (!base) return this.view.place;
    const box = this.canvas.getBoundingClientRect();
    const t = this.transform(base);
    const place = [...this.view.place];
    place[this.order[1]] = ((event.clientY - box.top) * this.ratio - t.top) / t.y;
    place[this.order[2]] = ((event.clientX - box.left) * this.ratio - t.left) / t.x;
    return place;
  }

  press(event) {
    if (event.button !== 0) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.view.moveTo(this.placeAt(event));
  }

  turn(event) {
    if (document.activeElement !== this.canvas) return; // the page scrolls on over a picture that nobody clicked
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      const place = this.placeAt(event);
      this.zoom = Math.min(Math.max(this.zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2), 1), 20);
      this.middle = this.zoom === 1 ? null : [place[this.order[1]], place[this.order[2]]];
      this.draw();
    } else this.go(this.index() + (event.deltaY < 0 ? 1 : -1));
  }

  key(event) {
    const way = { ArrowUp: 1, PageUp: 1, ArrowRight: 1, ArrowDown: -1, PageDown: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter") this.view.click(this.view.place);
    else if (way) this.go(this.index() + way);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  index() {
    const base = this.view.base;
    const axis = this.order[0];
    return base ? Math.round((this.view.place[axis] - base.translate[axis]) / base.scale[axis]) : 0;
  }

  go(index) {
    const base = this.view.base;
    if (!base) return;
    const place = [...this.view.place];
    place[this.order[0]] = base.translate[this.order[0]] + base.scale[this.order[0]] * index;
    this.view.moveTo(place);
  }

  draw() {
    const base = this.view.base;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!base) return;
    const store = this.view.store;
    const t = this.transform(base);
    for (const key of store.scene.layers) this.drawLayer(context, t, store.layers.get(key));
    for (const key of store.scene.lines) this.drawLines(context, t, store.lines.get(key));
    this.drawCross(context, t);
    this.drawLetters(context);
    const index = this.index();
    this.slider.value = String(index);
    // counted from 0, as the window, the list of errors and napari do
    this.number.textContent = `${index}/${base.shape[this.order[0]] - 1}`;
  }

  drawLayer(context, t, layer) {
    if (!layer) return;
    const [axis, down, across] = this.order;
    const index = Math.round((this.view.place[axis] - layer.translate[axis]) / layer.scale[axis]);
    if (index < 0 || index >= layer.shape[axis]) return;
    const picture = this.slice(layer, index);
    context.imageSmoothingEnabled = layer.smooth;
    context.imageSmoothingQuality = "medium";
    const first = (a) => layer.translate[a] - layer.scale[a] / 2;
    context.setTransform(t.x * layer.scale[across], 0, 0, t.y * layer.scale[down],
      t.left + t.x * first(across), t.top + t.y * first(down));
    context.drawImage(picture, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  slice(layer, index) {
    const kept = layer.cache.get(this.name);
    if (kept && kept.index === index) return kept.canvas;
    const [axis, down, across] = this.order;
    const strides = [layer.shape[1] * layer.shape[2], layer.shape[2], 1];
    const height = layer.shape[down], width = layer.shape[across];
    const image = new ImageData(width, height);
    const inks = new Uint32Array(layer.table.buffer);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0; row < height; row += 1) {
      let from = index * strides[axis] + row * strides[down];
      for (let column = 0; column < width; column += 1, from += strides[across])
        pixels[row * width + column] = inks[layer.data[from]];
    }
    const canvas = kept ? kept.canvas : document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(image, 0, 0);
    layer.cache.set(this.name, { index, canvas });
    return canvas;
  }

  drawLines(context, t, lines) {
    if (!lines) return;
    const [axis, down, across] = this.order;
    const index = Math.round((this.view.place[axis] - lines.translate[axis]) / lines.scale[axis]);
    if (index < 0 || index >= lines.shape[axis]) return;
    const strides = [lines.shape[1] * lines.shape[2], lines.shape[2], 1];
    const height = lines.shape[down], width = lines.shape[across];
    const paths = new Map();
    const x = (column) => t.left + t.x * (lines.translate[across] + lines.scale[across] * column);
    const y = (row) => t.top + t.y * (lines.translate[down] + lines.scale[down] * row);
    const pathOf = (code) => {
      if (!paths.has(code)) paths.set(code, new Path2D());
      return paths.get(code);
    };
    for (let row = 0; row < height; row += 1) {
      let from = index * strides[axis] + row * strides[down];
      for (let column = 0; column < width; column += 1, from += strides[across]) {
        const below = lines.faces[down][from], beside = lines.faces[across][from];
        if (below) {
          const path = pathOf(below);
          path.moveTo(x(column - 0.5), y(row + 0.5));
          path.lineTo(x(column + 0.5), y(row + 0.5));
        }
        if (beside) {
          const path = pathOf(beside);
          path.moveTo(x(column + 0.5), y(row - 0.5));
          path.lineTo(x(column + 0.5), y(row + 0.5));
        }
      }
    }
    const thick = this.ratio * (lines.key === "mark" ? 2.4 : 1.4);
    context.lineCap = "square";
    for (const [code, path] of [...paths].sort((a, b) => a[0] - b[0])) {
      const casing = lines.casing[code];
      if (casing) {
        context.strokeStyle = casing;
        context.lineWidth = thick + 1.4 * this.ratio;
        context.stroke(path);
      }
      context.strokeStyle = lines.inks[code];
      context.lineWidth = thick;
      context.stroke(path);
    }
  }

  drawCross(context, t) {
    const place = this.view.place;
    const x = t.left + t.x * place[this.order[2]], y = t.top + t.y * place[this.order[1]];
    const gap = 7 * this.ratio;
    context.strokeStyle = HERE;
    context.globalAlpha = 0.55;
    context.lineWidth = this.ratio;
    context.beginPath();
    for (const [a, b] of [[0, x - gap], [x + gap, this.canvas.width]]) { context.moveTo(a, y); context.lineTo(b, y); }
    for (const [a, b] of [[0, y - gap], [y + gap, this.canvas.height]]) { context.moveTo(x, a); context.lineTo(x, b); }
    context.stroke();
    context.globalAlpha = 1;
  }

  drawLetters(context) {
    const letters = (this.view.store.scene.letters || {})[this.name];
    if (!letters) return;
    const [left, right, top, bottom] = letters;
    const size = 11 * this.ratio, edge = 4 * this.ratio;
    const { width, height } = this.canvas;
    context.font = `600 ${size}px sans-serif`;
    context.lineWidth = 3 * this.ratio;
    context.strokeStyle = "rgba(0,0,0,.75)";
    context.fillStyle = "#fff";
    const put = (text, x, y, align, base) => {
      context.textAlign = align;
      context.textBaseline = base;
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    };
    put(left, edge, height / 2, "left", "middle");
    put(right, width - edge, height / 2, "right", "middle");
    put(top, width / 2, edge, "center", "top");
    put(bottom, width / 2, height - edge, "center", "bottom");
  }
}
